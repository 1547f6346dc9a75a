"""A sweep and its trials: what is trained, from which cache, and in which folder; which trials are left.

The grid file is read in `heads.sweeps.grid`; trials are trained in `heads.sweeps.session`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from data.cache import open_corpus
from data.errors import InputError, shown
from data.manifest import read_labels
from heads.evaluation.metrics import default_metric, metric_named
from heads.models.tasks import TASKS
from heads.runs.config import RunConfig, with_precision
from heads.runs.folder import RunFolder, run_folder
from heads.runs.run_data import LoadedCache, RunData, choose_device
from heads.sweeps import locks, precision
from heads.sweeps.grid import Grid
from heads.sweeps.search import Search
from heads.sweeps.status import is_final, is_over, status_of
from heads.training.fit import describe


class Configurations(Protocol):
    """The configurations of a sweep and the file that names them: a grid file, or the rows of the paper's tables."""

    @property
    def path(self) -> Path:
        """File that names them."""
        ...

    def configs(self) -> list[RunConfig]:
        """Return every configuration once."""
        ...


@dataclass(frozen=True)
class Sweep:
    """The configurations to train, the cache that they read and the folder that they are trained in."""

    grid: Configurations
    cache: Path
    folder: Path
    metric: str  # of the validation split; told to a search and shown
    search: str | None = None
    prune: str | None = None
    memory_bytes: int | None = None  # of features on a device; more are streamed
    precision: str = "float32"  # of trials whose train.precision is auto; see heads.sweeps.precision

    @property
    def trials(self) -> Path:
        """Folder of the trials' run folders."""
        return self.folder / "trials"

    @property
    def has_study(self) -> bool:
        """True if an Optuna study chooses the next trials or prunes them; False if the grid alone decides."""
        return bool(self.search or self.prune)

    def study(self) -> Search:
        """Open the study of this sweep.

        Raises:
            InputError: Optuna is missing, the grid file has nothing to sample from, or the study is damaged or of another sweep.
        """
        if not isinstance(self.grid, Grid):
            raise TypeError("A study needs a grid file.")
        return Search(self.folder, self.grid, self.metric, search=self.search, prune=self.prune)

    def open_trial(self, config: RunConfig) -> Trial:
        """Open one trial without loading its features.

        Raises:
            InputError: The cache lacks something that it reads.
        """
        run_data = loaded_cache(self.cache, "cpu", 0).open(with_precision(config, self.precision))
        return Trial(run_data, run_folder(run_data.config, self.trials))


@dataclass(frozen=True)
class Trial:
    """A run of a sweep before it is trained: what it reads, without features in memory, and its run folder."""

    run_data: RunData
    folder: RunFolder

    @property
    def config(self) -> RunConfig:
        """Its configuration, with the source of emotions and the precision settled."""
        return self.run_data.config


@cache
def loaded_cache(folder: Path, device: str, memory_bytes: int | None) -> LoadedCache:
    """Return a cache with features on a device, each loaded once in a process."""
    return LoadedCache(folder, choose_device(device), memory_bytes)


def open_trials(sweep: Sweep, configs: Iterable[RunConfig]) -> list[Trial]:
    """Open trials without loading features; configurations that come to the same run are one trial.

    Raises:
        InputError: The cache lacks something that a trial reads.
    """
    return _without_duplicates(sweep.open_trial(config) for config in configs)


def resolved(sweep: Sweep, config: RunConfig) -> RunConfig:
    """Return the configuration of a trial with the source of emotions and the precision settled.

    Raises:
        InputError: The cache lacks something that it reads.
    """
    return sweep.open_trial(config).config


def remaining(trials: Iterable[Trial]) -> list[Trial]:
    """Select the trials to train, without duplicates: those that are not over, and those that ran out of memory.

    Raises:
        InputError: A trial that is not trained again has read another cache.
    """
    left = []
    for trial in _without_duplicates(trials):
        if is_final(trial.folder):
            if status_of(trial.folder) != "damaged":
                trial.folder.begin(describe(trial.run_data))
        else:
            left.append(trial)
    return left


def count_trials(sweep: Sweep, configs: Sequence[RunConfig]) -> tuple[int, list[RunFolder]]:
    """Count the trials a sweep has in the end, and list the folders of those that are over and not tried again, by name.

    Args:
        sweep: A sweep whose folder is `opened`.
        configs: The configurations of its grid.

    Raises:
        InputError: The cache lacks something that a trial reads.
    """
    if sweep.search:
        with sweep.study() as study:
            return study.total, [folder for folder in map(RunFolder, sorted(sweep.trials.iterdir())) if is_over(folder)]
    folders = sorted((trial.folder for trial in open_trials(sweep, configs)), key=lambda folder: folder.path)
    return len(folders), [folder for folder in folders if is_final(folder)]


def _without_duplicates(trials: Iterable[Trial]) -> list[Trial]:
    return list({trial.folder.path: trial for trial in trials}.values())


def keep_grid(sweep: Sweep) -> None:
    """Copy the grid file into the folder of the sweep.

    Raises:
        InputError: The folder has another one.
    """
    kept = sweep.folder / "grid.yaml"
    if not kept.exists():
        shutil.copyfile(sweep.grid.path, kept)
    elif kept.read_bytes() != sweep.grid.path.read_bytes() and not kept.samefile(sweep.grid.path):
        raise InputError(f"{kept}: this folder is of another grid than {sweep.grid.path}. Choose another --out, or give {kept}.")


@contextlib.contextmanager
def opened(sweep: Sweep, keep: Callable[[Sweep], None] = keep_grid) -> Iterator[None]:
    """Make the folder of a sweep if need be, and lock it for this process.

    Args:
        sweep: The sweep.
        keep: Writes into the folder what was asked for, or refuses.

    Raises:
        InputError: Another process has the folder, or a part of the sweep, or it is of another sweep.
    """
    sweep.trials.mkdir(parents=True, exist_ok=True)
    with locks.whole(sweep.folder):
        keep(sweep)
        precision.note(sweep.folder, sweep.precision)
        yield


def metric_of(configs: Sequence[RunConfig], asked: str | None, cache: Path) -> str:
    """Return the metric that ranks trials: `asked`, or else mae if all trials learn sentiment, or else mean_wf1, or wf1 of classes.

    Raises:
        InputError: There is no such metric, or no trial learns its task.
    """
    if asked is None:
        tasks = [task for task in TASKS["both"] if all(task in TASKS[config.task] for config in configs)]
        return default_metric(tasks, "msa" not in tasks and _has_classes(cache, {config.corpus for config in configs}))
    task = metric_named(asked).task
    if not any(task in TASKS[config.task] for config in configs):
        raise InputError(f"--metric is {asked}, a metric of task {shown(task)}, which no trial learns. Choose another.")
    return asked


def _has_classes(cache: Path, corpora: Collection[str]) -> bool:
    """Return True if the emotions of all these corpora are classes."""
    return all(read_labels(open_corpus(cache, name).manifest).is_exclusive for name in corpora)


def remove_unfinished_files(folder: RunFolder) -> None:
    """Remove what killed processes, of whatever machine, were writing into a trial that this process has locked."""
    for stray in folder.path.glob(".*.tmp~*"):
        stray.unlink(missing_ok=True)
