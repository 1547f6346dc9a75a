"""Shared building blocks, each beside what it must equal."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from data.errors import InputError
from heads.models.parts.layers import (
    Attention,
    FeedForward,
    OutputLayers,
    PostNorm,
    last_step,
    masked_mean,
    pool_steps,
    projection,
    reverse,
    stacked,
    zero_padding,
)
from heads.models.parts.randomness import Dropout, drawing_from

MASK = torch.tensor([[True, True, False], [True, False, False]])


def torch_attention(ours: Attention, dropout: float = 0.0) -> nn.MultiheadAttention:
    """PyTorch's, with the weights of ours."""
    dim = ours.query.in_features
    theirs = nn.MultiheadAttention(dim, ours.heads, dropout, batch_first=True, dtype=ours.query.weight.dtype)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    return theirs


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return torch.randn(2, 4, 12, dtype=torch.float64), torch.randn(2, 3, 12, dtype=torch.float64)


def test_padding_becomes_zero_whatever_stood_there():
    values = torch.ones(2, 3, 2).masked_fill(~MASK.unsqueeze(-1), torch.nan)
    assert zero_padding(values, MASK).sum(-1).tolist() == [[2, 2, 0], [2, 0, 0]]


def test_the_last_real_step_is_taken():
    values = torch.arange(12.0).view(2, 3, 2)
    assert last_step(values, MASK).tolist() == [[2, 3], [6, 7]]


