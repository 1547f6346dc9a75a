"""`heads.models.simple`: recovers what can be recovered, and no more: nothing of test is looked at, and nothing of valid but the
choice."""

import numpy as np
import pytest

from data.errors import InputError
from data.labels import EMOTIONS
from heads.evaluation.metrics import emotion_metrics, sentiment_metrics
from heads.models.simple import SIMPLE_BASELINES, fit_simple

COUNT, WIDTH = 240, 6
SPLITS = np.repeat(["train", "valid", "test"], [120, 60, 60])
TRAIN, VALID, TEST = (split == SPLITS for split in ("train", "valid", "test"))


@pytest.fixture
def clips():
    """Features of unequal scale, a sentiment that is linear in them, and emotions by their signs; disgust and fear are degenerate."""
    generator = np.random.default_rng(11)
    features = generator.normal(size=(COUNT, WIDTH)) * [1, 10, 100, 1, 0.1, 1] + [0, 5, 0, -3, 0, 0]
    standard = (features - features[TRAIN].mean(0)) / features[TRAIN].std(0)
    sentiment = np.clip(standard @ [0.8, -0.5, 0.4, 0, 0, 0] + 0.3, -3, 3)
    emotions = np.maximum(standard, 0)
    emotions[:, 4], emotions[:, 5] = 0.0, 0.5
    return features, sentiment, emotions


@pytest.mark.parametrize("name", SIMPLE_BASELINES)
def test_every_floor_predicts_all_rows(name, clips):
    result = fit_simple(name, *clips, TRAIN, VALID)
    assert result.sentiment.shape == (COUNT,)
    assert result.emotion_probability.shape == (COUNT, 6)
    assert ((result.emotion_probability >= 0) & (result.emotion_probability <= 1)).all()
    assert list(result.chosen) == ["sentiment", *EMOTIONS]
    for target in ("sentiment", "happiness"):
        assert result.chosen[target] in SIMPLE_BASELINES[name].grid


def test_the_median_floor_is_the_median_and_the_base_rates_of_train(clips):
    _, sentiment, emotions = clips
    result = fit_simple("median", *clips, TRAIN, VALID)
    assert set(result.sentiment) == {np.median(sentiment[TRAIN])}
    assert (result.emotion_probability == (emotions[TRAIN] > 0).mean(0)).all()
    assert result.chosen == {target: {} for target in ("sentiment", *EMOTIONS)}


def test_ridge_recovers_a_linear_sentiment(clips):
    _, sentiment, _ = clips
    result = fit_simple("ridge", *clips, TRAIN, VALID)
    inner = TEST & (np.abs(sentiment) < 3)
    assert result.chosen["sentiment"] == {"alpha": 1.0}  # the weakest: there is no noise
    assert np.abs(result.sentiment - sentiment)[inner].max() < 0.1
    assert sentiment_metrics(result.sentiment[TEST], sentiment[TEST])["corr"] > 0.999


def test_ridge_reads_several_sets_of_features_that_are_nearly_the_same():
    """float32 is too coarse for that: scikit-learn warned of an ill-conditioned matrix, and warnings are errors here."""
    generator = np.random.default_rng(3)
    one = generator.normal(size=(COUNT, 1))
    features = np.tile(one, 80_000).astype(np.float32)
    result = fit_simple("ridge", features, one[:, 0], np.zeros((COUNT, 6)), TRAIN, VALID)
    assert result.chosen["sentiment"] == {"alpha": 1.0}
    assert np.allclose(result.sentiment, one[:, 0], atol=1e-3)


@pytest.mark.parametrize(("name", "error"), [("ridge", 0.1), ("svr", 0.25), ("logistic", 0.4)])
def test_fitted_floors_beat_the_median(name, error, clips):
    _, sentiment, emotions = clips
    fitted, median = (fit_simple(simple, *clips, TRAIN, VALID) for simple in (name, "median"))
    errors = [sentiment_metrics(result.sentiment[TEST], sentiment[TEST])["mae"] for result in (fitted, median)]
    assert errors[0] < error < 0.6 < errors[1]
    present = 1.0 * (emotions[TEST] > 0)
    precisions = [emotion_metrics(result.emotion_probability[TEST], present)["happiness_ap"] for result in (fitted, median)]
    assert precisions[0] > 0.95 > 0.65 > precisions[1]


@pytest.mark.parametrize("name", SIMPLE_BASELINES)
def test_an_emotion_nowhere_or_everywhere_in_train_is_constant(name, clips):
    result = fit_simple(name, *clips, TRAIN, VALID)
    assert set(result.emotion_probability[:, 4]) == {0.0}
    assert set(result.emotion_probability[:, 5]) == {1.0}
    assert result.chosen["fear"] == {}


@pytest.mark.parametrize("name", SIMPLE_BASELINES)
def test_labels_and_features_of_test_change_nothing_elsewhere(name, clips):
    features, sentiment, emotions = (array.copy() for array in clips)
    before = fit_simple(name, *clips, TRAIN, VALID)
    sentiment[TEST], emotions[TEST] = -sentiment[TEST], np.nan
    labels_changed = fit_simple(name, features, sentiment, emotions, TRAIN, VALID)
    assert same(before, labels_changed, np.ones(COUNT, bool))
    features[TEST] *= -7
    features_changed = fit_simple(name, features, sentiment, emotions, TRAIN, VALID)
    assert same(before, features_changed, ~TEST)


