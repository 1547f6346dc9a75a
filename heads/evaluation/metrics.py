"""The metrics of sentiment and emotions: one record each in `METRICS`, by the definitions of MMSA and MMML, unrounded.

A new metric is one record in `SENTIMENT` or `PER_EMOTION`; names, directions, labels, computation and choices on the command line
follow from it. Each metric is a function of weighted rows: once plainly (every row counts 1), or at once for many weightings, which is
how `heads.evaluation.intervals` resamples. Predictions are made in `heads.evaluation.predictions`, epochs are selected in
`heads.training.selection`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, Self

import numpy as np

from data.labels import EMOTIONS
from data.lookup import lookup


class SentimentRows:
    """Predictions and truths of sentiment, and the parts that several metrics share, each computed once.

    Attributes:
        prediction: (N,) float64.
        truth: (N,) float64, NaN if unlabelled.
        known: (N,) bool, the rows that count: labelled ones, or none if a prediction is not finite.
        weights: (…, N) how often each row counts.
    """

    def __init__(self, prediction: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> None:
        self.prediction, self.truth, self.weights = prediction, truth, weights
        self.known = ~np.isnan(truth) & np.isfinite(prediction).all()

    @cached_property
    def has0(self) -> "Confusion":
        """Prediction ≥ 0 against truth ≥ 0, all rows."""
        return Confusion.of(self.prediction >= 0, self.truth >= 0, self.known, self.weights)

    @cached_property
    def non0(self) -> "Confusion":
        """Prediction > 0 against truth > 0, rows whose truth is not 0."""
        return Confusion.of(self.prediction > 0, self.truth > 0, self.known & (self.truth != 0), self.weights)

    def same_class(self, limit: int) -> np.ndarray:
        """(…) share of rows whose prediction and truth, clipped to ±limit, round to the same number."""
        return self.mean(sentiment_classes(self.prediction, limit) == sentiment_classes(self.truth, limit))

    def mean(self, values: np.ndarray) -> np.ndarray:
        """(…) mean of (N,) values over the rows that count."""
        return _mean(values, self.known, self.weights)

    def absolute_error(self) -> np.ndarray:
        """(…) mean absolute error."""
        return self.mean(np.abs(self.prediction - self.truth))

    def correlation(self) -> np.ndarray:
        """(…) Pearson correlation."""
        return _correlation(self.prediction, self.truth, self.known, self.weights)


class EmotionRows:
    """Probabilities and truths of one emotion, and the parts that several metrics share, each computed once.

    Attributes:
        probability: (N,) float64 in [0, 1].
        present: (N,) bool.
        known: (N,) bool, the rows that count: labelled ones, or none if a probability is not finite.
        weights: (…, N) how often each row counts.
    """

    def __init__(self, probability: np.ndarray, truth: np.ndarray, threshold: float, weights: np.ndarray) -> None:
        self.probability, self.present, self.threshold, self.weights = probability, truth > 0, threshold, weights
        self.known = ~np.isnan(truth) & np.isfinite(probability).all()

    @cached_property
    def predicted(self) -> "Confusion":
        """Presence predicted above the threshold, against the truth."""
        return Confusion.of(self.probability > self.threshold, self.present, self.known, self.weights)

    @cached_property
    def never(self) -> "Confusion":
        """Presence never predicted, against the truth."""
        return Confusion.of(np.zeros(len(self.present), bool), self.present, self.known, self.weights)

    def average_precision(self) -> np.ndarray:
        """(…) average precision."""
        return _average_precision(self.probability, self.present, self.known, self.weights)


class AllEmotions:
    """The six emotions of the same rows; what a metric gives for each is computed once."""

    def __init__(self, emotions: Collection[EmotionRows]) -> None:
        self.emotions = emotions
        self._found: dict[Callable[[EmotionRows], np.ndarray], list[np.ndarray]] = {}

    def each(self, function: Callable[[EmotionRows], np.ndarray]) -> list[np.ndarray]:
        """Six arrays (…), the metric of each emotion."""
        if function not in self._found:
            self._found[function] = [function(rows) for rows in self.emotions]
        return self._found[function]


@dataclass(frozen=True)
class Metric:
    """One metric, complete: nothing about it stands elsewhere."""

    name: str  # in metrics.json, tables of trials, options and flags
    task: str  # msa or mer
    label: str  # in the paper's tables and in pictures
    function: Callable[[Any], np.ndarray]  # SentimentRows, EmotionRows or AllEmotions → (…)
    higher_is_better: bool = True
    digits: int = 1  # behind the point, as the paper prints it
    is_percentage: bool = True  # printed in percent; the value itself is a share from 0 to 1

    def printed(self, value: float) -> str:
        """The value as the paper prints it, with U+2212 for minus; a dash for NaN."""
        return "–" if np.isnan(value) else f"{100 * value if self.is_percentage else value:.{self.digits}f}".replace("-", "−")

    @property
    def direction(self) -> str:
        """higher or lower, as in "lower is better"."""
        return "higher" if self.higher_is_better else "lower"


SENTIMENT: tuple[Metric, ...] = (
    Metric("acc2_has0", "msa", "Has0 Acc2", lambda rows: rows.has0.accuracy(), digits=2),
    Metric("f1_has0", "msa", "Has0 F1", lambda rows: rows.has0.weighted_f1(), digits=2),
    Metric("acc2_non0", "msa", "Non0 Acc2", lambda rows: rows.non0.accuracy(), digits=2),
    Metric("f1_non0", "msa", "Non0 F1", lambda rows: rows.non0.weighted_f1(), digits=2),
    Metric("acc5", "msa", "Acc5", lambda rows: rows.same_class(2), digits=2),
    Metric("acc7", "msa", "Acc7", lambda rows: rows.same_class(3), digits=2),
    Metric("mae", "msa", "MAE", lambda rows: rows.absolute_error(), higher_is_better=False, digits=3, is_percentage=False),
    Metric("corr", "msa", "Corr", lambda rows: rows.correlation(), digits=3, is_percentage=False),
)
"""The metrics of sentiment, functions of `SentimentRows`; their definitions are in `sentiment_metrics`."""

PER_EMOTION: tuple[Metric, ...] = (
    Metric("acc", "mer", "Acc", lambda rows: rows.predicted.accuracy()),
    Metric("wf1", "mer", "WF1", lambda rows: rows.predicted.weighted_f1()),
    Metric("balanced_acc", "mer", "balanced Acc", lambda rows: rows.predicted.balanced_accuracy()),
    Metric("macro_f1", "mer", "macro F1", lambda rows: rows.predicted.macro_f1()),
    Metric("ap", "mer", "AP", lambda rows: rows.average_precision()),
    Metric("never_acc", "mer", "Acc of never", lambda rows: rows.never.accuracy()),
    Metric("never_wf1", "mer", "WF1 of never", lambda rows: rows.never.weighted_f1()),
)
"""The metrics of an emotion, functions of `EmotionRows`; their definitions are in `emotion_metrics`."""


def _of_emotions(metric: Metric) -> dict[str, Metric]:
    """Prefix → record of a metric of each emotion and of their mean, functions of `AllEmotions`."""

    def of(number: int, rows: AllEmotions) -> np.ndarray:
        return rows.each(metric.function)[number]

    def mean(rows: AllEmotions) -> np.ndarray:
        return _mean_of_defined(rows.each(metric.function))

    functions = {emotion: partial(of, number) for number, emotion in enumerate(EMOTIONS)} | {"mean": mean}
    return {
        prefix: replace(metric, name=f"{prefix}_{metric.name}", label=f"{prefix} {metric.label}", function=function)
        for prefix, function in functions.items()
    }


def _table() -> dict[str, Metric]:
    by_metric = [_of_emotions(metric) for metric in PER_EMOTION]
    emotions = [records[prefix] for prefix in (*EMOTIONS, "mean") for records in by_metric]
    return {metric.name: metric for metric in (*SENTIMENT, *emotions)}


METRICS: Mapping[str, Metric] = _table()
"""Name → metric: those of sentiment, then `happiness_acc`, …, `fear_never_wf1`, then `mean_acc`, …: means over the emotions."""

SENTIMENT_METRICS = tuple(metric.name for metric in SENTIMENT)
EMOTION_METRICS = tuple(metric.name for metric in PER_EMOTION)
"""Names without the emotion: each stands in `METRICS` for every emotion (`happiness_acc`) and for their mean (`mean_acc`)."""

HIGHER_IS_BETTER: Mapping[str, bool] = {"loss": False, **{name: metric.higher_is_better for name, metric in METRICS.items()}}
"""The direction of every metric, and of the loss."""

DEFAULT_METRICS = {"msa": "mae", "mer": "mean_wf1"}
"""Task → the metric that runs are compared by unless another is asked for."""

MetricValues = dict[str, Any]
"""Name → float, or array (…) where weights (…, N) were given."""


def default_metric(tasks: Collection[str]) -> str:
    """Returns the metric that runs are compared by: mae if sentiment is among the tasks, else mean_wf1.

    Args:
        tasks: msa, mer: the tasks in which the runs are comparable.
    """
    return DEFAULT_METRICS["msa" if "msa" in tasks else "mer"]


def is_better(name: str, value: float, other: float) -> bool:
    """Returns True if `value` of the metric is strictly better than `other`; any number is better than NaN.

    Raises:
        InputError: There is no such metric.
    """
    higher = lookup(HIGHER_IS_BETTER, name, "metric")
    if np.isnan(other):
        return not np.isnan(value)
    return value > other if higher else value < other


def sentiment_classes(values: np.ndarray, limit: int) -> np.ndarray:
    """Returns the classes that acc5 (limit 2) and acc7 (limit 3) compare: values clipped to ±limit and rounded, halves to even."""
    return np.round(np.clip(values, -limit, limit))


def sentiment_metrics(prediction: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> MetricValues:
    """Computes the metrics of sentiment, in the order of `SENTIMENT_METRICS`.

    has0 compares prediction ≥ 0 with truth ≥ 0 on all rows, non0 compares > 0 with > 0 on rows whose truth is not 0; F1 is weighted
    by support. acc5 and acc7 clip both to ±2 and ±3 and round them (halves to the even number). mae and corr (Pearson) are of the
    values as they are.

    Rows without a truth are left out. NaN: all metrics where no row remains or a prediction is not finite, non0 where all truths
    are 0, corr where predictions or truths are constant.

    Args:
        prediction: (N,) any float.
        truth: (N,) in [-3, 3], NaN if unlabelled.
        weights: (…, N) ≥ 0, how often each row counts; once if not given.

    Source: https://github.com/thuiar/MMSA, utils/metricsTop.py, unrounded.
    """
    prediction, truth = _same_shape(prediction, truth, (len(truth),))
    return _computed("msa", SentimentRows(prediction, truth, _weights(weights, len(truth))), weights)


def emotion_metrics(
    probability: np.ndarray, truth: np.ndarray, threshold: float = 0.5, weights: np.ndarray | None = None
) -> MetricValues:
    """Computes `happiness_acc`, `happiness_wf1`, …, `fear_never_wf1` and the means over the emotions: `EMOTION_METRICS` of each.

    acc: accuracy. wf1: F1 weighted by support. balanced_acc: mean recall of the classes, present and absent, that occur in the truth.
    macro_f1: mean F1 of the classes that occur in truth or prediction. ap: average precision, Σ (Rᵢ - Rᵢ₋₁) Pᵢ over the distinct
    probabilities. never_acc, never_wf1: the scores of never predicting the emotion, p and 2p²/(1 + p) for a share p of absent rows.
    F1 of a class that does not occur is 0. All as scikit-learn with `zero_division=0`, but ap is NaN where the emotion never occurs.

    Rows without a truth are left out, emotion by emotion. NaN: all of an emotion where no row remains or a probability is not finite.
    Means are over the emotions whose value is not NaN.

    Args:
        probability: (N, 6) in [0, 1], in the order of `EMOTIONS`.
        truth: (N, 6) present where above 0, NaN if unlabelled.
        threshold: Predicted as present where the probability is above it.
        weights: (…, N) ≥ 0, how often each row counts; once if not given.
    """
    probability, truth = _same_shape(probability, truth, (len(truth), len(EMOTIONS)))
    rows = _weights(weights, len(truth))
    columns = zip(probability.T, truth.T, strict=True)
    emotions = [EmotionRows(scores, one, threshold, rows) for scores, one in columns]
    return _computed("mer", AllEmotions(emotions), weights)


def _computed(task: str, rows: SentimentRows | AllEmotions, weights: np.ndarray | None) -> MetricValues:
    """Computes the metrics of a task: floats, or arrays (…) where weights were given."""
    values = {name: metric.function(rows) for name, metric in METRICS.items() if metric.task == task}
    return {name: float(value) for name, value in values.items()} if weights is None else values


def _mean_of_defined(values: Collection[np.ndarray]) -> np.ndarray:
    """(…) mean of arrays (…), each element over the arrays in which it is not NaN; NaN where it is NaN in all."""
    defined = [~np.isnan(one) for one in values]
    known = (np.where(has, one, 0) for has, one in zip(defined, values, strict=True))
    return _ratio(np.asarray(sum(known)), np.asarray(sum(has.astype(int) for has in defined)), np.nan)


class Confusion(NamedTuple):
    """Weights (…) of the four outcomes of a yes-or-no prediction."""

    hits: np.ndarray
    false_alarms: np.ndarray
    misses: np.ndarray
    rejections: np.ndarray

    @classmethod
    def of(cls, predicted: np.ndarray, present: np.ndarray, known: np.ndarray, weights: np.ndarray) -> Self:
        """Counts (N,) predictions by weights (…, N), only rows that are known."""
        outcomes = (predicted & present, predicted & ~present, ~predicted & present, ~predicted & ~present)
        columns = np.stack([outcome & known for outcome in outcomes], axis=1).astype(float)
        return cls(*np.moveaxis(weights @ columns, -1, 0))

    def accuracy(self) -> np.ndarray:
        return _ratio(self.hits + self.rejections, self._total(), np.nan)

    def balanced_accuracy(self) -> np.ndarray:
        positives, negatives = self._supports()
        recalls = _ratio(self.hits, positives, 0) + _ratio(self.rejections, negatives, 0)
        return _ratio(recalls, (positives > 0) + 1.0 * (negatives > 0), np.nan)

    def weighted_f1(self) -> np.ndarray:
        (present, absent), (positives, negatives) = self._f1(), self._supports()
        return _ratio(present * positives + absent * negatives, self._total(), np.nan)

    def macro_f1(self) -> np.ndarray:
        present, absent = self._f1()
        occurs = self._total() - self.rejections > 0, self._total() - self.hits > 0
        return _ratio(present + absent, 1.0 * occurs[0] + occurs[1], np.nan)

    def _total(self) -> np.ndarray:
        return self.hits + self.false_alarms + self.misses + self.rejections

    def _supports(self) -> tuple[np.ndarray, np.ndarray]:
        return self.hits + self.misses, self.false_alarms + self.rejections

    def _f1(self) -> tuple[np.ndarray, np.ndarray]:
        """F1 of the classes "present" and "absent"; 0 for one that does not occur."""
        errors = self.false_alarms + self.misses
        return _ratio(2 * self.hits, 2 * self.hits + errors, 0), _ratio(2 * self.rejections, 2 * self.rejections + errors, 0)


def _average_precision(scores: np.ndarray, present: np.ndarray, known: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(…) average precision of (N,) scores; NaN where nothing that is present was drawn."""
    rows = np.flatnonzero(known)
    if not rows.size:
        return np.full(weights.shape[:-1], np.nan)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[rows])), len(rows) - 1)
    ranked = weights[..., rows]
    retrieved = np.cumsum(ranked, axis=-1)[..., last_of_ties]
    hits = np.cumsum(ranked * present[rows], axis=-1)[..., last_of_ties]
    precision = _ratio(hits, retrieved, 0)
    return _ratio((np.diff(hits, axis=-1, prepend=0) * precision).sum(-1), hits[..., -1], np.nan)


