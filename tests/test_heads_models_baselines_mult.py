"""MulT: its stacks and widths, what each of them reads, and what the prediction is made of."""

import dataclasses

import pytest
import torch
from batches import DIMS, random_batch, select, trim

from heads.models.baselines.mult import MulT, MulTOptions
from heads.models.parts.randomness import Dropout, drawing_from

SMALL = MulTOptions(width=6, layers=2, heads=2)
RATES = [field.name for field in dataclasses.fields(MulTOptions) if field.name.endswith("dropout")]


def make(dims=DIMS, task="msa", **changes):
    torch.manual_seed(0)
    return MulT(dataclasses.replace(SMALL, **changes), dims, task).eval()


def changed(batch, modality, features):
    return batch._replace(features={**batch.features, modality: features})


def test_there_are_two_crossmodal_and_two_memory_stacks_of_the_widths_without_video():
    head = make(width=30, heads=5, layers=5)
    assert {target: list(stacks) for target, stacks in head.encoder.crossmodal.items()} == {"text": ["audio"], "audio": ["text"]}
    assert [stack.norm.normalized_shape for stack in head.encoder.memory.values()] == [(30,), (30,)]
    assert head.outputs["msa"].in_features == 60


def test_a_third_modality_makes_it_six_and_three():
    head = make(dims={**DIMS, "vision": 4})
    assert sum(len(stacks) for stacks in head.encoder.crossmodal.values()) == 6
    assert [stack.norm.normalized_shape for stack in head.encoder.memory.values()] == [(12,)] * 3
    assert head.outputs["msa"].in_features == 36
    batch = random_batch({"text": (5, 3), "audio": (9, 12), "vision": (2, 4)}, head.dims)
    before, other = head(batch).sentiment, changed(batch, "vision", batch.features["vision"].roll(1, -1))
    assert ((head(other).sentiment - before).abs() > 1e-7).all()


@pytest.mark.parametrize(("layers", "memory"), [(1, 3), (2, 3), (5, 5)])
def test_memory_stacks_have_three_layers_at_least(layers, memory):
    head = make(layers=layers)
    assert [len(stack.layers) for stack in head.encoder.memory.values()] == [memory] * 2
    assert [len(stack.layers) for stacks in head.encoder.crossmodal.values() for stack in stacks.values()] == [layers] * 2


def test_convolutions_have_their_kernels_and_no_bias():
    head = make(text_kernel=5, audio_kernel=3)
    found = {modality: layer.convolution for modality, layer in head.convolutions.items()}
    assert {modality: layer.kernel_size for modality, layer in found.items()} == {"text": (5,), "audio": (3,)}
    assert all(layer.bias is None for layer in found.values())


def test_attention_dropout_goes_by_the_source():
    head = make(attention_dropout=0.1, audio_attention_dropout=0.2)

    def rates(stack):
        return {round(float(layer.attention.dropout.rate), 3) for layer in stack.layers}

    assert rates(head.encoder.crossmodal["text"]["audio"]) == {0.2}
    assert rates(head.encoder.crossmodal["audio"]["text"]) == {0.1}
    assert [rates(stack) for stack in head.encoder.memory.values()] == [{0.1}, {0.1}]


def test_text_alone_is_dropped_before_its_convolution():
    head = make(**dict.fromkeys(RATES, 0.0) | {"text_dropout": 0.5}).train()
    seen = {}
    for modality, layer in head.convolutions.items():
        layer.register_forward_pre_hook(lambda _, inputs, modality=modality: seen.update({modality: inputs[0]}))
    batch = random_batch()
    with drawing_from(torch.tensor(0)):
        head(batch)
    assert torch.equal(seen["audio"], batch.features["audio"])
    kept = seen["text"] != 0
    assert 0.3 < kept[batch.masks["text"]].float().mean() < 0.7
    torch.testing.assert_close(seen["text"][kept], 2 * batch.features["text"][kept])


@pytest.mark.parametrize("name", RATES)
def test_each_rate_of_dropout_acts_in_training(name):
    head, batch = make(**dict.fromkeys(RATES, 0.0) | {name: 0.5}), random_batch()
    expected = make(**dict.fromkeys(RATES, 0.0))(batch).sentiment
    assert torch.equal(head(batch).sentiment, expected)
    with drawing_from(torch.tensor(0)):
        assert not torch.allclose(head.train()(batch).sentiment, expected)
    assert any(isinstance(module, Dropout) and module.is_active for module in head.modules())


def test_the_prediction_is_made_of_the_last_real_steps_with_a_residual_block():
    head, batch = make(), random_batch()
    encoded = {}
    for modality, stack in head.encoder.memory.items():
        stack.register_forward_hook(lambda *seen, modality=modality: encoded.update({modality: seen[2]}))
    found = head(batch).sentiment
    last = torch.cat([encoded["text"][range(3), [4, 2, 3]], encoded["audio"][range(3), [8, 11, 6]]], -1)
    inner, outer = head.block[0], head.block[3]
    combined = last + outer(inner(last).clamp(min=0))
    torch.testing.assert_close(found, head.outputs["msa"](combined).squeeze(-1))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kernel", [1, 4])
def test_a_clip_gets_the_same_prediction_in_a_batch_as_alone(causal, kernel):
    head, batch = make(causal=causal, text_kernel=kernel, audio_kernel=kernel), random_batch()
    together = head(batch).sentiment
    for row in range(3):
        torch.testing.assert_close(head(trim(select(batch, row))).sentiment, together[row : row + 1], rtol=0, atol=1e-5)


def test_the_causal_mask_hides_audio_that_comes_later_from_all_but_the_last_steps():
    """The first text step reads audio up to the difference of the lengths, 9 - 5."""
    head, batch = make(), select(random_batch(), 0)
    features = batch.features["audio"].clone().requires_grad_()
    streams, masks = {}, {}
    for modality, layer in head.convolutions.items():
        streams[modality], masks[modality] = layer(features if modality == "audio" else batch.features["text"], batch.masks[modality])
    stack = head.encoder.crossmodal["text"]["audio"]
    first = stack(streams["text"], masks["text"], streams["audio"], masks["audio"])[0, 0, 0]
    (gradient,) = torch.autograd.grad(first, features)
    assert (gradient[0, :9].abs().amax(-1) > 0).tolist() == [True] * 5 + [False] * 4


def test_the_order_of_tokens_and_the_audio_of_the_clip_matter():
    head, batch = make(), random_batch({"text": (5, 5, 5), "audio": (9, 9, 9)})
    before = head(batch).sentiment
    swapped = changed(batch, "text", batch.features["text"][:, [1, 0, 2, 3, 4]])
    exchanged = changed(batch, "audio", batch.features["audio"].roll(1, 0))
    for other in (swapped, exchanged):
        assert ((head(other).sentiment - before).abs() > 1e-6).all()


def test_tasks_share_all_but_the_output_layer():
    head = make(task="both")
    own = {name for name, _ in head.named_parameters() if name.startswith("outputs.")}
    assert own == {f"outputs.{task}.{part}" for task in ("msa", "mer") for part in ("weight", "bias")}
    assert {name for name, _ in make(task="msa").named_parameters()} == {
        n for n, _ in head.named_parameters() if "outputs.mer" not in n
    }