def same(first, second, rows):
    return (
        np.allclose(first.sentiment[rows], second.sentiment[rows], rtol=1e-12, atol=1e-12)
        and np.allclose(first.emotion_probability[rows], second.emotion_probability[rows], rtol=1e-12, atol=1e-12)
        and first.chosen == second.chosen
    )


def test_labels_of_valid_choose_the_setting_and_nothing_else(clips):
    features, sentiment, emotions = clips
    misleading = np.where(VALID, np.median(sentiment[TRAIN]), sentiment)
    strong = fit_simple("ridge", features, misleading, emotions, TRAIN, VALID)
    assert strong.chosen["sentiment"] == SIMPLE_BASELINES["ridge"].grid[0] == {"alpha": 1e5}
    weak = fit_simple("ridge", features, sentiment, emotions, TRAIN, VALID)
    assert strong.chosen["happiness"] == weak.chosen["happiness"]
    nudged = fit_simple("ridge", features, np.where(VALID, np.clip(1.01 * sentiment, -3, 3), sentiment), emotions, TRAIN, VALID)
    assert nudged.chosen == weak.chosen
    assert (nudged.sentiment == weak.sentiment).all()


def test_features_are_standardised_by_train(clips):
    features, sentiment, emotions = clips
    moved = features * [3.0, 0.1, 7.0, 1.0, 100.0, 1e-3] - 4
    first, second = (fit_simple("svr", values, sentiment, emotions, TRAIN, VALID) for values in (features, moved))
    assert np.allclose(first.sentiment, second.sentiment, atol=1e-3)
    assert first.chosen == second.chosen


def test_rows_without_a_label_are_left_out_target_by_target(clips):
    features, sentiment, emotions = (array.copy() for array in clips)
    generator = np.random.default_rng(0)
    dropped = generator.random(COUNT) < 0.3
    sentiment[dropped] = np.nan
    result = fit_simple("median", features, sentiment, emotions, TRAIN, VALID)
    assert set(result.sentiment) == {np.median(sentiment[TRAIN & ~dropped])}
    assert (result.emotion_probability[0] == (emotions[TRAIN] > 0).mean(0)).all()
    ridge, whole = (fit_simple("ridge", features, labels, emotions, TRAIN, VALID) for labels in (sentiment, clips[1]))
    assert np.isfinite(ridge.sentiment).all()
    assert (ridge.emotion_probability == whole.emotion_probability).all()


def test_without_labels_in_train_there_is_no_prediction(clips):
    features, sentiment, emotions = clips
    result = fit_simple("logistic", features, sentiment, np.full_like(emotions, np.nan), TRAIN, VALID)
    assert np.isnan(result.emotion_probability).all()
    assert np.isfinite(result.sentiment).all()
    assert result.chosen["happiness"] == {}


@pytest.mark.parametrize("name", SIMPLE_BASELINES)
def test_the_same_call_gives_the_same_bytes(name, clips):
    first, second = (fit_simple(name, *clips, TRAIN, VALID) for _ in range(2))
    assert first.sentiment.tobytes() == second.sentiment.tobytes()
    assert first.emotion_probability.tobytes() == second.emotion_probability.tobytes()


def test_logistic_sentiment_is_the_expected_class():
    features = np.repeat([[-1.0], [1.0]], 500, axis=0)
    sentiment = np.where(features[:, 0] < 0, np.tile([-2.2, -0.8], 500), np.tile([1.4, 0.6], 500))
    valid = np.isin(np.arange(1000), [0, 999])
    sentiment[valid] = [-1.5, 1.0]  # classes -2 and -1, half each; class 1
    result = fit_simple("logistic", features, sentiment, np.full((1000, 6), np.nan), ~valid, valid)
    assert result.chosen["sentiment"] == {"C": 1.0}
    assert result.sentiment[valid] == pytest.approx([-1.5, 1.0], abs=0.03)


def test_an_unknown_simple_baseline_is_named_with_its_neighbour(clips):
    with pytest.raises(
        InputError, match=r"Unknown simple baseline 'rigde'\. Did you mean 'ridge'\? Available: median, ridge, svr, logistic\."
    ):
        fit_simple("rigde", *clips, TRAIN, VALID)


def test_nothing_to_train_on_is_an_error(clips):
    with pytest.raises(InputError, match="no row is in split train"):
        fit_simple("ridge", *clips, np.zeros(COUNT, bool), VALID)


def test_nothing_to_choose_by_is_an_error_that_names_the_target(clips):
    features, sentiment, emotions = (array.copy() for array in clips)
    emotions[VALID, 2] = np.nan
    with pytest.raises(InputError, match="anger is labelled in split train and nowhere in split valid"):
        fit_simple("ridge", features, sentiment, emotions, TRAIN, VALID)
