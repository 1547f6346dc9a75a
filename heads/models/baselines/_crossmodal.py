"""MulT's crossmodal transformer stacks, and the parts around them that MulT, MR and CORECT share.

Source of all formulas: Tsai et al., ACL 2019, https://arxiv.org/abs/1906.00295. Sequences are padded at the end. Values in the padding
of a stack's inputs must be finite; they have no influence.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from heads.models.parts.layers import Attention, stacked, zero_padding
from heads.models.parts.randomness import Dropout

LONGEST_WAVE = 10000.0
"""Longest wavelength of the sinusoidal positions, divided by 2π. Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762."""


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """Options of a stack."""

    layers: int
    heads: int
    causal: bool
    positions: bool
    attention_dropout: float = 0.0
    relu_dropout: float = 0.0
    residual_dropout: float = 0.0
    embed_dropout: float = 0.0


def readable(queries: Tensor, source: Tensor, causal: bool) -> Tensor:
    """Make the attention mask (B, Tq, T), True where a query may read a step of the source.

    With `causal`, query i reads steps up to i + |nq - n|, where nq and n are the real lengths of the two sequences.

    Args:
        queries: (B, Tq) mask.
        source: (B, T) mask.
        causal: True hides the future.
    """
    real = source[:, None].expand(-1, queries.shape[1], -1)
    if not causal:
        return real
    shift = (queries.sum(1) - source.sum(1)).abs()[:, None, None]
    ahead = torch.arange(source.shape[1], device=source.device) - torch.arange(queries.shape[1], device=source.device)[:, None]
    return real & (ahead <= shift)


def sinusoids(steps: int, dim: int, device: torch.device) -> Tensor:
    """Compute (T, d) float32 positions: sines in the first half of the width, cosines of the same wavelengths in the second.

    The first step is position 1, as in the authors' code, where 0 is that of padding.
    """
    half = -(-dim // 2)
    rates = torch.exp(torch.arange(half, device=device) * (-math.log(LONGEST_WAVE) / max(half - 1, 1)))
    angles = torch.arange(1, steps + 1, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :dim]


class TemporalConvolution(nn.Module):
    """Convolution over time without bias, (B, T, D) → (B, T, d); output step i reads the input steps from i on.

    Output steps whose kernel reaches beyond the utterance are not real, as in a convolution without padding. The first step is an
    exception: an utterance shorter than the kernel keeps it, and it reads zeros behind the end.
    """

    def __init__(self, width: int, dim: int, kernel: int) -> None:
        """Raise InputError when the kernel is below 1."""
        super().__init__()
        if kernel < 1:
            raise InputError(f"The kernel of a temporal convolution is {kernel}, expected 1 or more.")
        self.reach = kernel - 1
        self.convolution = nn.Conv1d(width, dim, kernel, bias=False)

    def forward(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve (B, T, D) with its mask (B, T) to (B, T, d) with its mask (B, T)."""
        clean = functional.pad(zero_padding(inputs, mask), (0, 0, 0, self.reach))
        is_first = torch.arange(mask.shape[1], device=mask.device) == 0
        real = functional.pad(mask, (0, self.reach))[:, self.reach :] | is_first
        return self.convolution(clean.transpose(1, 2)).transpose(1, 2), real


class MaskedAttention(Attention):
    """Multi-head attention with one mask per query, (B, Tq, T), at least one True in each row."""

    def forward(self, queries: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            self._split(layer(inputs)) for layer, inputs in ((self.query, queries), (self.key, source), (self.value, source))
        )
        if self.training and self.dropout.is_active:  # as in `Attention`
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            read = self.dropout(scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1)) @ value
        else:
            read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None])
        return self.out(read.transpose(1, 2).flatten(2))


class CrossModalLayer(nn.Module):
    """One layer: attention and feed-forward, each with a residual and pre-norm. Queries, keys and values share one LayerNorm."""

    def __init__(self, dim: int, options: StackOptions) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = MaskedAttention(dim, options.heads, options.attention_dropout)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), Dropout(options.relu_dropout), nn.Linear(4 * dim, dim))
        self.dropout = Dropout(options.residual_dropout)

    def forward(self, target: Tensor, source: Tensor | None, mask: Tensor) -> Tensor:
        """Let a target (B, Tq, d) read a source (B, T, d), or itself if None, under a mask (B, Tq, T); gives (B, Tq, d)."""
        queries = self.attention_norm(target)
        keys = queries if source is None else self.attention_norm(source)
        target = target + self.dropout(self.attention(queries, keys, mask))
        return target + self.dropout(self.feed_forward(self.feed_forward_norm(target)))


class CrossModalStack(nn.Module):
    """Stack of layers in which a target sequence reads a source sequence, or itself.

    Both are scaled by √d and get positions and dropout. The source then stays unchanged: keys and values of every layer come from this
    layer-0 source. Without a source, each layer reads the running target.
    """

    def __init__(self, dim: int, options: StackOptions) -> None:
        """Raise InputError when there are no layers or the attention heads do not divide `dim`."""
        super().__init__()
        self.scale, self.causal, self.positions = math.sqrt(dim), options.causal, options.positions
        self.dropout = Dropout(options.embed_dropout)
        self.layers = stacked(options.layers, "layers", lambda _: CrossModalLayer(dim, options))
        self.norm = nn.LayerNorm(dim)

    def forward(self, target: Tensor, mask: Tensor, source: Tensor | None = None, source_mask: Tensor | None = None) -> Tensor:
        """Apply all layers.

        Args:
            target: (B, Tq, d).
            mask: (B, Tq), at least one True in each row.
            source: (B, T, d); None for self-attention.
            source_mask: (B, T), at least one True in each row.

        Returns:
            (B, Tq, d)
        """
        reads = readable(mask, mask if source_mask is None else source_mask, self.causal)
        target, source = self._embed(target), None if source is None else self._embed(source)
        for layer in self.layers:
            target = layer(target, source, reads)
        return self.norm(target)

    def _embed(self, inputs: Tensor) -> Tensor:
        scaled = inputs * self.scale
        if self.positions:
            scaled = scaled + sinusoids(*scaled.shape[1:], scaled.device).to(scaled.dtype)
        return self.dropout(scaled)


class PairwiseEncoder(nn.Module):
    """Encoder of modality pairs: each modality reads every other one in a separate crossmodal stack; a self-attention stack follows.

    {modality: (B, T, d)} → {modality: (B, T, (M - 1)·d)} for M modalities: M (M - 1) crossmodal stacks and M memory stacks.
    """

    def __init__(self, dim: int, modalities: Sequence[str], crossmodal: Callable[[str], StackOptions], memory: StackOptions) -> None:
        """Make M (M - 1) crossmodal stacks and M memory stacks.

        Args:
            dim: Width d of every modality.
            modalities: Names of M ≥ 2 modalities.
            crossmodal: Source modality → options of the stacks that read it.
            memory: Options of the self-attention stacks.
        """
        super().__init__()
        self.crossmodal = nn.ModuleDict(
            {
                target: nn.ModuleDict({s: CrossModalStack(dim, crossmodal(s)) for s in modalities if s != target})
                for target in modalities
            }
        )
        self.memory = nn.ModuleDict({target: CrossModalStack(dim * (len(modalities) - 1), memory) for target in modalities})

    def forward(self, streams: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        encoded = {}
        for target in self.crossmodal:
            stacks = cast(nn.ModuleDict, self.crossmodal[target])
            read = [stack(streams[target], masks[target], streams[s], masks[s]) for s, stack in stacks.items()]
            encoded[target] = self.memory[target](torch.cat(read, -1), masks[target])
        return encoded
