"""Errors of single utterances and their means in parts of a corpus."""

import numpy as np
import pytest
from scipy import stats

from heads.evaluation.metrics import emotion_metrics, sentiment_metrics
from heads.evaluation.strata import emotion_distances, emotion_errors, parts, sentiment_errors, strata


def test_means_of_errors_are_the_metrics():
    generator = np.random.default_rng(0)
    prediction, truth = generator.normal(0, 2, (2, 50)).clip(-3, 3)
    probability, present = generator.random((50, 6)), (generator.random((50, 6)) < 0.3).astype(float)
    assert sentiment_errors(prediction, truth).mean() == pytest.approx(sentiment_metrics(prediction, truth)["mae"])
    assert 1 - emotion_errors(probability, present).mean() == pytest.approx(emotion_metrics(probability, present)["mean_acc"])
    unlabelled = np.array([[1, 0, np.nan, np.nan, np.nan, np.nan], [np.nan] * 6])
    np.testing.assert_array_equal(emotion_errors(np.full((2, 6), 0.9), unlabelled), [0.5, np.nan])
    np.testing.assert_allclose(emotion_distances(np.full((2, 6), 0.8), unlabelled), [(0.2 + 0.8) / 2, np.nan])
    np.testing.assert_allclose(emotion_distances(probability, present), np.abs(probability - present).mean(1))


def test_means_and_intervals_of_parts_are_those_of_each_part_alone():
    generator = np.random.default_rng(1)
    values, names = generator.normal(1, 1, 300), np.repeat(["a", "b", ""], 100)
    values[150:] += 1
    values[0] = np.nan
    found = strata(values, names)
    assert [(one.name, one.count) for one in found] == [("b", 100), ("a", 99)]
    for one, own in zip(found, (values[100:200], values[1:100]), strict=True):
        expected = stats.bootstrap((own,), np.mean, n_resamples=3000, method="percentile", rng=np.random.default_rng(0))
        assert one.mean == pytest.approx(own.mean())
        np.testing.assert_allclose([one.low, one.high], expected.confidence_interval, atol=0.03)
    assert [one.name for one in strata(values, names, ["a", "none", "b"])] == ["a", "b"]
    assert strata(np.full(3, np.nan), np.array(["a"] * 3)) == []


def test_parts_hold_equally_many_and_equal_numbers_are_together():
    names, order = parts(np.array([9, 1, 2, 3, 4, 5, 6, 7, 8, 10, np.nan]), "words")
    assert order == ["1 to 2 words", "3 to 4 words", "5 to 6 words", "7 to 8 words", "9 to 10 words"]
    assert [names[0], names[1], names[-1]] == ["9 to 10 words", "1 to 2 words", ""]
    assert parts(np.array([4.0, 4, 4]), "words")[1] == ["4 words"]
    assert parts(np.array([-0.5, 0.25]), "", 2, 2)[1] == ["−0.50", "0.25"]
    assert parts(np.full(2, np.nan), "words")[1] == []
