"""What `python -m heads sweep` does and prints. The work is in `heads.sweep`."""

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from tqdm import tqdm

from data.errors import InputError
from data.lookup import lookup
from heads.base import TASKS
from heads.config import RunConfig
from heads.console import table
from heads.events import summary_writer, write_events
from heads.experiment import run_folder
from heads.grid import read_grid
from heads.materials import choose_device, memory_bytes
from heads.metrics import HIGHER_IS_BETTER, SENTIMENT_METRICS, is_better
from heads.pack import Pack
from heads.packing import Group
from heads.registry import HEADS
from heads.runs import RunFolder
from heads.solo import Solo
from heads.sweep import Execute, free_bytes, in_process, in_processes, opened, plan, remaining, resolved, run
from heads.sweep_report import default_metric, write_report
from heads.train import Run, together
from heads.trials import collect, ranked, write_trials
from heads.workers import Sweep, Watcher, is_over, materials_on


class Bar(Watcher):
    """One bar for a sweep: trials that are over, in flight, the best so far, and the time left."""

    def __init__(self, total: int, over: Sequence[RunFolder], metric: str, events: bool = False) -> None:
        """`events`: whether each trial that ends gets an event file of TensorBoard."""
        self.total, self.metric, self.over, self.in_flight, self.events = total, metric, 0, 0, events
        self.best: float | None = None
        layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(total=total, desc="sweep", file=sys.stderr, disable=None, bar_format=layout, mininterval=0.5)
        for folder in over:
            self._count(folder)
        self._bar.update(len(over))
        self._bar.initial = len(over)
        self._show()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def begun(self, count: int) -> None:
        self.in_flight += count
        self._show()

    def advanced(self, share: float) -> None:
        self._bar.update(min(share, self.total - self._bar.n))

    def ended(self, folder: RunFolder) -> None:
        self.in_flight = max(0, self.in_flight - 1)
        self._count(folder)
        self._show()
        if self.events:
            write_events(folder)

    def _count(self, folder: RunFolder) -> None:
        self.over += 1
        value = None if folder.failure is not None else folder.metrics()["valid"].get(self.metric)
        if value is not None and (self.best is None or is_better(self.metric, value, self.best)):
            self.best = value

    def _show(self) -> None:
        best = "" if self.best is None else f", best {self.metric} {self.best:.4f}"
        self._bar.set_postfix_str(f"{self.over} of {self.total} trials, {self.in_flight} in flight{best}")


def sweep(args: argparse.Namespace) -> None:
    """Carries out the command."""
    if args.tensorboard:
        summary_writer()
    grid = read_grid(args.grid, args.corpus)
    configs, devices = grid.configs(), args.devices or ["auto"]
    metric = _metric(args.metric, configs)
    if args.pack_size is not None and args.pack_size < 1:
        raise InputError(f"--pack-size is {args.pack_size}, expected 1 or more.")
    made = Sweep(grid, args.cache, args.out, metric, args.search, args.prune, memory_bytes(args.memory_gb))
    if args.dry_run:
        dry_run(made, configs, devices, args.pack_size)
        return
    with opened(made):
        try:
            train(made, configs, devices, args)
        finally:
            if any(made.trials.iterdir()):
                found = write_trials(made.folder)
        report = write_report(made.folder, metric)
    _print_best(found, metric)
    print(f"{report}: the report; {made.folder / 'trials.parquet'}: every trial; {made.trials}: their run folders")


def _metric(asked: str | None, configs: Sequence[RunConfig]) -> str:
    """What trials are compared by; unless asked for, mae if all of them learn sentiment, else mean_wf1."""
    if asked is None:
        return "mae" if all(config.task != "mer" for config in configs) else "mean_wf1"
    lookup({name: None for name in HIGHER_IS_BETTER if name != "loss"}, asked, "metric")
    task = "msa" if asked in SENTIMENT_METRICS else "mer"
    if not any(task in TASKS[config.task] for config in configs):
        raise InputError(f"--metric is {asked}, a metric of task {task!r}, which no trial learns. Choose another.")
    return asked


def train(made: Sweep, configs: Sequence[RunConfig], devices: Sequence[str], args: Any) -> None:
    """Trains what is left, with a bar."""
    total, over = _state(made, configs)
    print(f"{made.folder}: {total} trials, {len(over)} of them over", flush=True)
    with _executor(devices, args) as (found, execute, free), Bar(total, over, made.metric, args.tensorboard) as bar:
        run(made, found, execute, bar, args.pack_size, free)


