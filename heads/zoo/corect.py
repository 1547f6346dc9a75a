"""CORECT: Conversation Understanding using Relational Temporal Graph Neural Networks with Auxiliary Cross-Modality Interaction
(Nguyen et al., EMNLP 2023), https://arxiv.org/abs/2311.04507.

Reproduced: encoders of utterances, the relational temporal graph (one node for each utterance and modality; 8 relations without
video, 15 with it), pairwise cross-modality stacks over the utterances of a video, the classifier on both. The graph is dense, a
mask for each relation; no graph library.

Different: utterances are masked means of frozen features; padding is masked everywhere, which the original does not do. One
speaker, so no speaker embedding: it would be one vector for all. Emotions are six sigmoids; the original was run for one emotion
at a time, which `per_emotion` does, six networks side by side. Sentiment is an extension.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from data.labels import EMOTIONS
from data.lookup import lookup
from data.tensors import Batch
from heads.base import WIDTHS, Head, HeadOutput, predictions
from heads.layers import Attention, PostNorm, masked_mean, stacked, zero_padding
from heads.randomness import Dropout
from heads.zoo.crossmodal import PairwiseEncoder, StackOptions, ordered_modalities

DIRECTIONS = ("code", "paper")


@dataclass(frozen=True, kw_only=True)
class CORECTOptions:
    """The defaults are those of the authors' script for IEMOCAP; those for MOSEI were not published."""

    width: int = 100  # of an utterance in each modality, and of the classifier
    text_layers: int = 2  # of the transformer over the utterances' texts
    text_ffn: int = 2048
    text_dropout: float = 0.5
    past: int = 11  # utterances of the window, wp
    future: int = 5  # utterances of the window, wf
    direction: str = "code"  # paper: a node hears `past` before it and `future` after; code: `future` - 1 before and `past` after
    graph_heads: int = 7
    crossmodal_layers: int = 2
    memory_layers: int = 3
    crossmodal_heads: int = 2
    classifier_dropout: float = 0.5
    per_emotion: bool = False  # a network for each emotion, as the original was run; else one with six outputs


class CORECT(Head):
    """Utterances hear their neighbours in a graph and the other modality in cross-attention."""

    Options = CORECTOptions
    context = True

    def __init__(self, options: CORECTOptions, dims: Mapping[str, int], task: str) -> None:
        """Raises InputError when text or audio is missing or an option is out of its range."""
        super().__init__(dims, task)
        lookup(dict.fromkeys(DIRECTIONS), options.direction, "direction")
        if min(options.past, options.future) < 0:
            raise InputError(f"The window is {options.past} past and {options.future} future utterances, expected 0 or more of each.")
        outputs = {"all": {task: WIDTHS[task] for task in self.tasks}}
        if options.per_emotion:
            names = [name for task in self.tasks for name in (EMOTIONS if task == "mer" else [task])]
            outputs = {name: {name: 1} for name in names}
        self.networks = nn.ModuleDict({name: Network(options, dims, widths) for name, widths in outputs.items()})

    def forward(self, batch: Batch) -> HeadOutput:
        vectors = {m: by_video(masked_mean(batch.features[m], batch.masks[m]), batch.dialogue) for m in self.dims}
        real = batch.dialogue >= 0
        found = {name: output for network in self.networks.values() for name, output in network(vectors, real).items()}
        if "mer" in self.tasks and "mer" not in found:
            found["mer"] = torch.cat([found.pop(emotion) for emotion in EMOTIONS], -1)
        return predictions({task: by_utterance(output, batch.dialogue, len(batch.index)) for task, output in found.items()})


