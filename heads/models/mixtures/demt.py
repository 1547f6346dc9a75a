"""DeMT (Xu et al., AAAI 2023, https://arxiv.org/abs/2301.03461): tasks read each other by attention, on sequences instead of images.

No experts and no gates. What differs from the original: the mixer's deformable convolution, which samples an image at learned offsets,
is a depthwise convolution over time of kernel 3 and a pointwise one; and LayerNorm stands where it has BatchNorm, whose statistics
would depend on the padding and on the company of an utterance.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.errors import InputError
from heads.models.mixtures.base import Mixed, Mixture
from heads.models.options import dropout_rate
from heads.models.parts.experts import windows
from heads.models.parts.layers import Attention, stacked, zero_padding


@dataclass(frozen=True, kw_only=True)
class DeMTOptions:
    """What can be chosen; the defaults are the original's, but for the blocks, which are as many as UniTSE's."""

    width: int = 256  # inside a block
    heads: int = 4
    dropout: float = dropout_rate(0.0)  # of attention weights
    blocks: int = 2  # the original has 1


class DeMT(Mixture):
    """Blocks of a mixer per task and attention between the tasks."""

    Options = DeMTOptions

    def __init__(self, options: DeMTOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raises InputError when options do not fit together."""
        super().__init__()
        self.tasks = tasks
        self.blocks = stacked(options.blocks, "blocks", lambda _: DeMTBlock(options, dim, tasks))

    def forward(self, inputs: Tensor, mask: Tensor) -> Mixed:
        streams: Mapping[str, Tensor] = dict.fromkeys(self.tasks, inputs)
        for block in self.blocks:
            streams = block(streams, mask)
        return Mixed(streams)


class DeMTBlock(nn.Module):
    """Each task's tokens are mixed over time; all tasks' tokens together attend to each other; each task reads the result."""

    def __init__(self, options: DeMTOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raises InputError when the attention heads do not divide the width."""
        super().__init__()
        width = options.width
        if width < 1:
            raise InputError(f"The width inside a DeMT block is {width}, expected 1 or more.")
        self.narrow = nn.ModuleDict({task: nn.Sequential(nn.Linear(dim, width), nn.LayerNorm(width)) for task in tasks})
        self.mix = nn.ModuleDict({task: Mixer(width) for task in tasks})
        self.interact = Attend(width, options.heads, options.dropout)
        self.read = nn.ModuleDict({task: Attend(width, options.heads, options.dropout) for task in tasks})
        self.widen = nn.ModuleDict({task: nn.Linear(width, dim) for task in tasks})

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Task → (B, T, d) in and out; zero in the padding."""
        tokens = {task: self.mix[task](self.narrow[task](inputs), mask) for task, inputs in streams.items()}
        # one time step of all tasks after the other, so that a token's place, on which dropout depends, does not depend on the padding
        together, real = torch.stack(list(tokens.values()), 2).flatten(1, 2), mask.repeat_interleave(len(tokens), 1)
        interacted = self.interact(together, together, real)
        read = {task: own + self.read[task](own, interacted, real) for task, own in tokens.items()}
        return {task: zero_padding(self.widen[task](values), mask) for task, values in read.items()}


class Mixer(nn.Module):
    """Pointwise, GELU, norm; then the same once more with a depthwise convolution of kernel 3 before it, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.depthwise = nn.Parameter(torch.empty(3, width).uniform_(-(3**-0.5), 3**-0.5))  # as torch starts a convolution
        self.second = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """(B, T, w) → (B, T, w); what is real does not depend on the padding."""
        first = self.first(inputs)
        convolved = (windows(first, mask).unflatten(-1, (3, -1)) * self.depthwise).sum(-2)
        return first + self.second(convolved)


class Attend(nn.Module):
    """Attention, then a linear layer and LayerNorm; no residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.after = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))

    def forward(self, queries: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """(B, Tq, w) and (B, T, w) with its mask (B, T) → (B, Tq, w)"""
        return self.after(self.attention(queries, source, mask))
