"""The metrics of sentiment and emotions: one record each in `METRICS`, by the definitions of MMSA and MMML, unrounded.

A new metric is one record in `SENTIMENT`, `PER_EMOTION` or one of their like; names, directions, labels, computation and choices on the
command line follow from it. Each metric is a function of weighted rows: once plainly (every row counts 1), or at once for many
weightings, which is how `heads.evaluation.intervals` resamples. Predictions are made in `heads.evaluation.predictions`, epochs are
selected in `heads.training.selection`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any, NamedTuple, Self

import numpy as np

from data.labels import MOSEI_LABELS, LabelSet, is_name
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

    @cached_property
    def positive(self) -> "Confusion":
        """Prediction > 0 against truth > 0, all rows."""
        return Confusion.of(self.prediction > 0, self.truth > 0, self.known, self.weights)

    def same_part(self, bounds: np.ndarray) -> np.ndarray:
        """(…) share of rows whose prediction and truth are between the same two of the bounds; a bound belongs to the part below it."""
        return self.mean(np.searchsorted(bounds, self.prediction) == np.searchsorted(bounds, self.truth))

    def clipped(self, limit: float) -> "SentimentRows":
        """The same rows with predictions and truths clipped to ±limit."""
        return SentimentRows(np.clip(self.prediction, -limit, limit), np.clip(self.truth, -limit, limit), self.weights)

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
    """The emotions of the same rows; what a metric gives for each is computed once."""

    def __init__(self, emotions: Collection[EmotionRows]) -> None:
        self.emotions = emotions
        self._found: dict[Callable[[EmotionRows], np.ndarray], list[np.ndarray]] = {}

    def each(self, function: Callable[[EmotionRows], np.ndarray]) -> list[np.ndarray]:
        """C arrays (…), the metric of each emotion."""
        if function not in self._found:
            self._found[function] = [function(rows) for rows in self.emotions]
        return self._found[function]


class ClassRows:
    """Probabilities and truths of classes, and how often each was there, was predicted, and was predicted rightly.

    Attributes:
        supports: (…, C) weights of the rows of each class.
        predicted: (…, C) weights of the rows that are predicted as it: those where it has the largest probability, the first of equals.
        hits: (…, C) weights of the rows of each class that are predicted as it.
    """

    def __init__(self, probability: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> None:
        """Args:
        probability: (N, C).
        truth: (N, C), 1 for one class and 0 for the others, NaN if unlabelled.
        weights: (…, N) how often each row counts.
        """
        known = ~np.isnan(truth).any(axis=1, keepdims=True) & np.isfinite(probability).all()
        present = (truth > 0) & known
        predicted = (np.arange(truth.shape[1]) == np.argmax(probability, axis=1)[:, None]) & known
        columns = np.concatenate([present, predicted, present & predicted], axis=1).astype(float)
        self.supports, self.predicted, self.hits = np.split(weights @ columns, 3, axis=-1)

    def accuracy(self) -> np.ndarray:
        return _ratio(self.hits.sum(-1), self.supports.sum(-1), np.nan)

    def recalls(self) -> np.ndarray:
        """(…, C), 0 for a class that is not there; NaN if nothing is."""
        return _ratio(self.hits, self.supports, 0) + self._nothing()

    def precisions(self) -> np.ndarray:
        """(…, C), 0 for a class that is never predicted; NaN if nothing is there."""
        return _ratio(self.hits, self.predicted, 0) + self._nothing()

    def f1(self) -> np.ndarray:
        """(…, C), 0 for a class that is neither there nor predicted; NaN if nothing is there."""
        return _ratio(2 * self.hits, self.supports + self.predicted, 0) + self._nothing()

    def weighted_f1(self) -> np.ndarray:
        return _ratio((self.f1() * self.supports).sum(-1), self.supports.sum(-1), np.nan)

    def macro_f1(self) -> np.ndarray:
        return _ratio(self.f1().sum(-1), (self.supports + self.predicted > 0).sum(-1), np.nan)

    def unweighted_recall(self) -> np.ndarray:
        return _ratio(self.recalls().sum(-1), (self.supports > 0).sum(-1), np.nan)

    def _nothing(self) -> np.ndarray:
        """(…, 1) NaN where no row is drawn or known, else 0."""
        return np.where(self.supports.sum(-1, keepdims=True) > 0, 0.0, np.nan)


@dataclass(frozen=True)
class Metric:
    """One metric, complete: nothing about it stands elsewhere."""

    name: str  # in metrics.json, tables of trials, options and flags
    task: str  # msa or mer
    label: str  # in the paper's tables and in pictures
    function: Callable[[Any], np.ndarray]  # SentimentRows, EmotionRows, AllEmotions or ClassRows → (…)
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

_ANY_SCALE = ("acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "mae", "corr")

_THIRDS, _FIFTHS = (np.array(bounds, np.float32) for bounds in ((-0.1, 0.1), (-0.7, -0.1, 0.1, 0.7)))

SIMS_SENTIMENT: tuple[Metric, ...] = (
    Metric("acc2", "msa", "Acc2", lambda rows: rows.positive.accuracy(), digits=2),
    Metric("f1", "msa", "F1", lambda rows: rows.positive.weighted_f1(), digits=2),
    Metric("acc3", "msa", "Acc3", lambda rows: rows.same_part(_THIRDS), digits=2),
    Metric("acc5", "msa", "Acc5", lambda rows: rows.same_part(_FIFTHS), digits=2),
    Metric("mae", "msa", "MAE", lambda rows: rows.clipped(1).absolute_error(), False, digits=3, is_percentage=False),
    Metric("corr", "msa", "Corr", lambda rows: rows.clipped(1).correlation(), digits=3, is_percentage=False),
)
"""The metrics of sentiment in [-1, 1], those of CH-SIMS; their definitions are in `sentiment_metrics`."""

CLASSES: tuple[Metric, ...] = (
    Metric("acc", "mer", "Acc", lambda rows: rows.accuracy()),
    Metric("wf1", "mer", "WF1", lambda rows: rows.weighted_f1()),
    Metric("macro_f1", "mer", "macro F1", lambda rows: rows.macro_f1()),
    Metric("uar", "mer", "UAR", lambda rows: rows.unweighted_recall()),
)
"""The metrics of classes, functions of `ClassRows`; their definitions are in `emotion_metrics`."""

PER_CLASS: tuple[Metric, ...] = (
    Metric("f1", "mer", "F1", lambda rows: rows.f1()),
    Metric("recall", "mer", "recall", lambda rows: rows.recalls()),
    Metric("precision", "mer", "precision", lambda rows: rows.precisions()),
)
"""The metrics that each class has, functions of `ClassRows` that give (…, C)."""

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


def _of_emotions(metric: Metric, emotions: tuple[str, ...]) -> dict[str, Metric]:
    """Prefix → record of a metric of each emotion and of their mean, functions of `AllEmotions`."""

    def of(number: int, rows: AllEmotions) -> np.ndarray:
        return rows.each(metric.function)[number]

    def mean(rows: AllEmotions) -> np.ndarray:
        return _mean_of_defined(rows.each(metric.function))

    functions = {emotion: partial(of, number) for number, emotion in enumerate(emotions)} | {"mean": mean}
    return {
        prefix: replace(metric, name=f"{prefix}_{metric.name}", label=f"{prefix} {metric.label}", function=function)
        for prefix, function in functions.items()
    }


def _of_class(metric: Metric, number: int, name: str) -> Metric:
    """Makes the record of a metric of one class."""

    def of(rows: ClassRows) -> np.ndarray:
        return metric.function(rows)[..., number]

    return replace(metric, name=f"{name}_{metric.name}", label=f"{name} {metric.label}", function=of)


def sentiment_of(labels: LabelSet) -> tuple[Metric, ...]:
    """Lists the metrics of sentiment on the scale of a label set: MOSI's, CH-SIMS's, or those that any scale has."""
    if labels.limit == MOSEI_LABELS.limit:
        return SENTIMENT
    return SIMS_SENTIMENT if labels.limit == 1 else tuple(metric for metric in SENTIMENT if metric.name in _ANY_SCALE)


@cache
def metrics_of(labels: LabelSet) -> Mapping[str, Metric]:
    """Lists the metrics of a label set by name: those of sentiment, then of each emotion (`happiness_acc`, …, `fear_never_wf1`), then
    `mean_acc`, …: means over the emotions. Of classes: those of all together, then of each (`calm_f1`, …)."""
    if labels.is_exclusive:
        emotions = [_of_class(metric, *one) for one in enumerate(labels.emotions) for metric in PER_CLASS]
        emotions = [*CLASSES, *emotions]
    else:
        by_metric = [_of_emotions(metric, labels.emotions) for metric in PER_EMOTION]
        emotions = [records[prefix] for prefix in (*labels.emotions, "mean") for records in by_metric]
    return {metric.name: metric for metric in (*sentiment_of(labels), *emotions)}


METRICS: Mapping[str, Metric] = metrics_of(MOSEI_LABELS)
"""The metrics of the usual labels."""

SENTIMENT_METRICS = tuple(metric.name for metric in SENTIMENT)
EMOTION_METRICS = tuple(metric.name for metric in PER_EMOTION)
"""Names without the emotion: each stands in `METRICS` for every emotion (`happiness_acc`) and for their mean (`mean_acc`)."""

_FIXED: dict[str, Metric] = {metric.name: metric for metric in (*SIMS_SENTIMENT, *CLASSES)} | dict(METRICS)


def metric_named(name: str) -> Metric:
    """Finds a metric that any label set has. Its function is of no use without the set; names, labels and directions are.

    Raises:
        InputError: No label set has a metric of this name.
    """
    return lookup(_FIXED | _of_one_emotion(name), name, "metric")


def _of_one_emotion(name: str) -> dict[str, Metric]:
    """Makes the record of a metric of one emotion or class, whatever it is; empty if the name is not one of such."""
    longest_first = sorted((*PER_EMOTION, *PER_CLASS), key=lambda metric: -len(metric.name))
    for metric in longest_first:
        emotion = name.removesuffix(f"_{metric.name}")
        if emotion != name and is_name(emotion):
            return {name: replace(metric, name=name, label=f"{emotion} {metric.label}")}
    return {}


def higher_is_better(name: str) -> bool:
    """Returns the direction of a metric of any label set, or of the loss.

    Raises:
        InputError: There is no such metric.
    """
    known = {metric.name: metric.higher_is_better for metric in (_FIXED | _of_one_emotion(name)).values()}
    return lookup({"loss": False, **known}, name, "metric")


DEFAULT_METRICS = {"msa": "mae", "mer": "mean_wf1"}
"""Task → the metric that runs are compared by unless another is asked for; of classes it is `CLASS_METRIC`."""

CLASS_METRIC = "wf1"

MetricValues = dict[str, Any]
"""Name → float, or array (…) where weights (…, N) were given."""


def default_metric(tasks: Collection[str], has_classes: bool = False) -> str:
    """Returns the metric that runs are compared by: mae if sentiment is among the tasks, else mean_wf1, or wf1 of classes.

    Args:
        tasks: msa, mer: the tasks in which the runs are comparable.
        has_classes: True if their emotions are classes.
    """
    return CLASS_METRIC if has_classes and "msa" not in tasks else DEFAULT_METRICS["msa" if "msa" in tasks else "mer"]


def is_better(name: str, value: float, other: float) -> bool:
    """Returns True if `value` of the metric is strictly better than `other`; any number is better than NaN.

    Raises:
        InputError: There is no such metric.
    """
    higher = higher_is_better(name)
    if np.isnan(other):
        return not np.isnan(value)
    return value > other if higher else value < other


def sentiment_classes(values: np.ndarray, limit: int) -> np.ndarray:
    """Returns the classes that acc5 (limit 2) and acc7 (limit 3) compare: values clipped to ±limit and rounded, halves to even."""
    return np.round(np.clip(values, -limit, limit))


def sentiment_metrics(
    prediction: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None, labels: LabelSet = MOSEI_LABELS
) -> MetricValues:
    """Computes the metrics of sentiment, in the order of `sentiment_of`.

    has0 compares prediction ≥ 0 with truth ≥ 0 on all rows, non0 compares > 0 with > 0 on rows whose truth is not 0; F1 is weighted
    by support. acc5 and acc7 clip both to ±2 and ±3 and round them (halves to the even number). mae and corr (Pearson) are of the
    values as they are.

    In [-1, 1], where CH-SIMS has its own: acc2 and f1 compare > 0 with > 0 on all rows; acc3 and acc5 say whether both are in the same
    part, which end at -0.1, 0.1 and 1, and at -0.7, -0.1, 0.1, 0.7 and 1; mae and corr are of values clipped to ±1. On other scales
    there are has0, non0, mae and corr.

    Rows without a truth are left out. NaN: all metrics where no row remains or a prediction is not finite, non0 where all truths
    are 0, corr where predictions or truths are constant.

    Args:
        prediction: (N,) any float.
        truth: (N,) on the scale of `labels`, NaN if unlabelled.
        weights: (…, N) ≥ 0, how often each row counts; once if not given.
        labels: Says which metrics there are.

    Source: https://github.com/thuiar/MMSA, utils/metricsTop.py (of MOSI, and of SIMS), unrounded.
    """
    prediction, truth = _same_shape(prediction, truth, (len(truth),))
    return _computed("msa", SentimentRows(prediction, truth, _weights(weights, len(truth))), weights, labels)


def emotion_metrics(
    probability: np.ndarray,
    truth: np.ndarray,
    threshold: float = 0.5,
    weights: np.ndarray | None = None,
    labels: LabelSet = MOSEI_LABELS,
) -> MetricValues:
    """Computes `happiness_acc`, `happiness_wf1`, …, `fear_never_wf1` and the means over the emotions: `EMOTION_METRICS` of each.

    acc: accuracy. wf1: F1 weighted by support. balanced_acc: mean recall of the classes, present and absent, that occur in the truth.
    macro_f1: mean F1 of the classes that occur in truth or prediction. ap: average precision, Σ (Rᵢ - Rᵢ₋₁) Pᵢ over the distinct
    probabilities. never_acc, never_wf1: the scores of never predicting the emotion, p and 2p²/(1 + p) for a share p of absent rows.
    F1 of a class that does not occur is 0. All as scikit-learn with `zero_division=0`, but ap is NaN where the emotion never occurs.

    Of classes, where an utterance is predicted as the one with the largest probability: acc, wf1, macro_f1 as above, and uar, the mean
    recall of the classes that occur in the truth (unweighted average recall); and f1, recall and precision of each class.

    Rows without a truth are left out, emotion by emotion. NaN: all of an emotion where no row remains or a probability is not finite.
    Means are over the emotions whose value is not NaN.

    Args:
        probability: (N, C) in [0, 1], in the order of `labels.emotions`.
        truth: (N, C) present where above 0, NaN if unlabelled.
        threshold: Predicted as present where the probability is above it.
        weights: (…, N) ≥ 0, how often each row counts; once if not given.
        labels: Names the C emotions.
    """
    probability, truth = _same_shape(probability, truth, (len(truth), len(labels.emotions)))
    rows = _weights(weights, len(truth))
    if labels.is_exclusive:
        return _computed("mer", ClassRows(probability, truth, rows), weights, labels)
    columns = zip(probability.T, truth.T, strict=True)
    emotions = [EmotionRows(scores, one, threshold, rows) for scores, one in columns]
    return _computed("mer", AllEmotions(emotions), weights, labels)


def _computed(task: str, rows: SentimentRows | AllEmotions | ClassRows, weights: np.ndarray | None, labels: LabelSet) -> MetricValues:
    """Computes the metrics of a task: floats, or arrays (…) where weights were given."""
    values = {name: metric.function(rows) for name, metric in metrics_of(labels).items() if metric.task == task}
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
