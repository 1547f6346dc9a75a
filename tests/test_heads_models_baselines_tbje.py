"""TBJE: the direction of information, its glimpses, its LayerNorm, and the fixed length of its sequences."""

from dataclasses import replace

import pytest
import torch
from batches import DIMS, random_batch, trim
from torch import Tensor, nn

from data.errors import InputError
from data.tensors import Batch
from heads.models.baselines.tbje import TBJE, Block, Norm, TBJEOptions

SMALL = TBJEOptions(dim=8, heads=2, ffn=16, steps=6, audio_pool=2, output_dim=10)
T = SMALL.steps


def make(task: str = "both", **options: object) -> TBJE:
    torch.manual_seed(0)
    return TBJE(replace(SMALL, **options), DIMS, task).eval()


def streams(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, T, 8, generator=generator), torch.randn(3, T, 8, generator=generator)


def block(is_last: bool = False) -> Block:
    torch.manual_seed(0)
    return Block(SMALL, is_last).eval()


def inputs_of(module: nn.Module) -> list[tuple[Tensor, ...]]:
    """Record the arguments of each call of the module."""
    seen: list[tuple[Tensor, ...]] = []
    module.register_forward_pre_hook(lambda _, given: seen.append(given))
    return seen


def changed(batch: Batch, modality: str, values: Tensor) -> Batch:
    return batch._replace(features={**batch.features, modality: values})


MASK = torch.arange(T) < torch.tensor([6, 4, 1])[:, None]
ALL = torch.ones(3, T, dtype=torch.bool)


def test_the_norm_divides_by_the_sample_deviation_plus_epsilon():
    layer, inputs = Norm(5, epsilon=0.1), torch.randn(4, 5)
    torch.testing.assert_close(layer(inputs), (inputs - inputs.mean(-1, keepdim=True)) / (inputs.std(-1, keepdim=True) + 0.1))


def test_the_norm_of_equal_values_has_a_finite_gradient():
    layer, inputs = Norm(5), torch.ones(2, 5, requires_grad=True)
    layer(inputs).sum().backward()
    assert inputs.grad.isfinite().all()
    with pytest.raises(InputError, match="needs a width of at least 2, got 1"):
        Norm(1)


def test_audio_is_guided_by_the_text_that_came_into_the_block():
    module, (text, audio) = block(), streams()
    seen = inputs_of(module.guided)
    module(text, audio, MASK, MASK)
    queries, source, mask = seen[0]
    assert source is text
    assert mask is MASK
    torch.testing.assert_close(queries, module.audio_attend(audio, audio, MASK))


def test_a_block_adds_what_it_reads_to_its_input():
    module, (text, audio) = block(is_last=True), streams()
    found = module(text, audio, MASK, ALL)
    own = module.text_feed(module.text_attend(text, text, MASK))
    guided = module.audio_feed(module.guided(module.audio_attend(audio, audio, ALL), text, MASK))
    torch.testing.assert_close(found, (text + own, audio + guided))


def test_a_block_that_is_not_the_last_looks_again_in_glimpses():
    module, (text, audio) = block(), streams()
    added = [text + module.text_feed(module.text_attend(text, text, MASK))]
    added.append(audio + module.audio_feed(module.guided(module.audio_attend(audio, audio, ALL), text, MASK)))
    for x, found, mask, again in zip(added, module(text, audio, MASK, ALL), (MASK, ALL), module.glimpses.values(), strict=True):
        glimpses = torch.einsum("btg,btd->bgd", again.look.weights(x, mask), x)
        torch.testing.assert_close(found, again.norm(x + glimpses))


def test_every_glimpse_spreads_over_the_real_steps():
    module, (text, _) = block(), streams()
    weights = module.glimpses["text"].look.weights(text, MASK)
    assert weights.shape == (3, T, T)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, T))
    assert not weights[~MASK].any()
    assert (weights[MASK] > 0).all()


def test_there_are_as_many_glimpses_as_steps_in_all_blocks_but_the_last():
    head = make()
    counts = [[part.look.place[-1].out_features for part in block.glimpses.values()] for block in head.blocks]
    assert counts == [[T, T], [T, T], [T, T], []]
    assert [part.place[-1].out_features for part in head.flatten.values()] == [1, 1]


def test_text_never_reads_audio_and_audio_reads_text():
    head, batch = make(), random_batch()
    seen = {modality: inputs_of(head.flatten[modality]) for modality in ("text", "audio")}
    head(batch)
    head(changed(batch, "audio", -batch.features["audio"]))
    head(changed(batch, "text", -batch.features["text"]))
    text, audio = ([given[0] for given in seen[modality]] for modality in ("text", "audio"))
    assert torch.equal(text[1], text[0])
    assert (text[2] - text[0]).abs().amax((1, 2)).min() > 1e-4
    assert (audio[2] - audio[0]).abs().amax((1, 2)).min() > 1e-4


def test_masks_serve_the_first_block_alone():
    head, batch = make(), random_batch({"text": (5, 3, 4), "audio": (12, 8, 3)})
    seen = [inputs_of(block) for block in head.blocks]
    final = inputs_of(head.flatten["text"])
    head(batch)
    masks = [given[0][2:] for given in seen]
    assert [mask.sum(1).tolist() for mask in masks[0]] == [[5, 3, 4], [6, 4, 2]]
    assert all(mask.all() for later in masks[1:] for mask in later)
    assert final[0][1].all()


def test_sequences_are_padded_with_zeros_or_cut_to_the_fixed_length():
    head, batch = make(), random_batch({"text": (3, 9), "audio": (5, 15)})
    seen = inputs_of(head.blocks[0])
    head(batch)
    text, audio, *_ = seen[0]
    assert (text.shape, audio.shape) == ((2, T, 8), (2, T, 8))
    assert not text[0, 3:].any()
    assert not audio[0, 3:].any()
    short = {"text": 6, "audio": 12}
    cut = trim(batch._replace(masks={m: mask & (torch.arange(mask.shape[1]) < short[m]) for m, mask in batch.masks.items()}))
    torch.testing.assert_close(head(cut).sentiment, head(batch).sentiment)


def test_frames_are_averaged_before_they_are_projected():
    head, batch = make(), random_batch({"text": (3,), "audio": (5,)})
    seen = inputs_of(head.blocks[0])
    head(batch)
    frames = batch.features["audio"][0]
    means = torch.stack([frames[:2].mean(0), frames[2:4].mean(0), frames[4]])
    torch.testing.assert_close(seen[0][1][0, :3], head.audio(means))


def test_six_seconds_of_audio_are_sixty_steps():
    options = TBJEOptions()
    assert -(-299 // options.audio_pool) == options.steps == 60


def test_the_prediction_reads_the_normalised_sum_of_both():
    head, batch, seen = make(), random_batch(), {}
    for modality, part in head.flatten.items():
        part.register_forward_hook(lambda _, given, result, modality=modality: seen.update({modality: result[:, 0]}))
    found = head(batch).emotion_logits
    total = head.widen["text"](seen["text"]) + head.widen["audio"](seen["audio"])
    torch.testing.assert_close(found, head.outputs["mer"](head.norm(total)))


@pytest.mark.parametrize("name", ["steps", "audio_pool"])
def test_lengths_below_one_are_refused(name):
    with pytest.raises(InputError, match=rf"^{name} is 0, expected 1 or more"):
        make(**{name: 0})
