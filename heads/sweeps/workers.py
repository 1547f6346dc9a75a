"""Training of one pack of trials in this process, through everything that can stop it: no memory left, failed and pruned trials.

A trial is a run folder below DIR/trials, the same as `fit` leaves. A trial that is over is not trained again; an interrupted one goes
on from where it was saved. Packs are given to processes and devices in `heads.sweeps.executors` and `heads.sweeps.cluster`.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from data.errors import InputError
from heads.models.own import HeadError, errors_in_short
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.devices import OutOfMemory, watched
from heads.runs.folder import RunFolder, run_folder
from heads.runs.run_data import LoadedCache
from heads.sweeps.packing import halves
from heads.sweeps.search import Search
from heads.sweeps.status import is_over
from heads.sweeps.sweep import Sweep, loaded_cache
from heads.training.fit import describe, finish, fit
from heads.training.loop import Run, train_runs
from heads.training.packed_engine import PackedEngine
from heads.training.single_engine import SingleEngine


@dataclass(frozen=True)
class TrialPack:
    """Trials that are trained together, as they are sent to a worker."""

    sweep: Sweep
    configs: tuple[RunConfig, ...]
    numbers: tuple[int, ...] = ()  # of the study's trials


class Watcher:
    """Receives news about trials; this one ignores them."""

    def on_start(self, count: int) -> None:
        """Learn that training of this many trials starts."""

    def on_progress(self, share: float) -> None:
        """Learn that training got ahead by this part of one trial."""

    def on_end(self, folder: RunFolder) -> None:
        """Learn that a trial is complete, pruned or failed."""

    def on_wait(self) -> None:
        """Learn that training goes on; called every few seconds."""


def train_pack(pack: TrialPack, cache: LoadedCache, watcher: Watcher) -> None:
    """Train one pack, whatever its trials are: over, interrupted, simple baselines, or heads that can only be trained alone."""
    opened = [cache.open(config) for config in pack.configs]
    runs = []
    for run_data in opened:
        folder = run_folder(run_data.config, pack.sweep.trials)
        if is_over(folder):
            watcher.on_end(folder)
        elif HEADS[run_data.config.head].simple:
            fit(run_data, folder)
            watcher.on_end(folder)
        else:
            folder.begin(describe(run_data))
            runs.append(Run(run_data.config, run_data.tensors, folder))
    watcher.on_start(len(runs))
    with contextlib.ExitStack() as stack:
        is_pruned = _pruning(stack.enter_context(pack.sweep.study()), pack) if pack.sweep.prune else lambda run: False
        _train_in_parts(runs, is_pruned, watcher)


def _train_in_parts(runs: Sequence[Run], is_pruned: Callable[[Run], bool], watcher: Watcher) -> None:
    """Train together the runs that can be and were last saved after the same epoch."""
    parts: dict[object, list[Run]] = {}
    for run in runs:
        parts.setdefault(run.folder.saved_epochs if HEADS[run.config.head].packs else run, []).append(run)
    for part in parts.values():
        _train_or_halve(part, is_pruned, watcher)


def _train_or_halve(runs: Sequence[Run], is_pruned: Callable[[Run], bool], watcher: Watcher) -> None:
    """Train runs together; if they do not fit into memory, train those that are left in two halves."""
    if not _fits(runs, is_pruned, watcher):
        torch.cuda.empty_cache()
        again = [Run(run.config, run.tensors, run.folder) for run in runs if not is_over(run.folder)]
        for part in halves(again) if len(again) > 1 else [again]:
            _train_in_parts(part, is_pruned, watcher)


def _fits(runs: Sequence[Run], is_pruned: Callable[[Run], bool], watcher: Watcher) -> bool:
    """Train runs to their ends, and return False if memory ran out or a head raised an error. A run that fails alone has failed."""
    steps_of = {run: run.config.train.max_epochs * run.steps_per_epoch for run in runs}
    share = 1 / (sum(steps_of.values()) / len(steps_of))

    def on_end(run: Run, error: InputError | None) -> None:
        end(run, error)
        watcher.on_progress((steps_of[run] - run.epoch * run.steps_per_epoch) * share)
        watcher.on_end(run.folder)

    try:
        with errors_in_short(), watched(runs[0].tensors.device):
            engine = PackedEngine(runs) if len(runs) > 1 else SingleEngine(runs[0])
            train_runs(runs, engine, on_end, is_pruned, lambda steps, note: watcher.on_progress(steps * share))
    except (OutOfMemory, HeadError) as error:  # a head of one's own may fail with the options of one trial of a pack
        if len(runs) > 1:
            return False
        on_end(runs[0], error)
    return True


def end(run: Run, error: InputError | None) -> None:
    """Write the results of a trial that is over, or the error that it failed with."""
    if error is None and run.config.train.select not in run.selection.best:
        error = InputError(f"Pruned after {run.epoch} epochs, in none of which train.select, {run.config.train.select}, was a number.")
    if error is None:
        finish(run)
    else:
        run.folder.write_failure(str(error), isinstance(error, OutOfMemory))


def _pruning(study: Search, pack: TrialPack) -> Callable[[Run], bool]:
    """Return a function that reports an epoch of a run to the study and returns True if the study stops the run."""
    numbers = {(config.key(), config.seed): number for config, number in zip(pack.configs, pack.numbers, strict=True)}
    metric = pack.sweep.metric

    def is_pruned(run: Run) -> bool:
        value = run.history[-1].get(f"valid_{metric}", float("nan"))
        return study.report(numbers[run.config.key(), run.config.seed], run.epoch, value)

    return is_pruned


def train_pack_alone(pack: TrialPack, device: str) -> list[Path]:
    """Train one pack in a process of its own, and return the folders of its trials that are over."""
    over: list[Path] = []

    class Collector(Watcher):
        def on_end(self, folder: RunFolder) -> None:
            over.append(folder.path)

    train_pack(pack, loaded_cache(pack.sweep.cache, device, pack.sweep.memory_bytes), Collector())
    return over
