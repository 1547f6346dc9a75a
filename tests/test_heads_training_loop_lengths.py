"""Lengths of batches rounded up (train.length_multiple): every head gives the same result with more padding."""

import numpy as np
import pytest
import torch
from caches import make_cache
from small_heads import TRAINED, small_options

from heads.evaluation.predictions import predict
from heads.models.base import Head
from heads.models.registry import HEADS
from heads.runs.config import TrainOptions, make_config
from heads.runs.folder import RunFolder
from heads.runs.run_data import open_run_data
from heads.training.loop import Run, train_runs
from heads.training.plan import length_multiple
from heads.training.single_engine import SingleEngine


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=15)


def trained(cache, name: str, multiple: int) -> tuple[Run, Head, dict[str, set[int]]]:
    """Train a small head by preset native for an epoch; return the run, the head, and the lengths of its batches by modality."""
    size = 2 if HEADS[name].head.context else 8
    train = {"batch_size": size, "max_epochs": 1, "lr": 0.001, "length_multiple": multiple}
    made = open_run_data(
        make_config(name, "mosi", "native", {"model": small_options(name), "train": train}), cache, torch.device("cpu")
    )
    run, seen = Run(made.config, made.tensors, RunFolder(cache / "no run")), {"text": set(), "audio": set()}
    engine = SingleEngine(run)
    accumulate = engine.accumulate

    def noted(batch, keys, share):
        for modality, mask in batch.masks.items():
            seen[modality].add(mask.shape[1])
        return accumulate(batch, keys, share)

    engine.accumulate = noted
    train_runs([run], engine, lambda run, error: None)
    return run, engine.head, seen


@pytest.mark.parametrize("name", TRAINED)
def test_a_result_does_not_depend_on_the_multiple(cache, name):
    (exact, head, lengths), (rounded, other, multiples) = (trained(cache, name, multiple) for multiple in (1, 8))
    assert lengths != multiples
    assert all(length % 8 == 0 for found in multiples.values() for length in found)
    for one, two in zip(exact.history, rounded.history, strict=True):
        values = [[row["train_loss"], row["valid_loss"]] for row in (one, two)]
        np.testing.assert_allclose(*values, rtol=1e-4)
    expected, found = (predict(each, exact.tensors, exact.valid_rows, 8) for each in (head, other))
    for field in ("sentiment", "emotion_logits"):
        if (wanted := getattr(expected, field)) is not None:
            np.testing.assert_allclose(getattr(found, field), wanted, rtol=1e-3, atol=1e-4)


def test_the_default_follows_the_device_and_does_not_enter_the_key():
    assert [length_multiple(TrainOptions(), torch.device(device)) for device in ("cpu", "cuda:1")] == [1, 16]
    assert length_multiple(TrainOptions(length_multiple=4), torch.device("cuda")) == 4
    assert "length_multiple" not in make_config("mmolre", "mosi").as_dict()["train"]
    given = make_config("mmolre", "mosi", changes={"train": {"length_multiple": 4}})
    assert given.as_dict()["train"]["length_multiple"] == 4
    assert given.key() != make_config("mmolre", "mosi").key()
