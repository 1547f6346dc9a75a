"""Predictions for rows of a corpus, whatever the order, the company or where the features lie; and what they are worth."""

from dataclasses import replace

import numpy as np
import pytest
import small_runs
import torch
from caches import make_cache

from data import tensors as data_tensors
from data.cache import open_corpus
from data.feature_store import FeatureStore
from data.targets import load_targets
from data.tensors import CorpusTensors
from heads.evaluation.metrics import emotion_metrics, sentiment_metrics
from heads.evaluation.predictions import Predictions, evaluation_plan, pooled, predict, predict_simple, present, scores, total_lengths
from heads.models.losses import LossOptions
from heads.models.simple import fit_simple
from heads.runs.build import build_head

NAN = float("nan")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = make_cache(tmp_path_factory.mktemp("cache"), utterances=24)
    return make_cache(folder, corpus="clips", utterances=9, seed=5, labelled=False)


@pytest.fixture(scope="module")
def made(cache):
    return small_runs.run_data(cache, "mmolre")


@pytest.fixture(scope="module")
def head(made):
    return build_head(made.config, made.tensors)


def load(cache, corpus="mosi", **options):
    found = open_corpus(cache, corpus)
    return CorpusTensors.load(found, load_targets(found), device="cpu", **options)


def means(cache, corpus="mosi", limit=None):
    """(N, 14), straight from the feature files."""
    columns = []
    for path in open_corpus(cache, corpus).features.values():
        with FeatureStore.open(path) as store:
            columns.append(np.stack([store[utterance_id][:limit].astype(np.float64).mean(0) for utterance_id in store.ids]))
    return np.concatenate(columns, 1)


def test_rows_come_back_in_order_with_their_own_predictions(head, made):
    rows = np.array([17, 2, 9, 0, 23])
    found = predict(head, made.tensors, rows, batch_size=2)
    assert found.rows.tolist() == [0, 2, 9, 17, 23]
    assert (found.sentiment.dtype, found.emotion_logits.dtype) == (np.float32, np.float32)
    head.eval()
    for place, row in enumerate(found.rows):
        with torch.no_grad():
            alone = head(made.tensors.batch(np.array([row])))
        np.testing.assert_allclose(found.sentiment[place], alone.sentiment[0], atol=1e-5)
        np.testing.assert_allclose(found.emotion_logits[place], alone.emotion_logits[0], atol=1e-5)
        for name, gates in alone.aux.routing.items():
            np.testing.assert_allclose(found.routing[name][place], gates[0], atol=1e-5)
    assert set(found.routing) == {f"{modality}/block1/{task}" for modality in ("text", "audio") for task in ("msa", "mer")}


def test_a_head_in_training_predicts_without_dropout_and_stays_in_training(head, made):
    rows = np.arange(24)
    expected = predict(head.eval(), made.tensors, rows, 8)
    found = predict(head.train(), made.tensors, rows, 8)
    assert head.training
    np.testing.assert_array_equal(found.sentiment, expected.sentiment)
    assert not any(parameter.grad is not None for parameter in head.parameters())


def test_the_size_of_batches_changes_nothing(head, made):
    one, many = (predict(head, made.tensors, np.arange(24), size) for size in (1, 24))
    np.testing.assert_allclose(one.sentiment, many.sentiment, atol=1e-5)
    np.testing.assert_allclose(one.emotion_logits, many.emotion_logits, atol=1e-5)


def test_streamed_features_give_the_same_bits(head, made, cache):
    resident, streamed = load(cache), load(cache, memory_bytes=0)
    assert (resident.is_streamed, streamed.is_streamed) == (False, True)
    found, expected = predict(head, streamed, np.arange(24), 5), predict(head, resident, np.arange(24), 5)
    np.testing.assert_array_equal(found.sentiment, expected.sentiment)
    np.testing.assert_array_equal(found.emotion_logits, expected.emotion_logits)
    np.testing.assert_array_equal(pooled(streamed, np.arange(24)), pooled(resident, np.arange(24)))


