"""Confusion of classes of sentiment: which class is taken for which. The classes are those of `heads.evaluation.metrics`."""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import confusion_matrix

from data.labels import POLARITIES
from heads.evaluation.metrics import sentiment_classes


class Confusion(NamedTuple):
    """Counts of true (rows) against predicted classes (columns)."""

    classes: tuple[str, ...]
    counts: np.ndarray  # (C, C) int64

    def shares(self) -> np.ndarray:
        """Returns (C, C) shares of each true class, rows sum to 1; NaN for a class that is nowhere true."""
        totals = self.counts.sum(1, keepdims=True)
        return np.divide(self.counts, totals, out=np.full(self.counts.shape, np.nan), where=totals > 0)


def of_classes(prediction: np.ndarray, truth: np.ndarray, limit: int = 3) -> Confusion:
    """Counts the classes of acc7 (limit 3) or acc5 (limit 2); its diagonal is what the metric counts.

    Args:
        prediction: (N,) any float.
        truth: (N,) in [-3, 3]; rows that are NaN are left out.
        limit: Classes run from -limit to limit.
    """
    names = range(-limit, limit + 1)
    shown = tuple(f"{name:+d}".replace("-", "−") if name else "0" for name in names)
    return Confusion(shown, _counts(sentiment_classes(prediction, limit), sentiment_classes(truth, limit), [*names]))


def of_polarity(prediction: np.ndarray, truth: np.ndarray) -> Confusion:
    """Counts signs: negative (below 0), neutral (exactly 0), positive (above 0); arguments as for `of_classes`.

    A prediction of a head is hardly ever exactly 0. acc2_non0 is the share of the diagonal in the rows negative and positive.
    """
    return Confusion(POLARITIES, _counts(np.sign(prediction), np.sign(truth), [-1, 0, 1]))


def _counts(predicted: np.ndarray, true: np.ndarray, classes: list[int]) -> np.ndarray:
    known = ~np.isnan(true)
    if not known.any():
        return np.zeros((len(classes), len(classes)), np.int64)
    return confusion_matrix(true[known], predicted[known], labels=classes)
