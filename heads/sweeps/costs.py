"""The cost of a training step, counted, and the number of trials in a pack that follows from it and from the speed of a device.

A step costs launches of kernels, arithmetic, traffic to memory, and memory. A pack of K trials needs about as many launches as one
trial, and K times the rest. Speeds of a device are measured in `heads.sweeps.calibration`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from data.tensors import CorpusTensors
from heads.models.base import Head
from heads.models.losses import total_loss
from heads.models.parts.fused_dropout import is_ready
from heads.models.parts.randomness import drawing_from
from heads.runs.config import RunConfig
from heads.sweeps.sizes import batch_of_size, head_on_meta

_OPTIMIZER_LAUNCHES = 2
"""Launches of a fused optimizer for each trial: the count of its steps, and everything else."""

_OPTIMIZER_PASSES = 7
"""Times that a fused optimizer moves a number of bytes as large as the parameters: it reads parameters, gradients and two moments, and
writes all but the gradients."""

_WORTH = 0.25
"""Launches may make a step of a pack longer by this share of its other work. A larger pack would be faster by less than that, keep more
memory, and let the trials that stop early wait longer."""


class Speeds(NamedTuple):
    """The speeds of a device, measured."""

    launch_s: float  # seconds from one small operation to the next
    flops: float  # floating-point operations a second of a large product
    bytes_per_s: float  # read and written by a large copy


class StepCosts(NamedTuple):
    """The cost of one training step of one trial."""

    launches: int  # of a pack, too
    launches_per_trial: int  # that every further trial adds
    flops: int
    traffic_bytes: int  # read and written

    def seconds(self, speeds: Speeds, size: int = 1) -> float:
        """Return the duration of a step of a pack of `size` trials, if launches and work do not overlap: an upper bound."""
        return self.launches * speeds.launch_s + size * self._work(speeds)

    def worthwhile_size(self, speeds: Speeds) -> int:
        """Return the smallest number of trials in a pack from which on more of them save little."""
        return max(1, -int(-self.launches * speeds.launch_s // (_WORTH * self._work(speeds))))

    def _work(self, speeds: Speeds) -> float:
        """Return the seconds that every trial of a pack adds to a step."""
        return self.launches_per_trial * speeds.launch_s + self.flops / speeds.flops + self.traffic_bytes / speeds.bytes_per_s


def step_costs(config: RunConfig, tensors: CorpusTensors) -> StepCosts:
    """Count the cost of a step on the middle one of an epoch's batches, by size. PyTorch's meta device computes and allocates nothing.

    Args:
        config: Configuration of the trial.
        tensors: The corpus that it reads. Its features are not looked at.
    """
    head = head_on_meta(config, tensors).train()
    is_ready(torch.device("meta"))  # asks the GPU once, with launches that are no part of a step
    with FlopCounterMode(display=False) as products, Operations() as operations:
        _step(head, config, tensors)
    parameter_bytes = sum(parameter.numel() * parameter.element_size() for parameter in head.parameters())
    traffic = operations.traffic_bytes + _OPTIMIZER_PASSES * parameter_bytes
    return StepCosts(operations.launches, _OPTIMIZER_LAUNCHES, products.get_total_flops(), traffic)


def _step(head: Head, config: RunConfig, tensors: CorpusTensors) -> None:
    batch = batch_of_size(config, tensors, 0.5)
    with drawing_from(torch.zeros((), dtype=torch.int64, device="meta")):
        total_loss(head(batch), batch, config.loss, config.loss.weights()).backward()


class Operations(TorchDispatchMode):
    """Counts operations that launch a kernel, and the bytes of their arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.traffic_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read, written = _tensors((args, kwargs or {})), _tensors(result)
        known = {tensor.untyped_storage()._cdata for tensor in read}
        is_view = not func._schema.is_mutable and all(tensor.untyped_storage()._cdata in known for tensor in written)
        if not is_view and "empty" not in func.name():
            self.launches += 1
            self.traffic_bytes += sum(map(_bytes, (*read, *written)))
        return result


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _bytes(tensor: Tensor) -> int:
    """Return the bytes that a tensor covers; an expanded one has fewer than its shape says."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
