"""What `python -m heads sweep` does and prints. The work is in `heads.sweeps.session`."""

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from data.errors import InputError
from data.lookup import lookup
from heads.evaluation.metrics import METRICS, default_metric
from heads.models.base import TASKS
from heads.runs.config import RunConfig
from heads.runs.run_data import choose_device, memory_bytes
from heads.sweeps.dry_run import dry_run
from heads.sweeps.executors import Execute, in_process, in_processes
from heads.sweeps.grid import read_grid
from heads.sweeps.progress import Bar, summary_writer
from heads.sweeps.results.report import learned_tasks, write_report
from heads.sweeps.results.trials import collect, ranked, remedy, write_trials
from heads.sweeps.session import train_remaining
from heads.sweeps.sweep import Sweep, count_trials, opened


def sweep(args: argparse.Namespace) -> int:
    """Carries out the command and returns its exit status: 1 if a trial failed."""
    grid = read_grid(args.grid, args.corpus)
    configs, devices = grid.configs(), args.devices or ["auto"]
    metric = _metric(args.metric, configs)
    check(args)
    sweep = Sweep(grid, args.cache, args.out, metric, args.search, args.prune, memory_bytes(args.memory_gb))
    if args.dry_run:
        print(f"varied: {', '.join(grid.varied) or 'seeds alone'}")
        dry_run(sweep, configs, devices, args.pack_size)
        return 0
    with opened(sweep):
        found = train(sweep, configs, devices, args)
        report = write_report(sweep.folder, metric, found)
    status = print_failed(sweep.folder, found)
    if (found["status"] == "complete").any():
        print(ranked(found, metric).head(5).to_string(index=False))
    print(f"{report}: the report; {sweep.folder / 'trials.parquet'}: every trial; {sweep.trials}: their run folders")
    return status


def check(args: argparse.Namespace) -> None:
    """Raises InputError when the flags of `train` and of a dry run do not go together, or TensorBoard is asked for and missing."""
    if args.tensorboard:
        summary_writer()
    if args.pack_size is not None and args.pack_size < 1:
        raise InputError(f"--pack-size is {args.pack_size}, expected 1 or more.")
    if args.dry_run and args.executor == "ray":
        raise InputError("--dry-run times a few steps on this machine and knows nothing of a Ray cluster. Leave out --executor ray.")


def _metric(asked: str | None, configs: Sequence[RunConfig]) -> str:
    """Returns the metric that trials are compared by; unless asked for, mae if all of them learn sentiment, else mean_wf1."""
    if asked is None:
        return default_metric([task for task in TASKS["both"] if all(task in TASKS[config.task] for config in configs)])
    task = lookup(METRICS, asked, "metric").task
    if not any(task in TASKS[config.task] for config in configs):
        raise InputError(f"--metric is {asked}, a metric of task {task!r}, which no trial learns. Choose another.")
    return asked


def train(sweep: Sweep, configs: Sequence[RunConfig], devices: Sequence[str], args: argparse.Namespace) -> pd.DataFrame:
    """Trains what is left, with a bar, writes trials.parquet, if it is interrupted, too, and returns all trials of the folder.

    Of the flags, `executor`, `ray_address`, `pack_size` and `tensorboard` count.
    """
    total, over = count_trials(sweep, configs)
    print(f"{sweep.folder}: {total} trials, {len(over)} of them over", flush=True)
    try:
        with _executor(devices, args) as (found, execute, free), Bar(total, over, sweep.metric, args.tensorboard) as bar:
            train_remaining(sweep, found, execute, bar, args.pack_size, free)
    finally:
        trials = write_trials(sweep.folder) if any(sweep.trials.iterdir()) else pd.DataFrame()
    return trials


@contextlib.contextmanager
def _executor(devices: Sequence[str], args: argparse.Namespace) -> Iterator[tuple[Sequence[str], Execute, int | None]]:
    """Devices, what trains on them, and the memory of one of them if it is of another machine."""
    if args.executor == "ray":
        from heads.sweeps.cluster import on_ray

        with on_ray(args.ray_address, devices) as cluster:
            print(f"Ray: {len(cluster.devices)} × {cluster.devices[0]}", flush=True)
            yield cluster.devices, cluster.execute, cluster.free_bytes
        return
    for name in devices:
        choose_device(name)
    yield devices, in_process(devices[0]) if len(devices) == 1 else in_processes(devices), None


def print_failed(folder: Path, trials: pd.DataFrame) -> int:
    """Says how many of these trials of a sweep failed, why the first did and what lets it be tried again.

    Returns:
        The exit status that follows: 1 if one failed, else 0.
    """
    failed = trials[trials["status"] == "failed"]
    if failed.empty:
        return 0
    first = failed.iloc[0]
    print(f"{len(failed)} of {len(trials)} trials failed; {first['name']}: {first['error']} {remedy(folder, first['name'])}")
    return 1


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
    best = ranked(found, metric or default_metric(learned_tasks(found))).head(count)
    complete = found[found["status"] == "complete"]
    return [folder / "trials" / name for key in best["key"] for name in complete.loc[complete["key"] == key, "name"]]


def write_results(folder: Path, metric: str | None) -> Path:
    """Writes trials.parquet, tables and the page of a sweep, and returns the page."""
    return write_report(folder, metric, write_trials(folder))
