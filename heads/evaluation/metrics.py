"""What the tables report: sentiment and emotion metrics of predictions, by the definitions of MMSA and MMML, unrounded.

Each metric is a function of weighted rows: once plainly (every row counts 1), or at once for many weightings, which is how
`heads.evaluation.intervals` resamples. What is predicted, and which metric selects, is decided elsewhere.
"""

from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np

from data.labels import EMOTIONS
from data.lookup import lookup

SENTIMENT_METRICS = ("acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc5", "acc7", "mae", "corr")
EMOTION_METRICS = ("acc", "wf1", "balanced_acc", "macro_f1", "ap", "never_acc", "never_wf1")
"""Of each emotion (`happiness_acc`) and of their mean (`mean_acc`)."""

HIGHER_IS_BETTER: Mapping[str, bool] = {
    "loss": False,
    **{name: name != "mae" for name in SENTIMENT_METRICS},
    **{f"{prefix}_{name}": True for prefix in (*EMOTIONS, "mean") for name in EMOTION_METRICS},
}
"""The direction of every metric, and of the loss."""

METRICS = tuple(name for name in HIGHER_IS_BETTER if name != "loss")

Metrics = dict[str, float] | dict[str, np.ndarray]
"""Floats, or arrays (…) where weights (…, N) were given."""


def is_better(name: str, value: float, other: float) -> bool:
    """Whether `value` of the metric is strictly better than `other`; any number is better than NaN.

    Raises:
        InputError: There is no such metric.
    """
    higher = lookup(HIGHER_IS_BETTER, name, "metric")
    if np.isnan(other):
        return not np.isnan(value)
    return value > other if higher else value < other


