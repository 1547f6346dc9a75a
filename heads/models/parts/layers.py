"""Layers that several heads share: masked means, attention, feed-forward networks, output layers.

Layers that only published baselines share are in `heads.models.baselines`, in modules that start with an underscore.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from heads.models.parts.randomness import Dropout


def zero_padding(inputs: Tensor, mask: Tensor) -> Tensor:
    """Set (B, T, d) to zero where the mask (B, T) is False, whatever stands there, NaN included."""
    return inputs.masked_fill(~mask.unsqueeze(-1), 0)


def masked_mean(inputs: Tensor, mask: Tensor) -> Tensor:
    """Average (B, T, d) over its real time steps, to (B, d); an utterance without any gets zeros."""
    return zero_padding(inputs, mask).sum(-2) / mask.sum(-1, keepdim=True).clamp(min=1)


def last_step(inputs: Tensor, mask: Tensor) -> Tensor:
    """Select the last real time step of (B, T, d), as (B, d)."""
    last = (mask.sum(1) - 1).clamp(min=0)
    return inputs.gather(1, last[:, None, None].expand(-1, 1, inputs.shape[-1])).squeeze(1)


def reverse(inputs: Tensor, mask: Tensor) -> Tensor:
    """Reverse the order of the real steps of (B, T, d), which come first; padding stays where it is."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    places = torch.where(mask, mask.sum(1, keepdim=True) - 1 - steps, steps)
    return inputs.gather(1, places.unsqueeze(-1).expand(inputs.shape))


def pool_steps(inputs: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Average every `size` consecutive time steps; padding does not count.

    Args:
        inputs: (B, T, d).
        mask: (B, T).
        size: 1 changes nothing.

    Returns:
        (B, ⌈T / size⌉, d) means and their mask, True where at least one step was real.
    """
    if size == 1:
        return inputs, mask
    missing = -inputs.shape[1] % size
    parts = functional.pad(inputs, (0, 0, 0, missing)).unflatten(1, (-1, size))
    real = functional.pad(mask, (0, missing)).unflatten(1, (-1, size))
    means = masked_mean(parts.flatten(0, 1), real.flatten(0, 1))
    return means.unflatten(0, parts.shape[:2]), real.any(-1)


class Attention(nn.Module):
    """Multi-head attention with its own projections. Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        """Raise InputError when `heads` is below 1 or does not divide `dim`."""
        super().__init__()
        if heads < 1 or dim % heads:
            raise InputError(f"{heads} attention heads do not divide the width {dim}. Choose a divisor of {dim}.")
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.dropout = Dropout(dropout)

    def forward(self, queries: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """Let each query read the real steps of the source.

        Args:
            queries: (B, Tq, d).
            source: (B, T, d), keys and values.
            mask: (B, T), at least one True in each row.

        Returns:
            (B, Tq, d)
        """
        query, (key, value) = self._split(self.query(queries)), self.keys_and_values(source)
        if self.training and self.dropout.is_active:  # the fused kernels draw their masks from torch's own generator
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            weights = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
            read = self.dropout(weights) @ value
        else:
            read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        return self.out(read.transpose(-3, -2).flatten(-2))

    def keys_and_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return both of a source (B, T, d), each (B, heads, T, d / heads)."""
        return self._split(self.key(source)), self._split(self.value(source))

    def _split(self, inputs: Tensor) -> Tensor:
        """Split the width into attention heads, (B, T, d) → (B, heads, T, d / heads)."""
        return inputs.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


def stacked(count: int, what: str, make: Callable[[int], nn.Module]) -> nn.ModuleList:
    """Make a list of `count` modules; `make` gets the number of each, counted from 1.

    Args:
        count: Number of modules.
        what: Name of the option behind `count`, for the message.
        make: Number → module.

    Raises:
        InputError: `count` is below 1.
    """
    if count < 1:
        raise InputError(f"{what} is {count}, expected 1 or more.")
    return nn.ModuleList(make(number) for number in range(1, count + 1))


class PostNorm(nn.Module):
    """LayerNorm(x + dropout(sublayer(x))) around every sub-block of a fusion layer, as in BERT, whose epsilon is 1e-12."""

    def __init__(self, dim: int, dropout: float, epsilon: float = 1e-12) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(dim, eps=epsilon)

    def forward(self, inputs: Tensor, added: Tensor) -> Tensor:
        return self.norm(self.dropout.added(inputs, added))


class FeedForward(nn.Sequential):
    """Feed-forward network: Linear, ReLU, Linear; (…, d) → (…, d)."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, dim))


def projection(width: int, dim: int) -> nn.Module:
    """Make the layer (…, width) → (…, dim): a Linear, or the identity where the widths are equal."""
    return nn.Identity() if width == dim else nn.Linear(width, dim)


class OutputLayers(nn.Sequential):
    """Output network: dropout, a Linear and a ReLU for each hidden width, then a Linear; (B, d) → (B, width).

    Source: MMML's output network.
    """

    def __init__(self, dim: int, hidden: Sequence[int], width: int, dropout: float) -> None:
        layers: list[nn.Module] = [Dropout(dropout)]
        for inner in hidden:
            layers += [nn.Linear(dim, inner), nn.ReLU()]
            dim = inner
        super().__init__(*layers, nn.Linear(dim, width))
