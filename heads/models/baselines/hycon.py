"""HyCon: Hybrid Contrastive Learning of Tri-Modal Representation for Multimodal Sentiment Analysis (Mai, Zeng, Zheng and Hu,
TAFFC 2022; arXiv v1 of 2021), https://arxiv.org/abs/2109.01797.

Three contrastive terms beside the loss of the task shape the embeddings of text and audio: between utterances within a modality
(intra), between utterances across modalities (inter), and between the modalities of one utterance (semi).

Reproduced: the objective of arXiv v1. Its authors published no code; the objective follows later re-implementations, which agree on it.
The weights of the terms, the width of the encoders and all training settings are not known; ours are our choice. Not reproduced: the
selection of hard pairs, which the journal version adds; video; the fine-tuning of BERT. No positions are added, because the features
already encode them.

Emotions are our extension, with the same terms: utterances with the same six labels form one class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, permutations

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models.base import Aux, Head, HeadOutput, predictions
from heads.models.baselines._encoder import EncoderLayer, LinearOutputs
from heads.models.inputs import InputOptions
from heads.models.losses import labelled_mean
from heads.models.options import dropout_rate
from heads.models.parts.layers import last_step, stacked, zero_padding
from heads.models.parts.randomness import Dropout

EPSILON = 1e-8
"""Least denominator of a contrastive ratio."""


@dataclass(frozen=True, kw_only=True)
class HyConOptions(InputOptions):
    """Options of HyCon."""

    dim: int = 128  # width of encoders and embeddings
    layers: int = 1  # of each modality's encoder
    heads: int = 4  # of its attention
    ffn: int = 512  # width inside its feed-forward layers
    dropout: float = dropout_rate(0.1)  # in the encoders and before the output
    margin: float = 0.8  # the similarity that two modalities of a class are to have
    intra: float = 0.1  # weight of the term between utterances within a modality
    inter: float = 0.1  # weight of the term between utterances across modalities
    semi: float = 0.1  # weight of the term between the modalities of one utterance


class HyCon(Head):
    """HyCon: one encoder per modality; predictions are made from the sum of their embeddings."""

    Options = HyConOptions
    smallest_batch = 2
    takes_more = True

    def __init__(self, options: HyConOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when a modality is missing or an option is out of range."""
        super().__init__(dims, task, labels)
        self.expect_modalities("hycon", dims)
        self.options = options
        self.encoders = nn.ModuleDict({modality: Encoder(options, width) for modality, width in dims.items()})
        self.hidden = nn.Sequential(nn.Linear(options.dim, options.dim), nn.ReLU(), Dropout(options.dropout))
        self.outputs = LinearOutputs(options.dim, self.widths)

    def forward(self, batch: Batch) -> HeadOutput:
        embeddings = {m: encoder(batch.features[m], batch.masks[m]) for m, encoder in self.encoders.items()}
        fused = self.hidden(torch.stack(list(embeddings.values())).sum(0))
        return predictions(self.outputs(fused), Aux(losses=self._losses(embeddings, batch) if self.training else {}))

    def _losses(self, embeddings: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        options = self.options
        units = [functional.normalize(values.float(), dim=-1) for values in embeddings.values()]
        within = torch.stack([unit @ unit.T for unit in units])
        across = torch.stack([one @ other.T for one, other in permutations(units, 2)])
        together = torch.stack([(one * other).sum(-1) for one, other in combinations(units, 2)])
        losses = {"semi": options.semi * (together - options.margin).square().mean()}
        for task in self.tasks:
            same, different = pairs(task, batch)
            losses[f"intra/{task}"] = options.intra * pair_loss(within, same, different, 1.0)
            losses[f"inter/{task}"] = options.inter * pair_loss(across, same, different, options.margin)
        return losses


class Encoder(nn.Module):
    """Transformer encoder whose last real step becomes a non-negative embedding, so that cosines are in [0, 1]."""

    def __init__(self, options: HyConOptions, width: int) -> None:
        """Raise InputError when the attention heads do not divide the width."""
        super().__init__()
        self.project = nn.Linear(width, options.dim)
        sizes = options.dim, options.heads, options.ffn, options.dropout
        self.layers = stacked(options.layers, "layers", lambda _: EncoderLayer(*sizes))
        self.embed = nn.Linear(options.dim, options.dim)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Embed sequences (B, T, D) with their mask (B, T) as (B, d)."""
        steps = self.project(zero_padding(inputs, mask))
        for layer in self.layers:
            steps = layer(steps, mask)
        return functional.softplus(self.embed(last_step(steps, mask)))


def pairs(task: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """Find the other utterances of the same class and those of another class, two (B, B) bool; unlabelled ones are in neither.

    The classes are sentiments ≥ 0 and < 0; for emotions, utterances with the same six labels form a class.
    """
    labels = (batch.sentiment >= 0)[:, None] if task == "msa" else batch.emotions
    labelled = ~(batch.sentiment[:, None] if task == "msa" else batch.emotions).isnan().any(-1)
    places = torch.arange(len(labelled), device=labelled.device)
    pair = labelled[:, None] & labelled & (places[:, None] != places)
    same = (labels[:, None] == labels).all(-1)
    return pair & same, pair & ~same


def pair_loss(similarity: Tensor, same: Tensor, different: Tensor, target: float) -> Tensor:
    """Compute −Σ₊ s / Σ₊₋ s + mean₊ (s − target)² for each anchor, and the mean over the anchors that have a positive.

    The scalar result is at least −1.

    Source: arXiv v1, equations 6 to 14, after re-implementations.

    Args:
        similarity: (M, B, B) cosines of anchors (rows) and other utterances, for each of M pairings of modalities.
        same: (B, B), True where the other utterance is a positive.
        different: (B, B), True where it is a negative.
        target: Similarity to a positive that the loss aims at.
    """
    near, all_ = similarity * same, similarity * (same | different)
    count = same.sum(-1)
    refinement = ((similarity - target).square() * same).sum(-1) / count.clamp(min=1)
    losses = refinement - near.sum(-1) / all_.sum(-1).clamp(min=EPSILON)
    return labelled_mean(losses.mean(0), count > 0)
