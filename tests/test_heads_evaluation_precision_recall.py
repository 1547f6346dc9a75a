"""Precision and recall, against the metrics of the program and a threshold set by hand."""

import numpy as np
import pytest

from heads.evaluation.metrics import emotion_metrics
from heads.evaluation.precision_recall import precision_recall


def test_the_curve_is_complete_and_agrees_with_the_metrics():
    generator = np.random.default_rng(0)
    probability, truth = generator.random((80, 6)), (generator.random((80, 6)) < 0.3).astype(float)
    truth[:5, 0] = np.nan
    found = precision_recall(probability[:, 0], truth[:, 0])
    known, present = probability[5:, 0], truth[5:, 0] > 0
    assert found.average_precision == pytest.approx(emotion_metrics(probability, truth)["happiness_ap"])
    assert found.base_rate == present.mean()
    assert (found.recall[0], found.recall[-1], found.precision[-1]) == (1, 0, 1)
    recall, precision = found.at_half
    assert recall == np.mean(known[present] > 0.5)
    assert precision == np.mean(present[known > 0.5])


def test_an_emotion_that_nothing_has_has_no_curve_and_one_never_predicted_no_point():
    assert precision_recall(np.ones(3), np.array([0, 0, np.nan])) is None
    assert precision_recall(np.full(3, 0.5), np.array([0, 1, np.nan])).at_half is None
