"""Multilogue-Net: the cell beside PyTorch's, what each state depends on, and what its parts share."""

import copy

import pytest
import torch
from test_heads_models_baselines_dialogue import changed, in_videos, only_video
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from heads.models.baselines._dialogue import real, utterances
from heads.models.baselines.multilogue import Cell, History, Multilogue, MultilogueOptions, Network
from heads.models.parts.randomness import drawing_from

SMALL = {"state": 6, "emotion_state": 5}
DIMS = {"text": 8, "audio": 8}


def make(task: str = "both", seed: int = 0, dims: dict[str, int] = DIMS, **options: object) -> Multilogue:
    torch.manual_seed(seed)
    return Multilogue(MultilogueOptions(**{**SMALL, **options}), dims, task).eval()


def cell_of_torch(cell: Cell, context: Tensor, inputs: Tensor) -> Tensor:
    """The recurrence with PyTorch's cells, (L, Dc) and (L, D) of one video."""
    listen, speak, feel = (nn.GRUCell(ours.input_size, ours.hidden_size) for ours in (cell.listen, cell.speak, cell.feel))
    for theirs, ours in ((listen, cell.listen), (speak, cell.speak), (feel, cell.feel)):
        theirs.load_state_dict(ours.state_dict())
    heard, party, emotion = torch.zeros(1, 6), torch.zeros(1, 6), torch.zeros(1, 5)
    before, emitted = [], []
    for said, uttered in zip(context, inputs, strict=True):
        summary = torch.zeros(6)
        if before:
            scores = torch.stack([cell.attend.weight[0] @ past for past in before])
            summary = sum(weight * past for weight, past in zip(scores.softmax(0), before, strict=True))
        heard = listen(torch.cat([said, party[0]])[None], heard)
        party = speak(torch.cat([uttered, summary])[None], party)
        emotion = feel(party, emotion)
        before.append(heard[0])
        emitted.append(emotion[0])
    return torch.stack(emitted)


def test_the_cell_is_the_recurrence_with_torchs_cells():
    torch.manual_seed(0)
    cell = Cell(MultilogueOptions(**SMALL), 8, 4).eval()
    context, inputs = torch.randn(2, 5, 8), torch.randn(2, 5, 4)
    found = cell(context, inputs)
    for video in range(2):
        torch.testing.assert_close(found[video], cell_of_torch(cell, context[video], inputs[video]))


def test_nothing_was_said_before_the_first_utterance():
    """c_1 = 0: neither the context nor the global state has a part in the first emotion state, but both have in the second."""
    torch.manual_seed(0)
    cell = Cell(MultilogueOptions(**SMALL), 8, 4).eval()
    context, inputs = torch.randn(1, 2, 8), torch.randn(1, 2, 4)
    difference = cell(context + 1, inputs) - cell(context, inputs)
    assert torch.equal(difference[:, 0], torch.zeros(1, 5))
    assert (difference[:, 1].abs() > 1e-6).all()


def test_the_text_is_the_context_of_every_modality():
    batch, network = in_videos(3, 3), make("mer").networks["mer"][0]
    mask = real(batch.dialogue)

    def states(batch, modality):
        return network.readers[modality](utterances(batch, "text"), utterances(batch, modality), mask)

    assert (states(changed(batch, "text"), "audio") - states(batch, "audio")).abs().max() > 1e-4
    assert torch.equal(states(changed(batch, "audio"), "text"), states(batch, "text"))


@pytest.mark.parametrize(("task", "looks_ahead"), [("mer", True), ("msa", False)])
def test_the_last_utterance_changes_the_first_ones_state_for_emotions_alone(task, looks_ahead):
    batch = in_videos(4)
    other = changed(batch, "audio", int(batch.dialogue[0, -1]))
    reader, mask = make(task).networks[task][0].readers["audio"], real(batch.dialogue)
    first, second = (reader(utterances(one, "text"), utterances(one, "audio"), mask) for one in (batch, other))
    assert ((first[:, 0] - second[:, 0]).abs().max() > 1e-6).item() == looks_ahead
    assert (first[:, -1] - second[:, -1]).abs().max() > 1e-4


def test_a_network_is_attention_of_each_pair_and_the_hidden_states():
    batch, network = in_videos(3), make("mer").networks["mer"][0]
    inputs, mask = {m: utterances(batch, m) for m in DIMS}, real(batch.dialogue)
    x, y = (network.hidden(network.readers[m](inputs["text"], inputs[m], mask)).relu()[0] for m in DIMS)
    expected = torch.cat([(x @ y.T).softmax(1) @ y * x, (y @ x.T).softmax(1) @ x * y, x, y], 1) @ network.out.weight.T
    torch.testing.assert_close(network(inputs, mask)[0], expected + network.out.bias)


