"""How the trials of a sweep share the cores of a CPU: how many are trained at a time, with how many threads each, by measurement.

The threads of one trial wait for each other after every operation, most of all where other programs use the cores too. Trials in
processes of their own do not, but each process holds the features. Which is faster depends on the head, the processor and its load, so
`choose` times steps of a typical trial: alone with all cores, then two at a time with half of them each, four with a quarter, and so
on, as long as that is faster and memory and time allow.

The number of threads changes sums in their last bits. The choice is therefore kept in the folder of the sweep, for the calls that go on
with it. Trials are trained this way in `heads.sweeps.execution`, which knows whether the user has chosen instead.
"""

import contextlib
import json
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from data.atomic import atomic_path
from data.errors import InputError, reason
from data.tensors import free_bytes
from heads.runs.config import RunConfig
from heads.runs.contents import fault_of, parse_json
from heads.runs.devices import OutOfMemory, watched
from heads.sweeps.executors import processes
from heads.sweeps.packing import PackGroup
from heads.sweeps.session import pack_trials
from heads.sweeps.sweep import Sweep, Trial, loaded_cache
from heads.sweeps.timing import TimedSteps

WORTH_S = 120.0
"""Seconds below which a sweep is not measured: to start and time two processes takes about 6."""

SHARE = 0.03
"""Share of the time of the sweep after which no larger number is tried. That time is an upper bound, because trials may stop early."""

GAIN = 1.05
"""Speed, against the best so far, from which more trials at a time are taken: each needs memory."""

TIMED_S = 2.0
"""Seconds for which each number of trials at a time is timed."""

_MEMORY = 0.8
"""Share of the free memory that all processes together may take."""

_SHAPE = {"cores": int, "workers": int, "threads": int, "speed": float}

Rate = Callable[[int, int], float | None]
"""Called with a number of processes and the threads of each; returns the steps that all of them train in a second, or None if memory
ran out."""


@dataclass(frozen=True)
class Choice:
    """How many trials are trained at a time, and with how many threads each."""

    cores: int
    workers: int
    threads: int
    words: str  # a line for the user
    speed: float = 1.0  # against one trial with all cores
    rates: Mapping[int, float] = field(default_factory=dict)  # trials at a time → steps of all in a second; empty if not measured

    @property
    def shares(self) -> bool:
        """True if trials are trained in processes that have some of the cores each."""
        return self.threads < self.cores


def choose(sweep: Sweep, left: Sequence[Trial], record: Path) -> Choice | None:
    """Choose how the trials that are left share the cores, as it was chosen before, or by measurement.

    Args:
        sweep: The sweep; nothing is written to its folder.
        left: Trials that are left (`heads.sweeps.sweep.remaining`).
        record: File that `keep` wrote, if it exists.

    Returns:
        The choice; None if there is none: one core, nothing left, or fewer than two trials that are trained by gradients.

    Raises:
        InputError: A trial cannot be trained, or the record is damaged.
    """
    cores = available_cores()
    if cores < 2 or not left:
        return None
    kept = _read(record) if record.is_file() else None
    if kept is not None and kept["cores"] == cores:
        workers, threads = min(kept["workers"], len(left)), kept["threads"]
        words = f"Trials at a time: {workers} with {_of(threads)}{_each(workers)}, as measured before ({record})."
        return Choice(cores, workers, threads, words, kept["speed"])
    groups = pack_trials(left, None)
    trials = sum(len(group.trials) for group in groups)
    if trials < 2:
        return None
    try:
        return _measured(sweep, groups, trials, cores)
    except OutOfMemory:
        return _all_cores(cores, "memory ran out while one was timed")


def keep(choice: Choice, record: Path) -> None:
    """Write a choice that was measured, for the calls that go on with the sweep."""
    if not choice.rates:
        return
    content = {"cores": choice.cores, "workers": choice.workers, "threads": choice.threads, "speed": choice.speed}
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps({**content, "steps_per_s": choice.rates}, indent=2) + "\n", encoding="utf-8")


def available_cores() -> int:
    """Return the number of threads that torch uses, or of the cores that this process may use if they are fewer."""
    return min(torch.get_num_threads(), len(os.sched_getaffinity(0)))


