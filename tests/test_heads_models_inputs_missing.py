"""A modality that an utterance lacks: learned features stand for it, alone and in packs, in training and in predictions."""

import json

import numpy as np
import pytest
import torch
from batches import random_batch
from caches import make_cache
from small_heads import LENGTHS, TRAINED, VIDEOS, small_options
from small_packs import run, signature_of
from test_heads_training_packed_engine import alone, assert_equal, go

from data.errors import InputError
from data.tensors import CorpusTensors
from heads.evaluation.predictions import predict
from heads.models.base import Head, HeadOutput
from heads.models.inputs import Inputs, MissingModalities, MixedLayers
from heads.models.parts.randomness import drawing_from
from heads.models.registry import HEADS
from heads.runs.build import build_head, make_head
from heads.runs.config import make_config
from heads.runs.run_data import LoadedCache
from heads.training.packed_engine import PackedEngine

WIDTHS = {"text": 7, "audio": 5}
LAYERS = {"text": (6, 9, 12), "audio": (0, 2)}
INPUTS = Inputs(tuple(WIDTHS.items()), (("text", ()), ("audio", ())), (("text", 1), ("audio", 1)))


class Seen(Head):
    """A head that keeps what it reads."""

    def forward(self, batch):
        self.seen = batch
        return HeadOutput(None, None)


def batch():
    found = random_batch(LENGTHS, WIDTHS)
    size = max(map(len, VIDEOS))
    return found._replace(dialogue=torch.tensor([[*video, *[-1] * (size - len(video))] for video in VIDEOS]))


def standing(rate, dims=WIDTHS):
    made = MissingModalities(Seen(dims, "msa"), rate, dims)
    with torch.no_grad():
        for number, name in enumerate(dims, 1):
            made.vectors[name].fill_(number)
    return made


def without(given, modality, places):
    """The batch without a modality of some utterances: all of its mask is padding."""
    mask = given.masks[modality].clone()
    mask[places] = False
    return given._replace(masks={**given.masks, modality: mask})


def test_an_utterance_without_a_modality_gets_one_learned_step_and_others_keep_theirs():
    head, given = standing(0.3).eval(), batch()
    head(without(given, "audio", [0, 2]))
    seen = head.head.seen
    steps = given.masks["audio"].sum(1).tolist()
    assert seen.masks["audio"].sum(1).tolist() == [1, steps[1], 1, *steps[3:]]
    assert (seen.features["audio"][[0, 2], 0] == 2).all()
    assert torch.equal(seen.features["audio"][1], given.features["audio"][1])
    assert torch.equal(seen.features["text"], given.features["text"])
    head(given)
    assert all(torch.equal(head.head.seen.masks[name], given.masks[name]) for name in WIDTHS)


def test_in_training_each_modality_is_missing_at_the_rate_and_never_two_at_a_time():
    head = standing(0.3).train()
    large = random_batch({name: [3] * 4000 for name in WIDTHS}, WIDTHS)
    with drawing_from(torch.tensor(5)):
        head(large)
    gone = {name: (head.head.seen.masks[name].sum(1) == 1) for name in WIDTHS}
    for hit in gone.values():
        assert hit.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not (gone["text"] & gone["audio"]).any()
    assert (head.head.seen.features["text"][gone["text"]][:, 0] == 1).all()
    with drawing_from(torch.tensor(5)):
        head(without(large, "text", slice(None)))
    assert head.head.seen.masks["audio"].all()  # the one that is left is never dropped


@pytest.mark.parametrize("name", ["mmolre", "mult", "cogmen", "self-mm", "mmim"])
def test_heads_read_what_is_left_whatever_stands_in_the_padding(name):
    assert name in TRAINED
    torch.manual_seed(0)
    chosen = make_config(name, "mosi", "paper-mosi", {"model": small_options(name)}).model
    head = make_head(name, chosen, INPUTS, HEADS[name].task or "both", 0.2).eval()
    given, dirty = batch(), batch()
    missing = without(given, "audio", [1])
    dirty.features["audio"][1] = torch.nan
    found, again = (head(without(one, "audio", [1])) for one in (missing, dirty))
    assert torch.isfinite(found.sentiment).all()
    torch.testing.assert_close(found.sentiment, again.sentiment)
    assert not torch.allclose(found.sentiment[1], head(given).sentiment[1])


