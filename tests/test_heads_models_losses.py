"""What is minimised, against sums by hand."""

import math

import numpy as np
import pytest
import torch
from batches import random_batch
from torch.nn import functional

from heads.models.base import Aux, HeadOutput
from heads.models.losses import EMOTION_LOSSES, LossOptions, emotion_loss, sentiment_loss, task_losses, total_loss

NAN = float("nan")
LOGITS = [[0.5, -1.0, 2.0, 0.0, -0.3, 1.2], [-2.0, 0.7, 0.1, 1.5, -0.6, 0.4], [3.0, 3.0, 3.0, 3.0, 3.0, 3.0]]
TRUTH = [[1.0, 0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 1.0, 1.0], [1.0, 1.0, NAN, 0.0, 0.0, 0.0]]
"""The third utterance is not labelled."""


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def by_hand(kind: str, logits: list[float], truth: list[float]) -> list[float]:
    """The six terms of one utterance; Eq. 6 of the paper is −y log ŷ."""
    softmax = [math.exp(value) / sum(math.exp(other) for other in logits) for value in logits]
    terms = {
        "bce": lambda x, y, _: -(y * math.log(sigmoid(x)) + (1 - y) * math.log(1 - sigmoid(x))),
        "literal": lambda x, y, _: -y * math.log(sigmoid(x)),
        "literal_softmax": lambda _, y, share: -y * math.log(share),
        "cross_entropy": lambda _, y, share: -y * math.log(share),
    }
    return [terms[kind](x, y, share) for x, y, share in zip(logits, truth, softmax, strict=True)]


def output(**aux: object) -> HeadOutput:
    return HeadOutput(torch.tensor([1.0, -2.0, 0.5]), torch.tensor(LOGITS), Aux(**aux))


@pytest.fixture
def batch():
    return random_batch()._replace(sentiment=torch.tensor([0.0, -1.0, NAN]), emotions=torch.tensor(TRUTH))


@pytest.mark.parametrize(("kind", "expected"), [("l1", (1.0 + 1.0 + 0.5) / 3), ("mse", (1.0 + 1.0 + 0.25) / 3)])
def test_sentiment_by_hand(kind, expected):
    loss = sentiment_loss(torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, -1.0, 1.0]), kind)
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", [kind for kind in EMOTION_LOSSES if kind != "cross_entropy"])
@pytest.mark.parametrize(("reduction", "divisor"), [("sum", 1), ("mean", 6)])
def test_emotions_by_hand(kind, reduction, divisor):
    per_utterance = [sum(by_hand(kind, *pair)) / divisor for pair in zip(LOGITS[:2], TRUTH[:2], strict=True)]
    loss = emotion_loss(torch.tensor(LOGITS[:2]), torch.tensor(TRUTH[:2]), kind, reduction)
    assert loss.item() == pytest.approx(np.mean(per_utterance), rel=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_of_classes_is_the_cross_entropy_of_torch_whatever_the_reduction(reduction):
    logits, classes = torch.randn(7, 4), torch.tensor([0, 3, 1, 1, 2, 0, 3])
    truth = functional.one_hot(classes).float()
    truth[2] = NAN  # unlabelled
    loss = emotion_loss(logits, truth, "cross_entropy", reduction)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, classes.index_fill(0, torch.tensor([2]), -100)))


def test_the_defaults_are_eq_5_and_binary_cross_entropy():
    assert LossOptions() == LossOptions(
        sentiment="l1", emotion="bce", emotion_reduction="mean", sentiment_weight=1.0, emotion_weight=1.0
    )


def test_extreme_logits_give_finite_losses():
    extreme = torch.tensor([[200.0, -200.0, 200.0, -200.0, 0.0, 0.0]], requires_grad=True)
    for kind in EMOTION_LOSSES:
        loss = emotion_loss(extreme, torch.tensor([[0.0, 1.0, 1.0, 0.0, 1.0, 0.0]]), kind)
        (gradient,) = torch.autograd.grad(loss, extreme)
        assert loss.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", EMOTION_LOSSES)
