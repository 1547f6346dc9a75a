"""Grids of runs that take a fraction of a second, and sweeps of them in this process."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import small_runs
import torch
import yaml
from command_line import call

from heads.runs.folder import RunFolder, run_folder
from heads.runs.run_data import LoadedCache
from heads.sweeps.executors import Execute, in_process
from heads.sweeps.grid import Grid, read_grid
from heads.sweeps.session import train_remaining
from heads.sweeps.sweep import Sweep, opened, resolved
from heads.sweeps.workers import Watcher
from heads.training.fit import fit

SHORT = small_runs.SMALL | {"train.max_epochs": 2, "train.keep": []}
"""Options of all trials of a grid, unless it gives others."""


class Seen(Watcher):
    """A watcher that remembers its news."""

    def __init__(self) -> None:
        self.count, self.share, self.over = 0, 0.0, []

    def on_start(self, count: int) -> None:
        self.count += count

    def on_progress(self, share: float) -> None:
        self.share += share

    def on_end(self, folder: RunFolder) -> None:
        self.over.append(folder.path.name)


def write_grid(path: Path, fixed: dict | None = None, **sections: object) -> Path:
    """Write a grid file of small runs of pre-fusion on mosi; options that vary are not fixed."""
    varied = {name for section in ("grid", "random") for name in sections.get(section, {})}
    varied |= {name for point in sections.get("list", []) for name in point}
    kept = {name: value for name, value in (SHORT | (fixed or {})).items() if name not in varied}
    heads = {} if "head" in varied else {"head": "pre-fusion"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**heads, "corpus": "mosi", "fixed": kept, **sections}, sort_keys=False))
    return path


def a_grid(folder: Path, fixed: dict | None = None, **sections: object) -> Grid:
    """Write such a grid file and read it."""
    return read_grid(write_grid(folder / "grid.yaml", fixed, **sections), None)


def a_sweep(cache: Path, folder: Path, search: str | None = None, prune: str | None = None, **sections: object) -> Sweep:
    """Make a sweep, in folder / "sweep", of such a grid."""
    return Sweep(a_grid(folder, **sections), cache, folder / "sweep", "mae", search, prune)


def call_sweep(capsys: pytest.CaptureFixture, cache: Path, folder: Path, *options: object, **sections: Any) -> tuple[int, str, str]:
    """Call `sweep` on such a grid, into folder / "sweep"; return status, output and errors."""
    grid = write_grid(folder / "grid.yaml", **sections)
    return call(capsys, "sweep", grid, "--cache", cache, "--out", folder / "sweep", "--devices", "cpu", *options)


def swept(made: Sweep, size: int | None = 3, execute: Execute | None = None, devices: tuple[str, ...] = ("cpu",)) -> Seen:
    """Train what is left of a sweep in its folder."""
    seen = Seen()
    with opened(made):
        train_remaining(made, devices, execute or in_process("cpu"), seen, size)
    return seen


def folders(made: Sweep) -> list[RunFolder]:
    """List the run folders of a sweep, by name."""
    return [RunFolder(path) for path in sorted(made.trials.iterdir())]


def history(folder: RunFolder) -> pd.DataFrame:
    """Read the history of a run, without times."""
    return pd.read_csv(folder.path / "history.csv").drop(columns="seconds")


def times(made: Sweep) -> dict[str, int]:
    """Map each complete trial to the time of its metrics.json."""
    return {one.path.name: (one.path / "metrics.json").stat().st_mtime_ns for one in folders(made) if one.is_complete}


def assert_equal_to_fit(made: Sweep, folder: Path) -> None:
    """Check that every trial is there once and equals what `fit` makes of its configuration below `folder`, or made there before."""
    configs = [resolved(made, config) for config in made.grid.configs()]
    assert [one.path for one in folders(made)] == sorted({run_folder(config, made.trials).path for config in configs})
    loaded = LoadedCache(made.cache, torch.device("cpu"))
    for config in configs:
        found, alone = run_folder(config, made.trials), run_folder(config, folder / "alone")
        expected = fit(loaded.open(config), alone)
        assert found.metrics()["valid"]["mae"] == pytest.approx(expected["valid"]["mae"], rel=1e-4)
        assert history(found)["valid_loss"].tolist() == pytest.approx(history(alone)["valid_loss"].tolist(), rel=1e-4)
