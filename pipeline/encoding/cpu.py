"""Makes a loaded encoder fast on a CPU without changing its arithmetic: float32 stays IEEE float32.

Three changes, each measured in tests/benchmarks/bench_extraction.py:

* Linear layers run through oneDNN with weights packed once. torch's own float32 path goes through MKL, which uses AVX2-class
  kernels on AMD processors. `torch.set_float32_matmul_precision("medium")` reaches the same kernels, but also allows bfloat16
  arithmetic on processors with AMX. The operator used here never does so unless that setting is on, and
  `pipeline.encoding.encoders` switches the setting off.
* The convolutional front end of Data2Vec keeps its channels last, so that its layer norms need no transposes, and each strided
  convolution is one or two matrix products over views of its input.
* Freed memory stays with the process: returning it costs a page fault for every page of the next clip.

Corpora, batches and devices other than the CPU are not known here.
"""

import ctypes
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_MAXIMUM_ERROR = 2e-6
"""Relative error above which a matrix product of this size is not float32 arithmetic (IEEE float32: 4e-7; bfloat16: 3e-3)."""

_SUMMANDS = 256  # 512 gains nothing


class PackedLinear(nn.Module):
    """A linear layer, (…, I) float32 → (…, O), whose weights oneDNN has laid out for its own kernels.

    Long sums are added up in pieces of `_SUMMANDS` inputs, because oneDNN accumulates in one register the sums that MKL splits. On a
    full-size Data2Vec this reduces the largest difference to float64 from 8e-6 to 6e-6 (MKL: 5e-6); it costs at most 5 % more time.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        reorder = torch.ops.mkldnn._reorder_linear_weight
        self.pieces = [reorder(piece.contiguous(), None) for piece in weight.detach().split(_SUMMANDS, dim=1)]
        self.bias = bias

    @cached_property
    def weight(self) -> Tensor:
        """The weights in torch's own layout, (O, I), for modules that read them themselves, as WavLM's attention does."""
        return torch.cat([piece.to_dense() for piece in self.pieces], dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        first, *others = zip(self.pieces, inputs.split(_SUMMANDS, dim=-1), strict=True)
        total = _product(*first, self.bias)
        for piece, part in others:
            total.add_(_product(piece, part, None))
        return total


def _product(weight: Tensor, inputs: Tensor, bias: Tensor | None) -> Tensor:
    """Multiplies by a weight that oneDNN has laid out."""
    return torch.ops.mkldnn._linear_pointwise(inputs.contiguous(), weight, bias, "none", [], "")


class _StridedConvolution(nn.Module):
    """A 1-d convolution over channels-last input, (B, T, I) → (B, T', O), as matrix products.

    The kernel is cut into pieces as long as the stride. The j-th piece reads the frames from j·stride on of every window: a view of the
    input, reshaped to (B, T', stride·I).
    """

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        self.kernel, self.stride = convolution.kernel_size[0], convolution.stride[0]
        taps = convolution.weight.detach().permute(0, 2, 1)  # (O, kernel, I)
        self.pieces = nn.ModuleList(
            PackedLinear(taps[:, start : start + self.stride].flatten(1), convolution.bias if start == 0 else None)
            for start in range(0, self.kernel, self.stride)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        batch, frames, channels = inputs.shape
        windows = (frames - self.kernel) // self.stride + 1

        def part(number: int, piece: nn.Module) -> Tensor:
            start = number * self.stride
            width = min(self.stride, self.kernel - start)
            view = inputs[:, start : start + (windows - 1) * self.stride + width]
            if width < self.stride:
                view = view.unfold(1, width, self.stride).transpose(2, 3)
            return piece(view.reshape(batch, windows, width * channels))

        first, *others = enumerate(self.pieces)
        total = part(*first)
        for number, piece in others:
            total.add_(part(number, piece))
        return total


class ChannelsLastFrontEnd(nn.Module):
    """Data2Vec's feature encoder, (B, S) → (B, C, T), computed with the channels last: same weights, same result."""

    def __init__(self, front_end: Any) -> None:
        super().__init__()
        self.layers: Any = front_end.conv_layers  # layers of transformers, which has no types for them
        self.convolutions = nn.ModuleList(_StridedConvolution(layer.conv) for layer in self.layers[1:])

    def forward(self, input_values: Tensor) -> Tensor:
        first = self.layers[0]
        hidden = first.conv(input_values[:, None]).transpose(1, 2).contiguous()  # one input channel: oneDNN's own kernel is best
        hidden = first.activation(first.layer_norm(hidden))
        for layer, convolution in zip(self.layers[1:], self.convolutions, strict=True):
            hidden = layer.activation(layer.layer_norm(convolution(hidden)))
        return hidden.transpose(1, 2)


def pack(model: Any) -> str:
    """Replaces the linear layers (and Data2Vec's front end) of a float32 transformers model on the CPU, in evaluation mode, in place.

    Returns:
        The library that computes the matrix products and its error measured on this machine, for the provenance of the features.
    """
    if not torch.backends.mkldnn.is_available():
        return "torch default"
    error = product_error()
    if error > _MAXIMUM_ERROR:
        return f"torch default (oneDNN's relative error is {error:.1e} here: not float32)"
    if model.config.model_type == "data2vec-audio":
        model.feature_extractor = ChannelsLastFrontEnd(model.feature_extractor)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child.weight, child.bias))
    return f"oneDNN float32, packed (relative error {error:.0e} against float64)"


def product_error() -> float:
    """Measures the relative error of one packed float32 product against float64, which proves that no shorter arithmetic is in use."""
    generator = torch.Generator().manual_seed(0)
    inputs, weight = torch.randn(64, 768, generator=generator), torch.randn(256, 768, generator=generator)
    exact = functional.linear(inputs.double(), weight.double())
    return float((PackedLinear(weight, None)(inputs) - exact).norm() / exact.norm())


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to keep freed memory instead of returning it to the kernel. Returns True if that worked.

    Source: mallopt(3). Page faults were about 10 % of the time of a clip.
    """
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(m_mmap_max, 0) and mallopt(m_trim_threshold, 2**31 - 1) and mallopt(m_top_pad, 64 << 20))
