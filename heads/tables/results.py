"""What came out for the rows of a table: the metrics of one split, of each seed from its run folder, and mean and deviation of them.

The test split of a run is opened here, once, and only when it is asked for. How rows are trained is in `heads.tables.build`, how
results are shown in `heads.tables.report`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from data.labels import EMOTIONS
from heads.evaluation.intervals import MeanSd, mean_sd
from heads.runs.config import RunConfig
from heads.runs.evaluate import evaluate
from heads.runs.folder import RunFolder, run_folder
from heads.sweeps.results.trials import remedy
from heads.sweeps.sweep import Sweep, loaded_cache, resolved
from heads.tables.rows import TABLES, ImportedRow, NeverRow, Row
from heads.training.fit import describe

_NEVER = {"acc": "never_acc", "wf1": "never_wf1"}
"""Metric → that of never predicting."""


@dataclass(frozen=True)
class Seed:
    """How one seed of a row ended."""

    seed: int | None  # None of imported predictions, of which it is not known
    folder: str  # its name; of imported predictions, their file's
    values: Mapping[str, float | None] | None  # metric → value on the split; None if the run failed
    failure: str | None = None


@dataclass(frozen=True)
class Result:
    """A row and its seeds."""

    row: Row | NeverRow | ImportedRow
    seeds: tuple[Seed, ...]
    problem: str | None = None  # why it could not be trained at all

    @property
    def done(self) -> list[Seed]:
        """The seeds with values."""
        return [seed for seed in self.seeds if seed.values is not None]

    def value(self, metric: str) -> MeanSd:
        """Mean and sample deviation over seeds; NaN where there is none."""
        values = [seed.values.get(metric) for seed in self.done]
        known = [{metric: np.nan if value is None else value} for value in values]
        return mean_sd(known)[metric] if known else MeanSd(np.nan, np.nan)

    @property
    def count(self) -> str:
        """How many seeds have values, in words; nothing where the seeds are not known."""
        return "" if any(seed.seed is None for seed in self.seeds) else str(len(self.done))

    @property
    def faults(self) -> list[str]:
        """Why numbers are missing."""
        of_seeds = [f"seed {seed.seed}: {seed.failure}" for seed in self.seeds if seed.failure]
        return [f"{self.row.method}: {text}" for text in ([self.problem] if self.problem else of_seeds)]


def result(sweep: Sweep, row: Row, configs: Sequence[RunConfig], split: str, device: str) -> Result:
    """Of a row that was trained.

    Args:
        sweep: Where its trials are.
        row: Of a table.
        configs: Its runs, one a seed.
        split: valid, or test, which is opened for the runs for which it was not before.
        device: What predicts it.

    Raises:
        InputError: A run is not of this cache.
    """
    return Result(row, tuple(_seed(sweep, config, split, device) for config in configs))


def never(simple: Result) -> Result:
    """The row that never predicts an emotion, from any row on the same clips."""
    found = []
    for seed in simple.done[:1]:
        values = {
            f"{name}_{metric}": seed.values.get(f"{name}_{own}") for metric, own in _NEVER.items() for name in (*EMOTIONS, "mean")
        }
        found.append(Seed(seed.seed, seed.folder, values))
    return Result(NeverRow(simple.row.table), tuple(found))


def _seed(sweep: Sweep, config: RunConfig, split: str, device: str) -> Seed:
    config = resolved(sweep, config)
    folder = run_folder(config, sweep.trials)
    if not folder.is_complete:
        failure = "was not trained" if folder.failure is None else f"{folder.failure} {remedy(sweep.folder, folder.path.name)}"
        return Seed(config.seed, folder.path.name, None, failure)
    folder.begin(describe(loaded_cache(sweep.cache, "cpu", 0).open(config)))  # refuses what comes from another cache
    return Seed(config.seed, folder.path.name, _values(sweep, config, folder, split, device))


def _values(sweep: Sweep, config: RunConfig, folder: RunFolder, split: str, device: str) -> Mapping[str, Any]:
    content = folder.metrics()
    if split not in content:
        content = evaluate(loaded_cache(sweep.cache, device, sweep.memory_bytes).open(config), folder, split)
    return content[split]


def long_table(corpus: str, results: Sequence[Result], split: str) -> pd.DataFrame:
    """One row for each metric of each row on a corpus, unrounded: ours, the paper's, and the run folders that ours is from."""
    found = []
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
            found.append({**facts, "metric": metric, "mean": mean, "sd": sd, "paper": row.paper.get(metric, np.nan), "runs": runs})
    return pd.DataFrame(found)