def test_real_steps_are_reversed_and_padding_stays():
    values, mask = torch.tensor([[1.0, 2, 3], [4, 5, 9], [6, 9, 9]])[..., None], torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]]).bool()
    assert reverse(values, mask).squeeze(-1).tolist() == [[3, 2, 1], [5, 4, 9], [6, 9, 9]]


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_reversing_twice_is_the_identity(sizes):
    mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    values = torch.randn(*mask.shape, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(reverse(reverse(values, mask), mask), values)


def test_a_projection_is_nothing_where_the_widths_are_equal():
    assert isinstance(projection(3, 3), nn.Identity)
    assert projection(3, 5)(torch.zeros(2, 4, 3)).shape == (2, 4, 5)


def test_the_masked_mean_counts_real_steps_alone():
    values = torch.tensor([[[1.0], [3.0], [torch.nan]], [[5.0], [7.0], [9.0]]])
    assert masked_mean(values, MASK).tolist() == [[2], [5]]


def test_the_masked_mean_of_nothing_is_zero():
    assert masked_mean(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("heads", [1, 3, 12])
def test_attention_equals_torchs(inputs, heads):
    queries, source = inputs
    ours = Attention(12, heads, 0.3).double().eval()
    theirs, _ = torch_attention(ours).eval()(queries, source, source, key_padding_mask=~MASK)
    torch.testing.assert_close(ours(queries, source, MASK), theirs, rtol=0, atol=1e-12)


def test_attention_with_dropout_has_torchs_gradients_when_nothing_is_dropped(inputs):
    """At a rate too small to drop anything, training takes the path with dropout, which must equal the fused kernel."""
    queries, source = inputs
    ours = Attention(12, 3, 1e-15).double().train()
    theirs = torch_attention(ours)
    with drawing_from(torch.tensor(0)):
        found = ours(queries, source, MASK)
    expected, _ = theirs(queries, source, source, key_padding_mask=~MASK)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(found, ours.eval()(queries, source, MASK), rtol=0, atol=1e-12)
    found.square().sum().backward()
    expected.square().sum().backward()
    gradients = [layer.weight.grad for layer in (ours.query, ours.key, ours.value)]
    torch.testing.assert_close(torch.cat(gradients), theirs.in_proj_weight.grad, rtol=0, atol=1e-12)


def test_attention_drops_probabilities_and_scales_the_others(inputs):
    """With the identity as output and a source of ones in every value, a read is the sum of the probabilities that are kept."""
    attention = Attention(12, 3, 0.5).train()
    with torch.no_grad():
        attention.value.weight.zero_()
        attention.value.bias.fill_(1)
        attention.out.weight.copy_(torch.eye(12))
        attention.out.bias.zero_()
    with drawing_from(torch.tensor(0)):
        reads = attention(torch.randn(2000, 4, 12), torch.randn(2000, 3, 12), torch.ones(2000, 3, dtype=torch.bool))
    assert reads.mean().item() == pytest.approx(1, abs=0.02)
    assert reads.std() > 0.3
    assert torch.equal(reads.unflatten(-1, (3, 4)).std(-1), torch.zeros(2000, 4, 3))


@pytest.mark.parametrize("training", [False, True])
def test_attention_does_not_read_padding(inputs, training):
    queries, source = inputs
    attention = Attention(12, 3, 0.3).double().train(training)

    def read(value):
        with drawing_from(torch.tensor(0)):
            return attention(queries, source.masked_fill(~MASK.unsqueeze(-1), value), MASK)

    assert torch.equal(read(0.0), read(1e3))


@pytest.mark.parametrize("heads", [5, 0, -3])
def test_attention_heads_must_divide_the_width(heads):
    with pytest.raises(InputError, match=rf"^{heads} attention heads do not divide the width 12\. Choose a divisor of 12\.$"):
        Attention(12, heads, 0.0)


def test_post_norm_normalises_the_sum():
    layer = PostNorm(8, 0.3).eval()
    inputs, added = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    total = inputs + added
    expected = (total - total.mean(-1, keepdim=True)) / (total.var(-1, correction=0, keepdim=True) + 1e-12).sqrt()
    torch.testing.assert_close(layer(inputs, added), expected)


def test_post_norm_drops_from_what_is_added_alone():
    layer = PostNorm(8, 0.5).train()
    inputs = torch.randn(4, 8)
    with drawing_from(torch.tensor(0)):
        untouched = layer(inputs, torch.zeros(4, 8))
    torch.testing.assert_close(untouched, layer.norm(inputs))


def test_feed_forward_is_linear_relu_linear():
    layer, inputs = FeedForward(4, 6), torch.randn(3, 4)
    by_hand = (inputs @ layer[0].weight.T + layer[0].bias).clamp(min=0) @ layer[2].weight.T + layer[2].bias
    torch.testing.assert_close(layer(inputs), by_hand)


@pytest.mark.parametrize(("hidden", "linear"), [((768, 512), [(1536, 768), (768, 512), (512, 6)]), ((), [(1536, 6)])])
def test_output_layers_go_through_their_hidden_widths(hidden, linear):
    layers = OutputLayers(1536, hidden, 6, 0.3)
    assert isinstance(layers[0], Dropout)
    assert [(m.in_features, m.out_features) for m in layers if isinstance(m, nn.Linear)] == linear
    assert sum(isinstance(layer, nn.ReLU) for layer in layers) == len(hidden)
    assert not isinstance(layers[-1], nn.ReLU)


def test_steps_are_averaged_over_the_real_ones_of_each_few():
    values = torch.arange(1.0, 6.0).view(1, 5, 1)
    for mask, means, real in (
        ([True] * 5, [1.5, 3.5, 5], [True, True, True]),
        ([True] * 3 + [False] * 2, [1.5, 3, 0], [True, True, False]),
    ):
        pooled, left = pool_steps(values, torch.tensor([mask]), 2)
        assert (pooled.flatten().tolist(), left[0].tolist()) == (means, real)


def test_averaging_single_steps_changes_nothing():
    values = torch.randn(2, 3, 4)
    assert pool_steps(values, MASK, 1) == (values, MASK)


def test_averaged_steps_do_not_depend_on_padding():
    torch.manual_seed(0)
    values = torch.randn(2, 3, 4)
    garbage = values.masked_fill(~MASK.unsqueeze(-1), torch.nan)
    (expected, _), (found, _) = pool_steps(values, MASK, 2), pool_steps(garbage, MASK, 2)
    assert torch.equal(found, expected)


def test_stacked_modules_are_numbered_from_one():
    assert [layer.out_features for layer in stacked(3, "layers", lambda number: nn.Linear(1, number))] == [1, 2, 3]
    with pytest.raises(InputError, match="blocks is 0, expected 1 or more"):
        stacked(0, "blocks", lambda _: nn.Identity())
