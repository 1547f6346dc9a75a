"""DeMT (Xu et al., AAAI 2023, https://arxiv.org/abs/2301.03461): tasks read each other by attention, on sequences instead of images.

DeMT has neither experts nor gates. Deviations from the original:

- The mixer's deformable convolution, which samples an image at learned offsets, becomes a depthwise convolution over time of kernel 3
  and a pointwise one.
- LayerNorm replaces BatchNorm, whose statistics would depend on the padding and on the other clips in the batch.
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
    """Options of DeMT. The defaults are the original's, except that there are as many blocks as in UniTSE."""

    width: int = 256  # inside a block
    heads: int = 4
    dropout: float = dropout_rate(0.0)  # of attention weights
    blocks: int = 2  # the original has 1


class DeMT(Mixture):
    """Stack of blocks, each with a mixer per task and attention between the tasks."""

    Options = DeMTOptions

    def __init__(self, options: DeMTOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raise InputError when the options contradict each other or are out of range."""
        super().__init__()
        self.tasks = tasks
        self.blocks = stacked(options.blocks, "blocks", lambda _: DeMTBlock(options, dim, tasks))

    def forward(self, inputs: Tensor, mask: Tensor) -> Mixed:
        streams: Mapping[str, Tensor] = dict.fromkeys(self.tasks, inputs)
        for block in self.blocks:
            streams = block(streams, mask)
        return Mixed(streams)


class DeMTBlock(nn.Module):
    """One block: each task's tokens are mixed over time, all tasks' tokens attend to each other, and each task reads the result."""

    def __init__(self, options: DeMTOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raise InputError when the attention heads do not divide the width."""
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
        """Apply the block; task → (B, T, d) in and out, zero in the padding."""
        tokens = {task: self.mix[task](self.narrow[task](inputs), mask) for task, inputs in streams.items()}
        # Time is the outer order and the task the inner one: dropout depends on a token's place, which must not depend on the padding.
        together, real = torch.stack(list(tokens.values()), 2).flatten(1, 2), mask.repeat_interleave(len(tokens), 1)
        interacted = self.interact(together, together, real)
        read = {task: own + self.read[task](own, interacted, real) for task, own in tokens.items()}
        return {task: zero_padding(self.widen[task](values), mask) for task, values in read.items()}


class Mixer(nn.Module):
    """Mixer over time: Linear, GELU, LayerNorm; then, with a residual, a depthwise convolution of kernel 3 and the same three again."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.depthwise = nn.Parameter(torch.empty(3, width).uniform_(-(3**-0.5), 3**-0.5))  # as torch starts a convolution
        self.second = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Mix over time, (B, T, w) → (B, T, w); real steps do not depend on the padding."""
        first = self.first(inputs)
        convolved = (windows(first, mask).unflatten(-1, (3, -1)) * self.depthwise).sum(-2)
        return first + self.second(convolved)


class Attend(nn.Module):
    """Attention followed by a Linear and LayerNorm, without a residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.after = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))

    def forward(self, queries: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """Let queries (B, Tq, w) read a source (B, T, w) with its mask (B, T); gives (B, Tq, w)."""
        return self.after(self.attention(queries, source, mask))
