"""Self-MM: Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning for Multimodal Sentiment Analysis
(Yu, Xu, Yuan and Wu, AAAI 2021), https://arxiv.org/abs/2102.04830, https://github.com/thuiar/Self-MM.

Text and audio each have their own branch beside the fused one. Single modalities have no annotated labels, so each branch generates
labels for every training utterance from the distances of its features to the centres of the positive and of the negative utterances.

Reproduced: the branches, the generated labels with their momentum, and the weighting of the losses. Left out: video with its branch,
and the fine-tuning of BERT, and with it the separate learning rate of the text. Distances are plain norms, as in the authors' code; the
paper divides them by the root of the width. All parameters have one weight decay; the authors' is ten times as large for the audio
encoder on MOSI.

Emotions are our extension: each of the six is a target −1 or 1 with its own centres and generated labels, limited to [−1, 1]; rescaled
to [0, 1], these are probabilities.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.labels import MOSEI_LABELS, LabelSet
from data.lookup import lookup
from data.tensors import Batch
from heads.models.base import Aux, Head, HeadOutput, predictions
from heads.models.baselines._encoder import TEXT_POOLS, LastState, LinearOutputs, signed_labels
from heads.models.inputs import InputOptions
from heads.models.losses import labelled_mean
from heads.models.options import dropout_rate, option
from heads.models.parts.randomness import Dropout

EPSILON = 1e-8
"""Added to denominators, as in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class SelfMMOptions(InputOptions):
    """Options of Self-MM. The defaults are the authors' for CMU-MOSI."""

    text_pool: str = "cls"  # what of the text is read: cls (the first token) or mean
    wide: bool = False  # audio as 128 then 64 units, not 32 then 16, which were sized for 5 features a frame
    fusion_width: int = 128  # of the fused branch
    text_width: int = 64  # of the text branch; MOSEI: 32
    dropout: float = dropout_rate(0.1)  # of the input of the fused and of the audio branch; MOSEI: 0
    text_dropout: float = dropout_rate(0.0)  # of the input of the text branch; MOSEI: 0.1
    audio_lr_factor: float = option(1.0, above=0)  # learning rate of the audio encoder over that of the rest; MOSEI: 5


