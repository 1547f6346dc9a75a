"""Two predictors on the same labelled utterances: which metrics differ, and on which utterances.

A predictor is one table of `heads.runs.folder.predictions_table` for each of its seeds: metrics are means over the seeds, and the tests
ask about utterances, not about seeds. The drawing of utterances is in `heads.evaluation.intervals`.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from heads.evaluation.intervals import Difference, MetricFunction, Resampled, difference, holm, resampled
from heads.evaluation.metrics import emotion_metrics, metrics_of, sentiment_metrics

_SENTIMENT = ["sentiment"]
_MEANS = {"mae", "acc2_has0", "acc2_non0", "acc2", "acc3", "acc5", "acc7", "acc"}
"""Metrics that are means over utterances, besides the accuracies of emotions."""

_BLOCK = 500  # utterances at a time, which bounds memory


class Drawn(NamedTuple):
    """The metrics of one table of predictions in every resample, and the labels behind them, sorted by utterance."""

    truth: pd.DataFrame
    metrics: dict[str, Resampled]


class MetricTest(NamedTuple):
    """One metric of two predictors, and the tests of no difference."""

    metric: str
    a: float
    b: float
    difference: Difference  # a minus b, with the p value of the paired bootstrap over utterances
    p_holm: float  # that p value, corrected for the number of metrics that were compared
    p_wilcoxon: float  # signed ranks of the utterances' own values, means over seeds; NaN for metrics that are no mean over utterances


def drawn(table: pd.DataFrame, task: str, labels: LabelSet = MOSEI_LABELS) -> Drawn | None:
    """Resample all metrics of a task (msa, mer) on the utterances of a table that have labels of it; None if it predicts none of it.

    The same utterances with the same labels are drawn alike, whatever their order in the table.
    """
    columns = _columns(task, labels)
    if columns[0] not in table:
        return None
    labelled = _labelled(table, columns)
    truths = [f"{name}_true" for name in columns]
    return Drawn(labelled[truths], resampled(_function(task, labels), *_arrays(labelled, task, labels)))


def mean(runs: Sequence[Resampled]) -> Resampled:
    """Return the mean of a metric over runs, in each resample."""
    observed, values = zip(*runs, strict=True)
    return Resampled(float(np.mean(observed)), np.mean(values, axis=0))


def compare(
    first: Sequence[pd.DataFrame], second: Sequence[pd.DataFrame], metrics: Sequence[str], labels: LabelSet = MOSEI_LABELS
) -> list[MetricTest]:
    """Test the differences between two predictors in some metrics.

    The Wilcoxon test has an utterance's own value of a metric that is a mean over utterances (mae, accuracies): its absolute error, or
    whether it was predicted right. Source: F. Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1, 1945.

    Args:
        first: Tables of predictions of one predictor, one a seed.
        second: Those of the other.
        metrics: Names of metrics of the labels.
        labels: What both predict.

    Raises:
        InputError: A predictor does not predict what a metric measures, or tables have other labelled utterances or labels.
    """
    found, known_metrics = [], metrics_of(labels)
    for task in dict.fromkeys(known_metrics[name].task for name in metrics):
        sides = [[drawn(table, task, labels) for table in tables] for tables in (first, second)]
        known = [[one for one in side if one is not None] for side in sides]
        if any(len(some) < len(side) for some, side in zip(known, sides, strict=True)):
            what = "sentiment" if task == "msa" else "emotions"
            raise InputError(f"One of the two does not predict {what}, which {_first_of(task, metrics, labels)} measures.")
        truth = known[0][0].truth
        if not all(one.truth.equals(truth) for side in known for one in side):
            raise InputError("The two have other labelled utterances, or other labels, so they cannot be compared clip by clip.")
        own = [np.mean([_own_values(table, task, labels) for table in tables], axis=0) for tables in (first, second)]
        order = list(known[0][0].metrics)
        for name in (name for name in metrics if known_metrics[name].task == task):
            a, b = (mean([one.metrics[name] for one in side]) for side in known)
            values = [side[order.index(name)] for side in own]
            found.append(MetricTest(name, a.observed, b.observed, difference(a, b), np.nan, _wilcoxon(name, labels, *values)))
    corrected = holm(np.array([one.difference.p_value for one in found]))
    tests = {one.metric: one._replace(p_holm=float(p)) for one, p in zip(found, corrected, strict=True)}
    return [tests[name] for name in metrics]


def differing(first: Sequence[pd.DataFrame], second: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the utterances with a sentiment, those first on which the absolute errors of two predictors differ most.

    Columns: utterance_id, true, a, b (means over the seeds), and gain, the absolute error of a minus that of b.
    """
    sides = [[_labelled(table, _SENTIMENT) for table in tables] for tables in (first, second)]
    a, b = (np.mean([table["sentiment"] for table in side], axis=0) for side in sides)
    truth = sides[0][0]["sentiment_true"]
    gain = np.abs(a - truth) - np.abs(b - truth)
    table = pd.DataFrame({"utterance_id": truth.index, "true": truth.to_numpy(), "a": a, "b": b, "gain": gain.to_numpy()})
    return table.iloc[np.argsort(-np.abs(gain.to_numpy()), kind="stable")].reset_index(drop=True)


def _first_of(task: str, metrics: Sequence[str], labels: LabelSet) -> str:
    return next(name for name in metrics if metrics_of(labels)[name].task == task)


def _columns(task: str, labels: LabelSet) -> list[str]:
    return _SENTIMENT if task == "msa" else list(labels.emotions)


def _labelled(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    table = table.set_index("utterance_id") if "utterance_id" in table else table
    return table[table[[f"{name}_true" for name in columns]].notna().any(axis=1)].sort_index()


def _arrays(labelled: pd.DataFrame, task: str, labels: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    columns = _columns(task, labels)
    values, truth = (labelled[names].to_numpy(float) for names in (columns, [f"{name}_true" for name in columns]))
    return (values[:, 0], truth[:, 0]) if task == "msa" else (values, truth)


def _function(task: str, labels: LabelSet) -> MetricFunction:
    return partial(sentiment_metrics if task == "msa" else emotion_metrics, labels=labels)


def _own_values(table: pd.DataFrame, task: str, labels: LabelSet) -> np.ndarray:
    """Compute each metric for each utterance alone, (metrics, N); NaN where one utterance has no value."""
    arrays = _arrays(_labelled(table, _columns(task, labels)), task, labels)
    count, blocks = len(arrays[0]), []
    for start in range(0, count, _BLOCK):
        weights = np.eye(min(_BLOCK, count - start), count, start)
        blocks.append(np.stack(list(_function(task, labels)(*arrays, weights=weights).values())))
    return np.concatenate(blocks, axis=1)


def _wilcoxon(name: str, labels: LabelSet, a: np.ndarray, b: np.ndarray) -> float:
    if name not in _MEANS and name not in (f"{emotion}_acc" for emotion in (*labels.emotions, "mean")):
        return np.nan
    differences = (a - b)[~np.isnan(a - b)]
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, method="approx").pvalue)
