"""Where random numbers inside a head come from: one generator per run, also when many runs are trained as one batched model.

`torch.nn.Dropout` draws from one generator per device, so that a run's masks would depend on what else draws. Seeds are in the
run's configuration; what they start is in `heads.train`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from data.errors import InputError

_GENERATORS: ContextVar[Sequence[torch.Generator]] = ContextVar("generators")

_Draw = Callable[[torch.Size, Tensor, Tensor, torch.Generator | None], Tensor]


@contextlib.contextmanager
def drawing_from(generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Random numbers inside the block come from these: one generator for each run of a pack, or the only one."""
    token = _GENERATORS.set(generators)
    try:
        yield
    finally:
        _GENERATORS.reset(token)


class Dropout(nn.Module):
    """Sets each value to 0 with probability `rate` and divides the others by 1 - rate, in training only.

    The rate is a buffer, so that the runs of a pack may have different ones. Outside `drawing_from` the masks come from torch's
    default generator.
    """

    def __init__(self, rate: float) -> None:
        """Raises InputError unless 0 ≤ rate < 1."""
        super().__init__()
        if not 0 <= rate < 1:
            raise InputError(f"A dropout rate is {rate}, expected 0 to below 1.")
        self.is_active = rate > 0
        self.register_buffer("rate", torch.tensor(float(rate)), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or not self.is_active:
            return inputs
        return inputs * _Random.apply(inputs.detach(), self.rate, _kept)


def gaussian_like(values: Tensor) -> Tensor:
    """Independent standard normal numbers in the shape and dtype of `values`."""
    return _Random.apply(values.detach(), values.detach().new_zeros(()), _gaussian)


class _Random(torch.autograd.Function):
    """Numbers drawn for a tensor. Below vmap, each run's part is drawn from that run's generator."""

    @staticmethod
    def forward(like: Tensor, parameter: Tensor, draw: _Draw) -> Tensor:
        generators = _GENERATORS.get(())
        return draw(like.shape, like, parameter, generators[0] if generators else None)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> tuple[None, None, None]:
        return None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, like: Tensor, parameter: Tensor, draw: _Draw) -> tuple[Tensor, int]:
        like_dim, parameter_dim, _ = in_dims
        shape = like.shape if like_dim is None else like.movedim(like_dim, 0).shape[1:]
        parameters = parameter.expand(info.batch_size) if parameter_dim is None else parameter
        parts = [draw(shape, like, one, generator) for one, generator in zip(parameters, _GENERATORS.get(), strict=True)]
        return torch.stack(parts), 0


def _kept(shape: torch.Size, like: Tensor, rate: Tensor, generator: torch.Generator | None) -> Tensor:
    # 16 random bits a value: drawing whole words is 7 times as fast on a CPU as drawing floats, and a rate is met to 1e-5.
    count = shape.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=like.device)
    words.random_(torch.iinfo(torch.int64).min, None, generator=generator)
    threshold = (rate * 65536 - 32768).round().to(torch.int16)
    kept = words.view(torch.int16)[:count].view(shape) >= threshold
    return kept.to(like.dtype) * (1 / (1 - rate)).to(like.dtype)


def _gaussian(shape: torch.Size, like: Tensor, _: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device).normal_(generator=generator)
