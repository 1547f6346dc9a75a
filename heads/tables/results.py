"""Results of the rows of a table: the metrics of one split, read from the run folder of each seed, and their mean and deviation.

The test split of a run is opened here, once, and only if it was asked for. How rows are trained is in `heads.tables.build`, how
results are shown in `heads.tables.report`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data.labels import EMOTIONS
from heads.evaluation.intervals import MeanSd, mean_sd
from heads.runs.evaluate import evaluate
from heads.sweeps.results.trials import remedy
from heads.sweeps.status import damage
from heads.sweeps.sweep import Sweep, Trial, loaded_cache
from heads.tables.rows import TABLES, ImportedRow, NeverRow, Row
from heads.training.fit import describe

_NEVER = {"acc": "never_acc", "wf1": "never_wf1"}
"""Metric of an emotion → the metric that never predicting the emotion has."""


@dataclass(frozen=True)
class Seed:
    """The outcome of one seed of a row."""

    seed: int | None  # None for imported predictions, whose seed is unknown
    folder: str  # name of the run folder; for imported predictions, of their file
    values: Mapping[str, float | None] | None  # metric → value on the split; None if the run failed
    failure: str | None = None


@dataclass(frozen=True)
class Result:
    """A row and the outcomes of its seeds."""

    row: Row | NeverRow | ImportedRow
    seeds: tuple[Seed, ...]
    problem: str | None = None  # why the row could not be trained at all

    @property
    def done(self) -> list[Seed]:
        """The seeds with values."""
        return [seed for seed in self.seeds if seed.values is not None]

    def value(self, metric: str) -> MeanSd:
        """Return mean and sample deviation over seeds; NaN where there is none."""
        found = [seed.values.get(metric) for seed in self.seeds if seed.values is not None]
        known = [{metric: np.nan if value is None else value} for value in found]
        return mean_sd(known)[metric] if known else MeanSd(np.nan, np.nan)

    @property
    def count(self) -> str:
        """The number of seeds with values, in words; empty if the seeds are unknown."""
        return "" if any(seed.seed is None for seed in self.seeds) else str(len(self.done))

    @property
    def faults(self) -> list[str]:
        """The reasons why numbers are missing."""
        of_seeds = [f"seed {seed.seed}: {seed.failure}" for seed in self.seeds if seed.failure]
        return [f"{self.row.method}: {text}" for text in ([self.problem] if self.problem else of_seeds)]


def result(sweep: Sweep, row: Row, trials: Sequence[Trial], split: str, device: str) -> Result:
    """Read the metrics of a trained row, and evaluate those of its trials that have none on this split.

    Args:
        sweep: The sweep of the trials.
        row: A row of a table.
        trials: The row's trials, one for each seed.
        split: valid, or test, which is opened for the runs for which it was not opened before.
        device: The device for evaluation.

    Raises:
        InputError: A run was made from another cache.
    """
    return Result(row, tuple(_seed(sweep, trial, split, device) for trial in trials))


def never_predicting(simple: Result) -> Result:
    """Return the row that never predicts an emotion; its values are in the metrics of any run on the same clips.

    Args:
        simple: The result of the section's simple baseline.
    """
    found = []
    for seed in simple.seeds:
        if seed.values is not None:
            known = seed.values
            names = [(name, metric, never) for metric, never in _NEVER.items() for name in (*EMOTIONS, "mean")]
            values = {f"{name}_{metric}": known.get(f"{name}_{never}") for name, metric, never in names}
            found.append(Seed(seed.seed, seed.folder, values))
    return Result(NeverRow(simple.row.table), tuple(found[:1]))


def _seed(sweep: Sweep, trial: Trial, split: str, device: str) -> Seed:
    """Return the outcome of one trial."""
    folder, seed = trial.folder, trial.config.seed
    if (fault := damage(folder)) is not None:
        return Seed(seed, folder.path.name, None, fault)
    if not folder.is_complete:
        failure = "was not trained" if folder.failure is None else f"{folder.failure} {remedy(sweep.folder, folder.path.name)}"
        return Seed(seed, folder.path.name, None, failure)
    _check_cache(trial)
    metrics = folder.metrics()
    if split not in metrics:
        run_data = loaded_cache(sweep.cache, device, sweep.memory_bytes).open(trial.config)
        metrics = evaluate(run_data, folder, split)
    return Seed(seed, folder.path.name, metrics[split])


def _check_cache(trial: Trial) -> None:
    """Check that a finished trial was trained on this cache: `RunFolder.begin` refuses a folder whose config.json differs.

    Raises:
        InputError: It was trained on other features or labels.
    """
    trial.folder.begin(describe(trial.run_data))


def long_table(corpus: str, results: Sequence[Result], split: str) -> pd.DataFrame:
    """Return one line for each metric of each row on a corpus, unrounded.

    Columns: facts about the row, `metric`, `mean` and `sd` of ours, `paper`, and `runs`, the run folders behind our number.
    """
    lines = []
    for one in results:
        row = one.row
        facts = {
            "table": row.table,
            "corpus": corpus,
            "split": split,
            "group": row.group,
            "method": row.method,
            **row.facts,
            "reproduction": row.kind.short,
            "seeds": one.count,
        }
        runs = " ".join(seed.folder for seed in one.done)
        for metric in (*TABLES[row.table].metrics, *TABLES[row.table].further):
            mean, sd = one.value(metric)
            lines.append({**facts, "metric": metric, "mean": mean, "sd": sd, "paper": row.paper.get(metric, np.nan), "runs": runs})
    return pd.DataFrame(lines)
