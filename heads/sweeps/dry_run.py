"""Estimates for a sweep that is not trained: how many trials are left, how they are packed, how much memory and time they take.

A few steps of each kind of pack are timed; nothing is trained to its end or kept. The estimates are printed in
`heads.commands._trials`.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from heads.models.registry import HEADS
from heads.runs.devices import watched
from heads.runs.run_data import choose_device
from heads.sweeps.calibration import calibrate
from heads.sweeps.execution import Execution
from heads.sweeps.packing import PackGroup, free_memory
from heads.sweeps.session import pack_trials
from heads.sweeps.sweep import Sweep, Trial, loaded_cache
from heads.training.loop import Run, together
from heads.training.packed_engine import PackedEngine
from heads.training.plan import length_multiple
from heads.training.single_engine import SingleEngine

_TIMED_STEPS = 4
"""Steps of a pack that are timed; the first, which warms up, does not count if there are others."""


class TimedGroup(NamedTuple):
    """Trials that can be trained together, and the time that all their packs take at most."""

    group: PackGroup
    seconds: float


def time_packs(sweep: Sweep, left: Sequence[Trial], execution: Execution) -> list[TimedGroup]:
    """Time a few steps of each group of trials on the first device; simple baselines are left out.

    Args:
        sweep: The sweep; nothing is written to its folder.
        left: Trials that are left (`heads.sweeps.sweep.remaining`).
        execution: The device, and the size of packs; the executor must be local.

    Raises:
        InputError: An option is out of its range, or memory runs out.
    """
    device = choose_device(execution.devices[0])
    timed = []
    measure = partial(calibrate, device) if device.type == "cuda" else None
    for group in pack_trials(left, free_memory(device), execution.pack_size, measure):
        with watched(device):
            timed.append(TimedGroup(group, _seconds(sweep, group, str(device))))
    return timed


def _seconds(sweep: Sweep, group: PackGroup, device: str) -> float:
    """Extrapolate a few steps to all epochs of all packs.

    An upper bound in one respect, because trials may stop early, and a lower bound in another, because evaluation is left out.
    """
    pack = group.packs[0]
    runs = [_on_device(sweep, trial, device) for trial in pack]
    engine = PackedEngine(runs) if len(runs) > 1 else SingleEngine(runs[0])
    batches = [run.plan() for run in runs]
    times = []
    for number in range(min(_TIMED_STEPS, len(batches[0]))):
        began = time.perf_counter()
        _step(engine, runs, [part[number] for part in batches])
        times.append(time.perf_counter() - began)
    steps = runs[0].config.train.max_epochs * len(batches[0])
    return sorted(times[1:] or times)[len(times[1:]) // 2] * steps * len(group.packs)


def _on_device(sweep: Sweep, trial: Trial, device: str) -> Run:
    """Return a trial as a run with its features on a device."""
    run_data = loaded_cache(sweep.cache, device, sweep.memory_bytes).open(trial.config)
    return Run(run_data.config, run_data.tensors, trial.folder)


def _step(engine: Any, runs: Sequence[Run], batches: Sequence[Any]) -> None:
    """Train one step, with one batch of each run, and wait until the device is done."""
    head: Any = HEADS[runs[0].config.head].head  # no simple baseline is packed
    engine.begin(head.stages[-1], [1] * len(runs))
    tensors = runs[0].tensors
    multiple = length_multiple(runs[0].config.train, tensors.device)
    batch = next(iter(tensors.batches([together(batches)], multiple)))
    engine.accumulate(batch, torch.zeros(len(runs), dtype=torch.int64, device=batch.index.device), 1.0)
    engine.step([0.0] * len(runs))
    if batch.index.is_cuda:
        torch.cuda.synchronize()