class Network(nn.Module):
    """{modality: (V, L, D)} → {output: (V, L, its width)}"""

    def __init__(self, options: CORECTOptions, dims: Mapping[str, int], widths: Mapping[str, int]) -> None:
        super().__init__()
        modalities = ordered_modalities("corect", dims)
        width, count = options.width, len(modalities)
        self.encoders = nn.ModuleDict(
            {m: TextEncoder(options, dims[m]) if m == "text" else SignalEncoder(dims[m], width) for m in modalities}
        )
        self.graph = RelationalGraph(options, modalities)
        self.crossmodal = PairwiseEncoder(
            width, modalities, lambda _: _stack(options, options.crossmodal_layers), _stack(options, options.memory_layers)
        )
        joined = count * options.graph_heads * width + count * (count - 1) * width
        self.hidden = nn.Sequential(nn.Linear(joined, width), nn.ReLU(), Dropout(options.classifier_dropout))
        self.outputs = nn.ModuleDict({name: nn.Linear(width, size) for name, size in widths.items()})

    def forward(self, vectors: Mapping[str, Tensor], real: Tensor) -> dict[str, Tensor]:
        encoded = {m: encoder(vectors[m], real) for m, encoder in self.encoders.items()}
        crossed = self.crossmodal(encoded, dict.fromkeys(encoded, real))
        hidden = self.hidden(torch.cat([self.graph(encoded, real), *crossed.values()], -1))
        return {name: layer(hidden) for name, layer in self.outputs.items()}


class TextEncoder(nn.Module):
    """(V, L, D) → (V, L, d): a transformer over the utterances of a video, then a Linear. Its order of utterances does not matter."""

    def __init__(self, options: CORECTOptions, dim: int) -> None:
        super().__init__()
        self.layers = stacked(options.text_layers, "text_layers", lambda _: EncoderLayer(dim, options.text_ffn, options.text_dropout))
        self.project = nn.Linear(dim, options.width)

    def forward(self, inputs: Tensor, real: Tensor) -> Tensor:
        for layer in self.layers:
            inputs = layer(inputs, real)
        return self.project(inputs)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each inside a residual and before a LayerNorm; attention heads by `encoder_heads`."""

    def __init__(self, dim: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(dim, encoder_heads(dim), dropout)
        self.after_attention, self.after_feed_forward = PostNorm(dim, dropout), PostNorm(dim, dropout)
        self.feed_forward = nn.Sequential(nn.Linear(dim, ffn), nn.ReLU(), Dropout(dropout), nn.Linear(ffn, dim))

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        attended = self.after_attention(inputs, self.attention(inputs, inputs, mask))
        return self.after_feed_forward(attended, self.feed_forward(attended))


def encoder_heads(dim: int) -> int:
    """The smallest of 7 to 14 that divides the width, as in the authors' code; 1 if none does."""
    return next((heads for heads in range(7, 15) if dim % heads == 0), 1)


