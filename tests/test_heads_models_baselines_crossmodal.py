"""The crossmodal transformer stack, its parts beside PyTorch's own, and what it reads."""

import pytest
import torch
from torch import nn

from data.errors import InputError
from heads.models.baselines._crossmodal import (
    CrossModalLayer,
    CrossModalStack,
    MaskedAttention,
    PairwiseEncoder,
    StackOptions,
    TemporalConvolution,
    readable,
    sinusoids,
)
from heads.models.parts.randomness import drawing_from

PLAIN = StackOptions(layers=2, heads=2, causal=False, positions=False)
CAUSAL = StackOptions(layers=3, heads=2, causal=True, positions=True)


def real(*lengths: int) -> torch.Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def stack(options: StackOptions, dim: int = 6) -> CrossModalStack:
    torch.manual_seed(0)
    return CrossModalStack(dim, options).double().eval()


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sources_of(layers: nn.ModuleList) -> list[torch.Tensor]:
    """Filled with what each layer gets as its source whenever the stack is called."""
    seen = []
    for layer in layers:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    return seen


@pytest.mark.parametrize(("queries", "source", "shift"), [(4, 4, 0), (2, 5, 3), (5, 3, 2)])
def test_a_causal_mask_hides_steps_behind_the_query_plus_the_difference_of_lengths(queries, source, shift):
    found = readable(real(queries), real(source), causal=True)[0]
    assert found.tolist() == [[j <= i + shift for j in range(source)] for i in range(queries)]


def test_lengths_of_a_causal_mask_are_the_real_ones():
    together = readable(real(2, 5), real(5, 3), causal=True)
    assert torch.equal(together[0, :2], readable(real(2), real(5), causal=True)[0])
    assert torch.equal(together[1, :, :3], readable(real(5), real(3), causal=True)[0])
    assert not together[1, :, 3:].any()


def test_without_a_causal_mask_every_real_step_is_read():
    assert readable(real(2), real(1, 3), causal=False).tolist() == [[[True, False, False]] * 2, [[True] * 3] * 2]


def test_positions_are_sines_and_cosines_of_the_same_waves():
    found = sinusoids(4, 6, torch.device("cpu"))
    rates = torch.tensor([1.0, 1e-2, 1e-4])
    for step in range(4):
        angles = (step + 1) * rates  # the authors' code counts from 1
        torch.testing.assert_close(found[step], torch.cat([angles.sin(), angles.cos()]))
    assert sinusoids(3, 5, torch.device("cpu")).shape == (3, 5)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_is_that_of_each_utterance_alone_without_padding(kernel):
    torch.manual_seed(0)
    layer, inputs = TemporalConvolution(4, 6, kernel), torch.randn(2, 7, 4)
    mask = real(5, 7)
    found, kept = layer(inputs.masked_fill(~mask.unsqueeze(-1), torch.nan), mask)
    assert layer.convolution.bias is None
    assert kept.sum(1).tolist() == [5 - kernel + 1, 7 - kernel + 1]
    for row, length in enumerate((5, 7)):
        expected = nn.functional.conv1d(inputs[row, :length].T, layer.convolution.weight).T
        torch.testing.assert_close(found[row, : len(expected)], expected)
        assert kept[row, : len(expected)].all()


def test_an_utterance_shorter_than_the_kernel_keeps_one_step_that_reads_zeros_behind_its_end():
    layer, inputs = TemporalConvolution(4, 6, 5), torch.randn(2, 6, 4)
    found, kept = layer(inputs, real(2, 6))
    assert kept.sum(1).tolist() == [1, 2]
    expected = torch.einsum("tc,oct->o", inputs[0, :2], layer.convolution.weight[..., :2])
    torch.testing.assert_close(found[0, 0], expected)


def test_a_convolution_needs_a_kernel():
    with pytest.raises(InputError, match="The kernel of a temporal convolution is 0, expected 1 or more"):
        TemporalConvolution(4, 6, 0)


@pytest.mark.parametrize("dropout", [0.0, 1e-15])
def test_attention_with_a_mask_for_each_query_equals_torchs(dropout):
    """At a rate too small to drop anything, training takes the path with dropout."""
    torch.manual_seed(0)
    ours = MaskedAttention(6, 2, dropout).double().train()
    theirs = nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    queries, source, mask = noise(1, 4, 6), noise(1, 3, 6, seed=2), torch.ones(1, 4, 3, dtype=torch.bool).tril()
    with drawing_from(torch.tensor(0)):
        found = ours(queries, source, mask)
    torch.testing.assert_close(found, theirs(queries, source, source, attn_mask=~mask[0])[0], rtol=0, atol=1e-12)


