"""Estimates for a sweep that is not trained: how many trials are left, how they are packed, how much memory and time they take.

A few steps of each kind of pack are timed; nothing is trained to its end or kept. The estimates are printed in
`heads.commands._trials`.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from heads.runs.devices import watched
from heads.runs.run_data import choose_device
from heads.sweeps.calibration import calibrate
from heads.sweeps.execution import Execution
from heads.sweeps.packing import PackGroup, free_memory
from heads.sweeps.session import pack_trials
from heads.sweeps.sweep import Sweep, Trial
from heads.sweeps.timing import TimedSteps


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
    steps = TimedSteps(sweep, [trial.config for trial in group.packs[0]], device)
    times = [steps.seconds(number) for number in range(len(steps))]
    counted = sorted(times[1:] or times)  # the first warms up
    return counted[len(times[1:]) // 2] * steps.total * len(group.packs)