def test_an_unlabelled_utterance_does_not_count(kind):
    logits = torch.tensor(LOGITS, requires_grad=True)
    loss = emotion_loss(logits, torch.tensor(TRUTH), kind)
    assert loss.item() == pytest.approx(emotion_loss(torch.tensor(LOGITS[:2]), torch.tensor(TRUTH[:2]), kind).item())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[:2].any(1).all()
    assert not gradient[2].any()


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_an_unlabelled_sentiment_does_not_count(kind):
    prediction = torch.tensor([1.0, -2.0, 9.0], requires_grad=True)
    loss = sentiment_loss(prediction, torch.tensor([0.0, -1.0, NAN]), kind)
    assert loss.item() == pytest.approx(1.0)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert gradient[2] == 0
    assert (gradient[:2] != 0).all()


@pytest.mark.parametrize("kind", [*EMOTION_LOSSES, "l1", "mse"])
def test_no_label_at_all_is_no_loss_and_no_gradient(kind):
    wide = kind in EMOTION_LOSSES
    prediction = torch.ones((2, 6) if wide else (2,), requires_grad=True)
    loss = (emotion_loss if wide else sentiment_loss)(prediction, torch.full_like(prediction, NAN), kind)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert loss.item() == 0
    assert not gradient.any()


def test_a_task_that_is_not_learned_has_no_loss(batch):
    both, options = output(), LossOptions()
    assert list(task_losses(both, batch, options)) == ["msa", "mer"]
    assert list(task_losses(both._replace(sentiment=None), batch, options)) == ["mer"]
    assert list(task_losses(both._replace(emotion_logits=None), batch, options)) == ["msa"]


def test_options_reach_the_tasks(batch):
    options = LossOptions(sentiment="mse", emotion="literal", emotion_reduction="sum")
    losses = task_losses(output(), batch, options)
    assert losses["msa"].item() == pytest.approx((1.0 + 1.0) / 2)
    expected = [sum(by_hand("literal", *pair)) for pair in zip(LOGITS[:2], TRUTH[:2], strict=True)]
    assert losses["mer"].item() == pytest.approx(np.mean(expected), rel=1e-6)


def test_the_total_is_weighted(batch):
    options = LossOptions(sentiment_weight=2.0, emotion_weight=0.25)
    losses = task_losses(output(), batch, options)
    total = total_loss(output(), batch, options, options.weights())
    assert total.item() == pytest.approx(2 * losses["msa"].item() + losses["mer"].item() / 4)


def test_predictions_of_one_modality_get_the_same_loss(batch):
    options = LossOptions(sentiment_weight=2.0, emotion_weight=0.25)
    alone = HeadOutput(torch.zeros(3), torch.zeros(3, 6))
    total = total_loss(output(unimodal={"text": alone, "audio": alone}), batch, options, options.weights())
    main = total_loss(output(), batch, options, options.weights()).item()
    assert total.item() == pytest.approx(main + 2 * (2 * 0.5 + 0.25 * math.log(2)), rel=1e-6)


def test_the_heads_own_terms_are_added_as_they_are(batch):
    options = LossOptions(sentiment_weight=2.0, emotion_weight=0.25)
    main = total_loss(output(), batch, options, options.weights()).item()
    with_own = output(losses={"text/balance": torch.tensor(0.125), "audio/balance": torch.tensor(-0.5)})
    assert total_loss(with_own, batch, options, options.weights()).item() == pytest.approx(main - 0.375)


def test_weights_may_be_tensors_which_packs_need(batch):
    weights = {"msa": torch.tensor(2.0), "mer": torch.tensor(0.25)}
    options = LossOptions(sentiment_weight=2.0, emotion_weight=0.25)
    assert torch.equal(total_loss(output(), batch, options, weights), total_loss(output(), batch, options, options.weights()))