def test_features_stream_where_memory_is_short(cache, monkeypatch):
    monkeypatch.setattr(data_tensors, "free_bytes", lambda device: 1000)
    assert small_runs.run_data(cache).tensors.is_streamed


def test_bfloat16_is_near_float32_and_not_the_same(head, made):
    exact, rounded = (predict(head, made.tensors, np.arange(24), 8, precision) for precision in ("float32", "bfloat16"))
    assert rounded.sentiment.dtype == np.float32
    np.testing.assert_allclose(rounded.sentiment, exact.sentiment, atol=0.03)
    np.testing.assert_allclose(rounded.emotion_logits, exact.emotion_logits, atol=0.03)
    assert not np.array_equal(rounded.sentiment, exact.sentiment)


@pytest.mark.parametrize(("task", "missing"), [("msa", "emotion_logits"), ("mer", "sentiment")])
def test_a_task_that_is_not_learned_is_not_predicted(cache, task, missing):
    made = small_runs.run_data(cache, changes={"task": task})
    found = predict(build_head(made.config, made.tensors), made.tensors, np.arange(24), 8)
    assert [name for name in ("sentiment", "emotion_logits") if getattr(found, name) is None] == [missing]
    assert (found.emotion_probability is None) == (task == "msa")


def test_a_probability_is_the_sigmoid_of_its_logit():
    logits = np.array([[0.0, 2.0, -2.0, 40.0, np.inf, -np.inf]], np.float32)
    found = Predictions(np.array([0]), None, logits, {}).emotion_probability
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[0.5, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2)), 1, 1, 0]], rtol=1e-12)


@pytest.mark.parametrize("limit", [None, 4])
def test_pooled_features_are_means_of_what_is_used(cache, limit):
    tensors = load(cache, limits={} if limit is None else {"text": limit, "audio": limit})
    rows = np.array([5, 0, 23, 7])
    np.testing.assert_allclose(pooled(tensors, rows), means(cache, limit=limit)[rows], atol=1e-5)


def test_the_longest_are_evaluated_first(head, made):
    plan = evaluation_plan(head, made.tensors, np.arange(24), 5)
    lengths = total_lengths(made.tensors)[np.concatenate(plan)]
    assert lengths.tolist() == sorted(lengths, reverse=True)
    assert total_lengths(made.tensors).tolist() == (made.tensors.lengths["text"] + made.tensors.lengths["audio"]).tolist()


def some(rows: list[int]) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        np.array(rows), rng.normal(size=len(rows)).astype(np.float32), rng.normal(size=(len(rows), 6)).astype(np.float32), {}
    )


def test_scores_are_the_metrics_of_the_rows(made):
    found = some([3, 4, 8, 20])
    targets = made.tensors.targets
    expected = sentiment_metrics(found.sentiment.astype(float), targets.sentiment[found.rows].astype(float))
    expected |= emotion_metrics(1 / (1 + np.exp(-found.emotion_logits.astype(float))), (targets.emotions[found.rows] > 0).astype(float))
    assert scores(found, made.tensors) == pytest.approx(expected, nan_ok=True)


def test_the_loss_is_over_all_rows_and_weighted(made):
    found = some([3, 4, 8, 20])
    targets = made.tensors.targets
    truth, logits = targets.emotions[found.rows] > 0, found.emotion_logits.astype(float)
    sentiment = np.square(found.sentiment - targets.sentiment[found.rows]).mean()
    emotions = np.log1p(np.exp(np.where(truth, -logits, logits))).sum(1).mean()
    options = LossOptions(sentiment="mse", emotion_reduction="sum", sentiment_weight=0.5, emotion_weight=3.0)
    assert scores(found, made.tensors, options)["loss"] == pytest.approx(0.5 * sentiment + 3 * emotions, rel=1e-5)
    assert scores(found._replace(sentiment=None), made.tensors, options)["loss"] == pytest.approx(3 * emotions, rel=1e-5)
    assert "loss" not in scores(found, made.tensors)