class SelfMM(Head):
    """Self-MM: three branches (fusion, text, audio). The fused one predicts; the others shape the audio encoder in training."""

    Options = SelfMMOptions
    packable = False
    limits: Tensor  # (K,)

    def __init__(self, options: SelfMMOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when a modality is missing or an option is out of range."""
        super().__init__(dims, task, labels)
        self.expect_modalities("self-mm", dims)
        self.pool = lookup(TEXT_POOLS, options.text_pool, "text_pool")
        self.audio_lr_factor, self.epoch = options.audio_lr_factor, 1
        hidden, audio = (128, 64) if options.wide else (32, 16)
        self.audio = LastState(dims["audio"], hidden, audio)
        widths = {"fusion": options.fusion_width, "text": options.text_width, "audio": audio}
        inputs = {"fusion": dims["text"] + audio, "text": dims["text"], "audio": audio}
        rates = {"fusion": options.dropout, "text": options.text_dropout, "audio": options.dropout}
        self.branches = nn.ModuleDict({name: Branch(inputs[name], widths[name], self.widths, rates[name]) for name in widths})
        targets = sum(self.widths.values())
        self.memories = nn.ModuleDict({name: Memory(width, targets) for name, width in widths.items()})
        largest = {"msa": labels.limit, "mer": 1.0}  # absolute values of generated labels
        limits = [largest[each] for each, width in self.widths.items() for _ in range(width)]
        self.register_buffer("limits", torch.tensor(limits), persistent=False)
        self.latest: dict[str, Tensor] = {}  # branch → (B, d) features of the last batch of training

    def forward(self, batch: Batch) -> HeadOutput:
        text = self.pool(batch.features["text"], batch.masks["text"])
        audio = self.audio(batch.features["audio"], batch.masks["audio"])
        inputs = {"fusion": torch.cat([text, audio], -1), "text": text, "audio": audio}
        if not self.training:
            return predictions(self.branches["fusion"](inputs["fusion"])[1])
        found = {name: branch(inputs[name]) for name, branch in self.branches.items()}
        self.latest = {name: features.detach().float() for name, (features, _) in found.items()}
        values = {name: values for name, (_, values) in found.items()}
        return predictions(values["fusion"], Aux(losses=self._losses(batch, values) if self._is_prepared else {}))

    def _memory(self, branch: str) -> "Memory":
        return cast(Memory, self.memories[branch])

    @property
    def _is_prepared(self) -> bool:
        return len(self._memory("fusion").labels) > 0

    def _losses(self, batch: Batch, values: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Compute tanh|label − y| · loss(prediction, label) for each modality; 0 while the labels equal y, as in the first epoch."""
        truth, losses = signed_labels(batch.sentiment, batch.emotions, self.tasks), {}
        sizes = list(self.widths.values())
        for modality in ("text", "audio"):
            labels = self._memory(modality).labels[batch.index]
            parts = zip(self.tasks, labels.split(sizes, 1), truth.split(sizes, 1), strict=True)
            losses |= {f"{modality}/{task}": weighted_loss(task, values[modality][task], *pair) for task, *pair in parts}
        return losses

    def lr_factor(self, name: str) -> float:
        return self.audio_lr_factor if name.startswith("audio.") else 1.0

    def prepare(self, sentiment: Tensor, emotions: Tensor, training: Tensor) -> None:
        truth = signed_labels(sentiment, emotions, self.tasks).masked_fill(~training[:, None], torch.nan)
        for branch in self.memories:
            self._memory(branch).reset(truth)

    def begin(self, stage: str, epoch: int) -> None:
        self.epoch = epoch

    def remember(self, batch: Batch, output: HeadOutput) -> None:
        """Generate labels with the centres of the previous step; then store this batch's features and recompute the centres."""
        if self.epoch >= 2:
            fusion = self._memory("fusion")
            truth, distances = fusion.labels[batch.index], fusion.distance(self.latest["fusion"])
            for modality in ("text", "audio"):
                memory = self._memory(modality)
                made = made_labels(truth, distances, memory.distance(self.latest[modality]), self.limits)
                can_tell = fusion.has_centres & memory.has_centres
                memory.follow(batch.index, torch.where(can_tell, made, truth), self.epoch)
        for branch in self.memories:
            self._memory(branch).store(batch.index, self.latest[branch])


class Memory(nn.Module):
    """Memory of a branch about the training split, in buffers that checkpoints leave out. K is the number of targets."""

    labels: Tensor  # (N, K), NaN where unlabelled
    features: Tensor  # (N, d), 0 until the utterance was seen
    positive: Tensor  # (K, d) centre of the utterances with labels above 0
    negative: Tensor  # (K, d) centre of those with labels below 0

    def __init__(self, width: int, targets: int) -> None:
        super().__init__()
        self.register_buffer("labels", torch.zeros(0, targets), persistent=False)
        self.register_buffer("features", torch.zeros(0, width), persistent=False)
        self.register_buffer("positive", torch.zeros(targets, width), persistent=False)
        self.register_buffer("negative", torch.zeros(targets, width), persistent=False)

    def reset(self, labels: Tensor) -> None:
        """Forget everything and start from these (N, K) labels."""
        self.labels, self.features = labels.clone(), labels.new_zeros(len(labels), self.features.shape[1])
        self.positive, self.negative = torch.zeros_like(self.positive), torch.zeros_like(self.negative)

    @property
    def has_centres(self) -> Tensor:
        """(K,) bool, True for targets of which positive and negative utterances have been seen. Only these have distances."""
        return self.positive.any(-1) & self.negative.any(-1)

    def distance(self, features: Tensor) -> Tensor:
        """Compute the relative distance (‖F − neg‖ − ‖F − pos‖) / ‖F − pos‖ of features F to the centres, (B, d) → (B, K)."""
        positive, negative = ((features[:, None] - centre).norm(dim=-1) for centre in (self.positive, self.negative))
        return (negative - positive) / (positive + EPSILON)

    def follow(self, index: Tensor, made: Tensor, epoch: int) -> None:
        """Move the labels towards the generated ones `made` (B, K), in epoch n by 2 / (n + 1) of the way."""
        self.labels[index] = ((epoch - 1) * self.labels[index] + 2 * made) / (epoch + 1)

    def store(self, index: Tensor, features: Tensor) -> None:
        """Store (B, d) features and recompute the centres."""
        self.features[index] = features
        self.positive = self._centre(self.labels > 0, self.positive)
        self.negative = self._centre(self.labels < 0, self.negative)

    def _centre(self, members: Tensor, before: Tensor) -> Tensor:
        """Average the features of the members (N, K) of each target, (K, d); targets without members keep `before`."""
        count = members.sum(0)[:, None]
        return torch.where(count > 0, members.T.to(self.features.dtype) @ self.features / count.clamp(min=1), before)


class Branch(nn.Module):
    """One branch: dropout, Linear and ReLU give the features; Linear and ReLU follow, and a Linear per task."""

    def __init__(self, dim: int, width: int, widths: Mapping[str, int], dropout: float) -> None:
        super().__init__()
        self.features = nn.Sequential(Dropout(dropout), nn.Linear(dim, width), nn.ReLU())
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.outputs = LinearOutputs(width, widths)

    def forward(self, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute (B, d) features of (B, D) inputs, and task → (B, width) predictions."""
        features = self.features(inputs)
        return features, self.outputs(self.hidden(features))


def made_labels(truth: Tensor, fusion: Tensor, modality: Tensor, limits: Tensor) -> Tensor:
    """Generate the labels of a modality: y, shifted by the ratio and by the difference of its relative distance to the fused one's.

    Source: the authors' code, ½ · (d_m / d_f) · y + ½ · (y + d_m − d_f).

    Args:
        truth: (B, K) true labels y.
        fusion: (B, K) relative distances d_f of the fused features.
        modality: (B, K) relative distances d_m of the modality's features.
        limits: (K,) largest absolute values.
    """
    made = 0.5 * modality / (fusion + EPSILON) * truth + 0.5 * (truth + modality - fusion)
    return made.clamp(-limits, limits)


def weighted_loss(task: str, values: Tensor, labels: Tensor, truth: Tensor) -> Tensor:
    """Compute the loss of a modality, weighted by the difference of generated and true labels; a scalar.

    Args:
        task: Decides the loss: L1 for sentiment, binary cross-entropy for emotions.
        values: (B, width) predictions or logits.
        labels: (B, width) generated labels, NaN where unlabelled.
        truth: (B, width) true labels, NaN where unlabelled.
    """
    known = ~(labels.isnan() | truth.isnan())
    labels, truth = torch.where(known, labels, 0), torch.where(known, truth, 0)  # NaN times a gradient of 0 is NaN
    if task == "msa":
        losses = (values.float() - labels).abs()
    else:
        losses = functional.binary_cross_entropy_with_logits(values.float(), (labels + 1) / 2, reduction="none")
    return labelled_mean((labels - truth).abs().tanh() * losses, known)
