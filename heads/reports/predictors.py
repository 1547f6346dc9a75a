"""Two predictors read by their names, and compared: runs with their seeds, or the CSV file of another tool.

The tests are in `heads.evaluation.comparison`, the page in `heads.reports.comparison_page`.
"""

import glob
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from data.errors import InputError
from data.labels import LabelSet
from data.lookup import expect
from heads.evaluation.comparison import MetricTest, compare, differing
from heads.evaluation.metrics import metrics_of
from heads.reports.results import predictions
from heads.runs.evaluate import reopen
from heads.runs.external import read_predictions
from heads.runs.folder import RunFolder, predictions_table

SENTIMENT, EMOTIONS = ("mae", "corr", "acc2_has0", "acc2_non0", "acc7"), ("mean_acc", "mean_wf1", "mean_macro_f1", "mean_ap")
"""Metrics that are compared unless others are asked for."""
_OTHERS = {"msa": ("mae", "corr", "acc2", "acc3", "acc5"), "mer": ("acc", "wf1", "macro_f1", "uar")}
"""The same of sentiment in [-1, 1], and of classes."""


@dataclass(frozen=True)
class Comparison:
    """Two predictors on the same utterances."""

    a: Sequence[pd.DataFrame]  # predictions, one table a seed
    b: Sequence[pd.DataFrame]
    labels: LabelSet
    tests: Sequence[MetricTest]
    clips: pd.DataFrame | None  # by how much their errors of sentiment differ, the largest first; None if that is not compared


def compare_named(a: str, b: str, split: str, metrics: Sequence[str], cache: Path | None) -> Comparison:
    """Compare two predictors.

    Args:
        a: A run folder, a pattern for the seeds of one configuration, or a CSV file as for `python -m heads score`.
        b: The same; at least one of the two is a run.
        split: valid or test; runs have opened it before.
        metrics: Names; empty: the usual ones of what both predict.
        cache: Where the features are now, to read a CSV file; None: where the run found them.

    Raises:
        InputError: A predictor cannot be read, has not opened the split, or the two cannot be compared; a metric is unknown.
    """
    labels = _labels(a, b)
    known = metrics_of(labels)
    for name in metrics:
        expect(known, name, "metric")
    first, second = _tables(a, b, split, cache), _tables(b, a, split, cache)
    whole = (*first, *second)
    both = [task for task, name in (("msa", "sentiment"), ("mer", labels.emotions[0])) if all(name in table for table in whole)]
    if not both:
        raise InputError(f"{a} and {b}: one predicts sentiment and the other emotions, so there is nothing to compare.")
    names = list(dict.fromkeys(metrics)) or [name for task in both for name in _usual(task, known)]
    tests = compare(first, second, names, labels)
    clips = differing(first, second) if any(known[name].task == "msa" for name in names) else None
    return Comparison(first, second, labels, tests, clips)


def runs_named(name: str) -> list[RunFolder]:
    """List the run folders that a name stands for: a folder, or a pattern of some."""
    paths = [Path(name)] if Path(name).is_dir() else sorted(map(Path, glob.glob(name)))
    return [RunFolder(path) for path in paths if path.is_dir()]


def _labels(*names: str) -> LabelSet:
    """Return what the runs among the two predictors predict, and refuse two that predict different labels."""
    found = [run.labels() for name in names if not Path(name).is_file() for run in runs_named(name)]
    if other := next((one for one in found if one != found[0]), None):
        raise InputError(f"{' and '.join(names)}: predict different labels, {found[0]} and {other}, so they cannot be compared.")
    return found[0] if found else LabelSet()


def _usual(task: str, known: Collection[str]) -> list[str]:
    """List the metrics of a task that are compared unless others are asked for."""
    usual = {"msa": SENTIMENT, "mer": EMOTIONS}[task]
    return [name for name in (usual if set(usual) <= set(known) else _OTHERS[task]) if name in known]


def _tables(name: str, other: str, split: str, cache: Path | None) -> list[pd.DataFrame]:
    """Read the predictions of a predictor, one table a seed."""
    if Path(name).is_file():
        runs = runs_named(other)
        if not runs:
            raise InputError(f"{name} and {other}: at least one of the two has to be a run, which says what the labels are.")
        return [_of_file(Path(name), runs[0], split, cache)]
    runs = runs_named(name)
    if not runs:
        raise InputError(f"{name}: is no run folder, no pattern of some, and no CSV file.")
    keys = {run.path.name.rpartition("-seed")[0] for run in runs}
    if len(keys) > 1:
        raise InputError(f"{name}: names runs of {len(keys)} configurations ({', '.join(sorted(keys))}), expected seeds of one.")
    return [predictions(run, split) for run in runs]


def _of_file(path: Path, run: RunFolder, split: str, cache: Path | None) -> pd.DataFrame:
    """Read the predictions of another tool for the utterances that a run has labels of."""
    file, run_data = read_predictions(path, run.labels()), reopen(run, cache, torch.device("cpu"))
    if run_data.config.task not in (file.task, *(("msa", "mer") if file.task == "both" else ())):
        raise InputError(f"{path}: predicts {file.task}, and the run {run.path} {run_data.config.task}. Give what the run predicts.")
    return predictions_table(file.predictions(run_data, split), run_data.tensors.targets)
