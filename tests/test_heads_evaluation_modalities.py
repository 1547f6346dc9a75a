"""Corpora without a modality, against features that are changed by hand; and what metrics lose."""

import numpy as np
import pytest
import small_runs
import torch
from caches import make_cache

from data.batching import in_order
from heads.evaluation.modalities import losses, variants
from heads.evaluation.predictions import predict_simple, scores
from heads.runs.evaluate import predict_each, reopen
from heads.runs.folder import RunFolder
from heads.runs.run_data import open_run_data


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=36)


@pytest.mark.parametrize("memory_bytes", [None, 0], ids=["resident", "streamed"])
def test_a_modality_is_zeroed_or_that_of_other_utterances_and_the_others_stay(cache, memory_bytes):
    tensors = open_run_data(small_runs.config(), cache, torch.device("cpu"), memory_bytes).tensors
    rows = tensors.targets.rows("valid")
    found = {(one.modality, one.how): one.tensors for one in variants(tensors, rows)}
    assert [*found] == [("text", "zeroed"), ("text", "shuffled"), ("audio", "zeroed"), ("audio", "shuffled")]
    (plan,) = in_order(rows, tensors.lengths["text"], 100)
    (whole,), (zeroed,), (shuffled,) = ([*one.batches([plan])] for one in (tensors, found["text", "zeroed"], found["text", "shuffled"]))
    for other in (zeroed, shuffled):
        torch.testing.assert_close(other.features["audio"], whole.features["audio"], rtol=0, atol=0)
        assert torch.equal(other.sentiment, whole.sentiment)
    assert torch.equal(zeroed.masks["text"], whole.masks["text"])
    assert zeroed.features["text"].shape == whole.features["text"].shape
    assert not zeroed.features["text"].any()
    own = [values[mask] for values, mask in zip(whole.features["text"], whole.masks["text"], strict=True)]
    theirs = [values[mask] for values, mask in zip(shuffled.features["text"], shuffled.masks["text"], strict=True)]
    donors = [[i for i, values in enumerate(own) if torch.equal(values, one)] for one in theirs]
    assert sorted(donors) == [[place] for place in range(len(rows))]
    assert all(donor != [place] for place, donor in enumerate(donors))
    lengths = found["text", "shuffled"].lengths["text"][plan]
    assert lengths.tolist() == [len(one) for one in theirs]


def test_losses_are_the_metrics_of_a_run_without_a_modality(cache, tmp_path):
    folder = small_runs.run(cache, tmp_path)
    run_data = reopen(folder, cache, torch.device("cpu"))
    rows = run_data.tensors.targets.rows("valid")
    ablated = variants(run_data.tensors, rows)
    whole, *others = predict_each(run_data, folder, rows, [run_data.tensors, *(one.tensors for one in ablated)])
    found = losses(whole, [*zip(ablated, others, strict=True)], run_data.tensors)
    before = folder.metrics()["valid"]
    for one, predicted in zip(found, others, strict=True):
        after = scores(predicted, run_data.tensors)
        assert one.values["mae"] == after["mae"] != before["mae"]
        change = one.changes["mae"]
        assert change.difference == pytest.approx(after["mae"] - before["mae"])
        assert change.low <= change.difference <= change.high
        assert one.changes["mean_ap"].difference == pytest.approx(after["mean_ap"] - before["mean_ap"])


def test_a_simple_baseline_is_fitted_once_and_predicts_as_if_alone(cache, tmp_path):
    folder = RunFolder(small_runs.run(cache, tmp_path, "ridge").path)
    run_data = reopen(folder, cache, torch.device("cpu"))
    rows, tensors = run_data.tensors.targets.rows("valid"), run_data.tensors
    ablated = variants(tensors, rows)
    together = predict_each(run_data, folder, rows, [one.tensors for one in ablated])
    for one, found in zip(ablated, together, strict=True):
        alone, _ = predict_simple("ridge", "both", tensors, rows, one.tensors)
        np.testing.assert_allclose(found.sentiment, alone.sentiment, rtol=1e-9)
        np.testing.assert_allclose(found.emotion_logits, alone.emotion_logits, rtol=1e-6)
