"""Several layers before a head: their weighted sum, and the head behind it, alone and in packs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import random_batch
from caches import make_cache
from small_heads import LENGTHS, TRAINED, VIDEOS, small_options
from small_packs import run, signature_of
from test_heads_training_packed_engine import alone, assert_equal, go

from data.cache import CachedCorpus, merge_corpora, open_corpus
from data.errors import InputError
from data.feature_store import FeatureStore, FeatureWriter
from heads.evaluation.predictions import predict
from heads.models import options
from heads.models.inputs import Inputs, LayerMix, MixedLayers, fitted
from heads.models.losses import LossOptions, total_loss
from heads.models.parts.layers import pool_steps
from heads.models.registry import HEADS
from heads.runs.build import build_head, make_head
from heads.runs.config import make_config
from heads.runs.run_data import LoadedCache
from heads.training.packed_engine import PackedEngine

LAYERS = {"text": (6, 9, 12), "audio": (0, 2)}
WIDTHS = {"text": 7, "audio": 5}
INPUTS = Inputs((("text", 21), ("audio", 10)), tuple(LAYERS.items()), (("text", 1), ("audio", 1)))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return LoadedCache(make_cache(tmp_path_factory.mktemp("cache"), utterances=30, layers=LAYERS), torch.device("cpu"))


def batch():
    found = random_batch(LENGTHS, dict(INPUTS.dims))
    size = max(map(len, VIDEOS))
    return found._replace(dialogue=torch.tensor([[*video, *[-1] * (size - len(video))] for video in VIDEOS]))


def mixed(name, task=None):
    entry = HEADS[name]
    chosen = make_config(name, "mosi", "paper-mosi", {"model": small_options(name) | {"adapter": "mix"}}).model
    torch.manual_seed(0)
    return make_head(name, chosen, INPUTS, task or entry.task or "both")


def test_a_mix_is_the_softmax_of_its_numbers_times_the_layers():
    mix, features = LayerMix(3), torch.randn(2, 4, 6)
    torch.testing.assert_close(mix(features), features.unflatten(-1, (3, 2)).mean(2))
    with torch.no_grad():
        mix.logits.copy_(torch.tensor([0.0, 1.0, 2.0]).log() + 5)
    expected = (features[..., 2:4] + 2 * features[..., 4:6]) / 3
    torch.testing.assert_close(mix(features), expected)
    torch.testing.assert_close(mix(features[0]), expected[0])


@pytest.mark.parametrize("name", TRAINED)
def test_every_head_reads_the_mixed_layers(name):
    """It gives what it gives for the mean of the layers, and the mix learns from its loss."""
    head, one = mixed(name).eval(), batch()
    assert isinstance(head, MixedLayers)
    assert {modality: list(weights) for modality, weights in head.layer_weights().items()} == {
        "text": ["6", "9", "12"],
        "audio": ["0", "2"],
    }
    means = {m: one.features[m].unflatten(-1, (len(LAYERS[m]), -1)).mean(2) for m in LAYERS}
    with torch.no_grad():
        found, expected = head(one), head.head(one._replace(features=means))
    for value, other in zip(found[:2], expected[:2], strict=True):
        assert (value is None) == (other is None)
        if value is not None:
            torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for parameter in head.head.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)  # zeros at the end of a head keep every gradient from what stands before
    head.begin(head.stages[-1], 1)
    total_loss(head(one), one, LossOptions(), LossOptions().weights()).backward()
    for modality, mix in head.mixes.items():
        assert mix.logits.grad.abs().max() > 0, modality
    assert (head.context, head.packable, head.stages, head.smallest_batch) == (
        head.head.context, head.head.packable, head.head.stages, head.head.smallest_batch
    )  # fmt: skip


def test_what_stands_in_the_padding_reaches_neither_the_result_nor_the_mix():
    one = batch()
    spoilt = one._replace(features={m: x.masked_fill(~one.masks[m].unsqueeze(-1), torch.nan) for m, x in one.features.items()})
    gradients = []
    for given in (one, spoilt):
        head = mixed("mmolre").eval()
        total_loss(head(given), given, LossOptions(), LossOptions().weights()).backward()
        gradients.append(head.mixes["text"].logits.grad)
    torch.testing.assert_close(*gradients)


def test_the_head_behind_a_mix_starts_as_it_starts_without_one(loaded):
    run_data = loaded.open(make_config("pre-fusion", "mosi", "light", {"model": {"adapter": "mix"}}))
    one_layer = loaded.open(make_config("pre-fusion", "mosi", "light", {"data": {"layers": {"text": [9], "audio": [2]}}}))
    mixed_head, usual = build_head(run_data.config, run_data.tensors), build_head(one_layer.config, one_layer.tensors)
    assert mixed_head.head.state_dict().keys() == usual.state_dict().keys()
    for name, value in usual.state_dict().items():
        assert torch.equal(mixed_head.head.state_dict()[name], value)


@pytest.mark.parametrize("head", ["mmolre", "mmml", "mult"])
def test_runs_with_mixed_layers_come_in_a_pack_to_what_they_come_to_alone(loaded, head):
    points = [
        {"seed": seed, "train.lr": rate, "model.adapter": "mix", "data.emotions": "annotated"} for seed, rate in ((1, 0.003), (2, 0.01))
    ]
    runs = [run(loaded, head, point) for point in points]
    assert signature_of(runs[0]) == signature_of(runs[1]) != signature_of(run(loaded, head, points[0] | {"model.adapter": "none"}))
    assert signature_of(runs[0]) != signature_of(run(loaded, head, points[0] | {"data.layers.text": [6, 9]}))
    assert go(runs, PackedEngine(runs)) == {}
    assert_equal(runs, alone(runs))
    learned = [one.best["loss"]["mixes.text.logits"] for one in runs]
    assert all(np.ptp(numbers.numpy()) > 1e-3 for numbers in learned)
    assert not torch.equal(*learned)


def test_a_head_for_one_layer_is_not_wrapped():
    inputs = Inputs((("text", 7), ("audio", 5)), (("text", (9,)), ("audio", ())), (("text", 1), ("audio", 1)))
    chosen = make_config("pre-fusion", "mosi", "paper-mosi", {"model": small_options("pre-fusion") | {"adapter": "mix"}}).model
    made = make_head("pre-fusion", chosen, inputs, "msa")
    assert type(made) is HEADS["pre-fusion"].head
    assert [type(layer).__name__ for layer in made.adapters["text"]] == ["LayerNorm", "Linear"]


def test_only_the_modality_with_several_layers_is_mixed():
    inputs = Inputs((("text", 21), ("audio", 5)), (("text", (6, 9, 12)), ("audio", (0,))), (("text", 1), ("audio", 1)))
    chosen = make_config("pre-fusion", "mosi", "paper-mosi", {"model": small_options("pre-fusion") | {"adapter": "mix"}}).model
    head = make_head("pre-fusion", chosen, inputs, "msa")
    assert (list(head.mixes), head.head.dims, head.dims) == (["text"], {"text": 7, "audio": 5}, {"text": 21, "audio": 5})


def test_a_mix_learns_in_the_last_stage_and_the_head_decides_for_itself():
    head = mixed("mmim", "msa")
    assert len(head.stages) > 1
    for stage in head.stages:
        assert head.trains("mixes.text.logits", stage) == (stage == head.stages[-1])
        assert {n: head.trains(f"head.{n}", stage) for n, _ in head.head.named_parameters()} == {
            n: head.head.trains(n, stage) for n, _ in head.head.named_parameters()
        }
    rates = mixed("unimse-head")
    name = next(n for n, _ in rates.head.named_parameters() if n.startswith("layers."))
    assert (rates.lr_factor(f"head.{name}"), rates.lr_factor("mixes.text.logits")) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("head", "pool", "averaged", "expected"),
    [("mmolre", 4, 4, 1), ("mmolre", 8, 4, 2), ("mmolre", 1, 4, 1), ("tbje", 5, 5, 1), ("mmolre", 4, 1, 4)],
)
def test_audio_pool_counts_frames_of_the_encoder(head, pool, averaged, expected):
    chosen = options.change(make_config(head, "mosi").model, {"audio_pool": pool}, "test")
    inputs = replace(INPUTS, averaged=(("text", 1), ("audio", averaged)))
    assert fitted(chosen, inputs) == options.change(chosen, {"audio_pool": expected}, "test")


def test_an_audio_pool_that_no_stored_means_make_is_refused():
    inputs = replace(INPUTS, averaged=(("text", 1), ("audio", 4)))
    with pytest.raises(
        InputError,
        match=r"model.audio_pool is 5 frames, but the audio features are means of 4 frames each: expected a multiple of 4, or 1",
    ):
        make_head("tbje", make_config("tbje", "mosi").model, inputs, "msa")


def test_means_that_are_stored_give_a_head_what_its_own_means_give_it(tmp_path):
    """The same head on frames with audio_pool = 4, and on stored means of four."""
    full = open_corpus(make_cache(tmp_path / "full"), "mosi")
    with FeatureStore.open(full.features["audio"]) as store:
        values = {name: store[name].astype(np.float32) for name in store.ids}
        facts = dict(store.attrs)
    stored = {}
    for name, frames in values.items():
        means, _ = pool_steps(torch.from_numpy(frames)[None], torch.ones(1, len(frames), dtype=torch.bool), 4)
        stored[name] = means[0].numpy()
    path = tmp_path / "full" / "means.h5"
    facts["identity"] = {"frames_averaged": 4, "frame_rate_hz": 12.5}
    with FeatureWriter(path, list(stored), [len(one) for one in stored.values()], 6, "float32", facts, [""] * len(stored)) as writer:
        for index, means in enumerate(stored.values()):
            writer.write(index, means)
    merge_corpora(
        tmp_path / "full",
        [CachedCorpus("means", full.manifest, {"text": full.features["text"], "audio": path}, None)],
        tmp_path / "full" / "r.html",
    )
    loaded = LoadedCache(tmp_path / "full", torch.device("cpu"))
    found = []
    for corpus in ("mosi", "means"):
        made = loaded.open(make_config("mmolre", corpus, "light", {"data": {"audio_limit": 28}}))
        head = build_head(made.config, made.tensors)
        assert head.pool["audio"] == (4 if corpus == "mosi" else 1)
        found.append(predict(head, made.tensors, np.arange(24), 8))
    assert (loaded.open(make_config("mmolre", "means", "light", {"data": {"audio_limit": 28}})).tensors.lengths["audio"].max()) <= 7
    short = np.array([len(frames) <= 28 for frames in values.values()])
    assert 0 < short.sum() < 24
    np.testing.assert_allclose(found[1].sentiment[short], found[0].sentiment[short], atol=1e-6)