def test_sentiment_has_no_activation_and_stays_in_its_range():
    batch, head = in_videos(3), make("msa")
    network, mask = head.networks["msa"][0], real(batch.dialogue)
    inputs = {m: utterances(batch, m) for m in DIMS}
    x, y = (network.hidden(network.readers[m](inputs["text"], inputs[m], mask))[0] for m in DIMS)
    fused = torch.cat([(x @ y.T).softmax(1) @ y * x, (y @ x.T).softmax(1) @ x * y, x, y], 1)
    expected = 3 * network.out(fused).tanh().squeeze(1)
    torch.testing.assert_close(head(batch).sentiment[batch.dialogue[0]], expected)
    with torch.no_grad():
        network.out.bias.fill_(50)
    assert head(batch).sentiment.tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("task", "modalities", "width"), [("mer", 2, 800), ("mer", 3, 1800), ("msa", 2, 400)], ids=["emotions", "three", "sentiment"]
)
def test_the_width_before_the_output_is_the_originals(task, modalities, width):
    dims = dict(zip(("text", "audio", "vision"), (768, 768, 35), strict=True))
    network = Network(MultilogueOptions(), {m: dims[m] for m in list(dims)[:modalities]}, task, 1)
    assert network.out.in_features == width
    assert network.hidden.in_features == network.hidden.out_features == (200 if task == "mer" else 100)


def test_parameters_of_the_original_size():
    cell = 3 * 150 * (918 + 150 + 2) * 2 + 150 + 3 * 100 * (150 + 100 + 2)
    emotions = 4 * cell + 200 * 201 + 801 * 6
    sentiment = 2 * cell + 100 * 101 + 401
    head = Multilogue(MultilogueOptions(), {"text": 768, "audio": 768}, "both")
    assert sum(parameter.numel() for parameter in head.parameters()) == emotions + sentiment == 6_288_007


def test_tasks_share_nothing():
    head = make()
    head(in_videos(4, 2)).sentiment.sum().backward()
    reached = {name for name, p in head.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in head.named_parameters() if name.startswith("networks.msa.")}


def test_each_emotion_has_a_network_of_its_own_if_asked_for():
    head = make("mer", per_emotion=True)
    assert len(head.networks["mer"]) == 6
    logits = head(in_videos(3, 2)).emotion_logits
    assert logits.shape == (5, 6)
    logits[:, 4].sum().backward()
    reached = {name for name, p in head.named_parameters() if p.grad.abs().max() > 0}
    assert reached == {name for name, _ in head.named_parameters() if name.startswith("networks.mer.4.")}


def test_dropout_does_not_depend_on_the_other_videos_in_the_batch():
    batch, head = in_videos(2, 5), make().train()
    with drawing_from(torch.tensor(1)):
        together = head(batch)
    with drawing_from(torch.tensor(1)):
        alone = head(only_video(batch, 0))
    torch.testing.assert_close(alone.emotion_logits, together.emotion_logits[batch.dialogue[0, :2]])
    assert not torch.allclose(alone.emotion_logits, head.eval()(only_video(batch, 0)).emotion_logits)


def test_a_pack_trains_each_head_as_if_it_were_alone():
    batch, heads = in_videos(3, 2), [make(seed=seed, state_dropout=rate).train() for seed, rate in enumerate((0.1, 0.3))]
    base = copy.deepcopy(heads[0])

    def loss(call, key):
        with drawing_from(key):
            output = call()
        return output.sentiment.square().sum() + output.emotion_logits.square().sum()

    def run(parameters, buffers, key):
        return loss(lambda: functional_call(base, (parameters, buffers), (batch,)), key)

    gradients = vmap(grad(run), randomness="error")(*stack_module_state(heads), torch.tensor([5, 6]))
    for number, head in enumerate(heads):
        loss(lambda head=head: head(batch), torch.tensor(5 + number)).backward()
        for name, parameter in head.named_parameters():
            torch.testing.assert_close(gradients[name][number], parameter.grad, rtol=1e-3, atol=1e-5)


def test_the_history_is_a_softmax_of_scores_that_would_overflow():
    scores, states = torch.tensor([800.0, -900.0, 801.0, 799.5]).double(), torch.eye(4).double()
    history = History(states[:1])
    found = [history.add(score.view(1, 1), state[None]) for score, state in zip(scores, states, strict=True)]
    for number, mean in enumerate(found, 1):
        torch.testing.assert_close(mean[0, :number], scores[:number].softmax(0))
