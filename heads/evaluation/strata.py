"""Errors of single utterances, and their means in parts of a corpus: by length, speaker, video, similarity.

The intervals are those of `heads.evaluation.intervals`: utterances are drawn as if independent.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from heads.evaluation.intervals import bootstrap

PARTS = 5
"""Parts with equally many utterances into which numbers are cut."""


class Stratum(NamedTuple):
    """A part of the utterances: a mean over it, with its 95 % interval."""

    name: str
    count: int
    mean: float
    low: float
    high: float


def sentiment_errors(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Computes (N,) absolute errors; their mean is mae. NaN where unlabelled."""
    return np.abs(prediction - truth)


def emotion_errors(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Computes (N,) shares of the labelled emotions of an utterance that are decided wrongly at 0.5; NaN where none is labelled.

    Their mean is 1 - mean_acc where all six are labelled: the Hamming loss.

    Args:
        probability: (N, 6) in [0, 1].
        truth: (N, 6) present where above 0, NaN where unlabelled.
    """
    return _mean_of_labelled((probability > 0.5) != (truth > 0), truth)


def emotion_distances(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Computes (N,) mean distances of the probabilities from 0 or 1, whichever is true; arguments as for `emotion_errors`."""
    return _mean_of_labelled(np.abs(probability - (truth > 0)), truth)


def strata(values: np.ndarray, names: np.ndarray, order: Sequence[str] | None = None) -> list[Stratum]:
    """Computes the mean of each part and its bootstrap interval, leaving out parts without a value.

    Args:
        values: (N,) float; rows that are NaN are left out.
        names: (N,) name of the part of each row; rows without one ("") are left out.
        order: Names in their order; by default the largest mean comes first.
    """
    known = ~np.isnan(values) & (names != "")
    values, names = values[known], names[known]
    if not len(values):
        return []
    present, places = np.unique(names, return_inverse=True)
    members = (places[:, None] == np.arange(len(present))).astype(float)
    intervals = bootstrap(partial(_means, present), values, members)
    found = {
        str(name): Stratum(str(name), int(inside.sum()), float(values[inside > 0].mean()), *intervals[str(name)])
        for name, inside in zip(present, members.T, strict=True)
    }
    if order is None:
        return sorted(found.values(), key=lambda one: (-one.mean, one.name))
    return [found[name] for name in order if name in found]


def parts(values: np.ndarray, unit: str, digits: int = 0, count: int = PARTS) -> tuple[np.ndarray, list[str]]:
    """Cuts numbers into parts with about equally many rows; equal numbers are in one part.

    Args:
        values: (N,) float; NaN is in no part.
        unit: Stands behind the numbers of a name.
        digits: Behind the point, in names.
        count: Largest number of parts.

    Returns:
        (N,) name of the part of each row, "" for NaN; and the names from the smallest numbers to the largest.
    """
    known = ~np.isnan(values)
    if not known.any():
        return np.full(len(values), "", object), []
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, count + 1)[1:-1]))
    places = np.where(known, np.searchsorted(edges, values), -1)
    names = {}
    for place in np.unique(places[known]):
        inside = values[places == place]
        low, high = (f"{number:.{digits}f}".replace("-", "−") for number in (inside.min(), inside.max()))
        names[int(place)] = f"{low} {unit}".strip() if low == high else f"{low} to {high} {unit}".strip()
    return np.array([names.get(int(place), "") for place in places], object), list(dict.fromkeys(names.values()))


def _mean_of_labelled(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Averages (N, 6) values over the emotions with a truth, (N,); NaN where none has one."""
    known = ~np.isnan(truth)
    counts = known.sum(1)
    return np.divide(np.where(known, values, 0).sum(1), counts, out=np.full(len(truth), np.nan), where=counts > 0)


def _means(names: np.ndarray, values: np.ndarray, members: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Computes the weighted mean of each part, {name: (R,)}; NaN in a resample that has drawn no row of it."""
    totals = weights @ members
    means = np.divide(weights @ (values[:, None] * members), totals, out=np.full(totals.shape, np.nan), where=totals > 0)
    return {str(name): means[:, number] for number, name in enumerate(names)}
