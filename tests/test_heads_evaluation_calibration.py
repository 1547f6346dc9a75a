"""Calibration, against scikit-learn and against a loop over bins."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from heads.evaluation.calibration import bias, reliability


def test_bins_are_those_of_scikit_learn_and_the_expected_error_that_of_a_loop():
    generator = np.random.default_rng(0)
    probability = np.append(generator.beta(0.5, 0.8, 400), [0, 0.1, 0.3, 0.3, 0.7, 1])
    present = (generator.random(len(probability)) < probability**2).astype(float)
    found = reliability(np.append(probability, 0.5), np.append(present, np.nan))
    observed, predicted = calibration_curve(present, probability, n_bins=10)
    np.testing.assert_allclose(found.predicted, predicted)
    np.testing.assert_allclose(found.observed, observed)
    assert found.counts.sum() == len(probability)
    low, expected = -1.0, 0.0
    for high in np.arange(1, 11) / 10:
        inside = (probability > low) & (probability <= np.float64(high))
        expected += inside.mean() * abs(probability[inside].mean() - present[inside].mean()) if inside.any() else 0
        low = high
    assert found.expected_error == pytest.approx(expected, abs=1e-12)


def test_a_perfect_forecast_has_no_expected_error_and_no_row_has_none():
    assert reliability(np.repeat([0.25, 0.75], 4), np.array([1, 0, 0, 0, 1, 1, 1, 0.0])).expected_error == 0
    assert np.isnan(reliability(np.ones(2), np.full(2, np.nan)).expected_error)


def test_bias_is_the_mean_of_prediction_minus_truth_by_the_predicted_class():
    found = bias(np.array([2.4, 1.6, -7, 0.2, 0.1]), np.array([1, 1, -3, np.nan, 1.1]))
    assert [(one.name, one.count) for one in found] == [("−3", 1), ("0", 1), ("+2", 2)]
    assert [one.mean for one in found] == pytest.approx([-4, -1, 1])
