"""Dropout as one kernel for GPUs, written in Triton, which comes with PyTorch's packages for CUDA. `fused_dropout` calls it.

Each value finds its own random bits: the kernel neither reads nor writes a mask. The bits are those of `heads.models.parts.hashing`.
"""

from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from heads.models.parts.hashing import MIX_FACTORS, factor

_FIRST, _SECOND = tl.constexpr(MIX_FACTORS[0]), tl.constexpr(MIX_FACTORS[1])
_VALUES = 1024
"""Values that a program of the kernel computes."""


_SIZES = ["rows", "width", "rows_of_run", "runs", "size1", "size2"]
_STRIDES = ["key0", "key1", "threshold0", "threshold1", "scale0", "scale1"]


@triton.jit(do_not_specialize=_SIZES + _STRIDES)
def _kernel(
    inputs,
    base,
    outputs,
    keys,
    thresholds,
    scales,
    rows,
    width,
    rows_of_run,
    runs,
    size1,
    size2,
    key0,
    key1,
    threshold0,
    threshold1,
    scale0,
    scale1,
    FACTOR0: tl.constexpr,
    FACTOR1: tl.constexpr,
    FACTOR2: tl.constexpr,
    FACTOR3: tl.constexpr,
    HAS_BASE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_row = row < rows
    run, place = row // rows_of_run, row % rows_of_run
    run0, run1 = run // runs, run % runs
    key = tl.load(keys + run0 * key0 + run1 * key1, mask=is_row, other=0)
    threshold = tl.load(thresholds + run0 * threshold0 + run1 * threshold1, mask=is_row, other=0)
    scale = tl.load(scales + run0 * scale0 + run1 * scale1, mask=is_row, other=0).to(inputs.dtype.element_ty)
    key += (place // (size1 * size2) + 1).to(tl.int64) * FACTOR0
    key += (place // size2 % size1 + 1).to(tl.int64) * FACTOR1
    key += (place % size2 + 1).to(tl.int64) * FACTOR2
    word = key[:, None] + ((column // 4 + 1).to(tl.int64) * FACTOR3)[None, :]
    word = word.to(tl.uint64, bitcast=True)
    word = (word ^ (word >> 32)) * _FIRST
    word = (word ^ (word >> 32)) * _SECOND
    word = word ^ (word >> 32)
    bits = (word >> (column % 4 * 16).to(tl.uint64)[None, :]).to(tl.uint16).to(tl.int16, bitcast=True)

    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    is_value = is_row[:, None] & (column < width)[None, :]
    value = tl.load(inputs + offset, mask=is_value, other=0)
    multiplier = tl.where(bits >= threshold[:, None], scale[:, None], 0.0)
    if value.dtype != tl.float64:  # half precision is multiplied as PyTorch does it: in single precision, rounded once
        value, multiplier = value.to(tl.float32), multiplier.to(tl.float32)
    result = (value * multiplier).to(inputs.dtype.element_ty)
    if HAS_BASE:
        result = result.to(outputs.dtype.element_ty) + tl.load(base + offset, mask=is_value, other=0).to(outputs.dtype.element_ty)
    tl.store(outputs + offset, result, mask=is_value)


def dropped(inputs: Tensor, base: Tensor | None, threshold: Tensor, scale: Tensor, keys: Tensor) -> Tensor:
    """Do what `heads.models.parts.fused_dropout.dropped` says, by one launch. `inputs` and `base` are contiguous."""
    shape = inputs.shape[keys.dim() :]
    outputs = torch.empty_like(inputs, dtype=inputs.dtype if base is None else torch.promote_types(inputs.dtype, base.dtype))
    *outer, width = shape
    sizes = [1] * (3 - len(outer)) + outer
    factors = [0] * (3 - len(outer)) + [factor(1 + number) for number in range(len(shape))]  # 0 for dimensions that are not there
    columns = min(triton.next_power_of_2(width), _VALUES)
    per_program = _VALUES // columns
    rows_of_run = sizes[0] * sizes[1] * sizes[2]
    rows = rows_of_run * keys.numel()
    draw = [_in_two_dims(tensor) for tensor in (keys, threshold, scale)]
    if rows * width:
        grid = (triton.cdiv(rows, per_program), triton.cdiv(width, columns))
        launch: Any = _kernel
        launch[grid](
            *(inputs, inputs if base is None else base, outputs, *draw),
            *(rows, width, rows_of_run, draw[0].shape[1], *sizes[1:]),
            *(stride for tensor in draw for stride in tensor.stride()),
            *factors,
            HAS_BASE=base is not None,
            ROWS=per_program,
            COLUMNS=columns,
            enable_fp_fusion=False,  # the sum is rounded after the product, as by PyTorch's kernels
        )
    return outputs


def _in_two_dims(tensor: Tensor) -> Tensor:
    """Return one value for each run, as a view if the runs have up to two dimensions."""
    return tensor[(None,) * (2 - tensor.dim())] if tensor.dim() <= 2 else tensor.reshape(1, -1)