def counts(cores: int, most: int) -> list[int]:
    """List the numbers of trials at a time to try: threads are halved from all cores to one, and there are at most so many trials."""
    found, threads = [], cores
    while threads:
        found.append(min(cores // threads, most))
        threads //= 2
    return list(dict.fromkeys(found))


def _measured(sweep: Sweep, groups: Sequence[PackGroup], trials: int, cores: int) -> Choice:
    typical = max(groups, key=_work)
    config = typical.trials[0].config
    began = time.monotonic()
    with watched(torch.device("cpu")):
        steps = TimedSteps(sweep, [config], "cpu")
        steps.seconds(0)  # warms up
        epochs = sum(trial.config.train.max_epochs for group in groups for trial in group.trials)
        total = steps.total / config.train.max_epochs * epochs
        if (expected := total / steps.per_second(0)) < WORTH_S:
            return _all_cores(cores, f"all take about {expected:.0f} s at most, too little to measure")
        rates = {1: steps.per_second(TIMED_S)}
    until = began + SHARE * total / rates[1]
    del steps
    loaded_cache.cache_clear()  # this process may need its features no more
    room = _room(groups, typical)
    with together(sweep, config) as rate:
        best, note = _fastest(counts(cores, min(trials, room)), trials, cores, rates, rate, until)
    if not note and best == room < min(trials, cores):
        note = f" Memory has no room for more than {room}."
    return Choice(cores, best, cores // best, _words(cores, best, trials, rates) + note, _speed(trials, rates, best), rates)


def _work(group: PackGroup) -> float:
    """Estimate the work of a group of trials, by its epochs and by the memory of a trial, which grows with the work of a step."""
    return sum(trial.config.train.max_epochs for trial in group.trials) * (group.trial_bytes or 1)


def _room(groups: Sequence[PackGroup], typical: PackGroup) -> int:
    """Return how many processes fit into memory: one needs what this process needed, and more if others have larger trials."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    more = max(group.trial_bytes or 0 for group in groups) - (typical.trial_bytes or 0)
    return max(1, int(_MEMORY * free_bytes(torch.device("cpu")) / (used + max(0, more))))


def _fastest(tried: Sequence[int], trials: int, cores: int, rates: dict[int, float], rate: Rate, until: float) -> tuple[int, str]:
    """Try larger numbers of trials at a time, as long as they are faster, and add their rates to `rates`.

    Returns:
        The best number, and a note on what was not tried.
    """
    best = tried[0]
    for count in tried[1:]:
        if time.monotonic() > until:
            return best, f" {count} were not tried: measuring takes at most {100 * SHARE:g} % of the time of the sweep."
        found = rate(count, cores // count)
        if found is None:
            return best, f" {count} did not fit into memory."
        rates[count] = found
        if _speed(trials, rates, count) < GAIN * _speed(trials, rates, best):
            break
        best = count
    return best, ""


def _speed(trials: int, rates: Mapping[int, float], count: int) -> float:
    """Return how fast all trials are trained so many at a time, against one at a time. The last ones may leave cores without work."""
    rounds = -(-trials // count)
    return trials / rates[1] / (rounds * count / rates[count])


def _words(cores: int, best: int, trials: int, rates: Mapping[int, float]) -> str:
    figures = ", ".join(f"{rate:.3g} with {count}" for count, rate in rates.items())
    if best == 1:
        others = "; more were not faster" if len(rates) > 1 else ""
        return f"Trials at a time: 1 with {_of(cores)}{others} (steps/s of all: {figures})."
    speed = f"{_speed(trials, rates, best):.2f} × as fast as 1 with {_of(cores)}"
    return f"Trials at a time: {best} with {_of(cores // best)} each, {speed} (steps/s of all: {figures})."


def _all_cores(cores: int, why: str) -> Choice:
    return Choice(cores, 1, cores, f"Trials at a time: 1 with {_of(cores)}; {why}.")


def _of(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _each(workers: int) -> str:
    return " each" if workers > 1 else ""


def _read(record: Path) -> dict[str, Any]:
    """Read what `keep` wrote.

    Raises:
        InputError: The file is damaged.
    """
    try:
        content = parse_json(record.read_text(encoding="utf-8"))
        fault = fault_of(content, _SHAPE)
        if fault is None and not all(content[name] > 0 for name in _SHAPE):
            fault = "a number is not above 0"
    except (OSError, ValueError) as error:
        fault = reason(error)
    if fault is not None:
        raise InputError(f"{record}: damaged ({fault}). Remove it: the same command measures again how trials share the cores.")
    return content


@contextlib.contextmanager
def together(sweep: Sweep, config: RunConfig) -> Iterator[Rate]:
    """Yield a function that times a trial in several processes at the same time. Its numbers of processes must grow."""
    pools: list[ProcessPoolExecutor] = []
    with contextlib.ExitStack() as started:

        def rate(count: int, threads: int) -> float | None:
            try:
                pools.extend(started.enter_context(processes(count - len(pools), threads)))
                _in_all(pools, _prepare, sweep, config, threads)
                return sum(_in_all(pools, _steps_per_second, TIMED_S))
            except (BrokenProcessPool, OutOfMemory):
                return None

        yield rate


def _in_all(pools: Sequence[ProcessPoolExecutor], work: Callable[..., Any], *arguments: object) -> list[Any]:
    """Call a function in all processes at the same time, and return their results."""
    return [future.result() for future in [pool.submit(work, *arguments) for pool in pools]]


_prepared: list[TimedSteps] = []
"""Steps that a process of `together` is about to time."""


def _prepare(sweep: Sweep, config: RunConfig, threads: int) -> None:
    torch.set_num_threads(threads)
    with watched(torch.device("cpu")):
        if not _prepared:
            _prepared.append(TimedSteps(sweep, [config], "cpu"))
        _prepared[0].seconds(0)  # warms up


def _steps_per_second(seconds: float) -> float:
    with watched(torch.device("cpu")):
        return _prepared[0].per_second(seconds)