class SignalEncoder(nn.Sequential):
    """(V, L, D) → (V, L, d), each utterance by itself."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())

    def forward(self, inputs: Tensor, real: Tensor) -> Tensor:
        return super().forward(inputs)


class RelationalGraph(nn.Module):
    """{modality: (V, L, d)} → (V, L, M·heads·d), the nodes of an utterance one after the other."""

    def __init__(self, options: CORECTOptions, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.before, self.after = options.past, options.future
        if options.direction == "code":  # its edges point from the centre of a window to its neighbours, the last one left out
            self.before, self.after = max(options.future - 1, 0), options.past
        self.convolution = RelationalConvolution(options.width, modalities)
        self.attention = GraphAttention(options.width, options.graph_heads)
        self.norm = MaskedBatchNorm(options.width * options.graph_heads)

    def forward(self, nodes: Mapping[str, Tensor], real: Tensor) -> Tensor:
        past, future = windows(real, self.before, self.after)
        convolved = torch.cat(list(self.convolution(nodes, past, future).values()), 1)
        attended = self.attention(convolved, neighbours(past | future, len(nodes)))
        normed = functional.leaky_relu(self.norm(attended, real.repeat(1, len(nodes))))
        return torch.cat(normed.chunk(len(nodes), 1), -1)


def windows(real: Tensor, before: int, after: int) -> tuple[Tensor, Tensor]:
    """Which utterances of its video an utterance hears.

    Args:
        real: (V, L) mask.
        before: Utterances before it, at most.
        after: Utterances after it, at most.

    Returns:
        Two masks (V, L, L), of the past and of the future: [v, i, j] is True where i hears j.
    """
    places = torch.arange(real.shape[1], device=real.device)
    ahead = places - places[:, None]
    past, future = (ahead < 0) & (ahead >= -before), (ahead > 0) & (ahead <= after)
    return real[:, None] & past, real[:, None] & future


def neighbours(heard: Tensor, modalities: int) -> Tensor:
    """All that a node is linked to: its modality in the window, itself, and the other modalities of its utterance.

    Args:
        heard: (V, L, L), as in `windows`.
        modalities: M.

    Returns:
        (V, M·L, M·L), nodes modality by modality.
    """
    itself = torch.eye(heard.shape[-1], dtype=torch.bool, device=heard.device)
    is_same = torch.eye(modalities, dtype=torch.bool, device=heard.device)[:, None, :, None]
    links = torch.where(is_same, (heard | itself)[:, None, :, None], itself[:, None])
    return links.flatten(3).flatten(1, 2)


class RelationalConvolution(nn.Module):
    """x_i ← W_0 x_i + b + Σ_r mean over the neighbours j of relation r of W_r x_j.

    Relations: past, future and same of each modality, and one for each ordered pair of modalities of an utterance.
    Source: Schlichtkrull et al. 2018, https://arxiv.org/abs/1703.06103.
    """

    def __init__(self, width: int, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.root = nn.Linear(width, width)
        temporal = [(time, modality) for modality in modalities for time in ("past", "future", "same")]
        cross = [(source, target) for target in modalities for source in modalities if source != target]
        self.relations = nn.ModuleDict({"_to_".join(r): nn.Linear(width, width, bias=False) for r in (*temporal, *cross)})

    def forward(self, nodes: Mapping[str, Tensor], past: Tensor, future: Tensor) -> dict[str, Tensor]:
        """{modality: (V, L, d)} and masks (V, L, L) as in `windows` → {modality: (V, L, d)}."""
        result = {}
        for target, inputs in nodes.items():
            heard = {"past": _means(past, inputs), "future": _means(future, inputs), "same": inputs}
            heard |= {source: values for source, values in nodes.items() if source != target}
            result[target] = self.root(inputs) + sum(self.relations[f"{r}_to_{target}"](x) for r, x in heard.items())
        return result


def _means(heard: Tensor, inputs: Tensor) -> Tensor:
    """(V, L, d) means over what each utterance hears; zeros where it hears nothing."""
    return heard.to(inputs.dtype) @ inputs / heard.sum(-1, keepdim=True).clamp(min=1)


class GraphAttention(nn.Module):
    """x_i ← W_s x_i + Σ_j softmax_j((W_q x_i)·(W_k x_j) / √d) W_v x_j, for each of several heads of width d.

    Source: Shi et al. 2021, https://arxiv.org/abs/2009.03509.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.skip = (nn.Linear(width, heads * width) for _ in range(4))

    def forward(self, nodes: Tensor, links: Tensor) -> Tensor:
        """(V, N, d) and (V, N, N), True where a row hears a column, at least once in each row → (V, N, heads·d)."""
        query, key, value = (
            layer(nodes).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        weights = scores.masked_fill(~links[:, None], -torch.inf).softmax(-1)
        return self.skip(nodes) + (weights @ value).transpose(1, 2).flatten(2)


class MaskedBatchNorm(nn.Module):
    """Batch normalisation of (V, N, d) whose statistics are those of the real entries."""

    def __init__(self, dim: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """(V, N, d) and its mask (V, N) → (V, N, d) float32."""
        inputs = inputs.float()
        mean, variance = self._statistics(inputs, mask) if self.training else (self.running_mean, self.running_var)
        return (inputs - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias

    def _statistics(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        count = mask.sum()
        mean = zero_padding(inputs, mask).sum((0, 1)) / count
        variance = zero_padding((inputs - mean).square(), mask).sum((0, 1)) / count
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        return mean, variance


def by_video(values: Tensor, dialogue: Tensor) -> Tensor:
    """(B, d) of utterances → (V, L, d), zeros in the padding. `dialogue`: as in `Batch`."""
    return zero_padding(values[dialogue.clamp(min=0)], dialogue >= 0)


def by_utterance(values: Tensor, dialogue: Tensor, count: int) -> Tensor:
    """(V, L, d) → (B, d), for B = `count` utterances, each of which is once in `dialogue`."""
    places = dialogue.flatten()
    order = torch.where(places < 0, count, places).argsort()[:count]
    return values.flatten(0, 1)[order]


def _stack(options: CORECTOptions, layers: int) -> StackOptions:
    return StackOptions(layers=layers, heads=options.crossmodal_heads, causal=False, positions=False)
