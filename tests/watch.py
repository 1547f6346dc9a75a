"""What a program would make a GPU do: kernel launches, copies, and waits of the host for the device.

The device is that of `fake_cuda.py`. Tensors on it are FakeTensors, which have shape, dtype and device, but no values: operations on
mixed devices raise, autocast and autograd work, and nothing is computed. What this cannot show: values, times, memory, and whether a
kernel exists for a dtype.

Counts are an estimate. An operation that is no view counts as one launch; one on lists of tensors, as torch cuts such lists. Recurrent
layers count as the cells that torch computes without cuDNN.
"""

import contextlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from heads.models.parts import fused_dropout

CHECKOUT = Path(__file__).resolve().parents[1]
LAYERS = ("data", "heads", "pipeline")


def on_the_device() -> FakeTensorMode:
    """Return the mode in which every new tensor is a FakeTensor, and let the rest of torch believe in the device, for good."""
    empty = torch.empty

    def pinned(tensor: Any, *_: Any, **__: Any) -> Any:
        tensor.is_pinned_for_the_device = True  # `Watch` reads it
        return tensor

    def empty_or_pinned(*args: Any, pin_memory: bool = False, **kwargs: Any) -> Any:
        made = empty(*args, **kwargs)
        return pinned(made) if pin_memory else made

    replaced: list[tuple[Any, str, Any]] = [
        (torch, "empty", empty_or_pinned),
        (torch.Tensor, "pin_memory", pinned),
        (torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext()),
        (torch.cuda, "is_bf16_supported", lambda *_, **__: True),
        (fused_dropout, "is_ready", lambda device: device.type == "cuda"),
        (torch.cuda, "mem_get_info", lambda *_: (140 << 30, 141 << 30)),
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (FakeTensor, "numpy", lambda tensor: np.zeros(tensor.shape, str(tensor.dtype).removeprefix("torch."))),
        (FakeTensorMode, "__deepcopy__", lambda mode, memo: mode),
        (torch.nn.Module, "_apply", _with_new_parameters),
    ]
    filled = ("uniform_", "normal_", "kaiming_uniform_", "xavier_uniform_", "xavier_normal_", "orthogonal_", "zeros_", "ones_")
    replaced += [(torch.nn.init, name, lambda tensor, *_, **__: tensor) for name in filled]  # to no purpose where no values are
    for owner, name, value in replaced:
        setattr(owner, name, value)
    return FakeTensorMode(allow_non_fake_inputs=True)


def _with_new_parameters(module: Any, convert: Any, recurse: bool = True) -> Any:
    """Do what `Module._apply` does, but never put a tensor in the place of another: FakeTensors refuse that."""
    for child in module.children() if recurse else ():
        child._apply(convert)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[name] = torch.nn.Parameter(convert(parameter.detach()), parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = convert(buffer)
    return module


_VIEWS = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "expand", "lift_fresh", "permute", "reshape",
    "select",
    "slice", "split",
    "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view",
}  # fmt: skip
_NO_KERNEL = {
    "_local_scalar_dense", "empty", "empty_like", "empty_strided", "is_pinned", "is_same_size", "new_empty", "new_empty_strided",
    "set_",
}  # fmt: skip
_WAITS = {
    "_local_scalar_dense", "_pack_padded_sequence", "_unique2", "equal", "is_nonzero", "masked_select", "nonzero", "unique_consecutive",
    "unique_dim",
}  # fmt: skip
"""Operations whose result the host needs: a value, or how large it is."""

_PRODUCTS = {"addmm", "baddbmm", "bmm", "convolution", "linear", "matmul", "mm"}

_TENSORS_OF_DEPTH = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
_BLOCK, _BLOCKS = 65_536, 320
"""Limits of one launch on lists of tensors: by the number of lists, tensors in each; and blocks of so many numbers.
Source: aten/src/ATen/native/cuda/MultiTensorApply.cuh."""

_JOINED = 128
"""Tensors that one launch concatenates. Source: aten/src/ATen/native/cuda/Shape.cu."""


