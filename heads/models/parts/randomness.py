"""Random numbers inside a head: dropout and normal noise. Each number is a function of a key and of its place in the tensor alone.

The dropout mask for time step 7 of utterance 3 is the same whatever the padding of the batch, and whatever runs are trained beside this
one. A run in a pack (many runs trained as one batched model) therefore draws the same numbers as it does alone. `torch.nn.Dropout`
cannot do this, because it draws one stream of numbers per device. `heads.training.plan` makes the keys.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from data.errors import InputError


class _Source:
    """The keys of the draws that follow from one key, an int64 without dimensions."""

    def __init__(self, key: Tensor) -> None:
        self._key, self._drawn = key, 0
        self._ahead: tuple[Tensor, ...] = ()

    def next(self) -> Tensor:
        """Return the key of the next draw; those of many draws are made at once."""
        place = self._drawn % _AHEAD
        if place == 0:
            self._ahead = (self._key.unsqueeze(-1) + _of_draws(self._drawn, self._key.device)).unbind(-1)
        self._drawn += 1
        return self._ahead[place]


_AHEAD = 64
"""Number of draws whose keys are made at once."""


_SOURCE: ContextVar[_Source] = ContextVar("source")

_Draw = Callable[[torch.Size, Tensor, Tensor, Tensor, Tensor], Tensor]


@contextlib.contextmanager
def drawing_from(key: Tensor) -> Iterator[None]:
    """Derive all random numbers inside the block from `key`, an int64 without dimensions; under `torch.func.vmap`, one key per run."""
    token = _SOURCE.set(_Source(key))
    try:
        yield
    finally:
        _SOURCE.reset(token)


class Dropout(nn.Module):
    """Dropout: sets each value to 0 with probability `rate` and divides the others by 1 - rate, in training only.

    What follows from the rate is in buffers, so that runs of a pack may differ in it. Outside `drawing_from` the masks come from
    torch's default generator. Utterances, time steps and widths must be separate dimensions of the input: if they were flattened into
    one, a value's place, and so its random number, would depend on the padding.
    """

    rate: Tensor  # float32, no dimensions
    threshold: Tensor  # int16, no dimensions; of 16 random bits, numbers below it are dropped, which meets a rate to 1e-5
    scale: Tensor  # float32, no dimensions: 1 / (1 - rate)

    def __init__(self, rate: float) -> None:
        """Raise InputError unless 0 ≤ rate < 1."""
        super().__init__()
        if not 0 <= rate < 1:
            raise InputError(f"A dropout rate is {rate}, expected 0 to below 1.")
        self.is_active = rate > 0
        threshold = min(round(rate * 2**16) - 2**15, 2**15 - 1)
        self.register_buffer("rate", torch.tensor(float(rate)), persistent=False)
        self.register_buffer("threshold", torch.tensor(threshold, dtype=torch.int16), persistent=False)
        self.register_buffer("scale", torch.tensor(1 / (1 - rate)), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or not self.is_active:
            return inputs
        return inputs * _drawn(inputs, _scaled_mask, self.threshold, self.scale)

    def added(self, base: Tensor, inputs: Tensor) -> Tensor:
        """Return base + dropout(inputs), in one pass."""
        if not self.training or not self.is_active:
            return base + inputs
        return torch.addcmul(base, inputs, _drawn(inputs, _scaled_mask, self.threshold, self.scale))


def gaussian_like(values: Tensor) -> Tensor:
    """Draw independent standard normal numbers in the shape and dtype of `values`."""
    return _drawn(values, _gaussian)


def uniform_like(values: Tensor) -> Tensor:
    """Draw independent uniform numbers, 0 ≤ u < 1 in steps of 2⁻²⁴, in the shape and dtype of `values`."""
    return _drawn(values, _uniform)


def _drawn(values: Tensor, draw: _Draw, *parameters: Tensor) -> Tensor:
    values = values.detach()
    source = _SOURCE.get(None)
    if source is None:
        source = _Source(torch.empty((), dtype=torch.int64, device=values.device).random_())
    key = source.next()
    first, second = parameters or (key, key)
    return _Random.apply(values, first, second, key, draw)


class _Random(torch.autograd.Function):
    """Random numbers for a tensor. Under vmap, the numbers of all runs are drawn at once, each run's from its own key."""

    @staticmethod
    def forward(like: Tensor, first: Tensor, second: Tensor, key: Tensor, draw: _Draw) -> Tensor:
        return draw(like.shape, like, first, second, key)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> tuple[None, None, None, None, None]:
        return None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, like: Tensor, *others: Any) -> tuple[Tensor, int]:
        like_dim, *other_dims, _ = in_dims
        *tensors, draw = others
        shape = like.shape if like_dim is None else like.movedim(like_dim, 0).shape[1:]
        each = (one.expand(info.batch_size) if dim is None else one for one, dim in zip(tensors, other_dims, strict=True))
        return draw(shape, like, *each), 0


