"""Heads from Python: `heads.fit`, `heads.sweep`, `heads.compare`, `heads.Run`. The commands `python -m heads …` do the same and print
what they find.

Here is only what makes these pleasant to call. The work is in the rooms below: `heads.training`, `heads.sweeps`, `heads.runs`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from data.errors import InputError
from heads.evaluation.console import training_bar
from heads.models import options as known_options
from heads.reports.content import Media
from heads.reports.gathering import Sources, gather
from heads.reports.predictors import compare_named
from heads.reports.run_page import page_name, write_page
from heads.runs import evaluate as finished
from heads.runs.config import make_config
from heads.runs.contract_checks import expect_own_heads_kept
from heads.runs.folder import RunFolder, run_folder
from heads.runs.run_data import choose_device, memory_bytes, open_run_data
from heads.sweeps.execution import Execution, train_trials
from heads.sweeps.grid import read_grid
from heads.sweeps.precision import of_sweep
from heads.sweeps.results.report import write_report
from heads.sweeps.results.trials import ranked
from heads.sweeps.sweep import Sweep, metric_of, opened
from heads.training import fit as training


class Run:
    """A finished run: one head, trained once with one seed.

    Attributes:
        path: Its run folder.
    """

    def __init__(self, path: Path | str, *, cache: Path | str | None = None, device: str = "auto") -> None:
        """Open the folder of a finished run.

        Args:
            path: A run folder.
            cache: Where its features are now; None: where the run found them.
            device: The device that predicts: auto, cpu, cuda, cuda:1, …

        Raises:
            InputError: There is no run, or it is not finished.
        """
        self.path = Path(path)
        self._folder = RunFolder(self.path)
        self._cache, self._device = None if cache is None else Path(cache), device
        self._folder.metrics()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determined the run: head, corpus, preset, task, seed, and the options of data, loss, train and model."""
        return self._folder.config()["config"]

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the validation split at the chosen epoch."""
        return self._folder.metrics()["valid"]

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Metric → 95 % interval over the utterances of the validation split."""
        return {name: (low, high) for name, (low, high) in self._folder.metrics()["valid_interval"].items()}

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch: losses, validation metrics, learning rate, seconds. Empty for a simple baseline, which has no epochs."""
        history = self._folder.history()
        return pd.DataFrame() if history is None else history

    @property
    def predictions(self) -> pd.DataFrame:
        """One row an utterance of the validation split: id, labels, predicted sentiment, probability of each emotion."""
        table = self._folder.predictions("valid")
        if table is None:
            raise InputError(f"{self.path}: has no predictions of the valid split. Train it again.")
        return table

    def evaluate(self, split: str = "test") -> dict[str, float]:
        """Predict a split, record in opened.csv that it was opened, and return its metrics.

        Raises:
            InputError: There is no such split, or the features are missing or come from other encoders.
        """
        return finished.evaluate(self._reopened(None), self._folder, split)[split]

    def predict(self, corpus: str | None = None) -> pd.DataFrame:
        """Predict every utterance of a corpus of the cache, labelled or not; None: the corpus of the run.

        Returns:
            One row an utterance, as `predictions`; labels of the test split are left out.

        Raises:
            InputError: The features of the corpus are missing or come from other encoders than those of the run.
        """
        return finished.predict(self._reopened(corpus), self._folder, self._cache)

    def report(self, out: Path | str | None = None, *, split: str = "valid") -> Path:
        """Write the page of the run, which opens in a browser without a network, and return its path.

        Args:
            out: The file; None: report.html in the run folder, report-test.html for test.
            split: "valid", or "test" if `evaluate` has opened it before.

        Raises:
            InputError: The split was not opened.
        """
        path = self.path / page_name(split) if out is None else Path(out)
        content = gather([self._folder], split, Sources(self._cache), choose_device(self._device))
        write_page(content, path, Media())
        return path

    def _reopened(self, corpus: str | None) -> Any:
        return finished.reopen(self._folder, self._cache, choose_device(self._device), corpus)


def fit(
    cache: Path | str,
    corpus: str,
    head: str = "mmolre",
    *,
    preset: str | None = None,
    task: str | None = None,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    memory_gb: float | None = None,
    out: Path | str = "runs",
    quiet: bool = False,
) -> Run:
    """Train a head, or go on with an interrupted run; a finished run is opened and not trained again.

    Args:
        cache: Folder that a build or an import wrote to.
        corpus: Name of the corpus in the cache.
        head: A head that `python -m heads list` names, or one of your own: "path/to/file.py:Class", "module:Class".
        preset: A preset that it names, or a YAML file; None: "light", or "native" for a head of your own with a `RECIPE`.
        task: "msa" (sentiment), "mer" (emotions) or "both"; None: the preset's.
        seed: Of weights, batches and dropout; None: the preset's, 1.
        options: Options that differ from the preset, by dotted names or nested: `{"train.lr": 3e-4, "model.mixture.rank": 16}`.
        device: auto (the GPU if there is one), cpu, cuda, cuda:1, ….
        memory_gb: GB of device memory for features; larger features are streamed from disk. None: 80 % of what is free.
        out: Folder of run folders.
        quiet: Whether there is no progress bar.

    Raises:
        InputError: A name or value is unknown, the cache lacks something, or memory runs out.
    """
    given = dict(known_options.items(options or {}))
    flags = {name: value for name, value in (("task", task), ("seed", seed)) if value is not None}
    if twice := [name for name in flags if name in given]:
        raise InputError(f"{twice[0]} is given as an argument and in options. Give it once.")
    changes = known_options.nested(given | flags)
    config = make_config(head, corpus, preset, changes, "options")
    expect_own_heads_kept([config])
    run_data = open_run_data(config, Path(cache), choose_device(device), memory_bytes(memory_gb))
    folder = run_folder(run_data.config, Path(out))
    if quiet:
        training.fit(run_data, folder)
    else:
        with training_bar(folder.path.name, training.steps(run_data)) as advance:
            training.fit(run_data, folder, advance)
    return Run(folder.path, cache=cache, device=device)


def sweep(
    grid: Path | str | Mapping[str, Any],
    cache: Path | str,
    out: Path | str,
    *,
    corpus: str | None = None,
    metric: str | None = None,
    search: str | None = None,
    prune: str | None = None,
    devices: Sequence[str] = (),
    pack_size: int | None = None,
    memory_gb: float | None = None,
    quiet: bool = False,
) -> pd.DataFrame:
    """Train all configurations of a grid, or those that are left of it, and rank them by the validation split.

    Args:
        grid: A grid file (docs/sweeps.md), or its content: `{"head": "mmolre", "grid": {"train.lr": [3e-4, 1e-3]}, "seeds": [1, 2]}`.
        cache: Folder that a build or an import wrote to.
        out: Folder of the sweep: trials, tables and report.html. The same call goes on where it was stopped.
        corpus: Name of the corpus, if the grid does not name it.
        metric: Validation metric that ranks; None: mae, or mean_wf1 for emotions alone.
        search: "optuna", or None: all points of the grid.
        prune: "asha" stops poorly performing trials early.
        devices: One worker each. Empty: the GPU, or this process on the CPU. Several need a script whose work is below
            `if __name__ == "__main__"`, because each worker imports it.
        pack_size: Trials that are trained together; None: as many as save time and fit into memory.
        memory_gb: As for `fit`.
        quiet: Whether nothing but the progress bar is shown.

    Returns:
        One row a configuration, best first: key, varied options, mean and spread of the metric over seeds, …. `trials.parquet` in `out`
        has every trial.

    Raises:
        InputError: The grid, the cache or a device cannot be used, or the folder is of another sweep.
    """
    with tempfile.TemporaryDirectory(prefix="mmolre-grid-") as folder:
        read = read_grid(_grid_file(grid, Path(folder)), corpus)
        configs = read.configs()
        expect_own_heads_kept(configs)
        chosen = metric_of(configs, metric, Path(cache))
        execution = Execution(devices=tuple(devices) or (choose_device("auto").type,), pack_size=pack_size)
        precision = of_sweep(Path(out), execution.executor, execution.devices[0])
        whole = Sweep(read, Path(cache), Path(out), chosen, search, prune, memory_bytes(memory_gb), precision)
        with opened(whole):
            trials = train_trials(whole, configs, execution, (lambda line: None) if quiet else print)
            write_report(whole.folder, chosen, trials)
    return ranked(trials, chosen)


def compare(
    a: Run | Path | str,
    b: Run | Path | str,
    *,
    split: str = "valid",
    metrics: Sequence[str] = (),
    cache: Path | str | None = None,
) -> pd.DataFrame:
    """Compare two predictors on the same utterances: is A better than B?

    Args:
        a: A run, its folder, a pattern of folders for the seeds of one configuration ("runs/mosi-mmolre-*"), or a CSV file as for
            `python -m heads score`.
        b: The same; at least one of the two is a run.
        split: "valid", or "test" if both runs have opened it before.
        metrics: Names of metrics; empty: the usual ones of what both predict.
        cache: Where the features are now, to read a CSV file; None: where the run found them.

    Returns:
        One row a metric: a, b, difference (A - B) with its 95 % interval (low, high) and p value (paired bootstrap over utterances),
        p_holm (corrected for the number of metrics), p_wilcoxon (of the utterances' own values, NaN where they have none).

    Raises:
        InputError: A predictor cannot be read, has not opened the split, or the two cannot be compared.
    """
    first, second = (str(one.path if isinstance(one, Run) else one) for one in (a, b))
    found = compare_named(first, second, split, metrics, None if cache is None else Path(cache))
    rows = [{"metric": one.metric, "a": one.a, "b": one.b, **one.difference._asdict()} for one in found.tests]
    for row, one in zip(rows, found.tests, strict=True):
        row |= {"p_holm": one.p_holm, "p_wilcoxon": one.p_wilcoxon}
    return pd.DataFrame(rows).set_index("metric")


def _grid_file(grid: Path | str | Mapping[str, Any], folder: Path) -> Path:
    if not isinstance(grid, Mapping):
        return Path(grid)
    path = folder / "grid.yaml"
    plain = json.loads(json.dumps(dict(grid), default=_plain))
    path.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _plain(value: Any) -> Any:
    """Return numbers and arrays of NumPy as those of Python, and paths as text."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)
