"""CORECT: its relations, its graph beside loops over edges, videos that keep to themselves, a network for each emotion."""

import dataclasses

import pytest
import torch
from batches import DIMS, random_batch, select
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from data.errors import InputError
from data.labels import EMOTIONS
from data.tensors import Batch
from heads.models.base import HeadOutput
from heads.models.baselines._dialogue import real
from heads.models.baselines.corect import CORECT, CORECTOptions, TemporalGraph, relations

SMALL = CORECTOptions(width=4, text_layers=1, text_ffn=5, past=2, future=2, graph_heads=3, crossmodal_layers=1, memory_layers=1)
LAYOUT = torch.tensor([[0, 1, 2, 3], [4, 5, -1, -1]])
LENGTHS = {"text": (5, 3, 4, 1, 2, 3), "audio": (9, 12, 7, 3, 1, 4)}


def make(task="msa", dims=DIMS, **changes):
    torch.manual_seed(0)
    return CORECT(dataclasses.replace(SMALL, **changes), dims, task).eval()


def dialogues(layout=LAYOUT, dims=DIMS):
    lengths = LENGTHS if set(dims) == set(DIMS) else dict.fromkeys(dims, LENGTHS["text"])
    return random_batch(lengths, dims)._replace(dialogue=layout)


def joined(output: HeadOutput) -> torch.Tensor:
    return torch.cat([value.flatten(1) if value.dim() > 1 else value[:, None] for value in output[:2] if value is not None], 1)


def hears(links, receiver, utterances=7):
    """Offsets from utterance `receiver` of the first modality to those of it that it hears."""
    return [int(place) - receiver for place in links[0, receiver, :utterances].nonzero().flatten()]


@pytest.mark.parametrize(("modalities", "count"), [(2, 8), (3, 15)])
def test_relations_are_three_a_modality_and_one_for_each_ordered_pair(modalities, count):
    links = relations(real(LAYOUT), modalities, 2, 1)
    assert len(links) == count
    dims = dict(zip(("text", "audio", "vision"), (8, 8, 8), strict=True)) if modalities == 3 else DIMS
    assert len(make(dims=dims).networks["all"].graph.convolve.messages) == count
    counts = [int(one[0].sum()) for one in links]  # of the video of four utterances
    assert counts == [3 + 2, 3, 4] * modalities + [4] * (modalities * (modalities - 1))
    assert int(torch.stack(links).sum(0).max()) == 1


def test_a_node_never_hears_another_modality_of_another_time():
    links = torch.stack(relations(real(LAYOUT), 3, 2, 1)).any(0).unflatten(1, (3, 4)).unflatten(3, (3, 4))
    for hearing in range(3):
        for heard in range(3):
            at = links[0, hearing, :, heard].nonzero().tolist()
            assert (max(abs(i - j) for i, j in at) == 0) == (hearing != heard)
            assert {i for i, _ in at} == {0, 1, 2, 3}


def test_padding_is_heard_by_itself_alone():
    links = torch.stack(relations(real(LAYOUT), 2, 2, 2)).any(0)[1].unflatten(0, (2, 4)).unflatten(2, (2, 4))
    for steps in (links[:, :2, :, 2:], links[:, 2:, :, :2]):
        assert not steps.any()
    assert torch.equal(links[:, 2:, :, 2:].flatten(2).flatten(0, 1), torch.eye(4, dtype=torch.bool))


@pytest.mark.parametrize(("direction", "offsets"), [("code", [-1, 0, 1, 2, 3]), ("paper", [-3, -2, -1, 0, 1, 2])])
def test_the_window_is_that_of_the_paper_or_the_reverse_of_it_in_the_code(direction, offsets):
    """wp = 3, wf = 2: in the code a node hears wf - 1 before it and wp after it."""
    graph = make(past=3, future=2, direction=direction).networks["all"].graph
    seen = []
    graph.attend.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    graph(torch.randn(1, 2, 7, 4), torch.ones(1, 7, dtype=torch.bool))
    assert hears(seen[0], 3) == offsets
    assert hears(seen[0], 0) == [offset for offset in offsets if offset >= 0]


