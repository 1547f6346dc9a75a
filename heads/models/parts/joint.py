"""Modules of equal structure as one module, whose tensors have a dimension for them in front: the fusions of all tasks, for example.

On a GPU, launches are what a step of a small head waits for, and the layers of two tasks need as many in one pass as those of one task.
The parameters are stacked in each step, which costs a copy of them and of their gradients; a CPU would only lose time by that.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.models.parts.layers import Attention


def pays(device: torch.device) -> bool:
    """Return whether a device gains by it. PyTorch's meta device stands for the GPU of this machine."""
    return device.type == "cuda" or (device.type == "meta" and torch.cuda.is_available())


def joint(parts: Sequence[Sequence[nn.Module]]) -> list[Any]:
    """Return modules that compute those of several parts at once, for one forward pass.

    Their parameters (N, …) are those of the N parts, stacked. A forward method that works on them has inputs (N, …), counts dimensions
    from the end, and uses parameters by `Linear`, `LayerNorm` and `linear`, or puts dimensions between.

    Args:
        parts: The modules of each part, with the same options in each. `heads.models.parts.randomness.drawing_in_parts` gives each part
            its own random numbers.
    """
    values = [module.value for root in parts[0] for module in root.modules() if isinstance(module, Attention)]
    seconds = {id(parameter) for value in values for parameter in value.parameters()}  # those of `key` are the ones before
    stacked = _stacked([[parameter for root in modules for parameter in root.parameters()] for modules in parts], seconds)
    return [_joint(module, stacked) for module in parts[0]]


def _stacked(every: Sequence[Sequence[Tensor]], seconds: set[int]) -> dict[int, Tensor]:
    """Stack parameters by few large copies.

    Args:
        every: Parameters of each part.
        seconds: Ids of parameters of the first part that are joined to those before them: two matrices (out, in) are one (2·out, in).

    Returns:
        Id of a parameter of the first part → those in its place of all parts, (N, …).
    """
    first, count, stacked = every[0], len(every), dict[int, Tensor]()
    vectors: list[int] = []  # places of parameters
    matrices: dict[torch.Size, list[int]] = {}
    for place, parameter in enumerate(first):
        is_vector = parameter.numel() == parameter.shape[-1]
        (vectors if is_vector else matrices.setdefault(parameter.shape, [])).append(place)
    for places in matrices.values():
        whole = torch.stack([parameters[place] for parameters in every for place in places]).unflatten(0, (count, -1))
        joined = _joined(first, places, seconds)
        for one, piece in zip(joined, whole.split([len(one) for one in joined], 1), strict=True):
            stacked[id(one[0])] = piece.flatten(1, 2)
    if vectors:
        line = torch.cat([parameters[place].flatten() for parameters in every for place in vectors]).unflatten(0, (count, -1))
        joined = _joined(first, vectors, seconds)
        for one, piece in zip(joined, line.split([sum(map(torch.numel, one)) for one in joined], 1), strict=True):
            stacked[id(one[0])] = piece.unflatten(1, (*one[0].shape[:-1], -1))
    return stacked


def _joined(first: Sequence[Tensor], places: Sequence[int], seconds: set[int]) -> list[list[Tensor]]:
    """List the parameters in some places, each with the one that is joined to it."""
    found: list[list[Tensor]] = []
    for parameter in (first[place] for place in places):
        if id(parameter) in seconds:
            found[-1].append(parameter)
        else:
            found.append([parameter])
    return found


def _joint(module: Any, stacked: Mapping[int, Tensor]) -> Any:
    if isinstance(module, nn.Linear):
        return _Linear(stacked[id(module.weight)], None if module.bias is None else stacked[id(module.bias)])
    if isinstance(module, nn.LayerNorm) and module.weight is not None:
        return _LayerNorm(module, stacked[id(module.weight)], stacked[id(module.bias)])
    if not any(True for _ in module.parameters()):
        return module
    result = copy.copy(module)
    children = {name: child for name, child in module._modules.items() if not (isinstance(module, Attention) and name == "value")}
    own = {name: None if value is None else stacked[id(value)] for name, value in module._parameters.items()}
    vars(result).update(_parameters=own, _modules={name: _joint(child, stacked) for name, child in children.items()})
    if isinstance(result, Attention):
        result.__class__ = _Attention
    return result


class _Attention(Attention):
    """Attention whose `key` computes keys and values, by one product."""

    def keys_and_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        both: Tensor = self.key(source)
        key, value = both.unflatten(-1, (2, self.heads, -1)).movedim(-3, 0).transpose(-3, -2).contiguous().unbind()
        return key, value


class _Linear(NamedTuple):
    weight: Tensor  # (N, out, in)
    bias: Tensor | None  # (N, out)

    def __call__(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight, self.bias)


class _LayerNorm(NamedTuple):
    norm: nn.LayerNorm
    weight: Tensor  # (N, d)
    bias: Tensor  # (N, d)

    def __call__(self, inputs: Tensor) -> Tensor:
        normed = functional.layer_norm(inputs, self.norm.normalized_shape, None, None, self.norm.eps)
        weight, bias = (_spread(one, inputs.dim()) for one in (self.weight, self.bias))
        return torch.addcmul(bias, normed, weight)


def _spread(vectors: Tensor, dims: int) -> Tensor:
    """Give (N, d) further dimensions between the two."""
    return vectors[(slice(None), *(None,) * (dims - 2))]


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer, or N of them at once if there are so many weights.

    Args:
        inputs: (…, in); or (N, …, in); or (1, …, in), the same for all.
        weight: (out, in); or (N, out, in).
        bias: (out,); or (N, out).

    Returns:
        (…, out); or (N, …, out)
    """
    if weight.dim() == 2:
        return functional.linear(inputs, weight, bias)
    rows = (inputs.flatten(1, -2) if inputs.dim() > 2 else inputs.unsqueeze(1)).expand(len(weight), -1, -1)
    products = rows @ weight.mT if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
    return products.unflatten(1, inputs.shape[1:-1]) if inputs.dim() > 2 else products.squeeze(1)
