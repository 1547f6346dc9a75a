"""Search and pruning: an Optuna study in DIR/study.log chooses the next trials of a sweep and stops poorly performing ones early.

Without a search the trials are those of the grid file, in its order. With `--search optuna` the file's `random` has the distributions
to sample from and the number of points; grid and list, if the file has them, become choices among their values. The sampler is the
tree-structured Parzen estimator (Bergstra et al., NIPS 2011, https://papers.nips.cc/paper/4443). With `--prune asha` a trial is trained
beyond 3, 9, 27, … epochs only if it is in the best third of the trials that have come so far (ASHA, Li et al., MLSys 2020,
https://arxiv.org/abs/1810.05934).

The study is a journal that several processes may append to; a killed process leaves it intact. The draws for a point follow from the
file's seed, the place of the point and the results known by then, so a search that goes on needs nothing else. Each process holds a
lock as long as it lives and notes its trials under it; trials in progress under a lock that nobody holds are handed out again.

Optuna is optional, so it is imported only here, when a search is made. Trials are trained in `heads.sweeps.session`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from data.errors import InputError, reason
from data.files import unreadable
from data.lookup import expect, lookup
from heads.evaluation.metrics import higher_is_better
from heads.runs.config import RunConfig
from heads.runs.contents import fault_of
from heads.sweeps.distributions import Distribution
from heads.sweeps.grid import Grid
from heads.sweeps.locks import is_held

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages.journal import JournalFileSymlinkLock
    from optuna.trial import FrozenTrial

STUDY = "study.log"
"""File of a study in the folder of its sweep."""

SEARCHES = ("optuna",)
PRUNERS = ("asha",)

FIRST_RUNG_EPOCHS = 3
"""Epochs after which ASHA compares trials for the first time."""

REDUCTION = 3
"""One of this many trials goes on beyond a rung of ASHA; the next rung comes after this many times the epochs."""

OPTUNA_STATES = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
"""Status of a trial that is over (`heads.sweeps.status`) → Optuna's name for it."""

_NAME = "sweep"
_OWNER = re.compile("[0-9a-f]{32}")
_ASKED = "asked"
"""Attribute of a study's trial that was handed out: its place among all, its run, and the lock of the process that has it."""


