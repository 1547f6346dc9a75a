"""CORECT: Conversation Understanding using Relational Temporal Graph Neural Networks with Auxiliary Cross-Modality Interaction
(Nguyen et al., EMNLP 2023), https://arxiv.org/abs/2311.04507.

Reproduced: encoders of utterances, the relational temporal graph (one node per utterance and modality; 8 relations without video, 15
with it), pairwise cross-modality stacks over the utterances of a video, and the classifier on both. The graph is dense, one mask per
relation, without a graph library.

Deviations: utterances are masked means of frozen features. Padding is masked everywhere, which the original does not do. There is one
speaker and so no speaker embedding, which would be one vector for all. Emotions are six sigmoids; the original was run for one emotion
at a time, which `per_emotion` does with six networks side by side. The original predicts classes of sentiment; here it is one number.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from data.lookup import expect
from data.tensors import Batch
from heads.models.base import Head, HeadOutput, predictions
from heads.models.baselines._crossmodal import PairwiseEncoder, StackOptions
from heads.models.baselines._dialogue import (
    GraphAttention,
    RelationalConvolution,
    UtteranceEncoder,
    by_utterance,
    dialogue_of,
    real,
    utterances,
)
from heads.models.inputs import InputOptions
from heads.models.options import dropout_rate, option
from heads.models.parts.randomness import Dropout

DIRECTIONS = ("code", "paper")


@dataclass(frozen=True, kw_only=True)
class CORECTOptions(InputOptions):
    """Options of CORECT. The defaults are those of the authors' script for IEMOCAP; those for MOSEI were not published."""

    width: int = 100  # of an utterance in each modality, and of the classifier
    text_layers: int = 2  # of the transformer over the utterances' texts
    text_ffn: int = 2048  # inner width of its feed-forward networks
    text_dropout: float = dropout_rate(0.5)
    past: int = option(11, least=0)  # utterances of the window, wp
    future: int = option(5, least=0)  # utterances of the window, wf
    direction: str = "code"  # paper: a node hears `past` before it and `future` after; code: `future` - 1 before and `past` after
    graph_heads: int = 7
    crossmodal_layers: int = 2
    memory_layers: int = 3  # of the self-attention after each crossmodal stack
    crossmodal_heads: int = 2  # of both
    classifier_dropout: float = dropout_rate(0.5)
    per_emotion: bool = False  # a network for each emotion, as the original was run; else one with six outputs