def test_a_layer_that_reads_itself_is_a_pre_norm_transformer_layer():
    torch.manual_seed(0)
    ours = CrossModalLayer(6, PLAIN).double()
    theirs = nn.TransformerEncoderLayer(6, 2, 24, 0.0, batch_first=True, norm_first=True, dtype=torch.float64)
    with torch.no_grad():
        for norm in (ours.attention_norm, ours.feed_forward_norm):
            norm.weight.copy_(torch.rand(6))
            norm.bias.copy_(torch.rand(6))
        attention = ours.attention
        theirs.self_attn.in_proj_weight.copy_(torch.cat([attention.query.weight, attention.key.weight, attention.value.weight]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([attention.query.bias, attention.key.bias, attention.value.bias]))
    theirs.self_attn.out_proj.load_state_dict(attention.out.state_dict())
    theirs.norm1.load_state_dict(ours.attention_norm.state_dict())
    theirs.norm2.load_state_dict(ours.feed_forward_norm.state_dict())
    theirs.linear1.load_state_dict(ours.feed_forward[0].state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward[3].state_dict())
    inputs, mask = noise(2, 4, 6), readable(real(2, 4), real(2, 4), causal=True)
    expected = theirs(inputs, ~mask[1], src_key_padding_mask=~real(2, 4))
    torch.testing.assert_close(ours(inputs, None, mask)[1], expected[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(ours(inputs, None, mask)[0, :2], expected[0, :2], rtol=0, atol=1e-12)


def test_one_norm_serves_queries_and_source():
    torch.manual_seed(0)
    layer = CrossModalLayer(6, PLAIN).double()
    with torch.no_grad():
        layer.attention_norm.weight.copy_(torch.rand(6))
    target, source, mask = noise(1, 4, 6), noise(1, 3, 6, seed=2), torch.ones(1, 4, 3, dtype=torch.bool)
    middle = target + layer.attention(layer.attention_norm(target), layer.attention_norm(source), mask)
    torch.testing.assert_close(layer(target, source, mask), middle + layer.feed_forward(layer.feed_forward_norm(middle)))


def test_every_layer_reads_the_source_of_layer_zero_scaled_and_with_positions():
    encoder, source = stack(CAUSAL), noise(1, 5, 6, seed=2)
    seen = sources_of(encoder.layers)
    encoder(noise(1, 3, 6), real(3), source, real(5))
    assert len(seen) == 3
    assert all(one is seen[0] for one in seen)
    torch.testing.assert_close(seen[0], source * 6**0.5 + sinusoids(5, 6, torch.device("cpu")).double())


def test_positions_are_left_out_by_choice():
    encoder, source = stack(PLAIN), noise(1, 5, 6, seed=2)
    seen = sources_of(encoder.layers)
    encoder(noise(1, 3, 6), real(3), source, real(5))
    torch.testing.assert_close(seen[0], source * 6**0.5)


def test_a_stack_without_a_source_reads_the_running_target():
    encoder = stack(PLAIN)
    seen = sources_of(encoder.layers)
    inputs = noise(1, 3, 6)
    found = encoder(inputs, real(3))
    assert seen == [None, None]
    mask = torch.ones(1, 3, 3, dtype=torch.bool)
    torch.testing.assert_close(found, encoder.norm(encoder.layers[1](encoder.layers[0](inputs * 6**0.5, None, mask), None, mask)))


@pytest.mark.parametrize(("queries", "source"), [(3, 5), (5, 3), (4, 4)])
def test_with_the_causal_mask_an_output_does_not_depend_on_later_source_steps(queries, source):
    encoder, inputs = stack(CAUSAL), noise(1, source, 6, seed=2).requires_grad_()
    found = encoder(noise(1, queries, 6), real(queries), inputs, real(source))
    assert found.shape == (1, queries, 6)
    for step in range(queries):
        (gradient,) = torch.autograd.grad(found[0, step, 0], inputs, retain_graph=True)
        reached = gradient[0].abs().amax(-1) > 0
        assert reached.tolist() == [j <= step + abs(queries - source) for j in range(source)]


def test_without_the_causal_mask_every_step_is_read():
    encoder, inputs = stack(PLAIN), noise(1, 5, 6, seed=2).requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(noise(1, 3, 6), real(3), inputs, real(5))[0, 0, 0], inputs)
    assert (gradient[0].abs().amax(-1) > 0).all()


def test_padding_of_target_and_source_changes_nothing():
    encoder, target, source = stack(CAUSAL), noise(2, 6, 6), noise(2, 7, 6, seed=2)
    together = encoder(target, real(3, 6), source, real(7, 2))
    for row, (queries, steps) in enumerate(((3, 7), (6, 2))):
        alone = encoder(target[row : row + 1, :queries], real(queries), source[row : row + 1, :steps], real(steps))
        torch.testing.assert_close(together[row : row + 1, :queries], alone)


def test_in_training_the_source_is_dropped_once_for_all_layers():
    encoder = stack(StackOptions(layers=3, heads=2, causal=False, positions=False, embed_dropout=0.5)).train()
    seen = sources_of(encoder.layers)
    with drawing_from(torch.tensor(0)):
        encoder(noise(2, 3, 6), real(3, 3), noise(2, 5, 6, seed=2), real(5, 5))
    assert (seen[0] == 0).any()
    assert all(one is seen[0] for one in seen)


@pytest.mark.parametrize("name", ["attention_dropout", "relu_dropout", "residual_dropout", "embed_dropout"])
def test_each_dropout_acts_in_training_alone(name):
    encoder = stack(StackOptions(layers=1, heads=2, causal=False, positions=False, **{name: 0.5}))
    target, without = noise(2, 3, 6), stack(StackOptions(layers=1, heads=2, causal=False, positions=False))
    assert torch.equal(encoder(target, real(3, 3)), without(target, real(3, 3)))
    with drawing_from(torch.tensor(0)):
        assert not torch.allclose(encoder.train()(target, real(3, 3)), without(target, real(3, 3)))


def test_a_stack_needs_layers_and_heads_that_divide_its_width():
    with pytest.raises(InputError, match="layers is 0, expected 1 or more"):
        CrossModalStack(6, StackOptions(layers=0, heads=2, causal=False, positions=False))
    with pytest.raises(InputError, match="5 attention heads do not divide the width 6"):
        CrossModalStack(6, StackOptions(layers=1, heads=5, causal=False, positions=False))


@pytest.mark.parametrize(("modalities", "stacks"), [(("text", "audio"), 2), (("text", "audio", "vision"), 6)])
def test_there_is_a_crossmodal_stack_for_each_ordered_pair_and_a_memory_for_each_modality(modalities, stacks):
    encoder = PairwiseEncoder(6, modalities, lambda _: PLAIN, PLAIN)
    crossmodal = [one for parts in encoder.crossmodal.values() for one in parts.values()]
    assert len(crossmodal) == stacks
    assert list(encoder.memory) == list(modalities)
    parameters = [id(value) for one in (*crossmodal, *encoder.memory.values()) for value in one.parameters()]
    assert len(set(parameters)) == len(parameters) == len(list(encoder.parameters()))
    streams = {modality: torch.randn(2, 3, 6) for modality in modalities}
    shapes = {modality: values.shape for modality, values in encoder(streams, dict.fromkeys(modalities, real(3, 2))).items()}
    assert shapes == dict.fromkeys(modalities, (2, 3, 6 * (len(modalities) - 1)))


def test_a_modality_changes_the_stacks_that_it_is_target_or_source_of_and_no_other():
    torch.manual_seed(0)
    encoder = PairwiseEncoder(6, ("text", "audio", "vision"), lambda _: PLAIN, PLAIN)
    found = {}
    for target, stacks in encoder.crossmodal.items():
        for source, one in stacks.items():
            one.register_forward_hook(lambda *seen, key=(target, source): found.setdefault(key, []).append(seen[2]))
    streams = {modality: torch.randn(1, 3, 6) for modality in encoder.memory}
    for values in (streams, streams | {"audio": streams["audio"].roll(1, -1)}):
        encoder(values, dict.fromkeys(streams, real(3)))
    changed = {key for key, (before, after) in found.items() if not torch.equal(before, after)}
    assert changed == {("text", "audio"), ("vision", "audio"), ("audio", "text"), ("audio", "vision")}
