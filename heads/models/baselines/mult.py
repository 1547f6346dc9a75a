"""MulT: Multimodal Transformer for Unaligned Multimodal Language Sequences (Tsai et al., ACL 2019), https://arxiv.org/abs/1906.00295.

Reproduced: temporal convolutions, one crossmodal stack for each ordered pair of modalities, memory stacks, and the residual output
block. Without video there are two crossmodal and two memory stacks, of width d instead of 2d; with a third modality there are 6 and 3.

Deviations: the original has no padding masks and reads the last, possibly padded, time step. Here padding is masked, the last real step
is read, and the causal mask uses real lengths. The original's inputs are GloVe and COVAREP, not frozen encoders' features. It was
published for sentiment; emotions are an extension with a separate output layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models.base import Head, HeadOutput, predictions
from heads.models.baselines._crossmodal import PairwiseEncoder, StackOptions, TemporalConvolution
from heads.models.inputs import InputOptions
from heads.models.options import dropout_rate
from heads.models.parts.layers import last_step
from heads.models.parts.randomness import Dropout

LEAST_MEMORY_LAYERS = 3
"""Minimum number of layers of a memory stack; a crossmodal stack may have fewer."""


@dataclass(frozen=True, kw_only=True)
class MulTOptions(InputOptions):
    """Options of MulT. The defaults are those of the authors' code."""

    width: int = 30  # of every modality after its convolution; MMSA on MOSI: 50
    layers: int = 5  # of a crossmodal stack; a memory stack has at least 3
    heads: int = 5  # MMSA: 10 (MOSI), 6 (MOSEI)
    text_kernel: int = 1  # of the temporal convolution; MMSA: 5
    audio_kernel: int = 1  # of that of every modality but text; MMSA: 5 (MOSI), 1 (MOSEI)
    causal: bool = True  # hides the future in every stack, crossmodal ones included
    positions: bool = True  # sinusoidal, in every stack; MMSA: false
    attention_dropout: float = dropout_rate(0.1)  # of stacks that read text, and of memory stacks
    audio_attention_dropout: float = dropout_rate(0.0)  # of stacks that read another modality than text: it goes by the source
    relu_dropout: float = dropout_rate(0.1)
    residual_dropout: float = dropout_rate(0.1)
    embed_dropout: float = dropout_rate(0.25)  # of what enters a stack
    text_dropout: float = dropout_rate(0.25)  # of the text features; no other modality has it
    output_dropout: float = dropout_rate(0.0)


class MulT(Head):
    """MulT: each modality reads the others by crossmodal attention; predictions are made from its last step."""

    Options = MulTOptions
    takes_more = True

    def __init__(self, options: MulTOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when text or audio is missing or an option is out of range."""
        super().__init__(dims, task, labels)
        self.expect_modalities("mult", dims)
        modalities = tuple(dims)
        kernels = {m: options.text_kernel if m == "text" else options.audio_kernel for m in modalities}
        self.text_dropout = Dropout(options.text_dropout)
        self.convolutions = nn.ModuleDict({m: TemporalConvolution(dims[m], options.width, kernels[m]) for m in modalities})
        memory = _stack(options, max(options.layers, LEAST_MEMORY_LAYERS), options.attention_dropout)
        self.encoder = PairwiseEncoder(options.width, modalities, lambda source: _crossmodal(options, source), memory)
        combined = len(modalities) * (len(modalities) - 1) * options.width
        self.block = nn.Sequential(
            nn.Linear(combined, combined), nn.ReLU(), Dropout(options.output_dropout), nn.Linear(combined, combined)
        )
        self.outputs = nn.ModuleDict({task: nn.Linear(combined, width) for task, width in self.widths.items()})

    def forward(self, batch: Batch) -> HeadOutput:
        features = {**batch.features, "text": self.text_dropout(batch.features["text"])}
        convolved = {m: layer(features[m], batch.masks[m]) for m, layer in self.convolutions.items()}
        streams, masks = ({m: pair[part] for m, pair in convolved.items()} for part in (0, 1))
        encoded = self.encoder(streams, masks)
        combined = torch.cat([last_step(values, masks[m]) for m, values in encoded.items()], -1)
        combined = combined + self.block(combined)
        return predictions({task: layer(combined) for task, layer in self.outputs.items()})


def _crossmodal(options: MulTOptions, source: str) -> StackOptions:
    return _stack(options, options.layers, options.attention_dropout if source == "text" else options.audio_attention_dropout)


def _stack(options: MulTOptions, layers: int, attention_dropout: float) -> StackOptions:
    return StackOptions(
        layers=layers,
        heads=options.heads,
        causal=options.causal,
        positions=options.positions,
        attention_dropout=attention_dropout,
        relu_dropout=options.relu_dropout,
        residual_dropout=options.residual_dropout,
        embed_dropout=options.embed_dropout,
    )
