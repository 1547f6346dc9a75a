"""Metrics of classes and of sentiment in [-1, 1], against scikit-learn and MMSA's definitions written down independently."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, recall_score

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from heads.evaluation.intervals import resampled
from heads.evaluation.metrics import (
    METRICS,
    default_metric,
    emotion_metrics,
    higher_is_better,
    metric_named,
    metrics_of,
    sentiment_metrics,
)

FOUR = LabelSet(("happiness", "sadness", "neutral", "anger"), is_exclusive=True)
SIMS = LabelSet(scale=(-1.0, 1.0))
classes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)
scores = st.lists(
    st.tuples(st.one_of(st.floats(-2, 2, width=32), st.sampled_from([-0.7, -0.1, 0.0, 0.1, 0.7])), st.integers(-5, 5)),
    min_size=2,
    max_size=40,
)


def one_hot(numbers):
    return np.eye(4)[np.asarray(numbers, int)]


@given(classes)
def test_metrics_of_classes_are_those_of_scikit_learn(rows):
    truth, predicted = np.array(rows).T
    probability = 0.1 + 0.6 * one_hot(predicted)
    found = emotion_metrics(probability, one_hot(truth), labels=FOUR)
    options = {"labels": range(4), "zero_division": 0}
    each = precision_recall_fscore_support(truth, predicted, **options)
    assert found["acc"] == pytest.approx(accuracy_score(truth, predicted))
    assert found["wf1"] == pytest.approx(f1_score(truth, predicted, average="weighted", zero_division=0))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))
    assert found["uar"] == pytest.approx(recall_score(truth, predicted, labels=np.unique(truth), average="macro"))
    for name, values in zip(("precision", "recall", "f1"), each, strict=False):
        np.testing.assert_allclose([found[f"{one}_{name}"] for one in FOUR.emotions], values)
    assert list(found) == [name for name, metric in metrics_of(FOUR).items() if metric.task == "mer"]


def test_unlabelled_rows_do_not_count_and_nothing_is_not_a_number():
    truth, probability = one_hot([0, 1, 2, 2]), one_hot([0, 1, 2, 1])
    truth[3] = np.nan
    assert emotion_metrics(probability, truth, labels=FOUR)["acc"] == 1
    assert all(np.isnan(value) for value in emotion_metrics(probability, np.full((4, 4), np.nan), labels=FOUR).values())
    probability[0, 0] = np.nan
    assert np.isnan(emotion_metrics(probability, truth, labels=FOUR)["uar"])


@given(classes, st.integers(0, 2**32 - 1))
def test_weights_count_rows_as_repeating_them_does(rows, seed):
    truth, predicted = np.array(rows).T
    weights = np.random.default_rng(seed).integers(0, 3, len(rows))
    found = emotion_metrics(one_hot(predicted), one_hot(truth), weights=weights[None], labels=FOUR)
    repeated = emotion_metrics(one_hot(np.repeat(predicted, weights)), one_hot(np.repeat(truth, weights)), labels=FOUR)
    for name, value in repeated.items():
        np.testing.assert_allclose(found[name], [value])
    assert resampled(
        lambda *arrays, weights: emotion_metrics(*arrays, weights=weights, labels=FOUR), one_hot(predicted), one_hot(truth)
    )


def sims_by_mmsa(prediction, truth):
    """`eval_sims_regression` of MMSA's metricsTop.py: values clipped to ±1, cut into (-1.01, 0], (0, 1.01], and so on."""
    prediction, truth = np.clip(prediction, -1, 1), np.clip(truth, -1, 1)
    cut = {"acc2": [0.0], "acc3": [-0.1, 0.1], "acc5": [-0.7, -0.1, 0.1, 0.7]}
    parts = {name: [np.digitize(side, np.float32(at), right=True) for side in (prediction, truth)] for name, at in cut.items()}
    found = {name: accuracy_score(side[1], side[0]) for name, side in parts.items()}
    found |= {"f1": f1_score(parts["acc2"][1], parts["acc2"][0], average="weighted"), "mae": np.abs(prediction - truth).mean()}
    return found | ({"corr": pearsonr(prediction, truth)[0]} if prediction.std() > 1e-3 and truth.std() > 1e-3 else {})


@given(scores)
def test_sentiment_on_the_scale_of_ch_sims_is_measured_as_mmsa_does(rows):
    prediction = np.array([row[0] for row in rows], np.float32).astype(float)
    truth = (np.array([row[1] for row in rows]) / 5).astype(np.float32).astype(float)
    found, expected = sentiment_metrics(prediction, truth, labels=SIMS), sims_by_mmsa(prediction, truth)
    assert list(found) == ["acc2", "f1", "acc3", "acc5", "mae", "corr"]
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_other_scales_have_what_any_scale_has_and_the_usual_one_all():
    prediction, truth = np.array([4.0, -1.0, 0.5]), np.array([5.0, 1.0, 0.0])
    found = sentiment_metrics(prediction, truth, labels=LabelSet(scale=(-5.0, 5.0)))
    usual = sentiment_metrics(prediction, truth)
    assert found == {name: usual[name] for name in ("acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "mae", "corr")}


def test_emotions_of_any_name_have_the_metrics_of_the_six():
    two, rng = LabelSet(("calm", "awed")), np.random.default_rng(0)
    probability, truth = rng.random((20, 2)), rng.integers(0, 2, (20, 2)).astype(float)
    found = emotion_metrics(probability, truth, labels=two)
    six = emotion_metrics(np.tile(probability, 3), np.tile(truth, 3))
    assert {name.partition("_")[2]: value for name, value in found.items() if name.startswith("calm")} == {
        name.partition("_")[2]: value for name, value in six.items() if name.startswith("happiness")
    }
    assert found["mean_ap"] == pytest.approx(six["mean_ap"])


def test_metrics_of_any_labels_are_found_by_name():
    for labels in (MOSEI_LABELS, FOUR, SIMS, LabelSet(("calm", "macro-manager"))):
        for name, metric in metrics_of(labels).items():
            assert metric_named(name).higher_is_better == metric.higher_is_better == higher_is_better(name)
            assert metric_named(name).task == metric.task
    assert metric_named("acc7") is METRICS["acc7"]
    for name in ("clam", "calm_acc9", "7_acc", "mean_uar"):
        with pytest.raises(InputError, match=f"Unknown metric '{name}'"):
            metric_named(name)
    assert default_metric(("mer",), has_classes=True) == "wf1"
    assert default_metric(("msa", "mer"), has_classes=True) == "mae"
