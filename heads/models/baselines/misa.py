"""MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment Analysis (Hazarika, Zimmermann and Poria, ACM MM
2020), https://arxiv.org/abs/2005.03545.

Reproduced: utterance vectors, the private and shared subspaces, fusion by one transformer layer over the four vectors, and all three
losses that the original adds (difference, similarity as central moment discrepancy, reconstruction). The original's discriminator has
weight 0 and is left out. Without video there is one pair of modalities for similarity, and there are three pairs for difference.

Not reproduced: the fine-tuning of BERT (on MOSEI from layer 9 on). The original's audio features are 74 wide, and its LSTMs as wide as
their input; here a Linear brings the features to that width first. Emotions are an extension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models.base import Aux, Head, HeadOutput, predictions
from heads.models.baselines._encoder import TORCH_EPSILON, EncoderLayer, LinearOutputs, SequenceLSTM
from heads.models.inputs import InputOptions
from heads.models.options import dropout_rate
from heads.models.parts.layers import masked_mean, zero_padding
from heads.models.parts.randomness import Dropout


@dataclass(frozen=True, kw_only=True)
class MISAOptions(InputOptions):
    """Options of MISA. The defaults are the original's."""

    dim: int = 128  # width of the subspaces
    audio_dim: int = 74  # width of audio in its LSTMs
    heads: int = 2  # of the fusion's attention
    ffn: int = 2048  # inner width of the fusion's feed-forward network
    fusion_dropout: float = dropout_rate(0.1)
    output_dropout: float = dropout_rate(0.5)
    difference: float = 0.3  # weight of the loss that keeps the subspaces apart
    similarity: float = 1.0  # weight of the loss that brings the modalities' shared codes together
    reconstruction: float = 1.0  # weight of the loss that makes the codes keep what was there


class MISA(Head):
    """MISA: each modality has a private and a shared code; the four codes attend to each other and are concatenated."""

    Options = MISAOptions
    packable = False
    smallest_batch = 2

    def __init__(self, options: MISAOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when text or audio is missing, or the attention heads do not divide the width."""
        super().__init__(dims, task, labels)
        self.expect_modalities("misa", dims)
        dim, self.options = options.dim, options
        self.audio = UtteranceLSTM(dims["audio"], options.audio_dim)
        widths = {"text": dims["text"], "audio": self.audio.width}
        self.project = nn.ModuleDict({m: nn.Sequential(nn.Linear(w, dim), nn.ReLU(), nn.LayerNorm(dim)) for m, w in widths.items()})
        self.private = nn.ModuleDict({modality: nn.Sequential(nn.Linear(dim, dim), nn.Sigmoid()) for modality in widths})
        self.shared = nn.Sequential(nn.Linear(dim, dim), nn.Sigmoid())
        self.decode = nn.ModuleDict({modality: nn.Linear(dim, dim) for modality in widths})
        sizes = (dim, options.heads, options.ffn)
        self.fusion = EncoderLayer(*sizes, options.fusion_dropout, nn.ReLU, options.fusion_dropout, TORCH_EPSILON)
        self.join = nn.Sequential(nn.Linear(4 * dim, 2 * dim), Dropout(options.output_dropout), nn.ReLU())
        self.outputs = LinearOutputs(2 * dim, self.widths)

    def forward(self, batch: Batch) -> HeadOutput:
        vectors = {modality: self.project[modality](vector) for modality, vector in self._vectors(batch).items()}
        private = {modality: self.private[modality](vector) for modality, vector in vectors.items()}
        shared = {modality: self.shared(vector) for modality, vector in vectors.items()}
        codes = torch.stack([*private.values(), *shared.values()], 1)
        joined = self.join(self.fusion(codes, torch.ones_like(codes[..., 0], dtype=torch.bool)).flatten(1))
        losses = self._losses(vectors, private, shared) if self.training else {}
        return predictions(self.outputs(joined), Aux(losses=losses))

    def _vectors(self, batch: Batch) -> dict[str, Tensor]:
        """Encode each modality as one vector per utterance, (B, width)."""
        audio = zero_padding(batch.features["audio"], batch.masks["audio"])
        return {
            "text": masked_mean(batch.features["text"], batch.masks["text"]),
            "audio": self.audio(audio, batch.masks["audio"]),
        }

    def _losses(self, vectors: Mapping[str, Tensor], private: Mapping[str, Tensor], shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the three weighted losses; arguments are modality → (B, d)."""
        apart = [(private[modality], shared[modality]) for modality in vectors] + list(combinations(private.values(), 2))
        alike = [discrepancy(*pair) for pair in combinations(shared.values(), 2)]
        kept = [(self.decode[m](private[m] + shared[m]) - vector).float().square().mean() for m, vector in vectors.items()]
        return {
            "difference": self.options.difference * torch.stack([difference(*pair) for pair in apart]).sum(),
            "similarity": self.options.similarity * torch.stack(alike).mean(),
            "reconstruction": self.options.reconstruction * torch.stack(kept).mean(),
        }


class UtteranceLSTM(nn.Module):
    """Sequence encoder: the last states of two bidirectional LSTMs with a LayerNorm between them; (B, T, D) → (B, 4d)."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.width = 4 * dim
        self.narrow = nn.Linear(width, dim)
        self.first, self.second = SequenceLSTM(dim, dim, bidirectional=True), SequenceLSTM(2 * dim, dim, bidirectional=True)
        self.norm = nn.LayerNorm(2 * dim)
        for name, parameter in self.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        steps, first = self.first(self.narrow(inputs), mask)
        _, second = self.second(self.norm(steps), mask)
        return torch.cat([first, second], -1)


def difference(first: Tensor, second: Tensor) -> Tensor:
    """Compute the difference loss, 0 where no feature of one code covaries over the batch with a feature of the other.

    Both codes are centred over the batch, and each row is divided by its norm, which gets no gradient. The loss is the scalar
    mean((Aᵀ B)²) over the (d, d) entries.

    Args:
        first: (B, d).
        second: (B, d).
    """
    centred = [(codes - codes.mean(0)).float() for codes in (first, second)]
    scaled = [codes / (torch.linalg.vector_norm(codes.detach(), dim=1, keepdim=True) + 1e-6) for codes in centred]
    return (scaled[0].t() @ scaled[1]).square().mean()


def discrepancy(first: Tensor, second: Tensor, moments: int = 5) -> Tensor:
    """Compute the central moment discrepancy of two samples (B, d): ‖E x − E y‖ + Σ_{k=2} ‖E (x − E x)ᵏ − E (y − E y)ᵏ‖, a scalar.

    The sum ends at k = `moments`. Source: Zellinger et al. 2017, https://arxiv.org/abs/1702.08811, for values in [0, 1], which sigmoids
    give.
    """
    first, second = first.float(), second.float()
    means = first.mean(0), second.mean(0)
    centred = first - means[0], second - means[1]
    apart = [means[0] - means[1]] + [centred[0].pow(k).mean(0) - centred[1].pow(k).mean(0) for k in range(2, moments + 1)]
    return torch.linalg.vector_norm(torch.stack(apart), dim=1).sum()
