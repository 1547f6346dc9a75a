"""HyCon's three contrastive terms: who is compared with whom, and what it costs."""

import pytest
import torch
from batches import pad, random_batch, select
from torch import Tensor
from torch.nn import functional

from data.tensors import Batch
from heads.models.baselines.hycon import HyCon, HyConOptions, pair_loss, pairs
from heads.models.parts.layers import last_step

DIMS = {"text": 6, "audio": 5}
LENGTHS = {"text": (5, 3, 4, 2, 1), "audio": (9, 12, 7, 1, 2)}
SENTIMENT = [2.0, -1.0, 0.0, -2.5, 1.0]


def a_batch(sentiment: list[float] = SENTIMENT) -> Batch:
    return random_batch(LENGTHS, DIMS)._replace(sentiment=torch.tensor(sentiment))


def make(task: str = "msa", **options: object) -> HyCon:
    torch.manual_seed(0)
    return HyCon(HyConOptions(**{"dim": 8, "heads": 2, "ffn": 16, "dropout": 0.0} | options), DIMS, task)


def classes(*names: str) -> tuple[Tensor, Tensor]:
    """Positives and negatives of utterances of these classes."""
    same = torch.tensor([[one == other for other in names] for one in names])
    other = ~torch.eye(len(names), dtype=torch.bool)
    return same & other, ~same & other


def embeddings(head: HyCon, batch: Batch) -> list[Tensor]:
    return [functional.normalize(head.encoders[m](batch.features[m], batch.masks[m]), dim=-1) for m in DIMS]


def written_out(anchors: Tensor, others: Tensor, labels: list, target: float) -> list[float]:
    """The loss of every anchor that has a positive, by loops; None is unlabelled."""
    losses = []
    for i, label in enumerate(labels):
        rest = [j for j in range(len(labels)) if j != i and labels[j] is not None]
        positive = [(anchors[i] @ others[j]).item() for j in rest if labels[j] == label]
        negative = [(anchors[i] @ others[j]).item() for j in rest if labels[j] != label]
        if label is not None and positive:
            refinement = sum((s - target) ** 2 for s in positive) / len(positive)
            losses.append(refinement - sum(positive) / sum(positive + negative))
    return losses


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize(("names", "loss"), [("aabb", -1.0), ("abab", 1.0)])
def test_perfectly_separated_classes_cost_minus_one_and_crossed_ones_plus_one(names, loss):
    points = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert pair_loss((points @ points.T)[None], *classes(*names), 1.0).item() == pytest.approx(loss, abs=1e-6)


def test_anchors_without_a_positive_do_not_count():
    similarity = torch.rand(1, 3, 3, generator=torch.Generator().manual_seed(0))
    similarity[0, :2, :2] = 1.0
    with_it = pair_loss(similarity, *classes("a", "a", "b"), 1.0)
    expected = [-1 / (1 + similarity[0, row, 2].item()) for row in (0, 1)]
    assert with_it.item() == pytest.approx(mean(expected), rel=1e-5)
    assert pair_loss(similarity, *classes("a", "b", "c"), 1.0).item() == 0


def test_no_utterance_is_compared_with_itself():
    similarity = torch.rand(2, 4, 4)
    changed = similarity + 9 * torch.eye(4)
    arguments = (*classes("a", "a", "b", "b"), 0.8)
    assert torch.equal(pair_loss(similarity, *arguments), pair_loss(changed, *arguments))


def test_all_terms_equal_their_loops():
    head, batch = make("both"), a_batch()
    text, audio = embeddings(head, batch)
    losses = head(batch).aux.losses
    for task, labels in (("msa", [y >= 0 for y in SENTIMENT]), ("mer", [str(row) for row in batch.emotions.tolist()])):
        within = written_out(text, text, labels, 1.0) + written_out(audio, audio, labels, 1.0)
        across = written_out(text, audio, labels, 0.8) + written_out(audio, text, labels, 0.8)
        assert losses[f"intra/{task}"].item() == pytest.approx(0.1 * mean(within) if within else 0, rel=1e-4)
        assert losses[f"inter/{task}"].item() == pytest.approx(0.1 * mean(across) if across else 0, rel=1e-4)
    semi = mean([(text[i] @ audio[i] - 0.8).item() ** 2 for i in range(5)])
    assert losses["semi"].item() == pytest.approx(0.1 * semi, rel=1e-4)


def test_semi_is_nothing_when_modalities_are_as_similar_as_the_margin():
    head, batch = make(), a_batch()
    text, audio = embeddings(head, batch)
    only = [0]
    margin = (text[only] * audio[only]).sum().item()
    assert make(margin=margin)(select(batch, *only)).aux.losses["semi"].item() == pytest.approx(0, abs=1e-10)
    assert make(margin=margin - 0.5)(select(batch, *only)).aux.losses["semi"].item() == pytest.approx(0.1 * 0.25, rel=1e-4)


def test_sentiment_classes_are_those_from_zero_up_and_those_below():
    same, different = pairs("msa", a_batch([2.0, -1.0, 0.0, -0.1, torch.nan]))
    expected = classes("up", "down", "up", "down", "unlabelled")
    assert torch.equal(same[:4, :4], expected[0][:4, :4])
    assert torch.equal(different[:4, :4], expected[1][:4, :4])
    assert not (same | different)[4].any()
    assert not (same | different)[:, 4].any()


def test_emotion_classes_are_utterances_with_the_same_six_labels():
    emotions = torch.tensor([[1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0] * 6, [torch.nan] * 6])
    same, different = pairs("mer", a_batch()._replace(emotions=emotions))
    expected = classes("happy", "happy", "both", "none", "unlabelled")
    assert torch.equal(same[:4, :4], expected[0][:4, :4])
    assert torch.equal(different[:4, :4], expected[1][:4, :4])
    assert not (same | different)[4].any()
    assert not (same | different)[:, 4].any()


def test_unlabelled_utterances_are_left_out_of_the_pairs():
    head = make()
    losses = head(a_batch([2.0, -1.0, torch.nan, -2.5, 1.0])).aux.losses
    without = head(select(a_batch(), 0, 1, 3, 4)).aux.losses
    for name in ("intra/msa", "inter/msa"):
        assert losses[name].item() == pytest.approx(without[name].item(), rel=1e-5)


def test_weights_scale_the_terms():
    batch = a_batch()
    plain, heavy = make()(batch).aux.losses, make(intra=0.2, inter=0.3, semi=0.4)(batch).aux.losses
    for name, factor in (("intra/msa", 2), ("inter/msa", 3), ("semi", 4)):
        assert heavy[name].item() == pytest.approx(factor * plain[name].item(), rel=1e-5)


def test_embeddings_are_not_negative_and_predictions_come_from_their_sum():
    head, batch = make().eval(), a_batch()
    found = {m: head.encoders[m](batch.features[m], batch.masks[m]) for m in DIMS}
    assert all(values.min() >= 0 for values in found.values())
    expected = head.outputs(head.hidden(found["text"] + found["audio"]))["msa"][:, 0]
    assert torch.allclose(head(batch).sentiment, expected)


def test_the_last_real_step_is_read_whatever_the_padding():
    batch = pad(a_batch(), 3, 7.0)
    last = last_step(batch.features["audio"], batch.masks["audio"])
    for row, length in enumerate(LENGTHS["audio"]):
        assert torch.equal(last[row], batch.features["audio"][row, length - 1])