class Search(contextlib.AbstractContextManager):
    """The study of a sweep: it hands out trials, stops them early and takes their results."""

    def __init__(self, folder: Path, grid: Grid, metric: str, *, search: str | None = None, prune: str | None = None) -> None:
        """Open DIR/study.log, or begin it.

        Args:
            folder: DIR, the folder of the sweep.
            grid: The grid file.
            metric: The validation metric that is told and reported.
            search: One of `SEARCHES`; None: the configurations of the grid in their order.
            prune: One of `PRUNERS`; None: no trial is stopped early.

        Raises:
            InputError: Optuna is missing, the grid file has nothing to sample from, or the study is damaged or of another sweep.
        """
        self._optuna = _import_optuna()
        self._folder, self._grid, self._search = folder, grid, search
        if search is not None:
            expect(SEARCHES, search, "search")
            if not grid.random:
                raise InputError(f"{grid.path}: --search {search} needs random: with a count and what to sample from.")
        self._higher = higher_is_better(metric)
        self._pruner = self._make_pruner(prune)
        self._space = {name: _optuna_distribution(what) for name, what in grid.space.items()} if search else {}
        self._runs = [] if search else grid.configs()
        self._owner: FileLock | None = None
        folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            self._open()
            self._check({"metric": metric, "--search": search, "--prune": prune, "grid file": _fingerprint(grid, search)})
            self._expect_sound()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the trials that are in progress here; another process may have them."""
        if self._owner:
            Path(self._owner.lock_file).unlink(missing_ok=True)
            self._owner.release()
            self._owner = None

    @property
    def total(self) -> int:
        """Number of trials in the end, including those that turn out to be repetitions."""
        return self._grid.count * self._seeds if self._search else len(self._runs)

    @property
    def left(self) -> int:
        """Number of trials that have not been handed out."""
        return self.total - len(self._asked())

    def ask(self, count: int) -> list[tuple[int, RunConfig]]:
        """Hand out the next trials: first those of processes that have ended, then new ones.

        Args:
            count: Number of trials at most.

        Returns:
            Number of each trial in the study, and its configuration; fewer than `count` if there are no more. A configuration that came
            before is left out.

        Raises:
            InputError: A sampled point is not a valid configuration.
        """
        with self._alone():
            return list(itertools.islice(itertools.chain(self._abandoned(), self._new()), count))

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Record the metric after an epoch.

        Args:
            number: Number of the trial, which any process may have.
            epoch: Number of the epoch, from 1.
            value: The metric on the validation split; NaN is worse than any number.

        Returns:
            True if the trial is to be stopped now.
        """
        trial = self._id(number)
        self._storage.set_trial_intermediate_value(trial, epoch, value)
        return self._pruner.prune(self._study, self._storage.get_trial(trial))

    def tell(self, number: int, value: float | None, status: str) -> None:
        """Record the end of a trial. Only the first call for a trial counts.

        Args:
            number: Number of the trial, which any process may have.
            value: The metric on the validation split; a trial that ends with NaN has failed.
            status: A key of `OPTUNA_STATES`.
        """
        if status == "complete" and value is not None and math.isnan(value):
            status = "failed"
        known = self._optuna.trial.TrialState[lookup(OPTUNA_STATES, status, "status of a trial")]
        self._study.tell(number, value if status == "complete" else None, state=known, skip_if_finished=True)

    @property
    def _seeds(self) -> int:
        return max(1, len(self._grid.seeds))

    def _asked(self) -> list[FrozenTrial]:
        """List the trials that were handed out, or left out because they had come before."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if _ASKED in trial.user_attrs]

    def _abandoned(self) -> Iterator[tuple[int, RunConfig]]:
        for trial in self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.RUNNING,)):
            asked = trial.user_attrs.get(_ASKED)
            if asked is None:  # the process was killed before it was handed out
                self.tell(trial.number, None, "failed")
            elif not is_held(self._folder / "study.owners" / asked["owner"]):
                self._note(trial.number, asked | {"owner": self._own()})
                yield trial.number, self._config(trial.params, asked["place"])

    def _new(self) -> Iterator[tuple[int, RunConfig]]:
        while (place := len(asked := self._asked())) < self.total:
            number, params = self._draw(place, asked)
            config = self._config(params, place)
            run = f"{config.key()}-{config.seed}"
            self._note(number, {"place": place, "run": run, "owner": self._own()})
            if any(trial.user_attrs[_ASKED]["run"] == run for trial in asked):
                self.tell(number, None, "failed")
            else:
                yield number, config

    def _draw(self, place: int, asked: list[FrozenTrial]) -> tuple[int, dict[str, Any]]:
        """Make a new trial; all seeds of a point have the parameters of the first."""
        first = place - place % self._seeds
        if self._search and first == place:
            seed = np.random.SeedSequence([self._grid.seed, place]).generate_state(1)[0]
            self._study.sampler = self._optuna.samplers.TPESampler(seed=int(seed))
        elif self._search and not self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.WAITING,)):
            [same] = [trial for trial in asked if trial.user_attrs[_ASKED]["place"] == first]
            self._study.enqueue_trial(same.params)
        trial = self._study.ask(self._space)
        return trial.number, trial.params

    def _config(self, params: dict[str, Any], place: int) -> RunConfig:
        if not self._search:
            return self._runs[place]
        chosen = {name: what.values[params[name]] if what.kind == "choice" else params[name] for name, what in self._grid.space.items()}
        return self._grid.with_seeds(self._grid.at(chosen))[place % self._seeds]

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._storage.get_study_id_from_name(_NAME), number)

    def _note(self, number: int, asked: dict[str, Any]) -> None:
        self._storage.set_trial_user_attr(self._id(number), _ASKED, asked)

    def _own(self) -> str:
        """Return the name of this process's lock."""
        if self._owner is None:
            path = self._folder / "study.owners" / uuid.uuid4().hex
            path.parent.mkdir(exist_ok=True)
            self._owner = FileLock(path)
            self._owner.acquire()
        return Path(self._owner.lock_file).name

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the study, so that no other process asks meanwhile."""
        with FileLock(self._folder / "study.asking"):
            yield

    def _make_pruner(self, prune: str | None) -> Any:
        if prune is None:
            return self._optuna.pruners.NopPruner()
        expect(PRUNERS, prune, "pruner")
        return self._optuna.pruners.SuccessiveHalvingPruner(min_resource=FIRST_RUNG_EPOCHS, reduction_factor=REDUCTION)

    def _open(self) -> None:
        journal, path = self._optuna.storages.journal, self._folder / STUDY
        lock = journal.JournalFileSymlinkLock(str(path))
        _cut_torn_end(path, lock)
        try:
            self._storage = self._optuna.storages.JournalStorage(journal.JournalFileBackend(str(path), lock_obj=lock))
            self._study = self._optuna.create_study(
                storage=self._storage,
                study_name=_NAME,
                direction="maximize" if self._higher else "minimize",
                pruner=self._pruner,
                load_if_exists=True,
            )
        except Exception as error:  # Optuna does not check a line before it acts on it, so a damaged one raises any error
            raise unreadable(path, error) or self._damaged(reason(error)) from error

    def _check(self, made: dict[str, str | None]) -> None:
        """Refuse a study of another sweep."""
        known = self._study.user_attrs.get("made")
        if known is None:
            self._study.set_user_attr("made", made)
        elif not isinstance(known, dict) or known.keys() != made.keys():
            raise self._damaged("what it was begun with is not in it")
        elif other := [name for name in made if made[name] != known[name]]:
            raise InputError(f"{self._folder / STUDY}: was begun with another {other[0]}. Choose another --out.")

    def _expect_sound(self) -> None:
        """Refuse a study with trials that a search of this grid cannot have noted."""
        noted = [trial.user_attrs[_ASKED] for trial in self._asked()]
        for fault in (fault_of(one, {"place": int, "run": str, "owner": str}, f"{_ASKED}.") for one in noted):
            if fault is not None:
                raise self._damaged(fault)
        if sorted(one["place"] for one in noted) != list(range(len(noted))):
            raise self._damaged("the places of its trials are not 0, 1, 2, …")
        if not self._search and len(noted) > len(self._runs):
            raise self._damaged(f"it has {len(noted):,} trials, but the grid has {len(self._runs):,}")
        for trial in self._asked():
            if not _OWNER.fullmatch(trial.user_attrs[_ASKED]["owner"]) or not self._is_sound(trial):
                raise self._damaged(f"trial {trial.number} is not as this program notes it")

    def _is_sound(self, trial: FrozenTrial) -> bool:
        rungs = [value for name, value in trial.system_attrs.items() if name.startswith("completed_rung_")]
        reported = [*(trial.values or ()), *trial.intermediate_values.values(), *rungs]
        return (
            trial.distributions == self._space
            and all(isinstance(value, (int, float)) for value in reported)
            and all(isinstance(epoch, int) and epoch > 0 for epoch in trial.intermediate_values)
            and all(_holds(what, trial.params[name]) for name, what in self._space.items())
        )

    def _damaged(self, why: str) -> InputError:
        return InputError(f"{self._folder / STUDY}: damaged, or not a study of Optuna ({why}). Remove it to begin again.")


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InputError("--search and --prune need Optuna, which is not installed. Install it: pip install '.[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _optuna_distribution(what: Distribution) -> BaseDistribution:
    """Convert a distribution to Optuna's. Choices are sampled by number, because 1, 1.0 and true are the same to Optuna."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if what.kind == "choice":
        return CategoricalDistribution(range(len(what.values)))
    if what.kind == "int_uniform":
        return IntDistribution(*what.values)
    return FloatDistribution(*what.values, log=what.kind == "log_uniform")


def _holds(what: BaseDistribution, value: Any) -> bool:
    """Return True if a value is one of those that a distribution draws."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(what, CategoricalDistribution):
        return value in what.choices
    return isinstance(what, (FloatDistribution, IntDistribution)) and what.low <= value <= what.high


def _fingerprint(grid: Grid, search: str | None) -> str:
    """Hash everything of a grid that a study depends on; the count of a search may grow, so it is left out."""
    asked = dataclasses.asdict(grid) | {"path": None} | ({"count": None} if search else {})
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _cut_torn_end(path: Path, lock: JournalFileSymlinkLock) -> None:
    """Remove an incomplete last line, which a crashed machine can leave at the end of a journal.

    Nobody has read it, and a line appended to it could not be read.
    """
    if not path.exists():
        return
    lock.acquire()
    try:
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    finally:
        lock.release()
