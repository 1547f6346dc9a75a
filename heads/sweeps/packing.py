"""Packs: trials with one signature are trained together, as many at a time as save time and as the memory of the device allows.

Signatures are in `heads.training.packed_engine`; packs are trained in `heads.sweeps.workers`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from data.tensors import CorpusTensors
from heads.models.base import Head
from heads.models.losses import total_loss
from heads.models.parts.randomness import drawing_from
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.sweeps.costs import Speeds, step_costs
from heads.sweeps.sizes import batch_of_size, head_on_meta
from heads.sweeps.sweep import Trial
from heads.training.packed_engine import signature

_COPIES = 7
"""Copies of the parameters during training: themselves, gradients, two moments, the average, and two temporary ones within a step."""

_SLACK = 1.5
"""Factor on the activations kept for the backward pass, for temporary tensors beside them."""

CPU_PACK = 1
"""Trials of a pack on a CPU, where more are slower (tests/benchmarks/bench_sweep.py)."""

_GPU_SHARE = 0.8
"""Share of the free memory of a GPU that a pack may take."""

Measure = Callable[[str], Speeds]
"""Returns the speeds of a device in a precision; see `heads.sweeps.calibration`."""

T = TypeVar("T")


@dataclass(frozen=True)
class PackGroup:
    """Trials that can be trained together."""

    trials: tuple[Trial, ...]
    trial_bytes: int | None  # of memory that each takes; None if the head can only be trained alone
    size: int  # trials at a time

    @property
    def packs(self) -> list[tuple[Trial, ...]]:
        """The trials in packs of sizes as equal as possible."""
        count = -(-len(self.trials) // self.size)
        bounds = [len(self.trials) * number // count for number in range(count + 1)]
        return [self.trials[start:stop] for start, stop in pairwise(bounds)]


def group(trials: Sequence[Trial], free_bytes: int | None, size: int | None = None, measure: Measure | None = None) -> list[PackGroup]:
    """Group the trials that can be trained together, in the order of the first trial of each group.

    Args:
        trials: Trials of heads that are trained by gradients.
        free_bytes: Memory of a GPU; None on a CPU.
        size: Trials at a time, instead of as many as save time and as the memory allows.
        measure: Returns the speeds of the device; None: the memory alone decides.

    Raises:
        InputError: A trial cannot be trained: an option is out of its range, a label is missing, ….
    """
    return [_group(tuple(found), free_bytes, size, measure) for found in alike(trials)]


def alike(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Divide trials into those that can be trained together, in the order of the first of each; a head that cannot be packed is alone.

    Raises:
        InputError: A trial cannot be trained, as for `group`.
    """
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        found = signature(trial.config, trial.run_data.tensors)
        groups.setdefault(object() if found is None else found, []).append(trial)
    return [*groups.values()]


def _group(trials: tuple[Trial, ...], free_bytes: int | None, size: int | None, measure: Measure | None) -> PackGroup:
    first = trials[0]
    if not HEADS[first.config.head].packs:
        return PackGroup(trials, None, 1)
    needed = trial_bytes(first.config, first.run_data.tensors)
    if size is None:
        size = CPU_PACK if free_bytes is None else max(1, int(_GPU_SHARE * free_bytes / needed))
        if free_bytes is not None and measure is not None:
            speeds = measure(first.config.train.precision)
            size = min(size, step_costs(first.config, first.run_data.tensors).worthwhile_size(speeds))
    return PackGroup(trials, needed, size)


def trial_bytes(config: RunConfig, tensors: CorpusTensors) -> int:
    """Estimate the memory that one trial takes in a pack.

    It is 7 times its parameters plus 1.5 times the activations that one step on its largest batch keeps for the backward pass. The
    estimate is made on torch's meta device, which allocates no memory.

    Args:
        config: Configuration of the trial.
        tensors: The corpus that it reads. Its features are not looked at.
    """
    head = head_on_meta(config, tensors)
    parameters = sum(parameter.numel() * parameter.element_size() for parameter in head.parameters())
    return int(_COPIES * parameters + _SLACK * _activations(head.train(), config, tensors))


def _activations(head: Head, config: RunConfig, tensors: CorpusTensors) -> int:
    """Sum up the bytes that a step on the largest batch keeps for the backward pass, besides parameters and buffers."""
    own = {parameter.untyped_storage()._cdata for parameter in (*head.parameters(), *head.buffers())}
    kept: dict[int, int] = {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    batch = batch_of_size(config, tensors, 1)
    with saved_tensors_hooks(remember, lambda tensor: tensor), drawing_from(torch.zeros((), dtype=torch.int64, device="meta")):
        loss = total_loss(head(batch), batch, config.loss, config.loss.weights())
    del loss
    return sum(kept.values())


def halves(items: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """Cut a pack that was too large into two."""
    middle = len(items) // 2
    yield tuple(items[:middle])
    yield tuple(items[middle:])


def free_memory(device: torch.device) -> int | None:
    """Return the bytes of memory that are free on a GPU; None for a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
