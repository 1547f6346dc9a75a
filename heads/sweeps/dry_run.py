"""What a sweep would do: trials, packs, memory and time. A few steps of each pack are timed; nothing is trained or kept."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from data.reporting.tables import aligned
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.devices import watched
from heads.runs.run_data import choose_device
from heads.sweeps.packing import PackGroup, free_memory
from heads.sweeps.session import pack_trials
from heads.sweeps.sweep import Sweep, Trial, loaded_cache, open_trials, remaining
from heads.training.loop import Run, together
from heads.training.packed_engine import PackedEngine
from heads.training.single_engine import SingleEngine


def dry_run(sweep: Sweep, configs: Sequence[RunConfig], devices: Sequence[str], size: int | None) -> None:
    """Prints how many trials there are, how they pack, what memory they take and how long they may take.

    Args:
        sweep: The sweep; its folder need not exist and is not written to.
        configs: Of all its trials.
        devices: Of this machine. The first is timed, the others are taken to be as fast.
        size: Trials at a time; None: what the memory of the device allows.

    Raises:
        InputError: The cache lacks what a trial reads, an option is out of its range, or memory runs out.
    """
    trials = open_trials(sweep, configs)
    left = remaining(trials)
    device = choose_device(devices[0])
    print(f"{len(trials)} trials, {len(trials) - len(left)} of them over")
    rows, total = [], 0.0
    for one in pack_trials(left, free_memory(device), size):
        with watched(device):
            seconds = _seconds(sweep, one, str(device))
        total += seconds
        memory = "alone" if one.trial_bytes is None else f"{one.trial_bytes / 1e6:,.0f} MB"
        config, counts = one.trials[0].config, (len(one.trials), len(one.packs), one.size)
        rows.append([config.head, config.corpus, config.task, config.preset, *map(str, counts), memory, _duration(seconds)])
    simple_baselines = [trial for trial in left if HEADS[trial.config.head].simple]
    if simple_baselines:
        print(f"{len(simple_baselines)} simple baselines, seconds each")
    if rows:
        print(aligned(rows, ["head", "corpus", "task", "preset", "trials", "packs", "at a time", "memory a trial", "at most"], left=4))
        print(f"at most {_duration(total / len(devices))} on {', '.join(devices)}, if no trial stops early")


def _seconds(sweep: Sweep, one: PackGroup, device: str) -> float:
    """All steps of all epochs at the speed of a few: trials stop earlier, but are evaluated, too."""
    pack = one.packs[0]
    runs = [_on_device(sweep, trial, device) for trial in pack]
    engine = PackedEngine(runs) if len(runs) > 1 else SingleEngine(runs[0])
    plans = [run.plan() for run in runs]
    times = []
    for number in range(min(4, len(plans[0]))):
        began = time.perf_counter()
        _step(engine, runs, [part[number] for part in plans])
        times.append(time.perf_counter() - began)
    batches = runs[0].config.train.max_epochs * len(plans[0])
    return sorted(times[1:] or times)[len(times[1:]) // 2] * batches * len(one.packs)


def _on_device(sweep: Sweep, trial: Trial, device: str) -> Run:
    run_data = loaded_cache(sweep.cache, device, sweep.memory_bytes).open(trial.config)
    return Run(run_data.config, run_data.tensors, trial.folder)


def _step(engine: Any, runs: Sequence[Run], entries: Sequence[Any]) -> None:
    engine.begin(HEADS[runs[0].config.head].head.stages[-1], [1] * len(runs))
    batch = next(iter(runs[0].tensors.batches([together(entries)])))
    engine.accumulate(batch, torch.zeros(len(runs), dtype=torch.int64, device=batch.index.device), 1.0)
    engine.step([0.0] * len(runs))
    if batch.index.is_cuda:
        torch.cuda.synchronize()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