def _tensors(values: Any) -> list[Any]:
    """List the tensors of arguments or results; lists in them are not nested."""
    found = []
    for value in values if isinstance(values, (list, tuple)) else (values,):
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [each for each in value if isinstance(each, torch.Tensor)]
    return found


def _is_there(tensor: Any) -> bool:
    device = tensor.fake_device if isinstance(tensor, FakeTensor) else tensor.device
    return device.type == "cuda"


class Watch(TorchDispatchMode):
    """Counts what the operations inside would do on the device.

    Attributes:
        launches: Kernel → launches.
        waits: Operation and place in the program → times that the host would wait for the device.
        copies: Direction and place → copies between host and device that the host would wait for.
        products: Dtypes of matrix products and convolutions.
        places: Place in the program → launches, if `locate` is true.
    """

    def __init__(self, locate: bool = False) -> None:
        super().__init__()
        self.launches, self.waits, self.copies, self.products = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
        self.places, self._locate = Counter[str](), locate

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace not in ("aten", "heads"):  # questions about a tensor
            return func(*args, **kwargs)
        name = func._schema.name.rpartition("::")[2]
        inputs = _tensors((*args, *kwargs.values()))
        if any(map(_is_there, inputs)):
            self._count_waits(name, args)
            if name == "_local_scalar_dense":
                return 1.0 if inputs[0].dtype.is_floating_point else 1  # FakeTensors have no values
        result = func(*args, **kwargs)
        outputs = _tensors(result)
        if name in ("_to_copy", "copy_") and inputs:  # a number in a batched operation is no input
            asked = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
            self._count_copies(inputs[-1] if name == "copy_" else inputs[0], outputs[0], asked)
        if any(map(_is_there, (*inputs, *outputs))) and name not in _VIEWS and name not in _NO_KERNEL:
            self._count_launches(name, args, outputs)
        return result

    def facts(self) -> dict[str, Any]:
        """Return what was counted as plain JSON values."""
        parts = {"waits": self.waits, "copies": self.copies, "products": self.products}
        return {"launches": self.launches.total()} | {name: dict(counts) for name, counts in parts.items()}

    def _count_waits(self, name: str, args: Any) -> None:
        is_masked = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        is_filled = name.startswith("index_put") and args[2].numel() == 1  # torch fills by the mask then
        if name in _WAITS or (is_masked and not is_filled):
            self.waits[f"{name} in {_place()}"] += 1

    def _count_copies(self, source: Any, target: Any, asked: bool) -> None:
        if _is_there(source) == _is_there(target):
            return
        is_pinned = getattr(source, "is_pinned_for_the_device", False)
        if not (_is_there(target) and asked and is_pinned):
            self.copies[f"{source.device.type} to {target.device.type} in {_place()}"] += 1

    def _count_launches(self, name: str, args: Any, outputs: Any) -> None:
        count = _launches_on_lists(args) if name.startswith(("_foreach_", "_fused_", "_amp_foreach_")) else 1
        if name in ("cat", "stack"):
            count = -(-len(args[0]) // _JOINED)
        elif name == "baddbmm":
            count = 2  # what is added is copied first
        self.launches[name] += count
        if self._locate:
            self.places[_place()] += count
        if name in _PRODUCTS:
            self.products[str(outputs[0].dtype).removeprefix("torch.")] += 1


def _launches_on_lists(args: Any) -> int:
    lists = [arg for arg in args if isinstance(arg, (list, tuple)) and arg and hasattr(arg[0], "numel")]
    blocks = sum(-(-tensor.numel() // _BLOCK) for tensor in lists[0])
    limit = _TENSORS_OF_DEPTH[min(len(lists), 5)]
    return max(-(-len(lists[0]) // limit), -(-blocks // _BLOCKS))


def _place() -> str:
    """Return the line of the program that is being run; "a backward pass" if torch calls by itself."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(CHECKOUT) and path.relative_to(CHECKOUT).parts[0] in LAYERS:
            return f"{path.relative_to(CHECKOUT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "a backward pass"
