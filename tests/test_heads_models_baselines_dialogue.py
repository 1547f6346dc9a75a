"""Utterances as sequences and back, and the layers over them, each beside an independent reference."""

import pytest
import torch
from batches import DIMS, random_batch, select
from hypothesis import given
from hypothesis import strategies as st
from test_heads_models_parts_layers import torch_attention
from torch import Tensor, nn

from data.tensors import Batch
from heads.models.baselines._dialogue import (
    GraphAttention,
    GRUCell,
    RelationalConvolution,
    UtteranceEncoder,
    by_utterance,
    by_video,
    heads_for,
    inter_modal_attention,
    real,
    utterances,
)

POSITIONS = torch.tensor([[3, 0, 2], [1, -1, -1]])


def in_videos(*sizes: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Batch:
    """A batch of videos with these numbers of utterances, whose rows are in no order."""
    count = sum(sizes)
    rows = iter(torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist())
    dialogue = torch.tensor([[next(rows) if step < size else -1 for step in range(max(sizes))] for size in sizes])
    lengths = {"text": [1 + row % 4 for row in range(count)], "audio": [2 + row % 5 for row in range(count)]}
    return random_batch(lengths, seed=seed, dtype=dtype)._replace(dialogue=dialogue)


def only_video(batch: Batch, video: int) -> Batch:
    """One video of a batch, its utterances in their order."""
    rows = batch.dialogue[video][real(batch.dialogue[video])]
    return select(batch, *rows.tolist())._replace(dialogue=torch.arange(len(rows))[None])


def changed(batch: Batch, modality: str, *rows: int, by: float = 1.0) -> Batch:
    """The batch with other features of a modality, in these rows or in all of them."""
    where = torch.isin(torch.arange(len(batch.index)), torch.tensor(rows)) if rows else torch.ones(len(batch.index), dtype=torch.bool)
    moved = batch.features[modality] + by * where[:, None, None] * torch.arange(batch.features[modality].shape[-1]).remainder(3)
    return batch._replace(features={**batch.features, modality: moved})


def graph(nodes: int, seed: int = 0) -> Tensor:
    """(2, n, n) random links, of which each node has one to itself."""
    chance = torch.rand(2, nodes, nodes, generator=torch.Generator().manual_seed(seed))
    return (chance > 0.5) | torch.eye(nodes, dtype=torch.bool)


@pytest.fixture
def nodes() -> Tensor:
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_rows_become_sequences_with_zeros_in_the_padding():
    vectors = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    assert real(POSITIONS).tolist() == [[True, True, True], [True, False, False]]
    assert by_video(vectors, POSITIONS).squeeze(-1).tolist() == [[4, 1, 3], [2, 0, 0]]


def test_padding_does_not_take_up_a_value_that_is_not_finite():
    assert by_video(torch.tensor([[torch.nan], [2.0], [3.0], [4.0]]), POSITIONS)[1].squeeze(-1).tolist() == [2, 0, 0]


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_going_there_and_back_changes_nothing(sizes, seed):
    dialogue, count = in_videos(*sizes, seed=seed).dialogue, sum(sizes)
    vectors = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(by_utterance(by_video(vectors, dialogue), dialogue, count), vectors)


def test_what_stands_in_the_padding_does_not_come_back():
    values = torch.tensor([[10.0, 11, 12], [13, torch.nan, torch.nan]])
    assert by_utterance(values, POSITIONS, 4).tolist() == [11, 13, 12, 10]


def test_an_utterance_is_the_mean_over_its_real_steps():
    batch = in_videos(2, 1)
    found = utterances(batch, "text")
    for video, step in ((0, 0), (0, 1), (1, 0)):
        row = batch.dialogue[video, step]
        torch.testing.assert_close(found[video, step], batch.features["text"][row][batch.masks["text"][row]].mean(0))
    assert found[1, 1].tolist() == [0] * DIMS["text"]


def test_a_gru_cell_equals_torchs():
    torch.manual_seed(0)
    ours, theirs = GRUCell(4, 3), nn.GRUCell(4, 3)
    theirs.load_state_dict(ours.state_dict())
    inputs, state = torch.randn(5, 4), torch.randn(5, 3)
    torch.testing.assert_close(ours(inputs, state), theirs(inputs, state))


def test_what_a_gru_cell_does_not_see_of_its_state_is_still_carried_over():
    torch.manual_seed(0)
    cell, inputs, state = GRUCell(4, 3), torch.randn(5, 4), torch.randn(5, 3)
    blind, empty = cell(inputs, state, torch.zeros_like(state)), torch.zeros_like(state)
    update = (inputs @ cell.weight_ih[3:6].T + cell.bias_ih[3:6] + cell.bias_hh[3:6]).sigmoid()
    torch.testing.assert_close(blind, cell(inputs, empty) + update * state)


def test_inter_modal_attention_is_the_formula_without_the_padding():
    x, y = (torch.randn(1, 3, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    x[:, 2], y[:, 2] = 1e3, 1e3
    found = inter_modal_attention(x, y, torch.tensor([[True, True, False]]))[0, :2]
    x, y = x[0, :2], y[0, :2]
    weights = (x @ y.T).exp() / (x @ y.T).exp().sum(1, keepdim=True)
    torch.testing.assert_close(found, weights @ y * x)


def test_inter_modal_attention_of_a_single_utterance_is_the_product():
    x, y = torch.tensor([[[2.0, -3.0]]]), torch.tensor([[[5.0, 7.0]]])
    assert inter_modal_attention(x, y, torch.tensor([[True]])).tolist() == [[[10, -21]]]


def test_the_encoder_equals_torchs_layers():
    torch.manual_seed(0)
    inputs, mask = torch.randn(2, 4, 14, dtype=torch.float64), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    ours = UtteranceEncoder(14, 2, None, 16, 0.5).double().eval()
    assert {norm.eps for norm in ours.modules() if isinstance(norm, nn.LayerNorm)} == {1e-5}
    expected = inputs
    for layer in ours.layers:
        theirs = nn.TransformerEncoderLayer(14, 7, 16, 0.5, batch_first=True, dtype=torch.float64).eval()
        theirs.self_attn = torch_attention(layer.attend).eval()
        theirs.norm1, theirs.norm2 = layer.after_attend.norm, layer.after_feed_forward.norm
        theirs.linear1, theirs.linear2 = layer.feed_forward[0], layer.feed_forward[-1]
        expected = theirs(expected, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours(inputs, mask)[mask], expected[mask], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dim", "heads"), [(1536, 8), (768, 8), (1443, 13), (700, 7), (12, 12), (17, 1), (10, 10), (6, 6), (51, 3)])
def test_the_number_of_attention_heads_follows_from_the_width(dim, heads):
    assert heads_for(dim) == heads


def test_relational_convolution_is_the_sum_of_means_over_each_relation(nodes):
    torch.manual_seed(0)
    module, links = RelationalConvolution(4, 3, 2).double(), (graph(5), graph(5, seed=1))
    found = module(nodes, links)
    for video in range(2):
        for i in range(5):
            expected = module.own(nodes[video, i])
            for layer, linked in zip(module.messages, links, strict=True):
                read = [layer.weight @ nodes[video, j] for j in range(5) if linked[video, i, j]]
                expected = expected + sum(read) / len(read)
            torch.testing.assert_close(found[video, i], expected)


def test_doubling_the_nodes_that_are_read_leaves_the_convolution_unchanged(nodes):
    torch.manual_seed(0)
    module, linked = RelationalConvolution(4, 3, 1).double(), graph(5)
    doubled = module(torch.cat([nodes, nodes], 1), [linked.repeat(1, 2, 2)])[:, :5]
    torch.testing.assert_close(doubled, module(nodes, [linked]))


def test_a_node_without_links_keeps_its_own_part(nodes):
    module = RelationalConvolution(4, 3, 1).double()
    assert torch.equal(module(nodes, [torch.zeros(2, 5, 5, dtype=torch.bool)]), module.own(nodes))


@pytest.mark.parametrize("heads", [1, 3])
def test_graph_attention_is_the_formula_for_each_head(nodes, heads):
    torch.manual_seed(0)
    module, linked = GraphAttention(4, 2, heads).double(), graph(5)
    found = module(nodes, linked)
    assert found.shape == (2, 5, 2 * heads)
    for head in range(heads):
        part = slice(2 * head, 2 * head + 2)
        own, query, key, value = (layer.weight[part] for layer in (module.own, module.query, module.key, module.value))
        for i in range(5):
            read = nodes[1][linked[1, i]]
            weights = ((query @ nodes[1, i] + module.query.bias[part]) @ (key @ read.T) / 2**0.5).softmax(0)
            assert weights.sum().item() == pytest.approx(1)
            expected = own @ nodes[1, i] + weights @ (read @ value.T)
            torch.testing.assert_close(found[1, i, part], expected)


def test_graph_attention_to_identical_nodes_returns_their_value():
    """Weights over neighbours sum to 1, however many there are."""
    module, nodes = GraphAttention(4, 2, 1), torch.ones(1, 5, 4)
    expected = module.own(nodes) + module.value(nodes)
    torch.testing.assert_close(module(nodes, graph(5)[:1]), expected)
