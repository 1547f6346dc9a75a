"""Random numbers inside a head: dropout and normal noise. Each number is a function of a key and of its place in the tensor alone.

The dropout mask for time step 7 of utterance 3 is the same whatever the padding of the batch, and whatever runs are trained beside this
one. A run in a pack (many runs trained as one batched model) therefore draws the same numbers as it does alone. `torch.nn.Dropout`
cannot do this, because it draws one stream of numbers per device. `heads.training.plan` makes the keys, `heads.models.parts.hashing`
makes numbers of them.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from data.errors import InputError
from heads.models.parts import fused_dropout
from heads.models.parts.hashing import factor, scaled_mask, words


class _Source:
    """The keys of the draws that follow from one key, an int64 without dimensions; or, for N parts, from N keys (N,)."""

    def __init__(self, key: Tensor, drawn: int = 0) -> None:
        self._key, self.drawn = key, drawn
        self._ahead: dict[int, tuple[Tensor, ...]] = {}

    def next(self) -> Tensor:
        """Return the key of the next draw; those of many draws are made at once."""
        first = self.drawn // _AHEAD * _AHEAD
        if first not in self._ahead:
            self._ahead = {first: (self._key.unsqueeze(-1) + _of_draws(first, self._key.device)).unbind(-1)}
        self.drawn += 1
        return self._ahead[first][self.drawn - 1 - first]

    def parts(self, count: int, draws: int) -> "_Source":
        """Return the source of parts that draw at once what they would draw one after another; this one goes on after all of them."""
        keys = self._key.unsqueeze(-1) + _of_parts(count, draws, self._key.device)
        made = _Source(keys, self.drawn)
        self.drawn += count * draws
        return made


_AHEAD = 64
"""Number of draws whose keys are made at once."""


_SOURCE: ContextVar[_Source] = ContextVar("source")

_Draw = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(values, first parameter, second, key) → numbers (*key.shape, *values.shape)."""


@contextlib.contextmanager
def drawing_from(key: Tensor) -> Iterator[None]:
    """Derive all random numbers inside the block from `key`, an int64 without dimensions; under `torch.func.vmap`, one key per run."""
    token = _SOURCE.set(_Source(key))
    try:
        yield
    finally:
        _SOURCE.reset(token)


@contextlib.contextmanager
def drawing_in_parts(count: int, draws: int, device: torch.device) -> Iterator[None]:
    """Draw for some parts at once; inside the block, what is drawn for has a dimension in front for them.

    Each part gets the numbers that it would get if the parts were computed one after another.

    Args:
        count: Number of parts.
        draws: Number of draws of each part.
        device: Of what is drawn.

    Raises:
        RuntimeError: There were more draws in the block, or fewer.
    """
    if draws == 0:
        yield
        return
    source = _source(device).parts(count, draws)
    token, last = _SOURCE.set(source), source.drawn + draws
    try:
        yield
    finally:
        _SOURCE.reset(token)
    if source.drawn != last:
        raise RuntimeError(f"A part draws {source.drawn - last + draws} times, not {draws}.")


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
        return self._dropped(inputs, None)

    def added(self, base: Tensor, inputs: Tensor) -> Tensor:
        """Return base + dropout(inputs), both (…), in one pass."""
        if not self.training or not self.is_active:
            return base + inputs
        return self._dropped(inputs, base)

    def _dropped(self, inputs: Tensor, base: Tensor | None) -> Tensor:
        key = _source(inputs.device).next()
        threshold, scale = self.threshold.expand(key.shape), self.scale.expand(key.shape)
        of_part = inputs.detach()[(0,) * key.dim()]
        if of_part.dim() <= fused_dropout.MOST_DIMS and fused_dropout.is_ready(inputs.device):
            return fused_dropout.dropped(inputs, base, threshold, scale, key)
        mask = _Random.apply(of_part, threshold, scale, key, _mask)
        return inputs * mask if base is None else torch.addcmul(base, inputs, mask)


def gaussian_like(values: Tensor) -> Tensor:
    """Draw independent standard normal numbers in the shape and dtype of `values`."""
    key = _source(values.device).next()
    return _Random.apply(values.detach()[(0,) * key.dim()], key, key, key, _gaussian)


def uniform_like(values: Tensor) -> Tensor:
    """Draw independent uniform numbers, 0 ≤ u < 1 in steps of 2⁻²⁴, in the shape and dtype of `values`."""
    key = _source(values.device).next()
    return _Random.apply(values.detach()[(0,) * key.dim()], key, key, key, _uniform)


def _source(device: torch.device) -> _Source:
    source = _SOURCE.get(None)
    return _Source(torch.empty((), dtype=torch.int64, device=device).random_()) if source is None else source


class _Random(torch.autograd.Function):
    """Random numbers for a tensor. Under vmap, the numbers of all runs are drawn at once, each run's from its own key."""

    @staticmethod
    def forward(like: Tensor, first: Tensor, second: Tensor, key: Tensor, draw: _Draw) -> Tensor:
        return draw(like, first, second, key)

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
        each = (
            one.expand(info.batch_size, *one.shape) if dim is None else one.movedim(dim, 0)
            for one, dim in zip(tensors, other_dims, strict=True)
        )
        of_one_run = like if like_dim is None else like.select(like_dim, 0)
        return _Random.apply(of_one_run, *each, draw), 0


def _mask(like: Tensor, threshold: Tensor, scale: Tensor, key: Tensor) -> Tensor:
    """Draw what dropout multiplies by: 0 or the scale."""
    return scaled_mask(like.shape, threshold, scale, key, like.dtype)


def _uniform(like: Tensor, _: Tensor, __: Tensor, key: Tensor) -> Tensor:
    """Draw uniform numbers from 24 of 64 bits, as many as float32 holds."""
    return ((words(like.shape, key) >> 40) & (2**24 - 1)).to(like.dtype) / 2**24


def _gaussian(like: Tensor, _: Tensor, __: Tensor, key: Tensor) -> Tensor:
    """Draw normal numbers from two uniform numbers of 32 bits each. Source: Box and Muller 1958."""
    halves = words(like.shape, key).view(torch.int32).unflatten(-1, (-1, 2)).double()
    uniform = (halves + (2**31 + 0.5)) / 2**32
    return ((-2 * uniform[..., 0].log()).sqrt() * (2 * torch.pi * uniform[..., 1]).cos()).to(like.dtype)


@functools.cache
def _of_draws(first: int, device: torch.device) -> Tensor:
    """Return what is added to a key for each of some draws, from number `first` on, counted from 0; (_AHEAD,) int64."""
    return torch.arange(first + 1, first + 1 + _AHEAD, device=device) * factor(0)


@functools.cache
def _of_parts(count: int, draws: int, device: torch.device) -> Tensor:
    """Return what is added to a key for each of some parts that draw so many times, (count,) int64."""
    return torch.arange(count, device=device) * draws * factor(0)
