"""COGMEN: its window and relations, what it reads with and without them, and the statistics of its BatchNorm."""

import pytest
import torch
from batches import DIMS, pad
from test_heads_models_baselines_dialogue import changed, in_videos
from torch.nn import functional

from data.errors import InputError
from heads.models.baselines._dialogue import real, utterances
from heads.models.baselines.cogmen import COGMEN, COGMENOptions, UtteranceNorm, window
from heads.models.parts.randomness import drawing_from

SMALL = {"dim": 6, "ffn": 16}


def make(task: str = "both", dims: dict[str, int] = DIMS, **options: object) -> COGMEN:
    torch.manual_seed(0)
    head = COGMEN(COGMENOptions(**{**SMALL, **options}), dims, task).eval()
    head.encode.layers[0].after_attend.norm.weight.data.uniform_(0.5, 2)
    return head


def moved(head: COGMEN, row: int, batch) -> list[bool]:
    """Find the utterances of the first video whose outputs change with the features of one utterance."""
    first, second = (head(one).emotion_logits[batch.dialogue[0]] for one in (batch, changed(batch, "text", row)))
    return ((first - second).abs().amax(1) > 1e-6).tolist()


def without_encoder(head: COGMEN) -> COGMEN:
    head.encode.layers = torch.nn.ModuleList()
    return head


def test_there_are_two_relations_and_an_utterance_is_not_earlier_than_itself():
    earlier, others = window(torch.ones(1, 4, dtype=torch.bool), 1, 2)
    assert earlier.int().tolist() == [[[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]]
    assert others.int().tolist() == [[[1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]]
    assert len(make().convolve.messages) == 2


def test_a_video_in_reverse_exchanges_the_relations():
    """But for each utterance's link to itself."""
    mask, itself = torch.ones(1, 6, dtype=torch.bool), torch.eye(6, dtype=torch.bool)
    earlier, others = window(mask, 5, 5)
    assert torch.equal(earlier.flip(1, 2), others & ~itself)
    assert torch.equal((others & ~itself).flip(1, 2), earlier)


def test_padding_is_read_by_nobody_else():
    linked = torch.stack(window(torch.tensor([[True, True, False]]), 5, 5)).any(0)[0]
    assert linked.int().tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1]]


def test_without_neighbours_the_graph_leaves_utterances_independent():
    batch, head = in_videos(5), without_encoder(make(past=0, future=0))
    assert moved(head, int(batch.dialogue[0, 2]), batch) == [False, False, True, False, False]


def test_the_graph_reaches_two_windows_far():
    """Convolution and attention read one window each."""
    batch, head = in_videos(7), without_encoder(make(past=1, future=1))
    assert moved(head, int(batch.dialogue[0, 3]), batch) == [False, True, True, True, True, True, False]


def test_an_uneven_window_looks_that_far_back_and_ahead():
    batch, head = in_videos(6), without_encoder(make(past=1, future=0))
    assert moved(head, int(batch.dialogue[0, 2]), batch) == [False, False, True, True, True, False]


def test_the_encoder_reads_the_whole_video_and_no_other():
    batch, head = in_videos(4, 3), make(past=0, future=0)
    row = int(batch.dialogue[0, 0])
    first, second = (head(one).emotion_logits for one in (batch, changed(batch, "audio", row)))
    difference = (first - second).abs().amax(1)
    assert (difference[batch.dialogue[0]] > 1e-6).all()
    assert torch.equal(difference[batch.dialogue[1, :3]], torch.zeros(3))


def test_the_output_is_the_classifier_on_normalised_graph_nodes():
    batch, head = in_videos(3), make()
    joined = torch.cat([utterances(batch, "text"), utterances(batch, "audio")], -1)
    links = window(real(batch.dialogue), 5, 5)
    nodes = head.convolve(head.narrow(head.encode(joined, real(batch.dialogue))), links)
    nodes = head.attend(nodes, torch.ones(1, 3, 3, dtype=torch.bool))[0] / (1 + head.norm.eps) ** 0.5
    hidden = functional.relu(functional.leaky_relu(nodes, 0.01) @ head.hidden[0].weight.T + head.hidden[0].bias)
    expected = hidden @ head.outputs["mer"].weight.T + head.outputs["mer"].bias
    torch.testing.assert_close(head(batch).emotion_logits[batch.dialogue[0]], expected)


