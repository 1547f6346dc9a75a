"""The head of MAG: how far audio may move a text step, which frames belong to it, and what is read in the end."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from batches import DIMS, random_batch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from heads.models.baselines._encoder import EncoderLayer
from heads.models.baselines.mag import AdaptationGate, MAGHead, MAGHeadOptions, even_shares

SMALL = MAGHeadOptions(dim=8, heads=2, ffn=16)
GENERATOR = torch.Generator().manual_seed(1)
TEXT, AUDIO = torch.randn(2, 5, 8, generator=GENERATOR), torch.randn(2, 5, 6, generator=GENERATOR)


def gate(beta: float = 1.0, dropout: float = 0.0) -> AdaptationGate:
    torch.manual_seed(0)
    return AdaptationGate(8, 6, beta, dropout)


def make(task: str = "both", seed: int = 0, **options: object) -> MAGHead:
    torch.manual_seed(seed)
    return MAGHead(replace(SMALL, **options), DIMS, task)


def masks(text: int, audio: int) -> tuple[Tensor, Tensor]:
    """Assign frames to the words of one utterance, with two steps of padding each."""
    return torch.arange(text + 2)[None] < text, torch.arange(audio + 2)[None] < audio


@pytest.mark.parametrize("beta", [0.001, 0.3, 1.0])
@pytest.mark.parametrize("scale", [1, 50])
def test_audio_moves_no_step_farther_than_beta_times_its_norm(beta, scale):
    layer = gate(beta)
    with torch.no_grad():
        layer.shift.weight *= scale
    moved, allowed = layer.displacement(TEXT, AUDIO).norm(dim=-1), beta * TEXT.norm(dim=-1)
    assert (moved <= allowed * (1 + 1e-5)).all()
    if scale == 50:
        torch.testing.assert_close(moved, allowed, rtol=1e-4, atol=0)


def test_a_short_displacement_is_not_stretched():
    layer = gate()
    with torch.no_grad():
        layer.shift.weight *= 0.01
        layer.shift.bias *= 0.01
    weighed = (torch.cat([AUDIO, TEXT], -1) @ layer.weigh[0].weight.t() + layer.weigh[0].bias).clamp(min=0)
    torch.testing.assert_close(layer.displacement(TEXT, AUDIO), weighed * (AUDIO @ layer.shift.weight.t() + layer.shift.bias))


def test_a_larger_beta_never_moves_less():
    moved = [gate(beta).displacement(TEXT, AUDIO).norm(dim=-1) for beta in (0.0, 0.01, 0.1, 1.0, 10.0)]
    assert not moved[0].any()
    for less, more in pairwise(moved):
        assert (more >= less - 1e-7).all()


def test_without_audio_and_biases_the_text_is_normalised_alone():
    layer = gate()
    nn.init.zeros_(layer.weigh[0].bias)
    nn.init.zeros_(layer.shift.bias)
    torch.testing.assert_close(layer(TEXT, torch.zeros_like(AUDIO)), nn.functional.layer_norm(TEXT, (8,)))


def test_a_step_that_is_not_moved_has_a_finite_gradient():
    layer, text = gate(), TEXT.clone().requires_grad_()
    with torch.no_grad():
        layer.weigh[0].bias.fill_(-100)
    layer(text, AUDIO).square().sum().backward()
    assert not layer.displacement(TEXT, AUDIO).any()
    assert text.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_the_gate_is_the_same_at_all_steps():
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(gate()(TEXT[:, order], AUDIO[:, order]), gate()(TEXT, AUDIO)[:, order])


@given(words=st.integers(1, 12), frames=st.integers(1, 40), special=st.booleans())
def test_frames_are_divided_evenly_among_the_words(words, frames, special):
    steps = words + 2 if special else words
    shares = even_shares(*masks(steps, frames), special)[0]
    own = shares[1 : words + 1] if special else shares[:words]
    parts = [part.nonzero().flatten().tolist() for part in own]
    assert shares.sum().item() == pytest.approx(words)
    assert all(part == list(range(part[0], part[-1] + 1)) for part in parts)
    assert all(row[part].tolist() == pytest.approx([1 / len(part)] * len(part)) for row, part in zip(own, parts, strict=True))
    if frames >= words:
        assert sum(parts, []) == list(range(frames))  # noqa: RUF017 - a few
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    else:
        assert [part[0] for part in parts] == [word * frames // words for word in range(words)]
        assert {len(part) for part in parts} == {1}


@pytest.mark.parametrize("steps", [1, 2])
def test_text_without_a_word_gets_all_audio_at_its_first_step(steps):
    shares = even_shares(*masks(steps, 4), special_tokens=True)[0]
    assert shares[0].tolist() == [0.25] * 4 + [0] * 2
    assert not shares[1:].any()


@pytest.mark.parametrize(("special_tokens", "frames"), [(True, [0, 3, 3, 0]), (False, [1, 2, 1, 2])])
def test_the_gate_gets_the_mean_of_a_words_frames(special_tokens, frames):
    head, batch, seen = make(special_tokens=special_tokens), random_batch({"text": (4,), "audio": (6,)}), []
    head.gate.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    head(batch)
    parts = batch.features["audio"][0].split(frames)
    torch.testing.assert_close(seen[0][0], torch.stack([part.sum(0) / max(len(part), 1) for part in parts]))


def test_an_encoder_and_a_pooler_on_the_first_position_follow_the_gate():
    head, batch, seen = make().eval(), random_batch(), {}
    head.gate.register_forward_hook(lambda _, inputs, result: seen.update(gated=result))
    found = head(batch).sentiment
    hidden = seen["gated"]
    assert [type(layer) for layer in head.layers] == [EncoderLayer] * 2
    for layer in head.layers:
        hidden = layer(hidden, batch.masks["text"])
    pooled = (hidden[:, 0] @ head.pool[0].weight.t() + head.pool[0].bias).tanh()
    torch.testing.assert_close(found, head.outputs["msa"](pooled)[:, 0])
