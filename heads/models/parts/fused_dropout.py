"""Dropout as one operation, which a GPU does in one kernel each way. Its masks are those of `heads.models.parts.hashing`.

It draws its mask again in the backward pass, so that none is kept. On a CPU, where drawing a mask takes longer than reading it,
`heads.models.parts.randomness` keeps the mask and multiplies by it.
"""

import functools
import sys
from typing import Any

import torch
from torch import Tensor

from heads.models.parts.hashing import scaled_mask

MOST_DIMS = 4
"""The kernel knows the places of values in so many dimensions."""

_library = torch.library.Library("heads", "DEF")
_library.define("dropped(Tensor inputs, Tensor? base, Tensor threshold, Tensor scale, Tensor keys) -> Tensor")


def dropped(inputs: Tensor, base: Tensor | None, threshold: Tensor, scale: Tensor, keys: Tensor) -> Tensor:
    """Multiply `inputs` by a dropout mask, in one pass, and add `base`. This function has gradients and can be batched by vmap.

    Args:
        inputs: (*keys.shape, *shape), at most `MOST_DIMS` dimensions in `shape`; each key draws a mask of `shape`.
        base: As `inputs`, or None. Its dtype may be another one.
        threshold: int16, the shape of `keys`.
        scale: float32, the shape of `keys`.
        keys: int64.
    """
    return _Dropped.apply(inputs, base, threshold, scale, keys)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(inputs: Tensor, base: Tensor | None, threshold: Tensor, scale: Tensor, keys: Tensor) -> Tensor:
        base = None if base is None else base.contiguous()
        return torch.ops.heads.dropped(inputs.contiguous(), base, threshold, scale, keys)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        values, base, *drawn = inputs
        ctx.dtypes = values.dtype, None if base is None else base.dtype
        ctx.save_for_backward(*drawn)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        of_inputs, of_base = ctx.dtypes
        masked = dropped(gradient.to(of_inputs), None, *ctx.saved_tensors)
        return masked, None if of_base is None else gradient.to(of_base), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *tensors: Tensor | None) -> tuple[Tensor, int]:
        def runs_first(tensor: Tensor | None, dim: int | None) -> Tensor | None:
            if tensor is None:
                return None
            return tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)

        return _Dropped.apply(*map(runs_first, tensors, in_dims)), 0


def _by_operations(inputs: Tensor, base: Tensor | None, threshold: Tensor, scale: Tensor, keys: Tensor) -> Tensor:
    """Do the same with PyTorch's operations."""
    masked = inputs * scaled_mask(inputs.shape[keys.dim() :], threshold, scale, keys, inputs.dtype)
    return masked if base is None else masked + base


def _by_kernel(*tensors: Any) -> Tensor:
    from heads.models.parts import dropout_kernel

    with torch.cuda.device_of(tensors[0]):
        return dropout_kernel.dropped(*tensors)


def _without_values(inputs: Tensor, base: Tensor | None, threshold: Tensor, scale: Tensor, keys: Tensor) -> Tensor:
    return torch.empty_like(inputs, dtype=inputs.dtype if base is None else torch.promote_types(inputs.dtype, base.dtype))


_library.impl("dropped", _by_operations, "CompositeExplicitAutograd")
_library.impl("dropped", _by_kernel, "CUDA")
torch.library.register_fake("heads::dropped", _without_values, lib=_library)


@functools.cache
def is_ready(device: torch.device) -> bool:
    """Return whether the device has the kernel, and the kernel the bits of PyTorch's operations; a GPU without it is told of once.

    PyTorch's meta device stands for the GPU of this machine.
    """
    if device.type == "meta" and torch.cuda.is_available():
        return is_ready(torch.device("cuda"))
    if device.type != "cuda":
        return False
    try:
        with torch.no_grad():
            reason = "" if _is_exact(device) else "its numbers are not those of the operations that it stands for"
    except Exception as error:  # of Triton, of the compilers that it calls, or of the driver
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    if reason:
        print(f"warning: {device} does dropout in ten small kernels, not in one, which takes longer: {reason}.", file=sys.stderr)
    return not reason


def _is_exact(device: torch.device) -> bool:
    """Compare the kernel with PyTorch's operations on small tensors of all numbers of dimensions."""
    draw = {"keys": torch.tensor([-7, 2**62 + 5], device=device), "scale": torch.tensor([1.25, 2.0], device=device)}
    draw["threshold"] = torch.tensor([-19661, 0], dtype=torch.int16, device=device)
    for dims in range(1, MOST_DIMS + 1):
        inputs = torch.arange(1.0, 1 + 2 * 7**dims, device=device).view(2, *(7,) * dims)
        for base in (None, inputs / 3):
            if not torch.equal(torch.ops.heads.dropped(inputs, base, **draw), _by_operations(inputs, base, **draw)):
                return False
    return True
