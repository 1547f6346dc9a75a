"""`heads.evaluation.intervals`: against resampling row by row, against known distributions, and where little is defined."""

import functools
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from heads.evaluation.intervals import Interval, MeanSd, bootstrap, difference, holm, mean_sd, resampled
from heads.evaluation.metrics import emotion_metrics, sentiment_metrics


def compared(metrics, prediction, other, truth, **options):
    """Metric → by how much one prediction differs from another, both on the same drawn rows."""
    first, second = (resampled(metrics, side, truth, **options) for side in (prediction, other))
    return {name: difference(first[name], second[name]) for name in first}


def labelled(count, noise=1.0, seed=5):
    """Predictions and truths of sentiment and of emotions, the rarest one present in 8 % of the rows."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(-9, 10, count) / 3
    prediction = truth + noise * generator.normal(size=count)
    emotions = 1.0 * (generator.random((count, 6)) < [0.5, 0.25, 0.2, 0.08, 0.15, 0.1])
    probability = np.clip(0.3 * emotions + 0.7 * generator.random((count, 6)), 0, 1)
    return prediction, truth, probability, emotions


def mean_metric(values, weights):
    return {"mean": weights @ values / weights.sum(-1)}


def slow_bootstrap(metrics, arrays, name, resamples):
    """Draws rows and computes the metric of the drawn rows, one resample after the other."""
    generator = np.random.default_rng(99)
    rows = [generator.integers(len(arrays[0]), size=len(arrays[0])) for _ in range(resamples)]
    return np.nanquantile([metrics(*(array[drawn] for array in arrays))[name] for drawn in rows], [0.025, 0.975])


@pytest.mark.parametrize("name", ["acc2_non0", "f1_has0", "acc7", "mae", "corr"])
def test_intervals_of_sentiment_are_those_of_drawing_rows_one_resample_at_a_time(name):
    prediction, truth, _, _ = labelled(150)
    interval = bootstrap(sentiment_metrics, prediction, truth, resamples=4000)[name]
    expected = slow_bootstrap(sentiment_metrics, (prediction, truth), name, 1000)
    assert interval == pytest.approx(expected, abs=0.15 * (expected[1] - expected[0]))


@pytest.mark.parametrize("name", ["surprise_ap", "fear_balanced_acc", "mean_wf1", "mean_never_wf1"])
def test_intervals_of_emotions_are_those_of_drawing_rows_one_resample_at_a_time(name):
    _, _, probability, emotions = labelled(150)
    interval = bootstrap(emotion_metrics, probability, emotions, resamples=4000)[name]
    expected = slow_bootstrap(emotion_metrics, (probability, emotions), name, 300)
    assert interval == pytest.approx(expected, abs=0.2 * (expected[1] - expected[0]))


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap(mean_metric, values, resamples=20000, level=0.9)["mean"]
    expected = norm(values.mean(), values.std() / 20).ppf([0.05, 0.95])
    assert interval == pytest.approx(expected, abs=0.003)


def test_the_interval_holds_the_plain_figure_and_widens_with_its_level():
    prediction, truth, _, _ = labelled(200)
    plain = sentiment_metrics(prediction, truth)
    narrow, wide = (bootstrap(sentiment_metrics, prediction, truth, level=level) for level in (0.5, 0.99))
    assert list(narrow) == list(plain)
    for name, value in plain.items():
        assert wide[name].low < narrow[name].low < value < narrow[name].high < wide[name].high


def test_rows_are_drawn_jointly():
    truth = np.linspace(-3, 3, 50)
    intervals = bootstrap(sentiment_metrics, truth, truth, resamples=50)
    assert intervals["mae"] == Interval(0, 0)
    assert intervals["acc7"] == Interval(1, 1)
    assert intervals["corr"] == pytest.approx((1, 1))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    prediction, truth, _, _ = labelled(80)
    first, again, other = (bootstrap(sentiment_metrics, prediction, truth, resamples=250, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["mae"] != other["mae"]


def test_resamples_without_a_positive_row_do_not_count():
    truth = np.zeros((20, 6))
    truth[0] = 1  # missing from a third of the resamples
    intervals = bootstrap(emotion_metrics, np.tile(truth[:, :1], 6), truth)
    assert intervals["mean_ap"] == Interval(1, 1)
    assert intervals["fear_never_acc"].low < 0.95 < intervals["fear_never_acc"].high == 1


@pytest.mark.parametrize("count", [0, 4])
def test_an_interval_of_nothing_is_not_a_number(count):
    intervals = bootstrap(sentiment_metrics, np.zeros(count), np.full(count, np.nan), resamples=10)
    assert all(math.isnan(end) for interval in intervals.values() for end in interval)


def test_options_of_a_metric_are_bound_beforehand():
    _, _, probability, emotions = labelled(60)
    low = functools.partial(emotion_metrics, threshold=0.0)
    assert bootstrap(low, probability, emotions)["happiness_acc"].high < 0.75  # the share of happiness: nearly all is above 0
    assert bootstrap(emotion_metrics, probability, emotions)["happiness_acc"].high > 0.75


def test_a_thousand_resamples_of_the_test_split_of_mosei_take_seconds():
    prediction, truth, probability, emotions = labelled(4659)
    started = time.perf_counter()
    bootstrap(sentiment_metrics, prediction, truth)
    bootstrap(emotion_metrics, probability, emotions)
    assert time.perf_counter() - started < 10  # 1.3 s on one core; drawing row by row takes a minute


def test_a_difference_is_tested_on_the_same_rows():
    _, truth, _, _ = labelled(300)
    prediction = truth + 0.5 * np.random.default_rng(1).normal(size=300)
    worse = prediction + 0.02 * np.sign(prediction - truth)
    result = compared(sentiment_metrics, prediction, worse, truth)["mae"]
    assert result == pytest.approx((-0.02, -0.02, -0.02, 2 / 1001))
    alone = bootstrap(sentiment_metrics, prediction, truth)["mae"]
    assert alone.high - alone.low > 0.05  # unpaired, a difference of .02 would not show


def test_a_difference_and_its_reverse_mirror_each_other():
    prediction, truth, _, _ = labelled(100)
    other = truth + np.random.default_rng(2).normal(size=100)
    there = compared(sentiment_metrics, prediction, other, truth)["mae"]
    back = compared(sentiment_metrics, other, prediction, truth)["mae"]
    assert there.difference == sentiment_metrics(prediction, truth)["mae"] - sentiment_metrics(other, truth)["mae"]
    assert back == pytest.approx((-there.difference, -there.high, -there.low, there.p_value))
    assert 0.002 < there.p_value < 1


def test_the_p_value_of_a_mean_is_that_of_the_normal_test():
    def difference_of_means(values, truth, weights):
        return {"mean": weights @ (values - truth) / weights.sum(-1)}

    generator = np.random.default_rng(4)
    truth = np.zeros(400)
    values = generator.normal(size=400)
    values += 2 / 20 - values.mean()  # two standard errors
    result = compared(difference_of_means, values, np.zeros(400), truth, resamples=20000)["mean"]
    expected = 2 * norm.sf(2 / values.std())
    assert result.p_value == pytest.approx(expected, abs=0.01)


def test_equal_predictions_do_not_differ():
    prediction, truth, probability, emotions = labelled(50)
    results = compared(sentiment_metrics, prediction, prediction, truth, resamples=50)
    results |= compared(emotion_metrics, probability, probability, emotions, resamples=50)
    assert set(results.values()) == {(0.0, 0.0, 0.0, 1.0)}


def test_a_difference_that_is_nowhere_defined_has_no_p_value():
    truth = np.linspace(-3, 3, 20)
    result = compared(sentiment_metrics, truth, np.zeros(20), truth, resamples=20)["corr"]
    assert all(math.isnan(value) for value in result)


def test_mean_and_sample_deviation_over_seeds():
    runs = [{"mae": 0.7, "corr": 0.8}, {"mae": 0.8, "corr": 0.8}, {"mae": 0.9, "corr": math.nan}]
    result = mean_sd(runs)
    assert result["mae"] == pytest.approx((0.8, 0.1))
    assert all(math.isnan(value) for value in result["corr"])


def test_one_seed_has_no_deviation():
    result = mean_sd([{"mae": 0.7}])["mae"]
    assert isinstance(result, MeanSd)
    assert result.mean == 0.7
    assert math.isnan(result.sd)


@pytest.mark.parametrize("runs", [[], [{"mae": 1.0}, {"corr": 1.0}]])
def test_runs_with_other_metrics_are_not_averaged(runs):
    with pytest.raises(ValueError, match="expected runs with the same metrics"):
        mean_sd(runs)


def test_holm_corrects_the_smallest_for_all_tests():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, np.nan])), [0.03, 0.06, 0.06, np.nan])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_the_raw_value_and_bonferroni_and_keeps_the_order(values):
    p = np.array(values)
    found = holm(p)
    assert (found <= np.minimum(1, len(p) * p) + 1e-12).all()
    assert (found >= p).all()
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= 0).all()
