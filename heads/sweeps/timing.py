"""Training steps of a pack, to be timed before a sweep is trained: `heads.sweeps.dry_run` estimates times by them, `heads.sweeps.cores`
chooses how many trials are trained at a time."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.folder import run_folder
from heads.sweeps.sweep import Sweep, loaded_cache
from heads.training.loop import Run, together
from heads.training.packed_engine import PackedEngine
from heads.training.plan import length_multiple
from heads.training.single_engine import SingleEngine

_STEPS = 4
"""Batches of an epoch that steps are timed on."""


class TimedSteps:
    """Steps of one pack on the first batches of its first epoch. Nothing is written, and the steps change no parameter.

    Attributes:
        total: Steps of all epochs of the pack, if no trial stops early; each batch counts.
    """

    def __init__(self, sweep: Sweep, configs: Sequence[RunConfig], device: str) -> None:
        """Load the features of a pack, if they are not loaded yet, and build its heads.

        Raises:
            InputError: An option is out of its range, or the cache cannot be read.
        """
        opened = [loaded_cache(sweep.cache, device, sweep.memory_bytes).open(config) for config in configs]
        self._runs = [Run(one.config, one.tensors, run_folder(one.config, sweep.trials)) for one in opened]
        self._engine = PackedEngine(self._runs) if len(self._runs) > 1 else SingleEngine(self._runs[0])
        plans = [run.plan() for run in self._runs]
        self._batches = [together(parts) for parts in list(zip(*plans, strict=True))[:_STEPS]]
        self.total = self._runs[0].config.train.max_epochs * len(plans[0])

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def seconds(self, number: int) -> float:
        """Train one step on a batch, by its number, and return the time until the device is done."""
        began = time.perf_counter()
        head: Any = HEADS[self._runs[0].config.head].head  # no simple baseline is packed
        self._engine.begin(head.stages[-1], [1] * len(self._runs))
        tensors = self._runs[0].tensors
        multiple = length_multiple(self._runs[0].config.train, tensors.device)
        batch = next(iter(tensors.batches([self._batches[number]], multiple)))
        self._engine.accumulate(batch, torch.zeros(len(self._runs), dtype=torch.int64, device=batch.index.device), 1.0)
        self._engine.step([0.0] * len(self._runs))
        if batch.index.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def per_second(self, seconds: float) -> float:
        """Train steps for this time, one at least, and return how many there are in a second."""
        took, count = 0.0, 0
        while took < seconds or not count:
            took += self.seconds(count % len(self))
            count += 1
        return count / took