class CORECT(Head):
    """CORECT: utterances read their neighbours in a graph, and the other modality by cross-attention.

    Not packable, because BatchNorm keeps running statistics.
    """

    Options = CORECTOptions
    packable = False
    context = True
    smallest_batch = 2  # for its BatchNorm
    takes_more = True

    def __init__(self, options: CORECTOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when text or audio is missing or an option is out of range."""
        super().__init__(dims, task, labels)
        self.expect_modalities("corect", dims)
        expect(DIRECTIONS, options.direction, "direction")
        if min(options.past, options.future) < 0:
            raise InputError(f"The window is {options.past} past and {options.future} future utterances, expected 0 or more of each.")
        if options.graph_heads < 1:
            raise InputError(f"graph_heads is {options.graph_heads}, expected 1 or more.")
        outputs = {"all": self.widths}
        if options.per_emotion:
            names = [name for task in self.tasks for name in (labels.emotions if task == "mer" else [task])]
            outputs = {name: {name: 1} for name in names}
        self.networks = nn.ModuleDict({name: Network(options, dims, widths) for name, widths in outputs.items()})

    def forward(self, batch: Batch) -> HeadOutput:
        found = {name: output for network in self.networks.values() for name, output in network(batch).items()}
        if "mer" in self.tasks and "mer" not in found:
            found["mer"] = torch.cat([found.pop(emotion) for emotion in self.labels.emotions], -1)
        return predictions(found)


class Network(nn.Module):
    """One network: a batch → {output: (B, its width)}."""

    def __init__(self, options: CORECTOptions, dims: Mapping[str, int], widths: Mapping[str, int]) -> None:
        super().__init__()
        width, count = options.width, len(dims)
        self.context = UtteranceEncoder(dims["text"], options.text_layers, None, options.text_ffn, options.text_dropout)
        self.encoders = nn.ModuleDict({m: nn.Linear(dim, width) if m == "text" else _perceptron(dim, width) for m, dim in dims.items()})
        self.graph = TemporalGraph(options, count)
        self.norm = nn.BatchNorm1d(options.graph_heads * width)
        memory = _stack(options, options.memory_layers)
        self.crossmodal = PairwiseEncoder(width, tuple(dims), lambda _: _stack(options, options.crossmodal_layers), memory)
        joined = count * (options.graph_heads + count - 1) * width
        self.hidden = nn.Sequential(nn.Linear(joined, width), nn.ReLU(), Dropout(options.classifier_dropout))
        self.outputs = nn.ModuleDict({name: nn.Linear(width, size) for name, size in widths.items()})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute each output by its name, (B, its width)."""
        dialogue = dialogue_of(batch)
        mask = real(dialogue)
        vectors = {modality: utterances(batch, modality) for modality in self.encoders}
        vectors["text"] = self.context(vectors["text"], mask)
        encoded = {modality: layer(vectors[modality]) for modality, layer in self.encoders.items()}
        crossed = torch.cat(list(self.crossmodal(encoded, dict.fromkeys(encoded, mask)).values()), -1)
        nodes = self.graph(torch.stack(list(encoded.values()), 1), mask).transpose(1, 2)
        nodes, crossed = (by_utterance(values, dialogue, len(batch.index)) for values in (nodes, crossed))
        normed = functional.leaky_relu(self.norm(nodes.flatten(0, 1)).unflatten(0, nodes.shape[:2]))
        hidden = self.hidden(torch.cat([normed.flatten(1), crossed], -1))
        return {name: layer(hidden) for name, layer in self.outputs.items()}


class TemporalGraph(nn.Module):
    """Graph over nodes (V, M, L, d), one per utterance and modality, that read their neighbours; gives (V, M, L, heads · d)."""

    def __init__(self, options: CORECTOptions, modalities: int) -> None:
        super().__init__()
        self.before, self.after = options.past, options.future
        if options.direction == "code":  # its edges go from the centre of a window to all its neighbours except the last
            self.before, self.after = max(options.future - 1, 0), options.past
        self.convolve = RelationalConvolution(options.width, options.width, 3 * modalities + modalities * (modalities - 1))
        self.attend = GraphAttention(options.width, options.width, options.graph_heads)

    def forward(self, nodes: Tensor, mask: Tensor) -> Tensor:
        """Apply the graph to (V, M, L, d) with the mask of utterances (V, L); gives (V, M, L, heads · d)."""
        links = relations(mask, nodes.shape[1], self.before, self.after)
        read = self.attend(self.convolve(nodes.flatten(1, 2), links), torch.stack(links).any(0))
        return read.unflatten(1, nodes.shape[1:3])


def relations(mask: Tensor, modalities: int, before: int, after: int) -> list[Tensor]:
    """List the relations of the graph: which node reads which.

    Args:
        mask: (V, L), True = an utterance.
        modalities: M.
        before: Number of utterances before it, in its own modality, that a node reads.
        after: Number of utterances after it.

    Returns:
        3 M + M (M - 1) tensors (V, M·L, M·L) bool, nodes ordered by modality, [v, i, j] True where i reads j: past, future and itself
        for each modality; then, for each ordered pair of modalities, the other modality of the same utterance. Padding is read by
        itself only.
    """
    steps = torch.arange(mask.shape[1], device=mask.device)
    ahead = steps - steps[:, None]
    both = mask[:, None] & mask[:, :, None]
    itself = (ahead == 0).expand_as(both)
    times = (both & (ahead < 0) & (ahead >= -before), both & (ahead > 0) & (ahead <= after), itself)
    temporal = [_block(links, modality, modality, modalities) for modality in range(modalities) for links in times]
    pairs = [(hears, other) for hears in range(modalities) for other in range(modalities) if hears != other]
    return temporal + [_block(both & itself, *pair, modalities) for pair in pairs]


def _block(links: Tensor, row: int, column: int, count: int) -> Tensor:
    """Place (V, L, L) links as the block (row, column) of (V, count·L, count·L), False elsewhere."""
    length = links.shape[-1]
    around = [length * blocks for blocks in (column, count - 1 - column, row, count - 1 - row)]
    return functional.pad(links, around)


def _perceptron(dim: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())


def _stack(options: CORECTOptions, layers: int) -> StackOptions:
    return StackOptions(layers=layers, heads=options.crossmodal_heads, causal=False, positions=False)