def graph_by_edges(graph: TemporalGraph, nodes: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """(M, L, d) of one video → (M, L, heads · d), edge by edge."""
    modalities, length, _ = nodes.shape
    pairs = [(m, n) for m in range(modalities) for n in range(modalities) if m != n]
    convolved = torch.empty_like(nodes)
    edges = {}
    for m in range(modalities):
        for i in range(length):
            heard = {3 * m: range(max(0, i - before), i), 3 * m + 1: range(i + 1, min(length, i + after + 1)), 3 * m + 2: [i]}
            heard = {relation: [(m, j) for j in places] for relation, places in heard.items()}
            heard |= {3 * modalities + pairs.index((m, n)): [(n, i)] for n in range(modalities) if n != m}
            edges[m, i] = [node for places in heard.values() for node in places]
            convolved[m, i] = graph.convolve.own(nodes[m, i])
            for relation, places in heard.items():
                for place in places:
                    convolved[m, i] += graph.convolve.messages[relation](nodes[place]) / len(places)
    attend, result = graph.attend, []
    for node, heard in edges.items():
        query = attend.query(convolved[node]).view(attend.heads, -1)
        keys, values = (
            torch.stack([layer(convolved[j]) for j in heard]).view(len(heard), attend.heads, -1) for layer in (attend.key, attend.value)
        )
        weights = ((query * keys).sum(-1) / query.shape[-1] ** 0.5).softmax(0)
        result.append(attend.own(convolved[node]) + (weights.unsqueeze(-1) * values).sum(0).flatten())
    return torch.stack(result).unflatten(0, (modalities, length))


@torch.no_grad()
@pytest.mark.parametrize("modalities", [2, 3])
def test_the_graph_equals_loops_over_its_edges(modalities):
    torch.manual_seed(0)
    graph = TemporalGraph(dataclasses.replace(SMALL, direction="paper", past=2, future=1), modalities).double()
    nodes = torch.randn(2, modalities, 4, 4, dtype=torch.float64)
    found = graph(nodes, real(LAYOUT))
    for video, length in enumerate((4, 2)):
        torch.testing.assert_close(found[video, :, :length], graph_by_edges(graph, nodes[video, :, :length], 2, 1))


def test_widths_are_those_of_the_published_model_without_video():
    network = CORECT(CORECTOptions(text_layers=1, text_ffn=8), DIMS, "mer").networks["all"]
    assert network.norm.num_features == 700
    assert network.hidden[0].in_features == 1600
    assert network.outputs["mer"].in_features == 100


def test_the_classifier_reads_normed_nodes_and_crossmodal_streams_of_an_utterance():
    head, found = make(), {}
    network = head.networks["all"]
    for name in ("graph", "crossmodal"):
        getattr(network, name).register_forward_hook(lambda *call, name=name: found.update({name: call[2]}))
    network.hidden.register_forward_pre_hook(lambda _, inputs: found.update(hidden=inputs[0]))
    with torch.no_grad():
        network.norm.running_mean.normal_()
        network.norm.weight.normal_()
    head(dialogues())
    nodes = network.norm(found["graph"][1, :, 1])  # of the second utterance of the second video, which is the last of the batch
    nodes = torch.where(nodes < 0, 0.01 * nodes, nodes)
    crossed = [found["crossmodal"][modality][1, 1] for modality in ("text", "audio")]
    torch.testing.assert_close(found["hidden"][5], torch.cat([*nodes, *crossed]))


@pytest.mark.parametrize(("dims", "stacks"), [(DIMS, 2), ({**DIMS, "vision": 4}, 6)])
def test_crossmodal_stacks_are_one_for_each_ordered_pair_without_positions_or_a_causal_mask(dims, stacks):
    head = make(dims=dims)
    encoder = head.networks["all"].crossmodal
    crossmodal = [stack for parts in encoder.crossmodal.values() for stack in parts.values()]
    assert len(crossmodal) == stacks
    assert not any(stack.causal or stack.positions for stack in (*crossmodal, *encoder.memory.values()))
    assert joined(head(dialogues(dims=dims))).isfinite().all()


@pytest.mark.parametrize("task", ["msa", "mer", "both"])
@pytest.mark.parametrize("per_emotion", [False, True])
def test_predictions_stand_in_the_order_of_the_batch(task, per_emotion):
    head, batch = make(task, per_emotion=per_emotion), dialogues()
    expected = joined(head(batch))
    order = [4, 2, 0, 5, 1, 3]
    places = torch.tensor(order).argsort()
    mixed = select(batch, *order)._replace(dialogue=torch.where(LAYOUT < 0, -1, places[LAYOUT.clamp(min=0)]))
    torch.testing.assert_close(joined(head(mixed)), expected[order])


def test_batch_statistics_are_of_real_nodes_of_all_modalities():
    head, batch = make(text_dropout=0.0).train(), dialogues()
    network = head.networks["all"]
    graphs = []
    network.graph.register_forward_hook(lambda *call: graphs.append(call[2]))
    head(batch)
    nodes = graphs[0].transpose(1, 2)[real(LAYOUT)].flatten(0, 1)
    assert nodes.shape == (12, 12)
    torch.testing.assert_close(network.norm.running_mean, 0.1 * nodes.mean(0))
    torch.testing.assert_close(network.norm.running_var, 0.9 + 0.1 * nodes.var(0))


def test_videos_keep_to_themselves_and_the_order_in_them_matters():
    head, batch = make(), dialogues()
    together = joined(head(batch))
    alone = joined(head(select(batch, 4, 5)._replace(dialogue=torch.tensor([[0, 1]]))))
    torch.testing.assert_close(together[4:], alone, rtol=0, atol=1e-5)
    reordered = joined(head(batch._replace(dialogue=torch.tensor([[1, 0, 2, 3], [4, 5, -1, -1]]))))
    assert ((reordered - together)[:4].abs() > 1e-6).all()
    torch.testing.assert_close(reordered[4:], together[4:])


def test_an_utterance_hears_the_others_of_its_video_in_both_modalities():
    head, batch = make(), dialogues()
    before = joined(head(batch))
    for modality, features in batch.features.items():
        other = features.clone()
        other[3] = other[3].roll(1, -1)
        changed = (joined(head(batch._replace(features={**batch.features, modality: other}))) - before).abs().squeeze(-1) > 1e-7
        assert changed.tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize(("task", "names"), [("mer", EMOTIONS), ("both", ("msa", *EMOTIONS)), ("msa", ("msa",))])
def test_a_network_for_each_emotion_shares_nothing_with_the_others(task, names):
    head = make(task, per_emotion=True)
    assert list(head.networks) == list(names)
    output, batch = head(dialogues()), dialogues()
    for column, emotion in enumerate(EMOTIONS if task != "msa" else ()):
        alone = head.networks[emotion](batch)[emotion]
        torch.testing.assert_close(output.emotion_logits[:, column : column + 1], alone)
        gradients = torch.autograd.grad(output.emotion_logits[0, column], head.parameters(), retain_graph=True, allow_unused=True)
        learning = {
            name.split(".")[1]
            for (name, _), found in zip(head.named_parameters(), gradients, strict=True)
            if found is not None and found.any()
        }
        assert learning == {emotion}


def test_several_train_as_one_batched_model_running_statistics_included():
    batch = dialogues()
    heads = [make(text_dropout=0.0, classifier_dropout=0.0).train() for _ in range(2)]
    with torch.no_grad():
        for value in heads[1].parameters():
            value.add_(torch.randn_like(value) * 0.1)
    parameters, buffers = stack_module_state(heads)

    def sentiment(parameters, buffers, *parts):
        return functional_call(heads[0], (parameters, buffers), (Batch(*parts),)).sentiment

    stacked = [{m: torch.stack([x, x]) for m, x in part.items()} for part in batch[:2]]
    with sdpa_kernel(SDPBackend.MATH):
        found = vmap(sentiment)(parameters, buffers, *stacked, *(torch.stack([x, x]) for x in batch[2:]))
    for number, head in enumerate(heads):
        torch.testing.assert_close(found[number], head(batch).sentiment)
        for name, value in head.named_buffers():
            torch.testing.assert_close(buffers[name][number], value)


@pytest.mark.parametrize(
    ("dims", "changes", "message"),
    [
        ({"text": 8}, {}, r"^corect needs text and audio features, got text\.$"),
        (DIMS, {"direction": "both"}, r"^Unknown direction 'both'\."),
        (DIMS, {"future": -1}, r"^The window is 2 past and -1 future utterances, expected 0 or more of each\.$"),
        (DIMS, {"graph_heads": 0}, r"^graph_heads is 0, expected 1 or more\.$"),
        (DIMS, {"crossmodal_heads": 3}, "3 attention heads do not divide the width 4"),
    ],
)
def test_what_cannot_be_is_refused(dims, changes, message):
    with pytest.raises(InputError, match=message):
        make(dims=dims, **changes)