def test_unlabelled_rows_do_not_count(made, cache):
    sentiment, emotions = made.tensors.targets.sentiment.copy(), made.tensors.targets.emotions.copy()
    sentiment[4], emotions[8] = NAN, NAN
    corpus = open_corpus(cache, "mosi")
    tensors = CorpusTensors.load(corpus, replace(made.tensors.targets, sentiment=sentiment, emotions=emotions), device="cpu")
    found, options = some([3, 4, 8, 20]), LossOptions()
    some_sentiments = found._replace(rows=found.rows[[0, 2, 3]], sentiment=found.sentiment[[0, 2, 3]], emotion_logits=None)
    some_emotions = found._replace(rows=found.rows[[0, 1, 3]], sentiment=None, emotion_logits=found.emotion_logits[[0, 1, 3]])
    parts = [scores(part, made.tensors, options) for part in (some_sentiments, some_emotions)]
    expected = parts[0] | parts[1] | {"loss": parts[0]["loss"] + parts[1]["loss"]}
    assert scores(found, tensors, options) == pytest.approx(expected, nan_ok=True)


def test_present_is_above_zero():
    assert np.array_equal(present(np.array([[0.0, 0.3, 3.0, NAN]])), [[0, 1, 1, NAN]], equal_nan=True)


def test_a_floor_is_fitted_on_train_and_chosen_on_valid(cache):
    tensors = load(cache)
    targets, rows = tensors.targets, tensors.targets.rows("test")
    features = pooled(tensors, np.arange(24))
    split = [targets.split == name for name in ("train", "valid")]
    expected = fit_simple("ridge", features, targets.sentiment.astype(float), targets.emotions.astype(float), *split)
    found, chosen = predict_simple("ridge", "both", tensors, rows, tensors)
    assert chosen == expected.chosen
    np.testing.assert_allclose(found.sentiment, expected.sentiment[rows], rtol=1e-5)
    np.testing.assert_allclose(found.emotion_probability, expected.emotion_probability[rows], atol=1e-6)


def test_a_floor_predicts_another_corpus_by_what_it_learned_from_its_own(cache):
    known, clips = load(cache), load(cache, "clips")
    found, chosen = predict_simple("ridge", "both", known, np.arange(9), clips)
    own = predict_simple("ridge", "both", known, known.targets.rows("test"), known)
    assert chosen == own[1]
    assert np.isfinite(found.sentiment).all()
    median, _ = predict_simple("median", "msa", known, np.arange(9), clips)
    assert median.sentiment.tolist() == [float(np.median(known.targets.sentiment[known.targets.rows("train")]))] * 9
    assert median.emotion_logits is None


def test_equal_logits_are_equal_probabilities_wherever_they_stand():
    """Ranks, and with them average precision, depend on it."""
    logits = np.full((37, 6), np.log(0.3 / 0.7), np.float32)
    probability = Predictions(np.arange(37), None, logits, {}).emotion_probability
    assert np.unique(probability).size == 1
    assert probability[0, 0] == pytest.approx(0.3)


def test_a_head_with_context_reads_the_whole_video_whichever_of_its_rows_are_asked_for(cache):
    made = small_runs.run_data(cache, "cogmen")
    head, rows = build_head(made.config, made.tensors), np.arange(24)
    whole, some = predict(head, made.tensors, rows, 2), predict(head, made.tensors, rows[1::3], 3)
    assert some.rows.tolist() == rows[1::3].tolist()
    np.testing.assert_allclose(some.emotion_logits, whole.emotion_logits[1::3], atol=1e-6)


def test_a_video_in_two_splits_is_two_dialogues(made):
    targets = made.tensors.targets
    parted = replace(targets, video=np.array(["v"] * 24), split=np.array(["train", "valid"] * 12))
    assert np.unique(parted.dialogue).size == 2
    assert parted.with_neighbours(np.array([3])).tolist() == list(range(1, 24, 2))
    assert (
        targets.with_neighbours(np.array([1, 23])).tolist() == np.flatnonzero(np.isin(targets.video, targets.video[[1, 23]])).tolist()
    )
