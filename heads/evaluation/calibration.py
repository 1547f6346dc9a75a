"""Calibration: do predicted probabilities of emotions come true as often as they say, and is sentiment too high or too low?

Sources: C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (expected calibration error); its form for the probability
of one class against all others: M. Kull et al., Beyond temperature scaling, NeurIPS 2019.
"""

from typing import NamedTuple

import numpy as np

from heads.evaluation.metrics import sentiment_classes
from heads.evaluation.strata import Stratum, strata

BINS = 10


class Reliability(NamedTuple):
    """Predicted probabilities of an event in bins of equal width, and how often it came true; bins without a row are left out."""

    predicted: np.ndarray  # (b,) mean probability
    observed: np.ndarray  # (b,) share of rows in which it came true
    counts: np.ndarray  # (b,) int64 number of rows

    @property
    def expected_error(self) -> float:
        """ECE: mean distance between predicted and observed, weighted by counts; NaN without rows."""
        total = self.counts.sum()
        return float(self.counts @ np.abs(self.predicted - self.observed) / total) if total else np.nan


def reliability(probability: np.ndarray, present: np.ndarray, bins: int = BINS) -> Reliability:
    """Compares probabilities with what came true.

    Args:
        probability: (N,) in [0, 1]. A probability on an edge belongs to the bin below it, as in scikit-learn's `calibration_curve`.
        present: (N,) above 0 where it came true, NaN where unknown; those rows are left out.
        bins: Number of bins.
    """
    known = ~np.isnan(present) & np.isfinite(probability)
    probability, came_true = probability[known], present[known] > 0
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probability)
    counts = np.bincount(place, minlength=bins)
    filled = counts > 0
    sums = (np.bincount(place, values, minlength=bins)[filled] for values in (probability, came_true))
    predicted, observed = (total / counts[filled] for total in sums)
    return Reliability(predicted, observed, counts[filled])


def bias(prediction: np.ndarray, truth: np.ndarray) -> list[Stratum]:
    """Computes the mean of prediction minus truth by the predicted class from -3 to 3: above 0, predictions are too high there.

    Args:
        prediction: (N,) any float.
        truth: (N,) in [-3, 3]; rows that are NaN are left out.
    """
    classes = sentiment_classes(prediction, 3)
    names = {float(number): f"{number:+d}".replace("-", "−") if number else "0" for number in range(-3, 4)}
    return strata(prediction - truth, np.array([names.get(one, "") for one in classes]), [*names.values()])
