"""MTL (Akhtar et al.): its encoder beside PyTorch's GRU, the classes and the seventh label, and what the tasks share."""

import copy

import pytest
import torch
from batches import DIMS
from test_heads_models_baselines_dialogue import in_videos, only_video
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from data.errors import InputError
from data.tensors import Batch
from heads.models.base import HeadOutput
from heads.models.baselines._dialogue import by_utterance, real, utterances
from heads.models.baselines.mtl import GRU, MTL, Encoder, MTLOptions
from heads.models.parts.randomness import drawing_from

SMALL = {"gru": 5, "dim": 4}
DRY = {"input_dropout": 0.0, "recurrent_dropout": 0.0, "hidden_dropout": 0.0}


def make(task: str = "both", seed: int = 0, dims: dict[str, int] = DIMS, **options: object) -> MTL:
    torch.manual_seed(seed)
    return MTL(MTLOptions(**{**SMALL, **options}), dims, task).eval()


def fused(head: MTL, batch: Batch) -> Tensor:
    """Compute the input (B, 4 · d) of the output layers, written out video by video."""
    mask = real(batch.dialogue)
    encoded = [head.encoders[m](utterances(batch, m), mask) for m in DIMS]
    parts = torch.zeros(*mask.shape, 4 * SMALL["dim"])
    for video, steps in enumerate(mask.sum(1).tolist()):
        x, y = (states[video, :steps] for states in encoded)
        parts[video, :steps] = torch.cat([(x @ y.T).softmax(1) @ y * x, (y @ x.T).softmax(1) @ x * y, x, y], 1)
    return by_utterance(parts, batch.dialogue, len(batch.index))


def layer(head: MTL, task: str, rows: Tensor) -> Tensor:
    return functional.linear(rows, head.outputs[task].weight, head.outputs[task].bias)


def labelled(batch: Batch, sentiment: list[float], emotions: list[list[float]]) -> Batch:
    return batch._replace(sentiment=torch.tensor(sentiment), emotions=torch.tensor(emotions))


def test_the_encoder_is_torchs_gru_in_both_directions_and_a_layer():
    torch.manual_seed(0)
    ours, theirs = Encoder(MTLOptions(**SMALL), 3).eval(), nn.GRU(3, 5, batch_first=True, bidirectional=True)
    for suffix, one in (("", ours.onward), ("_reverse", ours.backward)):
        for name, parameter in one.cell.named_parameters():
            getattr(theirs, f"{name}_l0{suffix}").data.copy_(parameter.data)
    inputs, mask = torch.randn(2, 4, 3), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    found = ours(inputs, mask)
    for video, steps in enumerate((4, 2)):
        states, _ = theirs(inputs[video : video + 1, :steps])
        torch.testing.assert_close(found[video, :steps], ours.dense(states[0]).relu())


def forgetful(width: int, **dropout: float) -> GRU:
    """A GRU for as many inputs that keeps nothing: a state is tanh(1 + input + half of what is seen of the state before)."""
    gru = GRU(MTLOptions(gru=width, **{**DRY, **dropout}), width).train()
    for parameter in gru.cell.parameters():
        parameter.data.zero_()
    gru.cell.bias_ih.data[width : 2 * width] = -50
    gru.cell.bias_ih.data[2 * width :] = 1
    gru.cell.weight_ih.data[2 * width :] = torch.eye(width)
    gru.cell.weight_hh.data[2 * width :] = torch.eye(width)
    return gru


def test_the_same_inputs_are_dropped_at_every_step():
    gru = forgetful(32, input_dropout=0.5)
    gru.cell.weight_hh.data.zero_()
    states = gru(torch.ones(2, 4, 32))
    assert states.round(decimals=4).unique().tolist() == pytest.approx([0.7616, 0.9951], abs=1e-4)  # tanh(1), tanh(1 + 2)
    torch.testing.assert_close(states, states[:, :1].expand(2, 4, 32))
    assert not torch.equal(states[0], states[1])


def test_the_same_of_the_state_is_hidden_from_the_gates_at_every_step():
    states = forgetful(32, recurrent_dropout=0.5)(torch.zeros(2, 4, 32))
    hidden = (states[:, 1:] - 0.7616).abs() < 1e-4
    assert hidden.any()
    assert not hidden.all()
    assert torch.equal(hidden, hidden[:, :1].expand(2, 3, 32))


@pytest.mark.parametrize("steps", [1, 3])
def test_recurrent_dropout_acts_from_the_second_utterance_on(steps):
    torch.manual_seed(0)
    gru = GRU(MTLOptions(gru=8, input_dropout=0.0, recurrent_dropout=0.9), 3).train()
    inputs = torch.randn(2, steps, 3)
    found, expected = gru(inputs), gru.eval()(inputs)
    torch.testing.assert_close(found[:, 0], expected[:, 0])
    assert torch.allclose(found, expected) == (steps == 1)


def test_predictions_are_those_of_the_formula():
    batch, head = in_videos(4, 2), make()
    rows, output = fused(head, batch), head(batch)
    probability = layer(head, "msa", rows).softmax(1)
    torch.testing.assert_close(output.sentiment, 3 * (probability[:, 1] - probability[:, 0]))
    torch.testing.assert_close(output.emotion_logits, layer(head, "mer", rows)[:, :6])


def test_regression_is_one_number_without_a_loss_of_its_own():
    batch, head = in_videos(4, 2), make(sentiment="regression", **DRY).train()
    output = head(batch)
    torch.testing.assert_close(output.sentiment, layer(head, "msa", fused(head, batch)).squeeze(1))
    assert output.sentiment.requires_grad
    assert set(output.aux.losses) == {"no_emotion"}


