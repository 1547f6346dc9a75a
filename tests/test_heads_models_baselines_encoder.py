"""Layers that several baselines share equal PyTorch's own modules with the same weights."""

import pytest
import torch
from batches import random_batch
from test_heads_models_parts_layers import torch_attention
from torch import nn
from torch.nn.utils import rnn

from heads.models.baselines._encoder import TORCH_EPSILON, EncoderLayer, LinearOutputs, SequenceLSTM

DIM = 12


@pytest.fixture
def audio() -> tuple[torch.Tensor, torch.Tensor]:
    batch = random_batch(dims={"text": DIM, "audio": DIM}, dtype=torch.float64)
    return batch.features["audio"], batch.masks["audio"]


def torch_layer(ours: EncoderLayer, activation: str) -> nn.TransformerEncoderLayer:
    first, _, _, second = ours.feed_forward
    theirs = nn.TransformerEncoderLayer(
        DIM,
        ours.attend.heads,
        first.out_features,
        0.0,
        activation,
        layer_norm_eps=ours.after_attend.norm.eps,
        batch_first=True,
        dtype=torch.float64,
    )
    theirs.self_attn = torch_attention(ours.attend)
    parts = (theirs.linear1, first), (theirs.linear2, second), (theirs.norm1, ours.after_attend.norm)
    for target, source in (*parts, (theirs.norm2, ours.after_feed_forward.norm)):
        target.load_state_dict(source.state_dict())
    return theirs.train()  # without dropout the same as evaluation, which would take a kernel with limits of its own


@pytest.mark.parametrize(("activation", "name", "epsilon"), [(nn.GELU, "gelu", 1e-12), (nn.ReLU, "relu", TORCH_EPSILON)])
def test_a_layer_equals_torchs(audio, activation, name, epsilon):
    inputs, mask = audio
    layer = EncoderLayer(DIM, 3, 16, 0.2, activation, 0.2, epsilon).double().eval()
    assert layer.after_attend.norm.eps == layer.after_feed_forward.norm.eps == epsilon
    nn.init.normal_(layer.after_attend.norm.weight)
    expected = torch_layer(layer, name)(inputs, src_key_padding_mask=~mask)
    torch.testing.assert_close(layer(inputs, mask)[mask], expected[mask], rtol=0, atol=1e-12)


def test_the_first_step_alone_is_that_of_the_whole(audio):
    layer = EncoderLayer(DIM, 3, 16, 0.0).double()
    first = layer(*audio, only_first=True)
    assert first.shape == (3, 1, DIM)
    torch.testing.assert_close(first, layer(*audio)[:, :1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_the_inner_dropout_is_that_of_the_feed_forward_network(audio, rate):
    layer = EncoderLayer(DIM, 3, 16, 0.0, inner_dropout=rate).double()
    inner = layer.feed_forward(audio[0])
    assert torch.equal(inner, layer.eval().feed_forward(audio[0])) == (rate == 0)
    assert torch.equal(layer.train()(*audio), layer.eval()(*audio)) == (rate == 0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_lstm_reads_each_utterance_as_if_it_were_alone(audio, bidirectional):
    inputs, mask = audio
    layer = SequenceLSTM(DIM, 4, bidirectional).double()
    steps, last = layer(inputs.masked_fill(~mask.unsqueeze(-1), 1e3), mask)
    assert not steps[~mask].any()
    for row, length in enumerate(mask.sum(1)):
        expected, (state, _) = layer.lstm(inputs[row, :length])
        torch.testing.assert_close(steps[row, :length], expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(last[row], state.flatten(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_lstm_equals_torchs_on_packed_sequences(audio, bidirectional):
    inputs, mask = audio
    layer = SequenceLSTM(DIM, 4, bidirectional).double()
    packed = rnn.pack_padded_sequence(inputs, mask.sum(1), batch_first=True, enforce_sorted=False)
    outputs, (state, _) = layer.lstm(packed)
    expected = rnn.pad_packed_sequence(outputs, batch_first=True, total_length=mask.shape[1])[0], state.transpose(0, 1).flatten(1)
    found = layer(inputs, mask)
    weights = [torch.randn_like(one) for one in expected]
    gradients = [
        torch.autograd.grad(sum((one * weight).sum() for one, weight in zip(pair, weights, strict=True)), list(layer.parameters()))
        for pair in (found, expected)
    ]
    for ours, theirs in zip((*found, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_what_stands_in_the_padding_changes_no_gradient_of_an_lstm(audio):
    inputs, mask = audio
    layer = SequenceLSTM(DIM, 4, bidirectional=True).double()
    clean, dirty = (
        torch.autograd.grad(layer(inputs.masked_fill(~mask.unsqueeze(-1), value), mask)[1].sum(), list(layer.parameters()))
        for value in (0.0, torch.nan)
    )
    assert all(torch.equal(*pair) for pair in zip(clean, dirty, strict=True))


def test_outputs_are_one_linear_layer_a_task():
    layers, inputs = LinearOutputs(DIM, {"msa": 1, "mer": 6}), torch.randn(3, DIM)
    found = layers(inputs)
    assert {task: values.shape for task, values in found.items()} == {"msa": (3, 1), "mer": (3, 6)}
    for task, values in found.items():
        torch.testing.assert_close(values, inputs @ layers[task].weight.t() + layers[task].bias)