def test_the_option_needs_two_modalities_and_probabilities_of_at_most_one():
    for rate, dims, said in (
        (0.1, {"text": 3}, r"train.modality_dropout is 0.1, which needs two modalities or more; got text\."),
        (0.4, {"text": 3, "audio": 2, "vision": 4}, r"is 0.4, expected at most 0.333 for each of 3 modalities\."),
    ):
        with pytest.raises(InputError, match=said):
            standing(rate, dims)
    with pytest.raises(InputError, match=r"train.modality_dropout is 0.6, expected 0 to 0.5"):
        make_config("mmolre", "mosi", changes={"train": {"modality_dropout": 0.6}})


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return LoadedCache(make_cache(tmp_path_factory.mktemp("cache"), utterances=30, layers=LAYERS), torch.device("cpu"))


def test_runs_without_the_option_are_as_they_were(loaded):
    usual, other = (run(loaded, changes={"train.modality_dropout": rate}) for rate in (0.0, 0.2))
    assert "modality_dropout" not in json.dumps(usual.config.as_dict())
    assert usual.config.key() == run(loaded).config.key() != other.config.key()
    heads = [build_head(one.config, one.tensors) for one in (usual, other)]
    assert not isinstance(heads[0], MissingModalities)
    inner = heads[1].head.state_dict()
    assert all(torch.equal(value, inner[name]) for name, value in heads[0].state_dict().items())


def test_a_pack_with_unlike_rates_comes_to_what_its_runs_come_to_alone(loaded):
    mix = {"model.adapter": "mix"}
    points = [{"seed": 1, "train.modality_dropout": 0.1}, {"seed": 2, "train.modality_dropout": 0.4}]
    runs = [run(loaded, "pre-fusion", mix | point) for point in points]
    assert len({signature_of(one) for one in runs}) == 1
    assert signature_of(run(loaded, "pre-fusion", mix)) not in {signature_of(one) for one in runs}
    assert go(runs, PackedEngine(runs)) == {}
    apart = alone(runs)
    assert_equal(runs, apart)
    head = build_head(apart[1].config, apart[1].tensors)
    assert isinstance(head, MixedLayers)
    head.load_state_dict(apart[1].best["loss"])
    assert all((vector != 0).any() for vector in head.head.vectors.values())


def test_features_with_gaps_are_those_of_an_absent_modality(loaded):
    """Rows without audio get what the same rows get when all of their mask is padding; the others get what they always get."""
    one = run(loaded, changes={"train.modality_dropout": 0.3})
    head, rows = build_head(one.config, one.tensors), np.arange(12)
    corpus = loaded._corpora["mosi"]
    lost = one.tensors.targets.ids[4:7]
    streams = {name: (name,) for name in ("text", "audio")}
    options = {"modalities": streams, "device": "cpu", "limits": {"text": 96, "audio": 299}}
    for memory in (None, 0):  # in memory, and streamed
        gaps = CorpusTensors.load(corpus, one.tensors.targets, memory_bytes=memory, lacking={"audio": lost}, **options)
        found, usual = predict(head, gaps, rows, 5), predict(head, one.tensors, rows, 5)
        kept = np.setdiff1d(rows, [4, 5, 6])
        np.testing.assert_allclose(found.sentiment[kept], usual.sentiment[kept], atol=1e-5)
        assert (
            gaps.lengths["audio"][:8].tolist() == np.where(np.isin(rows[:8], [4, 5, 6]), 0, one.tensors.lengths["audio"][:8]).tolist()
        )
        only = gaps.batch(np.array([5, 6]))
        assert only.masks["audio"].shape == (2, 1)
        np.testing.assert_allclose(head.eval()(only).sentiment.detach(), found.sentiment[5:7], atol=1e-5)
