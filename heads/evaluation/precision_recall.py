"""Precision and recall of each emotion at every threshold, by scikit-learn."""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve


class PrecisionRecall(NamedTuple):
    """The curve of one emotion, from the lowest threshold (everything is predicted) to the highest (nothing is)."""

    precision: np.ndarray  # (t,)
    recall: np.ndarray  # (t,)
    base_rate: float  # share of utterances that have the emotion: the precision of a guess
    average_precision: float
    at_half: tuple[float, float] | None  # recall and precision at the threshold 0.5; None if nothing is predicted there


def precision_recall(probability: np.ndarray, truth: np.ndarray) -> PrecisionRecall | None:
    """Computes the curve of one emotion; None where no labelled utterance has it.

    Args:
        probability: (N,) in [0, 1].
        truth: (N,) present where above 0, NaN where unlabelled; those rows are left out.
    """
    known = ~np.isnan(truth) & np.isfinite(probability)
    probability, present = probability[known], truth[known] > 0
    if not present.any():
        return None
    precision, recall, _ = precision_recall_curve(present, probability, drop_intermediate=True)
    predicted = probability > 0.5
    hits = float((predicted & present).sum())
    at_half = (hits / float(present.sum()), hits / float(predicted.sum())) if predicted.any() else None
    return PrecisionRecall(precision, recall, float(present.mean()), float(average_precision_score(present, probability)), at_half)
