"""Makes a loaded encoder fast on a CPU without changing its arithmetic: float32 stays IEEE float32, bfloat16 has float32 sums.

Four changes, each measured in tests/benchmarks/bench_extraction.py:

* Linear layers run through oneDNN with weights packed once, but for float32 on Intel's processors. torch's own float32 path goes
  through MKL, which is the fastest there, and uses AVX2-class kernels on AMD's. `torch.set_float32_matmul_precision("medium")` reaches
  the same kernels as oneDNN's packed weights, but also allows bfloat16 arithmetic on processors with AMX. The operator used here never
  does so unless that setting is on, and `pipeline.encoding.encoders` switches the setting off.
* The convolutional front end of Data2Vec keeps its channels last, so that its layer norms need no transposes, and each strided
  convolution is one or two matrix products over views of its input.
* Its positional convolutions keep their channels last, too: one batched product over the groups of channels.
* Freed memory stays with the process: returning it costs a page fault for every page of the next clip.

Corpora, batches and devices other than the CPU are not known here.
"""

import ctypes
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_MAXIMUM_ERROR = 2e-6
"""Relative error above which a matrix product of this size is not float32 arithmetic (IEEE float32: 4e-7; bfloat16: 3e-3)."""

_SUMMANDS = 256  # 512 gains nothing


class PackedLinear(nn.Module):
    """A linear layer, (…, I) → (…, O), float32 or bfloat16, whose weights oneDNN has laid out for its own kernels.

    Long sums of float32 are added up in pieces of `_SUMMANDS` inputs, because oneDNN accumulates in one register the sums that MKL
    splits. On a full-size Data2Vec this reduces the largest difference to float64 from 8e-6 to 6e-6 (MKL: 5e-6); it costs at most 5 %
    more time.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        reorder = torch.ops.mkldnn._reorder_linear_weight
        self.size = _SUMMANDS if weight.dtype == torch.float32 else weight.shape[1]  # bfloat16 is added up in float32
        self.pieces = [reorder(piece.contiguous(), None) for piece in weight.detach().split(self.size, dim=1)]
        self.bias = bias

    @cached_property
    def weight(self) -> Tensor:
        """The weights in torch's own layout, (O, I), for modules that read them themselves, as WavLM's attention does."""
        return torch.cat([piece.to_dense() for piece in self.pieces], dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        first, *others = zip(self.pieces, inputs.split(self.size, dim=-1), strict=True)
        total = _product(*first, self.bias)
        for piece, part in others:
            total.add_(_product(piece, part, None))
        return total


def _product(weight: Tensor, inputs: Tensor, bias: Tensor | None) -> Tensor:
    """Multiplies by a weight that oneDNN has laid out."""
    return torch.ops.mkldnn._linear_pointwise(inputs.contiguous(), weight, bias, "none", [], "")


@cache
def mkl_is_fastest() -> bool:
    """Whether MKL computes float32 products on an Intel processor.

    There its products of 200 to 1,600 frames take .6 to .9 of the time of oneDNN's packed ones, and are as near to float64.
    """
    processor = Path("/proc/cpuinfo")
    return torch.backends.mkl.is_available() and processor.exists() and "GenuineIntel" in processor.read_text()


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Returns a linear layer, (…, I) → (…, O), of the library that is fastest here for the weight's type."""
    if weight.dtype != torch.float32 or not mkl_is_fastest():
        return PackedLinear(weight, bias)
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


