"""HyCon: Hybrid Contrastive Learning of Tri-Modal Representation for Multimodal Sentiment Analysis (Mai, Zeng, Zheng and Hu,
TAFFC 2022; arXiv v1 of 2021), https://arxiv.org/abs/2109.01797.

Embeddings of text and audio are pulled together and pushed apart by three contrastive terms beside the loss of the task: between
utterances within a modality (intra), between utterances across modalities (inter), and between the modalities of one utterance (semi).

Reproduced: the objective of arXiv v1. Its authors published no code, so that it was taken from later re-implementations that agree on
it; the weights of the terms, the width of the encoders and all settings of training are not known, and ours. Not reproduced: the
selection of hard pairs that the journal version adds, video, and the fine-tuning of BERT. The features know positions; none are added.

Emotions, in the same terms, are our extension: utterances with the same six labels are of one class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, permutations

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.tensors import Batch
from heads.models.base import Aux, Head, HeadOutput, predictions, require_modalities
from heads.models.baselines._encoder import EncoderLayer, LinearOutputs
from heads.models.losses import labelled_mean
from heads.models.options import dropout_rate
from heads.models.parts.layers import last_step, stacked, zero_padding
from heads.models.parts.randomness import Dropout

EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class HyConOptions:
    """What can be chosen."""

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
    """An encoder per modality; the sum of their embeddings is what is predicted from."""

    Options = HyConOptions
    smallest_batch = 2

    def __init__(self, options: HyConOptions, dims: Mapping[str, int], task: str) -> None:
        """Raise InputError when a modality is missing or an option is out of its range."""
        super().__init__(dims, task)
        require_modalities("hycon", dims)
        self.options = options
        self.encoders = nn.ModuleDict({modality: Encoder(options, width) for modality, width in dims.items()})
        self.hidden = nn.Sequential(nn.Linear(options.dim, options.dim), nn.ReLU(), Dropout(options.dropout))
        self.outputs = LinearOutputs(options.dim, self.tasks)

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
    """Transformer layers; the last real step becomes an embedding without negative numbers, so that cosines are in [0, 1]."""

    def __init__(self, options: HyConOptions, width: int) -> None:
        """Raise InputError when the attention heads do not divide the width."""
        super().__init__()
        self.project = nn.Linear(width, options.dim)
        sizes = options.dim, options.heads, options.ffn, options.dropout
        self.layers = stacked(options.layers, "layers", lambda _: EncoderLayer(*sizes))
        self.embed = nn.Linear(options.dim, options.dim)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T) → (B, d)"""
        steps = self.project(zero_padding(inputs, mask))
        for layer in self.layers:
            steps = layer(steps, mask)
        return functional.softplus(self.embed(last_step(steps, mask)))


def pairs(task: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """Which other utterances are of an utterance's class and which are not, twice (B, B) bool; neither for unlabelled ones.

    Classes are the sentiments from 0 up and those below, and utterances whose six emotions are the same.
    """
    labels = (batch.sentiment >= 0)[:, None] if task == "msa" else batch.emotions
    labelled = ~(batch.sentiment[:, None] if task == "msa" else batch.emotions).isnan().any(-1)
    places = torch.arange(len(labelled), device=labelled.device)
    pair = labelled[:, None] & labelled & (places[:, None] != places)
    same = (labels[:, None] == labels).all(-1)
    return pair & same, pair & ~same


def pair_loss(similarity: Tensor, same: Tensor, different: Tensor, target: float) -> Tensor:
    """Scalar: −Σ₊ s / Σ₊₋ s + mean₊ (s − target)² for each anchor, mean over the anchors that have a positive. At least −1.

    Source: arXiv v1, equations 6 to 14, after re-implementations.

    Args:
        similarity: (M, B, B) cosines of anchors (rows) and others, for each of M pairings of modalities.
        same: (B, B), where the other is a positive.
        different: (B, B), where it is a negative.
        target: What the similarity to a positive is drawn to.
    """
    near, all_ = similarity * same, similarity * (same | different)
    count = same.sum(-1)
    refinement = ((similarity - target).square() * same).sum(-1) / count.clamp(min=1)
    losses = refinement - near.sum(-1) / all_.sum(-1).clamp(min=EPSILON)
    return labelled_mean(losses.mean(0), count > 0)
