"""The losses that are minimised: sentiment and emotions over labelled utterances only, and their weighted sum.

A head's own terms (load balancing, for example) are in `HeadOutput.aux.losses`, already weighted. The options are in
`heads.models.tasks`.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from data.tensors import Batch
from heads.models.base import HeadOutput
from heads.models.tasks import CROSS_ENTROPY, LossOptions


def _absolute(prediction: Tensor, truth: Tensor) -> Tensor:
    return (prediction - truth).abs()


def _squared(prediction: Tensor, truth: Tensor) -> Tensor:
    return (prediction - truth).square()


def _binary(logits: Tensor, truth: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")


def _literal(logits: Tensor, truth: Tensor) -> Tensor:
    """Returns Eq. 6 with ŷ a sigmoid: −y log ŷ. Predicting every emotion for every utterance minimises it."""
    return -truth * functional.logsigmoid(logits)


def _literal_softmax(logits: Tensor, truth: Tensor) -> Tensor:
    """Returns Eq. 6 with ŷ a softmax over the six emotions. At a threshold of .5 it allows one emotion at most."""
    return -truth * functional.log_softmax(logits, -1)


def _cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Returns the terms whose sum is the cross-entropy of classes, of which one is 1 in the truth."""
    return -truth * functional.log_softmax(logits, -1)


ElementLoss = Callable[[Tensor, Tensor], Tensor]
SENTIMENT_LOSSES: Mapping[str, ElementLoss] = {"l1": _absolute, "mse": _squared}
EMOTION_LOSSES: Mapping[str, ElementLoss] = {
    "bce": _binary,
    "literal": _literal,
    "literal_softmax": _literal_softmax,
    CROSS_ENTROPY: _cross_entropy,
}
REDUCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"mean": lambda losses: losses.mean(-1), "sum": lambda losses: losses.sum(-1)}


def labelled_mean(losses: Tensor, labelled: Tensor) -> Tensor:
    """Averages (B,) losses over the rows where `labelled` (B,) is True; 0 if there are none."""
    return torch.where(labelled, losses, 0).sum() / labelled.sum().clamp(min=1)


def sentiment_loss(prediction: Tensor, truth: Tensor, kind: str = "l1") -> Tensor:
    """Computes the scalar loss of (B,) sentiments; NaN in `truth` means unlabelled. Source: Eq. 5 for "l1"."""
    labelled = ~truth.isnan()
    return labelled_mean(SENTIMENT_LOSSES[kind](prediction, torch.where(labelled, truth, 0)), labelled)


def emotion_loss(logits: Tensor, truth: Tensor, kind: str = "bce", reduction: str = "mean") -> Tensor:
    """Computes the scalar loss of (B, C) emotions, truth 0, 1 or NaN; an utterance with a NaN is unlabelled.

    The default is binary cross-entropy, because Eq. 6 as printed has no term for absent emotions; `reduction` is over the emotions.
    The cross-entropy of classes is a sum whatever the reduction.
    """
    labelled = ~truth.isnan().any(-1)
    losses = EMOTION_LOSSES[kind](logits, torch.where(labelled[:, None], truth, 0))
    return labelled_mean(REDUCTIONS["sum" if kind == CROSS_ENTROPY else reduction](losses), labelled)


def task_losses(output: HeadOutput, batch: Batch, kinds: LossOptions) -> dict[str, Tensor]:
    """Computes {"msa": …, "mer": …} for the tasks that the head learns, unweighted."""
    losses = {}
    if output.sentiment is not None:
        losses["msa"] = sentiment_loss(output.sentiment, batch.sentiment, kinds.sentiment)
    if output.emotion_logits is not None:
        losses["mer"] = emotion_loss(output.emotion_logits, batch.emotions, kinds.emotion, kinds.emotion_reduction)
    return losses


def total_loss(output: HeadOutput, batch: Batch, kinds: LossOptions, weights: Mapping[str, float | Tensor]) -> Tensor:
    """Sums the weighted losses of the main predictions and of those from one modality alone, and adds the head's own terms."""
    parts = [task_losses(one, batch, kinds) for one in (output, *output.aux.unimodal.values())]
    terms = [weights[task] * loss for part in parts for task, loss in part.items()]
    return torch.stack([*terms, *output.aux.losses.values()]).sum()
