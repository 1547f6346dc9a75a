"""What each modality adds to a trained predictor: its metrics where one modality says nothing.

The predictor is not trained again. A modality says nothing if its features are zeros, or those of other utterances: the latter
have the distribution that the predictor has learned from. Source of the latter: L. Breiman, Random Forests, Machine Learning 45, 2001
(permutation importance), here of a whole modality.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data.tensors import CorpusTensors
from heads.evaluation.intervals import Difference, difference, resampled
from heads.evaluation.metrics import emotion_metrics, sentiment_metrics
from heads.evaluation.predictions import Predictions, present

ZEROED, SHUFFLED = "zeroed", "shuffled"


class Variant(NamedTuple):
    """A corpus in which one modality says nothing."""

    modality: str
    how: str  # ZEROED or SHUFFLED
    tensors: CorpusTensors


class Loss(NamedTuple):
    """The metrics without one modality, and how far they are from those with it."""

    modality: str
    how: str
    values: dict[str, float]
    changes: dict[str, Difference]  # without minus with


def variants(tensors: CorpusTensors, rows: np.ndarray, seed: int = 0) -> list[Variant]:
    """Lists the corpora without each of its modalities, zeroed and shuffled.

    Args:
        tensors: The corpus.
        rows: (n,) int64. Those and the utterances of their dialogues get the features of one another, none its own (for n > 1).
        seed: Of the order.
    """
    rows = tensors.targets.with_neighbours(rows)
    order = np.random.default_rng(seed).permutation(rows)
    other_of = np.arange(len(tensors.targets))
    other_of[order] = np.roll(order, 1)
    found = []
    for modality in tensors.dims:
        found += [Variant(modality, ZEROED, tensors.zeroed(modality))]
        found += [Variant(modality, SHUFFLED, tensors.exchanged(modality, other_of))]
    return found


def losses(whole: Predictions, without: Sequence[tuple[Variant, Predictions]], tensors: CorpusTensors) -> list[Loss]:
    """Computes metrics without each modality, and bootstrap intervals of the changes over the same utterances.

    Args:
        whole: Predictions with all modalities.
        without: The variants, with predictions for the same rows.
        tensors: The corpus with its labels.
    """
    before, found = _drawn(whole, tensors), []
    for variant, predictions in without:
        after = _drawn(predictions, tensors)
        values = {name: one.observed for name, one in after.items()}
        changes = {name: difference(after[name], before[name]) for name in after}
        found.append(Loss(variant.modality, variant.how, values, changes))
    return found


def _drawn(found: Predictions, tensors: CorpusTensors) -> dict:
    targets, drawn = tensors.targets, {}
    if found.sentiment is not None:
        drawn |= resampled(sentiment_metrics, found.sentiment.astype(float), targets.sentiment[found.rows].astype(float))
    if (probability := found.emotion_probability) is not None:
        drawn |= resampled(emotion_metrics, probability, present(targets.emotions[found.rows]))
    return drawn
