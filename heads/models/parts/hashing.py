"""The hash behind the random numbers of heads: 64 random bits as a function of a key and of a place in a tensor, and dropout masks.

`heads.models.parts.dropout_kernel` computes the same masks in one kernel on a GPU.
"""

import functools

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
MIX_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""Source: splitmix64 (Steele, Lea and Flood 2014), with the shifts at 32."""


def scaled_mask(shape: tuple[int, ...], threshold: Tensor, scale: Tensor, key: Tensor, dtype: torch.dtype) -> Tensor:
    """Draw what dropout multiplies by, 0 or the scale. A random word of 64 bits is enough for four values.

    Args:
        shape: Shape of what is multiplied.
        threshold: int16; 16 random bits below it give 0. Its shape is that of `key`, and so is that of `scale`.
        scale: float32.
        key: int64. Each of several keys has a mask.
        dtype: Of the result.

    Returns:
        (*key.shape, *shape)
    """
    drawn = words((*shape[:-1], -(-shape[-1] // 4)), key)
    threshold, scale = (one.view(one.shape + (1,) * len(shape)) for one in (threshold, scale))
    return (drawn.view(torch.int16)[..., : shape[-1]] >= threshold) * scale.to(dtype)


def words(shape: tuple[int, ...], key: Tensor) -> Tensor:
    """Draw int64 random words (*key.shape, *shape). Each depends on its key and its place in `shape`, not on the size of `shape`.

    The places in all dimensions, each multiplied by an odd factor of its dimension, are added to the key, and the sum is mixed once.
    """
    *outer, last = shape
    table = _places(tuple(1 << (size - 1).bit_length() for size in outer), 0, key.device)  # few sizes, because tables are kept
    sums = key.view(key.shape + (1,) * len(outer)) + table[tuple(map(slice, outer))]
    return _mixed(sums.unsqueeze(-1) + _places((1 << (last - 1).bit_length(),), len(outer), key.device)[:last])


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
        table = table.unsqueeze(-1) + torch.arange(1, size + 1, device=device) * factor(1 + number)
    return table


@functools.cache
def factor(number: int) -> int:
    """Return an odd factor, as an int64: for 0 that of the numbers of draws, for n that of the n-th dimension, counted from 1."""
    word = (1 + number) * _GOLDEN % 2**64
    for each in MIX_FACTORS:
        word = (word ^ word >> 32) * each % 2**64
    return _signed((word ^ word >> 32) | 1)


def _signed(number: int) -> int:
    """Return the int64 with the last 64 bits of a number."""
    return (number + 2**63) % 2**64 - 2**63


def _mixed(sums: Tensor) -> Tensor:
    """Mix words by a bijection in which each output bit depends on every input bit. Overwrites its argument."""
    lower, upper = sums.unsqueeze(-1).view(torch.int32).unbind(-1)  # on machines that store the lower half first, as all of torch's do
    for each in MIX_FACTORS:
        lower.bitwise_xor_(upper)
        sums.mul_(_signed(each))
    lower.bitwise_xor_(upper)
    return sums