@contextlib.contextmanager
def _executor(devices: Sequence[str], args: Any) -> Iterator[tuple[Sequence[str], Execute, int | None]]:
    """Devices, what trains on them, and the memory of one of them if it is of another machine."""
    if args.executor == "ray":
        from heads.cluster import on_ray

        with on_ray(args.ray_address, devices) as cluster:
            print(f"Ray: {len(cluster.devices)} × {cluster.devices[0]}", flush=True)
            yield cluster.devices, cluster.execute, cluster.free_bytes
        return
    for name in devices:
        choose_device(name)
    yield devices, in_process(devices[0]) if len(devices) == 1 else in_processes(devices), None


def _state(made: Sweep, configs: Sequence[RunConfig]) -> tuple[int, list[RunFolder]]:
    """How many trials there are in the end, and those that are over."""
    if made.search:
        with made.study() as study:
            return study.total, [folder for folder in map(RunFolder, sorted(made.trials.iterdir())) if is_over(folder)]
    paths = {run_folder(resolved(made, config), made.trials).path for config in configs}
    return len(paths), [folder for folder in map(RunFolder, sorted(paths)) if is_over(folder)]


def _print_best(found: pd.DataFrame, metric: str) -> None:
    if (failed := int((found["status"] == "failed").sum())) > 0:
        print(f"{failed} of {len(found)} trials failed; {found.loc[found['status'] == 'failed', 'error'].iloc[0]}")
    if (found["status"] == "complete").any():
        print(ranked(found, metric).head(5).to_string(index=False))


def best_runs(folder: Path, count: int, metric: str | None) -> list[Path]:
    """The run folders of the best configurations of a sweep, all seeds of each.

    Args:
        folder: Of the sweep.
        count: How many configurations at most.
        metric: Of the validation split; if not given, mae, or mean_wf1 where no sentiment was learned.

    Raises:
        InputError: There are no trials, no such metric, or none has it; the count is not above 0.
    """
    if count < 1:
        raise InputError(f"--top is {count}, expected 1 or more.")
    found = collect(folder)
    best = ranked(found, metric or default_metric(found)).head(count)
    complete = found[found["status"] == "complete"]
    return [folder / "trials" / name for key in best["key"] for name in complete.loc[complete["key"] == key, "name"]]


def write_results(folder: Path, metric: str | None) -> Path:
    """Writes trials.parquet, tables and the page of a sweep, and returns the page."""
    write_trials(folder)
    return write_report(folder, metric)


def dry_run(made: Sweep, configs: Sequence[RunConfig], devices: Sequence[str], size: int | None) -> None:
    """Prints how many trials there are, how they pack, what memory they take and how long they may take, and trains nothing."""
    trials = [resolved(made, config) for config in configs]
    left = remaining(made, trials)
    device = choose_device(devices[0])
    print(f"{len(trials)} trials, {len(trials) - len(left)} of them over; varied: {', '.join(made.grid.varied) or 'seeds alone'}")
    rows, total = [], 0.0
    for one in plan(made, left, free_bytes(device), size):
        seconds = _seconds(made, one, str(device))
        total += seconds
        memory = "alone" if one.trial_bytes is None else f"{one.trial_bytes / 1e6:,.0f} MB"
        config = one.runs[0].config
        rows.append([config.head, config.preset, str(len(one.runs)), str(len(one.packs)), str(one.size), memory, _duration(seconds)])
    floors = [config for config in left if HEADS[config.head].floor]
    if floors:
        print(f"{len(floors)} floors, seconds each")
    if rows:
        print(table(rows, ["head", "preset", "trials", "packs", "at a time", "memory a trial", "at most"], left=2))
        print(f"at most {_duration(total / len(devices))} on {', '.join(devices)}, if no trial stops early")


def _seconds(made: Sweep, one: Group, device: str) -> float:
    """All steps of all epochs at the speed of a few: trials stop earlier, but are evaluated, too."""
    pack = one.packs[0]
    runs = [_on_device(made, run, device) for run in pack]
    engine = Pack(runs) if len(runs) > 1 else Solo(runs[0])
    plans = [run.plan() for run in runs]
    times = []
    for number in range(min(4, len(plans[0]))):
        began = time.perf_counter()
        _step(engine, runs, [part[number] for part in plans])
        times.append(time.perf_counter() - began)
    batches = runs[0].config.train.max_epochs * len(plans[0])
    return sorted(times[1:] or times)[len(times[1:]) // 2] * batches * len(one.packs)


def _on_device(made: Sweep, run: Run, device: str) -> Run:
    material = materials_on(made.cache, device, made.memory_bytes).open(run.config)
    return Run(material.config, material.tensors, run.folder)


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