def _scaled_mask(shape: torch.Size, like: Tensor, threshold: Tensor, scale: Tensor, key: Tensor) -> Tensor:
    """Draw what dropout multiplies by: 0 or the scale. A random word of 64 bits is enough for four values."""
    words = _words((*shape[:-1], -(-shape[-1] // 4)), key)
    threshold, scale = (one.view(one.shape + (1,) * len(shape)) for one in (threshold, scale))
    return (words.view(torch.int16)[..., : shape[-1]] >= threshold) * scale.to(like.dtype)


def _uniform(shape: torch.Size, like: Tensor, _: Tensor, __: Tensor, key: Tensor) -> Tensor:
    """Draw uniform numbers from 24 of 64 bits, as many as float32 holds."""
    return ((_words(shape, key) >> 40) & (2**24 - 1)).to(like.dtype) / 2**24


def _gaussian(shape: torch.Size, like: Tensor, _: Tensor, __: Tensor, key: Tensor) -> Tensor:
    """Draw normal numbers from two uniform numbers of 32 bits each. Source: Box and Muller 1958."""
    halves = _words(shape, key).view(torch.int32).unflatten(-1, (-1, 2)).double()
    uniform = (halves + (2**31 + 0.5)) / 2**32
    return ((-2 * uniform[..., 0].log()).sqrt() * (2 * torch.pi * uniform[..., 1]).cos()).to(like.dtype)


_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Source: splitmix64 (Steele, Lea and Flood 2014), with the shifts at 32."""


def _words(shape: tuple[int, ...], key: Tensor) -> Tensor:
    """Draw int64 random words (*key.shape, *shape). Each depends on its key and its place in `shape`, not on the size of `shape`.

    The places in all dimensions, each multiplied by an odd factor of its dimension, are added to the key, and the sum is mixed once.
    """
    *outer, last = shape
    table = _places(tuple(1 << (size - 1).bit_length() for size in outer), 0, key.device)  # few sizes, because tables are kept
    words = key.view(key.shape + (1,) * len(outer)) + table[tuple(map(slice, outer))]
    return _mixed(words.unsqueeze(-1) + _places((1 << (last - 1).bit_length(),), len(outer), key.device)[:last])


@functools.cache
def _places(sizes: tuple[int, ...], first: int, device: torch.device) -> Tensor:
    """Return the sums of the places in some dimensions, each counted from 1 and multiplied by its factor, (*sizes) int64.

    Args:
        sizes: Sizes of these dimensions.
        first: Number of the first of them.
        device: Device of the result.
    """
    table = torch.zeros((), dtype=torch.int64, device=device)
    for number, size in enumerate(sizes, first):
        table = table.unsqueeze(-1) + torch.arange(1, size + 1, device=device) * _factor(1 + number)
    return table


@functools.cache
def _of_draws(first: int, device: torch.device) -> Tensor:
    """Return what is added to a key for each of some draws, from number `first` on, counted from 0; (_AHEAD,) int64."""
    return torch.arange(first + 1, first + 1 + _AHEAD, device=device) * _factor(0)


@functools.cache
def _factor(number: int) -> int:
    """Return the odd factor of a dimension, or of the numbers of draws: a mixed number, as an int64."""
    word = (1 + number) * _GOLDEN % 2**64
    for factor in (_FIRST, _SECOND):
        word = (word ^ word >> 32) * factor % 2**64
    return _signed((word ^ word >> 32) | 1)


def _signed(number: int) -> int:
    """Return the int64 with the last 64 bits of a number."""
    return (number + 2**63) % 2**64 - 2**63


def _mixed(words: Tensor) -> Tensor:
    """Mix words by a bijection in which each output bit depends on every input bit. Overwrites its argument."""
    lower, upper = words.unsqueeze(-1).view(torch.int32).unbind(-1)  # on machines that store the lower half first, as all of torch's do
    for factor in (_FIRST, _SECOND):
        lower.bitwise_xor_(upper)
        words.mul_(_signed(factor))
    lower.bitwise_xor_(upper)
    return words