class _StridedConvolution(nn.Module):
    """A 1-d convolution over channels-last input, (B, T, I) → (B, T', O), as matrix products.

    In float32 the kernel is cut into pieces as long as the stride. The j-th piece reads the frames from j·stride on of every window: a
    view of the input, reshaped to (B, T', stride·I). In bfloat16 the kernel stays whole, so that no sum is rounded before its end; its
    windows are copied.
    """

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        self.kernel, self.stride = convolution.kernel_size[0], convolution.stride[0]
        taps = convolution.weight.detach().permute(0, 2, 1)  # (O, kernel, I)
        self.width = self.stride if taps.dtype == torch.float32 else self.kernel
        self.pieces = nn.ModuleList(
            _linear(taps[:, start : start + self.width].flatten(1), convolution.bias if start == 0 else None)
            for start in range(0, self.kernel, self.width)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        batch, frames, channels = inputs.shape
        windows = (frames - self.kernel) // self.stride + 1

        def part(number: int, piece: nn.Module) -> Tensor:
            start = number * self.width
            width = min(self.width, self.kernel - start)
            view = inputs[:, start : start + (windows - 1) * self.stride + width]
            if width != self.stride:
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
        first, *others = [layer.conv for layer in self.layers]
        self.convolutions = nn.ModuleList([_first(first), *(_StridedConvolution(one) for one in others)])

    def forward(self, input_values: Tensor) -> Tensor:
        hidden = input_values[:, :, None]
        for layer, convolution in zip(self.layers, self.convolutions, strict=True):
            hidden = layer.activation(layer.layer_norm(convolution(hidden)))
        return hidden.transpose(1, 2)


def _first(convolution: nn.Conv1d) -> nn.Module:
    """Returns the convolution of the waveform, (B, S, 1) → (B, T, C): in float32 oneDNN's own kernel is best for one input channel."""
    if convolution.weight.dtype == torch.float32:
        return _ChannelsFirst(convolution)
    return _StridedConvolution(convolution)


class _ChannelsFirst(nn.Module):
    """A convolution that keeps its channels in the second place, between transposes."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, inputs: Tensor) -> Tensor:
        return self.convolution(inputs.transpose(1, 2)).transpose(1, 2).contiguous()


class _GroupedConvolution(nn.Module):
    """A 1-d convolution with stride 1 over channels-last input, (B, T, C) → (B, T', C): one batched product over its G groups."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        self.kernel, self.groups, self.padding = convolution.kernel_size[0], convolution.groups, int(convolution.padding[0])
        taps = convolution.weight.detach().unflatten(0, (self.groups, -1))  # (G, O, I, kernel)
        self.taps = nn.Parameter(taps.permute(0, 3, 2, 1).flatten(1, 2).contiguous(), requires_grad=False)  # (G, kernel·I, O)
        self.bias = convolution.bias

    def forward(self, inputs: Tensor) -> Tensor:
        padded = functional.pad(inputs, (0, 0, self.padding, self.padding)).unflatten(2, (self.groups, -1))  # (B, T, G, I)
        windows = padded.unfold(1, self.kernel, 1).permute(2, 0, 1, 4, 3)  # (G, B, T', kernel, I)
        batch, frames = windows.shape[1:3]
        found = torch.bmm(windows.reshape(self.groups, batch * frames, -1), self.taps)
        found = found.unflatten(1, (batch, frames)).permute(1, 2, 0, 3).flatten(2)
        return found if self.bias is None else found + self.bias


class _Position(nn.Module):
    """A layer of Data2Vec's positional embedding, (B, T, C) → (B, T, C)."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.convolution, self.removed = _GroupedConvolution(layer.conv), layer.padding.num_pad_remove
        self.layer_norm, self.activation = layer.layer_norm, layer.activation

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.convolution(hidden)
        return self.activation(self.layer_norm(hidden[:, : hidden.shape[1] - self.removed]))


class ChannelsLastPositions(nn.Module):
    """Data2Vec's positional embedding, (B, T, C) → (B, T, C), computed with the channels last: same weights, same result."""

    def __init__(self, positions: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Position(layer) for layer in positions.layers)

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


def pack(model: Any) -> str:
    """Replaces the linear layers (and Data2Vec's convolutions) of a transformers model on the CPU, in evaluation mode, in place.

    Returns:
        The library that computes the matrix products, and in float32 its error measured on this machine, for the provenance of the
        features.
    """
    is_short = model.dtype == torch.bfloat16
    if not is_short and mkl_is_fastest():
        _keep_channels_last(model)
        return "MKL float32"
    if not (torch.ops.mkldnn._is_mkldnn_bf16_supported() if is_short else torch.backends.mkldnn.is_available()):
        return "torch default"
    error = 0.0 if is_short else product_error()
    if error > _MAXIMUM_ERROR:
        return f"torch default (oneDNN's relative error is {error:.1e} here: not float32)"
    _keep_channels_last(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child.weight, child.bias))
    return "oneDNN bfloat16, packed" if is_short else f"oneDNN float32, packed (relative error {error:.0e} against float64)"


def _keep_channels_last(model: Any) -> None:
    if model.config.model_type == "data2vec-audio":
        model.feature_extractor = ChannelsLastFrontEnd(model.feature_extractor)
        model.encoder.pos_conv_embed = ChannelsLastPositions(model.encoder.pos_conv_embed)


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
