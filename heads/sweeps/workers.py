"""Trains one pack of a sweep's trials, in this process, whatever stops it: memory that runs out, a failing trial, a pruned one.

A trial is a run folder below DIR/trials, as `fit` leaves it. One that is over is not trained again, an interrupted one goes on where it
was saved. Who trains which packs is in `heads.sweeps.session`.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from data.errors import InputError
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.devices import OutOfMemory, watched
from heads.runs.folder import RunFolder
from heads.runs.run_data import LoadedCache, choose_device
from heads.sweeps.grid import Grid
from heads.sweeps.packing import halves
from heads.sweeps.search import Search
from heads.training.fit import describe, finish, fit, run_folder
from heads.training.loop import Run, train
from heads.training.packed_engine import PackedEngine, signature
from heads.training.single_engine import SingleEngine


@dataclass(frozen=True)
class Sweep:
    """What a sweep is made of."""

    grid: Grid
    cache: Path
    folder: Path
    metric: str  # of the validation split; told to a search and shown
    search: str | None = None
    prune: str | None = None
    memory_bytes: int | None = None  # of features on a device; more are streamed

    @property
    def trials(self) -> Path:
        """Where run folders are."""
        return self.folder / "trials"

    @property
    def is_asked(self) -> bool:
        """Whether a study says what comes next, instead of the grid alone."""
        return bool(self.search or self.prune)

    def study(self) -> Search:
        """The study of a sweep that is asked."""
        return Search(self.folder, self.grid, self.metric, search=self.search, prune=self.prune)


@dataclass(frozen=True)
class TrialPack:
    """One pack: what a worker is told."""

    sweep: Sweep
    configs: tuple[RunConfig, ...]
    numbers: tuple[int, ...] = ()  # of the study's trials


class Watcher:
    """Is told what happens to trials; does nothing with it."""

    def begun(self, count: int) -> None:
        """So many trials are being trained."""

    def advanced(self, share: float) -> None:
        """Training got ahead by this part of a trial."""

    def ended(self, folder: RunFolder) -> None:
        """A trial is complete, pruned or failed."""


def is_over(folder: RunFolder) -> bool:
    """Whether a trial is complete, pruned or failed."""
    return folder.is_complete or folder.failure is not None


def is_settled(folder: RunFolder) -> bool:
    """Whether a trial is over and another command would not try it again, as one for which memory ran out."""
    return is_over(folder) and not folder.lacked_memory


def train_work(work: TrialPack, loaded: LoadedCache, watcher: Watcher) -> None:
    """Trains one pack, whatever its trials are: complete, begun, simple baselines, or not to be batched."""
    opened = [loaded.open(config) for config in work.configs]
    runs = []
    for run_data in opened:
        folder = run_folder(run_data.config, work.sweep.trials)
        if is_over(folder):
            watcher.ended(folder)
        elif HEADS[run_data.config.head].simple:
            fit(run_data, folder)
            watcher.ended(folder)
        else:
            folder.begin(describe(run_data))
            runs.append(Run(run_data.config, run_data.tensors, folder))
    watcher.begun(len(runs))
    with contextlib.ExitStack() as stack:
        is_pruned = _pruning(stack.enter_context(work.sweep.study()), work) if work.sweep.prune else lambda run: False
        _train(runs, is_pruned, watcher)


def _train(runs: Sequence[Run], is_pruned: Callable[[Run], bool], watcher: Watcher) -> None:
    """Trains runs together if they can be and were last saved after the same epoch; if they do not fit into memory, in two halves."""
    apart: dict[object, list[Run]] = {}
    for run in runs:
        apart.setdefault(run if signature(run) is None else run.folder.saved_epochs, []).append(run)
    for part in apart.values():
        _train_together(part, is_pruned, watcher)


def _train_together(runs: Sequence[Run], is_pruned: Callable[[Run], bool], watcher: Watcher) -> None:
    if not _fits(runs, is_pruned, watcher):
        torch.cuda.empty_cache()
        again = [Run(run.config, run.tensors, run.folder) for run in runs if not is_over(run.folder)]
        for part in halves(again) if len(again) > 1 else [again]:
            _train(part, is_pruned, watcher)


def _fits(runs: Sequence[Run], is_pruned: Callable[[Run], bool], watcher: Watcher) -> bool:
    """Trains runs to their ends; False if memory ran out."""
    known = {run: run.config.train.max_epochs * run.steps_per_epoch for run in runs}
    share = 1 / (sum(known.values()) / len(known))

    def ended(run: Run, error: InputError | None) -> None:
        end(run, error)
        watcher.advanced((known[run] - run.epoch * run.steps_per_epoch) * share)
        watcher.ended(run.folder)

    try:
        with watched(runs[0].tensors.device):
            engine = PackedEngine(runs) if len(runs) > 1 else SingleEngine(runs[0])
            train(runs, engine, ended, is_pruned, lambda steps, note: watcher.advanced(steps * share))
    except OutOfMemory as error:
        if len(runs) > 1:
            return False
        ended(runs[0], error)
    return True


def end(run: Run, error: InputError | None) -> None:
    """Writes the results of a trial that is over, or why it failed."""
    if error is None and run.config.train.select not in run.selection.best:
        error = InputError(f"Pruned after {run.epoch} epochs, in none of which train.select, {run.config.train.select}, was a number.")
    if error is None:
        finish(run)
    else:
        run.folder.write_failure(str(error), isinstance(error, OutOfMemory))


def _pruning(study: Search, work: TrialPack) -> Callable[[Run], bool]:
    """Reports every epoch to the study, and says whether it stops the run."""
    numbers = {(config.key(), config.seed): number for config, number in zip(work.configs, work.numbers, strict=True)}
    metric = work.sweep.metric

    def is_pruned(run: Run) -> bool:
        value = run.history[-1].get(f"valid_{metric}", float("nan"))
        return study.report(numbers[run.config.key(), run.config.seed], run.epoch, value)

    return is_pruned


@cache
def loaded_cache(folder: Path, device: str, memory_bytes: int | None) -> LoadedCache:
    """The features of a cache on a device, loaded once in a process."""
    return LoadedCache(folder, choose_device(device), memory_bytes)


def train_remote(work: TrialPack, device: str) -> list[Path]:
    """Trains one pack in a process of its own and returns the folders of its trials."""
    over: list[Path] = []

    class Collector(Watcher):
        def ended(self, folder: RunFolder) -> None:
            over.append(folder.path)

    train_work(work, loaded_cache(work.sweep.cache, device, work.sweep.memory_bytes), Collector())
    return over
