"""COGMEN: COntextualized GNN based Multimodal Emotion recognitioN (Joshi et al., NAACL 2022),
https://aclanthology.org/2022.naacl-main.306, https://github.com/Exploration-Lab/COGMEN.

Reproduced: modalities concatenated per utterance, a transformer encoder over the utterances of a video, a graph that links each
utterance with its neighbours (relations: earlier, not earlier), relational convolution, graph transformer, BatchNorm and classifier.
Graphs are dense, one per video.

Not reproduced: video; SBERT text and OpenSMILE-style audio (here the means of frozen encoders' features); its settings for MOSEI, which
were tuned per emotion and not published. Added: the encoder does not read padding (the original's does).
The original predicts classes of sentiment; here sentiment is one number, with the loss of the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models.base import Head, HeadOutput, predictions
from heads.models.baselines._dialogue import (
    GraphAttention,
    RelationalConvolution,
    UtteranceEncoder,
    by_utterance,
    dialogue_of,
    real,
    utterances,
)
from heads.models.baselines._encoder import LinearOutputs
from heads.models.inputs import InputOptions
from heads.models.options import dropout_rate, option
from heads.models.parts.randomness import Dropout


@dataclass(frozen=True, kw_only=True)
class COGMENOptions(InputOptions):
    """Options of COGMEN. The defaults are the original's."""

    dim: int = 100  # width of the graph's nodes
    layers: int = 2  # of the encoder
    attention_heads: int | None = None  # of the encoder; if None the least of 7 to 14 that divides its width
    ffn: int = 2048  # inner width of the encoder's feed-forward networks
    encoder_dropout: float = dropout_rate(0.5)
    past: int = option(5, least=0)  # utterances before it that an utterance is linked to
    future: int = option(5, least=0)  # and after it
    graph_heads: int = 1  # of the graph transformer
    output_dropout: float = dropout_rate(0.5)


class COGMEN(Head):
    """COGMEN, published for emotions. Not packable: BatchNorm keeps running statistics."""

    Options = COGMENOptions
    packable = False
    context = True
    smallest_batch = 2
    needs = ()
    takes_more = True

    def __init__(self, options: COGMENOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when an option is out of range or the attention heads do not divide the width of the features."""
        super().__init__(dims, task, labels)
        if min(options.past, options.future) < 0:
            raise InputError(f"A window is {options.past} utterances back and {options.future} ahead, expected 0 or more.")
        for name in ("attention_heads", "graph_heads"):
            if getattr(options, name) is not None and getattr(options, name) < 1:
                raise InputError(f"{name} is {getattr(options, name)}, expected 1 or more.")
        width, dim = sum(dims.values()), options.dim
        self.window = (options.past, options.future)
        self.encode = UtteranceEncoder(width, options.layers, options.attention_heads, options.ffn, options.encoder_dropout)
        self.narrow = nn.Linear(width, dim)
        self.convolve = RelationalConvolution(dim, dim, 2)
        self.attend = GraphAttention(dim, dim, options.graph_heads)
        self.norm = UtteranceNorm(options.graph_heads * dim)
        self.hidden = nn.Sequential(nn.Linear(options.graph_heads * dim, dim), nn.ReLU(), Dropout(options.output_dropout))
        self.outputs = LinearOutputs(dim, self.widths)

    def forward(self, batch: Batch) -> HeadOutput:
        dialogue = dialogue_of(batch)
        mask = real(dialogue)
        joined = torch.cat([utterances(batch, modality) for modality in self.dims], -1)
        nodes = self.narrow(self.encode(joined, mask))
        links = window(mask, *self.window)
        nodes = self.attend(self.convolve(nodes, links), links[0] | links[1])
        rows = by_utterance(nodes, dialogue, len(batch.index))
        hidden = self.hidden(functional.leaky_relu(self.norm(rows)))
        return predictions(self.outputs(hidden))


def window(mask: Tensor, past: int, future: int) -> tuple[Tensor, Tensor]:
    """Make the two relations of the graph: the earlier utterances that each one reads, and the others, itself among them.

    Args:
        mask: (V, L).
        past: Number of utterances before.
        future: Number of utterances after.

    Returns:
        Two (V, L, L) bool, [v, i, j] True where i reads j. Padding is read by itself only.
    """
    steps = torch.arange(mask.shape[1], device=mask.device)
    offset = steps - steps.unsqueeze(1)  # of j from i
    others = mask.unsqueeze(1)
    return (offset < 0) & (offset >= -past) & others, (offset > 0) & (offset <= future) & others | (offset == 0)


class UtteranceNorm(nn.BatchNorm1d):
    """BatchNorm over the utterances (B, d) of a batch. A batch of one has no variance and is normalised as in evaluation."""

    def forward(self, inputs: Tensor) -> Tensor:
        if len(inputs) > 1:
            return super().forward(inputs)
        return functional.batch_norm(inputs, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