def test_the_statistics_are_of_real_utterances_alone():
    batch, plain = in_videos(4, 1), {"encoder_dropout": 0.0, "output_dropout": 0.0}
    rows = []
    head = make(**plain).train()
    head.norm.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0]))
    expected = head(batch)
    assert rows[0].shape == (5, 6)
    torch.testing.assert_close(head.norm.running_mean, 0.1 * rows[0].mean(0))
    padded = pad(batch, 2, 7.0)._replace(dialogue=functional.pad(batch.dialogue, (0, 3), value=-1))
    again = make(**plain).train()
    torch.testing.assert_close(again(padded).emotion_logits, expected.emotion_logits)
    torch.testing.assert_close(again.norm.running_var, head.norm.running_var)


def test_a_single_utterance_is_normalised_by_the_running_statistics():
    norm = UtteranceNorm(2).train()
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.running_var.fill_(4.0)
    torch.testing.assert_close(norm(torch.tensor([[3.0, 2.0]])), torch.tensor([[1.0, 0.0]]), rtol=0, atol=1e-5)
    assert norm.running_mean.tolist() == [1, 2]
    assert make().train()(in_videos(1)).sentiment.isfinite().all()


def test_dropout_does_not_depend_on_the_padding():
    batch = in_videos(4, 3)
    padded = batch._replace(dialogue=functional.pad(batch.dialogue, (0, 5), value=-1))
    with drawing_from(torch.tensor(1)):
        found = make().train()(padded)
    with drawing_from(torch.tensor(1)):
        expected = make().train()(batch)
    torch.testing.assert_close(found.emotion_logits, expected.emotion_logits)


def test_tasks_share_all_but_the_last_layer():
    head = make()
    head(in_videos(4, 3)).sentiment.sum().backward()
    assert {name for name, p in head.named_parameters() if p.grad is None} == {"outputs.mer.weight", "outputs.mer.bias"}


def test_parameters_of_the_original_size():
    encoder = 2 * (4 * 1536 * 1537 + 2048 * 1537 + 1536 * 2049 + 4 * 1536)
    graph = (3 * 100 * 100 + 100) + (4 * 100 * 100 + 100) + 2 * 100
    head = COGMEN(COGMENOptions(), {"text": 768, "audio": 768}, "mer")
    assert sum(p.numel() for p in head.parameters()) == encoder + 1537 * 100 + graph + 101 * 100 + 606 == 31_723_830
    assert {layer.attend.heads for layer in head.encode.layers} == {8}


def test_any_modalities_will_do():
    dims = {"text": 7, "audio": 8, "vision": 3}
    batch = in_videos(3, 2)
    features = {"text": batch.features["text"][..., :7], "audio": batch.features["audio"], "vision": batch.features["audio"][..., :3]}
    batch = batch._replace(features=features, masks={**batch.masks, "vision": batch.masks["audio"]})
    assert make(dims=dims)(batch).emotion_logits.shape == (5, 6)
    assert make(dims={"audio": 8})(batch).sentiment.shape == (5,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"past": -1}, "A window is -1 utterances back and 5 ahead, expected 0 or more."),
        ({"graph_heads": 0}, "graph_heads is 0, expected 1 or more."),
        ({"attention_heads": 0}, "attention_heads is 0, expected 1 or more."),
        ({"attention_heads": 5}, "5 attention heads do not divide the width 16. Choose a divisor of 16."),
        ({"layers": 0}, "layers is 0, expected 1 or more."),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(InputError) as error:
        make(**options)
    assert str(error.value) == message
