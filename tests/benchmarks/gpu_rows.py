"""Rows of the table of `gpu.py`, and what a part of it knows about its surroundings."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One figure, or why there is none."""

    part: str  # filled in by the command
    what: str
    value: float | None = None
    unit: str = ""  # "×", "ms", "clips/s", "relative", …
    goal: str = ""  # "≥ 3", "≤ 1e-05"; empty: none
    is_reached: bool | None = None  # None: no goal, or nothing measured
    is_equality: bool = False  # of a goal: whether the exit status depends on it
    note: str = ""

    @property
    def figure(self) -> str:
        """The value with its unit."""
        return "–" if self.value is None else f"{shown(self.value)} {self.unit}".strip()

    @property
    def verdict(self) -> str:
        """The column `reached`."""
        return {True: "yes", False: "NO", None: "not shown" if self.goal and self.value is None else ""}[self.is_reached]


def at_least(what: str, value: float, unit: str, goal: float, note: str = "") -> Row:
    """A figure that should be large."""
    return Row("", what, value, unit, f"≥ {shown(goal)}", value >= goal, note=note)


def equal(what: str, difference: float, most: float, unit: str = "relative", note: str = "") -> Row:
    """A difference that must be small. NaN is not."""
    return Row("", what, difference, unit, f"≤ {shown(most)}", difference <= most, True, note)


def counted(what: str, value: int, least: int, note: str = "") -> Row:
    """A number of things that were compared or passed, of which there must be some."""
    return Row("", what, value, "", f"≥ {least}", value >= least, True, note)


def figure(what: str, value: float, unit: str, note: str = "") -> Row:
    """A figure without a goal."""
    return Row("", what, value, unit, note=note)


def failed(what: str, error: BaseException | str, is_equality: bool = False) -> Row:
    """Something that could not be measured because of an error."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return Row("", what, is_reached=False, is_equality=is_equality, note=f"error: {' '.join(text.split())[:300]}")


def skipped(what: str, why: str, is_equality: bool = False) -> Row:
    """Something that was not tried. An equality that was not tried is not shown."""
    return Row("", what, goal="shown" if is_equality else "", is_equality=is_equality, note=f"skipped: {why}")


def shown(value: float) -> str:
    """A number as a table has it: three digits, or a power of ten for very small ones."""
    if value == int(value) and abs(value) < 1e6:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Setting:
    """What a part works with."""

    device: str  # "cpu" or "cuda"
    is_small: bool
    folder: Path  # shared by all parts
    ends: float  # `time.monotonic` at which the part is stopped

    @property
    def is_gpu(self) -> bool:
        return self.device != "cpu"

    def fits(self, seconds: float) -> bool:
        """True if this much more time is left to the part."""
        return time.monotonic() + seconds < self.ends

    def small_or(self, small: int, full: int) -> int:
        """A size: of the short form of the command, or of the whole."""
        return small if self.is_small else full


Rows = Iterator[Row]
