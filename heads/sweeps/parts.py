"""Parts of a sweep: `--part 3/20` trains one of 20 parts, so that the jobs of an array can train all of them at the same time.

The parts follow from the grid and the cache alone, not from the device or from what is finished. Together they have every trial once.
Trials that can be trained together stand side by side and are cut into shares of equal size, so that the packs of a part are whole;
a cut moves to the border between two such groups if that is near. All parts write into the same folder (`heads.sweeps.locks`). A
part writes its trials and no tables: those are written by a call without --part, which also trains what the parts have left.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from data.errors import InputError, shown
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.folder import run_folder
from heads.sweeps import locks, precision
from heads.sweeps.packing import alike
from heads.sweeps.sweep import Sweep, keep_grid, open_trials, remove_unfinished_files

_NEAR = 1 / 8
"""Share of a part by which a cut moves at most, to keep trials together that can be trained together."""


@dataclass(frozen=True)
class Part:
    """One of several parts."""

    number: int  # from 1
    count: int

    @classmethod
    def of(cls, text: str) -> "Part":
        """Read K/N.

        Raises:
            InputError: That is no part.
        """
        words = text.split("/")
        if len(words) == 2 and all(word.isascii() and word.isdecimal() for word in words):
            number, count = map(int, words)
            if 1 <= number <= count:
                return cls(number, count)
        raise InputError(f"--part is {shown(text)}, expected K/N with K from 1 to N, for example 3/20.")

    def __str__(self) -> str:
        """Return K/N."""
        return f"{self.number}/{self.count}"


def configs_of(sweep: Sweep, part: Part) -> list[RunConfig]:
    """Return the configurations of one part, each trial once, with the source of emotions settled.

    Raises:
        InputError: A study chooses the trials, or a trial cannot be trained.
    """
    if sweep.has_study:
        name = f"--search {sweep.search}" if sweep.search else f"--prune {sweep.prune}"
        raise InputError(
            f"--part does not go with {name}: its study chooses or stops trials by the results of all others. Leave out --part; the"
            " devices of several machines can share a study with --executor ray."
        )
    trials = open_trials(sweep, sweep.grid.configs())
    simple = [trial for trial in trials if HEADS[trial.config.head].simple]
    groups = alike([trial for trial in trials if not HEADS[trial.config.head].simple])
    start, stop = _bounds([len(group) for group in groups], part)
    learned = [trial for group in groups for trial in group][start:stop]
    return [trial.config for trial in (*learned, *simple[part.number - 1 :: part.count])]


def _bounds(sizes: Sequence[int], part: Part) -> tuple[int, int]:
    """Return where a part begins and ends among the trials of groups of these sizes."""
    borders = [0, *accumulate(sizes)]

    def cut(number: int) -> int:
        even = borders[-1] * number // part.count
        nearest = min(borders, key=lambda border: abs(border - even))
        return nearest if abs(nearest - even) <= _NEAR * borders[-1] / part.count else even

    return cut(part.number - 1), cut(part.number)


def _keep(sweep: Sweep) -> None:
    keep_grid(sweep)
    precision.note(sweep.folder, sweep.precision)


@contextlib.contextmanager
def opened_part(sweep: Sweep, part: Part, configs: Sequence[RunConfig]) -> Iterator[None]:
    """Make the folder of a sweep if need be, and keep other processes from one part of it.

    Args:
        sweep: The sweep.
        part: The part.
        configs: Its configurations, as `configs_of` returns them.

    Raises:
        InputError: Another process has this part, a part of another division or the whole sweep, or the folder is of another sweep.
    """
    sweep.trials.mkdir(parents=True, exist_ok=True)
    with locks.part(sweep.folder, part.number, part.count, lambda: _keep(sweep)):
        for config in configs:
            remove_unfinished_files(run_folder(config, sweep.trials))
        yield
