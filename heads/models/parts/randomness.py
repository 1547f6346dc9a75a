"""Random numbers inside a head: dropout and normal noise. Each number is a function of a key and of its place in the tensor alone.

The dropout mask for time step 7 of utterance 3 is the same whatever the padding of the batch, and whatever runs are trained beside this
one. A run in a pack (many runs trained as one batched model) therefore draws the same numbers as it does alone. `torch.nn.Dropout`
cannot do this, because it draws one stream of numbers per device. `heads.training.plan` makes the keys.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from data.errors import InputError


class _Source(NamedTuple):
    key: Tensor  # int64, no dimensions
    calls: Iterator[int]  # numbers the draws, from 1


_SOURCE: ContextVar[_Source] = ContextVar("source")

_Draw = Callable[[torch.Size, Tensor, Tensor, Tensor], Tensor]


@contextlib.contextmanager
def drawing_from(key: Tensor) -> Iterator[None]:
    """Derive all random numbers inside the block from `key`, an int64 without dimensions; under `torch.func.vmap`, one key per run."""
    token = _SOURCE.set(_Source(key, count(1)))
    try:
        yield
    finally:
        _SOURCE.reset(token)


class Dropout(nn.Module):
    """Dropout: sets each value to 0 with probability `rate` and divides the others by 1 - rate, in training only.

    The rate is a buffer, so that runs of a pack may differ in it. Outside `drawing_from` the masks come from torch's default generator.
    Utterances, time steps and widths must be separate dimensions of the input: if they were flattened into one, a value's place, and so
    its random number, would depend on the padding.
    """

    rate: Tensor  # float32, no dimensions

    def __init__(self, rate: float) -> None:
        """Raise InputError unless 0 ≤ rate < 1."""
        super().__init__()
        if not 0 <= rate < 1:
            raise InputError(f"A dropout rate is {rate}, expected 0 to below 1.")
        self.is_active = rate > 0
        self.register_buffer("rate", torch.tensor(float(rate)), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or not self.is_active:
            return inputs
        return inputs * _drawn(inputs, self.rate, _kept)


def gaussian_like(values: Tensor) -> Tensor:
    """Draw independent standard normal numbers in the shape and dtype of `values`."""
    return _drawn(values, values.detach().new_zeros(()), _gaussian)


def _drawn(values: Tensor, parameter: Tensor, draw: _Draw) -> Tensor:
    values = values.detach()
    source = _SOURCE.get(None)
    if source is None:
        source = _Source(torch.empty((), dtype=torch.int64, device=values.device).random_(), count(1))
    return _Random.apply(values, parameter, source.key + next(source.calls), draw)


class _Random(torch.autograd.Function):
    """Random numbers for a tensor. Under vmap, the numbers of all runs are drawn at once, each run's from its own key."""

    @staticmethod
    def forward(like: Tensor, parameter: Tensor, key: Tensor, draw: _Draw) -> Tensor:
        return draw(like.shape, like, parameter, key)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> tuple[None, None, None, None]:
        return None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, like: Tensor, parameter: Tensor, key: Tensor, draw: _Draw) -> tuple[Tensor, int]:
        like_dim, parameter_dim, key_dim, _ = in_dims
        shape = like.shape if like_dim is None else like.movedim(like_dim, 0).shape[1:]
        parameters = parameter.expand(info.batch_size) if parameter_dim is None else parameter
        keys = key.expand(info.batch_size) if key_dim is None else key
        return draw(shape, like, parameters, keys), 0


def _kept(shape: torch.Size, like: Tensor, rate: Tensor, key: Tensor) -> Tensor:
    # 16 random bits per value are a quarter of the work, and meet a rate to 1e-5
    words = _words((*shape[:-1], -(-shape[-1] // 4)), key)
    rate = rate.view(rate.shape + (1,) * len(shape))
    kept = words.view(torch.int16)[..., : shape[-1]] >= (rate * 65536 - 32768).round().to(torch.int16)
    return kept.to(like.dtype) * (1 / (1 - rate)).to(like.dtype)


def _gaussian(shape: torch.Size, like: Tensor, _: Tensor, key: Tensor) -> Tensor:
    """Draw normal numbers from two uniform numbers of 32 bits each. Source: Box and Muller 1958."""
    halves = _words(shape, key).view(torch.int32).unflatten(-1, (-1, 2)).double()
    uniform = (halves + (2**31 + 0.5)) / 2**32
    return ((-2 * uniform[..., 0].log()).sqrt() * (2 * torch.pi * uniform[..., 1]).cos()).to(like.dtype)


_GOLDEN = -7046029254386353131
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685
"""Source: splitmix64 (Steele, Lea and Flood 2014), with the shifts at 32."""


def _words(shape: tuple[int, ...], key: Tensor) -> Tensor:
    """Draw int64 random words (*key.shape, *shape). Each depends on its key and its place in `shape`, not on the size of `shape`."""
    words = key
    for size in shape:
        places = torch.arange(1, size + 1, device=key.device) * _GOLDEN
        words = _mixed(words.unsqueeze(-1) + places)
    return words


def _mixed(words: Tensor) -> Tensor:
    """Mix words by a bijection in which each output bit depends on every input bit. Overwrites its argument."""
    shifted = torch.empty_like(words)
    for factor in (_FIRST, _SECOND):
        words.bitwise_xor_(_upper_half(words, shifted)).mul_(factor)
    return words.bitwise_xor_(_upper_half(words, shifted))


def _upper_half(words: Tensor, out: Tensor) -> Tensor:
    return torch.bitwise_right_shift(words, 32, out=out).bitwise_and_(0xFFFFFFFF)