def sentiment_metrics(prediction: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> Metrics:
    """The eight metrics of sentiment, in the order of `SENTIMENT_METRICS`.

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
    known = ~np.isnan(truth) & np.isfinite(prediction).all()
    rows = _weights(weights, len(truth))
    has0 = _Confusion.of(prediction >= 0, truth >= 0, known, rows)
    non0 = _Confusion.of(prediction > 0, truth > 0, known & (truth != 0), rows)
    values = (
        has0.accuracy(),
        has0.weighted_f1(),
        non0.accuracy(),
        non0.weighted_f1(),
        _mean(_class(prediction, 2) == _class(truth, 2), known, rows),
        _mean(_class(prediction, 3) == _class(truth, 3), known, rows),
        _mean(np.abs(prediction - truth), known, rows),
        _correlation(prediction, truth, known, rows),
    )
    return _as_asked(dict(zip(SENTIMENT_METRICS, values, strict=True)), weights)


def emotion_metrics(probability: np.ndarray, truth: np.ndarray, threshold: float = 0.5, weights: np.ndarray | None = None) -> Metrics:
    """`happiness_acc`, `happiness_wf1`, …, `fear_never_wf1` and the means over the emotions: `EMOTION_METRICS` of each.

    acc: accuracy. wf1: F1 weighted by support. balanced_acc: mean recall of the classes, present and absent, that occur in the truth.
    macro_f1: mean F1 of the classes that occur in truth or prediction. ap: average precision, Σ (Rᵢ - Rᵢ₋₁) Pᵢ over the distinct
    probabilities. never_acc, never_wf1: what never predicting the emotion scores, p and 2p²/(1 + p) for a share p of absent rows.
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
    table = np.stack([_one_emotion(scores, one, threshold, rows) for scores, one in columns])  # (6, metrics, …)
    defined = ~np.isnan(table)
    means = _ratio(np.where(defined, table, 0).sum(0), defined.sum(0), np.nan)
    names = (f"{prefix}_{name}" for prefix in (*EMOTIONS, "mean") for name in EMOTION_METRICS)
    return _as_asked(dict(zip(names, [*table.reshape(-1, *table.shape[2:]), *means], strict=True)), weights)


def _one_emotion(probability: np.ndarray, truth: np.ndarray, threshold: float, weights: np.ndarray) -> np.ndarray:
    """(metrics, …) of one emotion, `probability` and `truth` (N,)."""
    known = ~np.isnan(truth) & np.isfinite(probability).all()
    confusion = _Confusion.of(probability > threshold, truth > 0, known, weights)
    never = _Confusion.of(np.zeros(len(truth), bool), truth > 0, known, weights)
    values = (
        confusion.accuracy(),
        confusion.weighted_f1(),
        confusion.balanced_accuracy(),
        confusion.macro_f1(),
        _average_precision(probability, truth > 0, known, weights),
        never.accuracy(),
        never.weighted_f1(),
    )
    return np.stack(values)


class _Confusion(NamedTuple):
    """Weights (…) of the four outcomes of a yes-or-no prediction."""

    hits: np.ndarray
    false_alarms: np.ndarray
    misses: np.ndarray
    rejections: np.ndarray

    @classmethod
    def of(cls, predicted: np.ndarray, present: np.ndarray, known: np.ndarray, weights: np.ndarray) -> Self:
        outcomes = (predicted & present, predicted & ~present, ~predicted & present, ~predicted & ~present)
        columns = np.stack([outcome & known for outcome in outcomes], axis=1).astype(float)
        return cls(*np.moveaxis(weights @ columns, -1, 0))

    def accuracy(self) -> np.ndarray:
        return _ratio(self.hits + self.rejections, sum(self), np.nan)

    def balanced_accuracy(self) -> np.ndarray:
        positives, negatives = self._supports()
        recalls = _ratio(self.hits, positives, 0), _ratio(self.rejections, negatives, 0)
        return _ratio(sum(recalls), (positives > 0) + 1.0 * (negatives > 0), np.nan)

    def weighted_f1(self) -> np.ndarray:
        return _ratio(sum(f1 * support for f1, support in zip(self._f1(), self._supports(), strict=True)), sum(self), np.nan)

    def macro_f1(self) -> np.ndarray:
        occurs = sum(self) - self.rejections > 0, sum(self) - self.hits > 0
        return _ratio(sum(self._f1()), 1.0 * occurs[0] + occurs[1], np.nan)

    def _supports(self) -> tuple[np.ndarray, np.ndarray]:
        return self.hits + self.misses, self.false_alarms + self.rejections

    def _f1(self) -> tuple[np.ndarray, np.ndarray]:
        """F1 of the classes "present" and "absent"; 0 for one that does not occur."""
        errors = self.false_alarms + self.misses
        return _ratio(2 * self.hits, 2 * self.hits + errors, 0), _ratio(2 * self.rejections, 2 * self.rejections + errors, 0)


def _average_precision(scores: np.ndarray, present: np.ndarray, known: np.ndarray, weights: np.ndarray) -> np.ndarray:
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
    x, y = _centred(x, known), _centred(y, known)
    sums = weights @ np.stack([known, x, y, x * x, y * y, x * y], axis=1)
    count, sum_x, sum_y, sum_xx, sum_yy, sum_xy = np.moveaxis(sums, -1, 0)
    spread = _spread(sum_x, sum_xx, count) * _spread(sum_y, sum_yy, count)
    return np.clip(_ratio(sum_xy - _ratio(sum_x * sum_y, count, 0), np.sqrt(spread), np.nan), -1, 1)


def _centred(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Shifted and scaled into [-1, 1] with the median at 0, so that sums of squares lose nothing; 0 where not known."""
    centre = np.median(values[known]) if known.any() else 0.0
    values = np.where(known, values, centre) - centre
    return values / (np.abs(values).max(initial=0) or 1.0)


def _spread(total: np.ndarray, squares: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Σ (x - mean)² of values with a median of 0; exactly 0 where they are constant.

    A median is within a standard deviation of the mean: unless values are constant, what remains is half of the squares or more.
    Rows drawn with other weights can be constant and not 0; what remains of them then is rounding.
    """
    remains = squares - _ratio(total * total, count, 0)
    return np.where(remains > 1e-12 * squares, remains, 0)


def _class(values: np.ndarray, limit: int) -> np.ndarray:
    return np.round(np.clip(values, -limit, limit))


def _mean(values: np.ndarray, known: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ np.where(known, values, 0.0), weights @ known.astype(float), np.nan)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float) -> np.ndarray:
    """The quotient, and `otherwise` where the denominator is 0."""
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


def _as_asked(values: dict[str, np.ndarray], weights: np.ndarray | None) -> Metrics:
    return {name: float(value) for name, value in values.items()} if weights is None else values
