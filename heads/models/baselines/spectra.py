"""SPECTRA: Speech-Text Pre-training for Spoken Dialog Understanding with Explicit Cross-Modal Alignment (Yu et al., ACL 2023),
https://aclanthology.org/2023.acl-long.438.

Reproduced: the part that is fine-tuned on top of the encoders. Text tokens and audio frames form one sequence, a learned vector marks
the modality of each step, one layer of RoBERTa attends over the whole sequence, and an output network reads the first position.

Not reproduced: the pre-training on 960 hours of dialogue (masked language and acoustic modelling, response selection, times of words),
which is the subject of the paper; WavLM, here Data2Vec; the fine-tuning of the encoders. The fused layer, pre-trained in the original,
starts at random here. Emotions are an extension.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.labels import MOSEI_LABELS, LabelSet
from data.schema import MODALITIES
from data.tensors import Batch
from heads.models.base import Head, HeadOutput, predictions
from heads.models.baselines._encoder import EncoderLayer, LinearOutputs
from heads.models.inputs import InputOptions
from heads.models.options import dropout_rate
from heads.models.parts.layers import projection, stacked, zero_padding


@dataclass(frozen=True, kw_only=True)
class SPECTRAOptions(InputOptions):
    """Options of SPECTRA. The defaults are the original's."""

    dim: int | None = None  # width of the model; that of text if None
    layers: int = 1  # that attend over both modalities
    heads: int = 12
    ffn: int = 3072
    dropout: float = dropout_rate(0.1)


class SPECTRA(Head):
    """SPECTRA: one attention over text and audio together."""

    Options = SPECTRAOptions

    def __init__(self, options: SPECTRAOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when text or audio is missing, or the attention heads do not divide the width."""
        super().__init__(dims, task, labels)
        self.expect_modalities("spectra", dims)
        dim = options.dim or dims["text"]
        self.project = nn.ModuleDict({modality: projection(dims[modality], dim) for modality in MODALITIES})
        self.types = nn.Parameter(0.02 * torch.randn(len(MODALITIES), dim))  # RoBERTa's scale for embeddings
        self.layers = stacked(options.layers, "layers", lambda _: EncoderLayer(dim, options.heads, options.ffn, options.dropout))
        self.hidden = nn.Sequential(nn.Linear(dim, dim), nn.GELU())
        self.outputs = LinearOutputs(dim, self.widths)

    def forward(self, batch: Batch) -> HeadOutput:
        sequence, mask = self.sequence(batch)
        for number, layer in enumerate(self.layers, 1):
            sequence = layer(sequence, mask, only_first=number == len(self.layers))
        return predictions(self.outputs(self.hidden(sequence[:, 0])))

    def sequence(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Make the input of the fused layers: (B, 2 max(Tt, Ta), d) steps with the vector of their modality added, and their mask.

        Steps of text and audio alternate, because dropout depends on a step's place, which must not depend on the padding. The
        attention ignores the order.
        """
        clean = {modality: zero_padding(batch.features[modality], batch.masks[modality]) for modality in MODALITIES}
        typed = [self.project[modality](clean[modality]) + self.types[row] for row, modality in enumerate(MODALITIES)]
        longest = max(steps.shape[1] for steps in typed)
        steps = [functional.pad(one, (0, 0, 0, longest - one.shape[1])) for one in typed]
        real = [functional.pad(mask, (0, longest - mask.shape[1])) for mask in (batch.masks[modality] for modality in MODALITIES)]
        return torch.stack(steps, 2).flatten(1, 2), torch.stack(real, 2).flatten(1, 2)
