"""Which trials are trained together, and how many at a time: by their signatures, and by the memory that one of them takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from data.tensors import Batch
from heads.models.base import Head
from heads.models.losses import total_loss
from heads.models.parts.randomness import drawing_from
from heads.models.registry import HEADS
from heads.training.loop import Run
from heads.training.packed_engine import signature
from heads.training.plan import Entry

_COPIES = 7
"""Of the parameters while they are trained: themselves, gradients, two moments, the average, and two that come and go in a step."""

_SLACK = 1.5
"""Of what is kept for the backward pass: what comes and goes beside it."""

CPU_PACK = 1
"""Trials at a time on a CPU: it is as busy with one (tests/benchmarks/bench_sweep.py)."""

_SHARE = 0.8
"""Of the free memory of a GPU."""


@dataclass(frozen=True)
class PackGroup:
    """Trials that can be trained together."""

    runs: tuple[Run, ...]
    trial_bytes: int | None  # of memory that each takes; None if the head can only be trained alone
    size: int  # trials at a time

    @property
    def packs(self) -> list[tuple[Run, ...]]:
        """The trials in packs as even as can be."""
        count = -(-len(self.runs) // self.size)
        bounds = [len(self.runs) * number // count for number in range(count + 1)]
        return [self.runs[start:stop] for start, stop in pairwise(bounds)]


def group(runs: Sequence[Run], free_bytes: int | None, size: int | None = None) -> list[PackGroup]:
    """Puts trials together that can be, in the order in which the first of each kind comes.

    Args:
        runs: Not begun.
        free_bytes: Memory of a GPU; None on a CPU.
        size: Trials at a time, instead of what the memory allows.
    """
    alike: dict[object, list[Run]] = {}
    for run in runs:
        found = signature(run)
        alike.setdefault(run if found is None else found, []).append(run)
    return [_group(tuple(part), free_bytes, size) for part in alike.values()]


def _group(runs: tuple[Run, ...], free_bytes: int | None, size: int | None) -> PackGroup:
    if signature(runs[0]) is None:
        return PackGroup(runs, None, 1)
    needed = trial_bytes(runs[0])
    if size is None:
        size = CPU_PACK if free_bytes is None else max(1, int(_SHARE * free_bytes / needed))
    return PackGroup(runs, needed, size)


def trial_bytes(run: Run) -> int:
    """Memory that one trial takes in a pack, estimated on a head without memory: its parameters, and what one step on its largest
    batch keeps for the backward pass."""
    config, tensors = run.config, run.tensors
    with torch.device("meta"):
        head = HEADS[config.head].head(config.model, tensors.dims, config.task)
    parameters = sum(parameter.numel() * parameter.element_size() for parameter in head.parameters())
    return int(_COPIES * parameters + _SLACK * _activations(head.train(), run))


def _activations(head: Head, run: Run) -> int:
    own = {parameter.untyped_storage()._cdata for parameter in (*head.parameters(), *head.buffers())}
    kept: dict[int, int] = {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    batch = _largest_batch(run)
    with saved_tensors_hooks(remember, lambda tensor: tensor), drawing_from(torch.zeros((), dtype=torch.int64, device="meta")):
        loss = total_loss(head(batch), batch, run.config.loss, run.config.loss.weights())
    del loss
    return sum(kept.values())


def _largest_batch(run: Run) -> Batch:
    """A batch without memory, of the shapes of the largest that an epoch has."""
    lengths, dims = run.tensors.lengths, run.tensors.dims
    sizes = [(len(rows), {m: int(lengths[m][rows].max()) for m in dims}) for rows in map(_rows, run.plan())]
    count, steps = max(sizes, key=lambda size: size[0] * sum(size[1].values()))
    with torch.device("meta"):
        features = {m: torch.empty(count, steps[m], dim) for m, dim in dims.items()}
        masks = {m: torch.empty(count, steps[m], dtype=torch.bool) for m in dims}
        return Batch(features, masks, torch.empty(count), torch.empty(count, 6), torch.empty(count, dtype=torch.int64))


def _rows(entry: Entry) -> object:
    return getattr(entry, "rows", entry)


def halves(runs: Sequence[Run]) -> Iterator[tuple[Run, ...]]:
    """Two packs instead of one that was too large."""
    middle = len(runs) // 2
    yield tuple(runs[:middle])
    yield tuple(runs[middle:])