def _correlation(x: np.ndarray, y: np.ndarray, known: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(…) Pearson correlation of x and y, both (N,); NaN where one is constant."""
    x, y = _centred(x, known), _centred(y, known)
    sums = weights @ np.stack([known, x, y, x * x, y * y, x * y], axis=1)
    count, sum_x, sum_y, sum_xx, sum_yy, sum_xy = np.moveaxis(sums, -1, 0)
    spread = _spread(sum_x, sum_xx, count) * _spread(sum_y, sum_yy, count)
    return np.clip(_ratio(sum_xy - _ratio(sum_x * sum_y, count, 0), np.sqrt(spread), np.nan), -1, 1)


def _centred(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Shifts and scales values into [-1, 1], median at 0, so that sums of squares lose no precision; 0 where not known."""
    centre = np.median(values[known]) if known.any() else 0.0
    values = np.where(known, values, centre) - centre
    return values / (np.abs(values).max(initial=0) or 1.0)


def _spread(total: np.ndarray, squares: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns Σ (x - mean)² of values with a median of 0; exactly 0 where they are constant.

    A median is within a standard deviation of the mean: unless values are constant, at least half of the sum of squares remains.
    Rows drawn with other weights can be constant without being 0; their remainder is rounding error.
    """
    remains = squares - _ratio(total * total, count, 0)
    return np.where(remains > 1e-12 * squares, remains, 0)


def _mean(values: np.ndarray, known: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ np.where(known, values, 0.0), weights @ known.astype(float), np.nan)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float) -> np.ndarray:
    """Divides; returns `otherwise` where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), otherwise, float), where=np.not_equal(denominator, 0))


def _same_shape(prediction: np.ndarray, truth: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    if np.shape(prediction) != shape or np.shape(truth) != shape:
        raise ValueError(f"predictions {np.shape(prediction)} and truths {np.shape(truth)}, expected {shape} of both")
    return np.asarray(prediction, float), np.asarray(truth, float)


def _weights(weights: np.ndarray | None, count: int) -> np.ndarray:
    weights = np.ones(count) if weights is None else np.asarray(weights, float)
    if weights.shape[-1:] != (count,):
        raise ValueError(f"weights {weights.shape} for {count} rows")
    return weights