def test_the_sign_of_the_prediction_is_the_class():
    batch, head = in_videos(4), make("msa")
    head.outputs["msa"].weight.data.zero_()
    for bias, sentiment in (([0.0, 1.0], 3 * 0.46212), ([1.0, 0.0], -3 * 0.46212), ([0.0, 0.0], 0.0)):
        head.outputs["msa"].bias.data.copy_(torch.tensor(bias))
        torch.testing.assert_close(head(batch).sentiment, torch.full((4,), sentiment), rtol=1e-4, atol=0)


def test_polarity_is_learned_by_the_cross_entropy_of_two_classes_alone():
    batch, head = in_videos(4), make("msa", **DRY).train()
    batch = labelled(batch, [-1.0, 0.0, torch.nan, 2.5], [[torch.nan] * 6] * 4)
    output, logits = head(batch), layer(head, "msa", fused(head, batch))
    expected = functional.cross_entropy(logits[[0, 1, 3]], torch.tensor([0, 1, 1]))
    torch.testing.assert_close(output.aux.losses["polarity"], expected)
    assert not output.sentiment.requires_grad


def test_six_labels_and_the_seventh_make_keras_mean_over_seven():
    batch, head = in_videos(4), make("mer", **DRY).train()
    emotions = [[0.0] * 6, [1.0, 0, 0, 0, 0, 1], [torch.nan] * 6, [0.0] * 6]
    batch = labelled(batch, [0.0] * 4, emotions)
    output, known = head(batch), [0, 1, 3]
    seven = torch.tensor([[*row, float(not any(row))] for row in (emotions[row] for row in known)])
    expected = functional.binary_cross_entropy_with_logits(layer(head, "mer", fused(head, batch))[known], seven)
    six = functional.binary_cross_entropy_with_logits(output.emotion_logits[known], seven[:, :6])
    torch.testing.assert_close(6 / 7 * six + output.aux.losses["no_emotion"], expected)


def test_the_seventh_label_can_be_left_out():
    head = make("mer", no_emotion=False).train()
    assert head.outputs["mer"].out_features == 6
    assert head(in_videos(3)).aux.losses == {}


def test_without_labels_nothing_is_learned_and_nothing_breaks():
    head = make().train()
    losses = head(labelled(in_videos(2), [torch.nan] * 2, [[torch.nan] * 6] * 2)).aux.losses
    assert {name: value.item() for name, value in losses.items()} == {"polarity": 0, "no_emotion": 0}


def test_a_single_utterance_attends_to_itself():
    """CIM(x, y) = y ∘ x."""
    batch, head = in_videos(1), make("mer")
    x, y = (head.encoders[m](utterances(batch, m), torch.tensor([[True]]))[0] for m in DIMS)
    expected = layer(head, "mer", torch.cat([x * y, x * y, x, y], 1))[:, :6]
    torch.testing.assert_close(head(batch).emotion_logits, expected)


def loss(output: HeadOutput) -> Tensor:
    return output.emotion_logits.square().sum() + sum(output.aux.losses.values())


def test_dropout_does_not_depend_on_the_other_videos_in_the_batch():
    batch, head = in_videos(2, 5), make().train()
    with drawing_from(torch.tensor(1)):
        together = head(batch)
    with drawing_from(torch.tensor(1)):
        alone = head(only_video(batch, 0))
    torch.testing.assert_close(alone.emotion_logits, together.emotion_logits[batch.dialogue[0, :2]])
    assert not torch.allclose(alone.emotion_logits, head.eval()(only_video(batch, 0)).emotion_logits)


def test_tasks_share_all_but_the_last_layer():
    head = make().train()
    head(in_videos(4, 3)).aux.losses["polarity"].backward()
    idle = {name for name, p in head.named_parameters() if p.grad is None}
    assert idle == {"outputs.mer.weight", "outputs.mer.bias"}


def test_a_pack_trains_each_head_as_if_it_were_alone():
    batch, heads = in_videos(3, 2), [make(seed=seed, hidden_dropout=rate).train() for seed, rate in enumerate((0.1, 0.3))]
    base = copy.deepcopy(heads[0])

    def run(parameters, buffers, key):
        with drawing_from(key):
            return loss(functional_call(base, (parameters, buffers), (batch,)))

    gradients = vmap(grad(run), randomness="error")(*stack_module_state(heads), torch.tensor([5, 6]))
    for number, head in enumerate(heads):
        with drawing_from(torch.tensor(5 + number)):
            loss(head(batch)).backward()
        for name, parameter in head.named_parameters():
            torch.testing.assert_close(gradients[name][number], parameter.grad, rtol=1e-3, atol=1e-5)


def test_widths_and_parameters_of_the_original_size():
    head = MTL(MTLOptions(), {"text": 768, "audio": 768}, "both")
    assert head.outputs["msa"].weight.shape == (2, 400)
    assert head.outputs["mer"].weight.shape == (7, 400)
    encoder = 2 * 3 * 200 * (768 + 200 + 2) + 401 * 100
    assert sum(p.numel() for p in head.parameters()) == 2 * encoder + 401 * 9 == 2_411_809
    three = MTL(MTLOptions(), {"text": 768, "audio": 768, "vision": 35}, "msa")
    assert three.outputs["msa"].in_features == 900


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"^mtl needs text and audio features, got audio\.$"):
        make(dims={"audio": 8})
    with pytest.raises(InputError, match=r"^Unknown sentiment output 'class'\..* Available: polarity, regression\.$"):
        make(sentiment="class")
