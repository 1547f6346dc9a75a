"""`python -m heads sweep`: train all configurations of a grid file. Grid files are described in `heads.sweeps.grid`; the training of
trials is in `heads.sweeps.execution` and `heads.sweeps.session`, the report in `heads.sweeps.results.report`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heads.commands import _flags

if TYPE_CHECKING:
    from heads.runs.config import RunConfig
    from heads.sweeps.execution import Execution
    from heads.sweeps.parts import Part
    from heads.sweeps.sweep import Sweep

HELP = "train all configurations of a grid file; the same command goes on where it was stopped"
DESCRIPTION = (
    "Trains all configurations of a grid file, ranks them by the validation split and writes run folders, a table and a report below"
    " DIR. If it is stopped, the same command goes on. Exit status 1 means that a trial failed."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    words = "grid file; heads/sweeps/grid.py describes the format, heads/grids has examples"
    parser.add_argument("grid", type=Path, metavar="GRID.yaml", help=words)
    _flags.add_cache(parser)
    words = "name of the corpus in the cache, if the grid file does not name it"
    parser.add_argument("--corpus", metavar="NAME", help=words)
    words = f"the head, if the grid file does not name it: {_flags.HEAD_WORDS}"
    parser.add_argument("--head", metavar="HEAD", help=words)
    words = "folder for trials, tables and report (default: sweeps/GRID)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=words)
    words = "validation metric that ranks the trials (default mae; mean_wf1 for emotions alone)"
    parser.add_argument("--metric", metavar="METRIC", help=words)
    words = "let Optuna choose the points of the grid's random section"
    parser.add_argument("--search", choices=("optuna",), help=words)
    parser.add_argument("--prune", choices=("asha",), help="stop poorly performing trials early")
    words = "train only part K of N: the jobs of an array train one part each at the same time; a call without --part writes the tables"
    parser.add_argument("--part", metavar="K/N", help=words)
    _flags.add_execution(parser)


def run(args: argparse.Namespace) -> int:
    """Train the trials that are left, of the whole sweep or of a part, print the best, and return 1 if a trial failed.

    Raises:
        InputError: The grid file, a flag, the cache or a device cannot be used, or the folder is of another sweep.
    """
    from heads.commands import _trials
    from heads.runs.contract_checks import expect_own_heads_kept
    from heads.runs.run_data import memory_bytes
    from heads.sweeps.execution import train_trials
    from heads.sweeps.grid import read_grid
    from heads.sweeps.parts import Part, configs_of
    from heads.sweeps.precision import of_sweep
    from heads.sweeps.results.report import write_report
    from heads.sweeps.results.trials import ranked
    from heads.sweeps.sweep import Sweep, metric_of, opened

    grid = read_grid(args.grid, args.corpus, args.head)
    configs = grid.configs()
    expect_own_heads_kept(configs)
    metric = metric_of(configs, args.metric, args.cache)
    execution = _trials.execution(args)
    out = args.out or default_folder(args.grid)
    precision = of_sweep(out, execution.executor, execution.devices[0])
    sweep = Sweep(grid, args.cache, out, metric, args.search, args.prune, memory_bytes(args.memory_gb), precision)
    part = None if args.part is None else Part.of(args.part)
    if part is not None:
        configs = configs_of(sweep, part)
    if args.dry_run:
        print(f"varied: {', '.join(grid.varied) or 'seeds alone'}")
        _trials.print_dry_run(sweep, configs, execution, part)
        return 0
    if part is not None:
        return _run_part(sweep, part, configs, execution)
    with opened(sweep):
        trials = train_trials(sweep, configs, execution, _trials.announce)
        report = write_report(sweep.folder, metric, trials)
    status = _trials.print_failures(sweep.folder, trials)
    if (trials["status"] == "complete").any():
        print(ranked(trials, metric).head(5).to_string(index=False))
    print(f"{report}: the report; {sweep.folder / 'trials.parquet'}: every trial; {sweep.trials}: their run folders")
    return status


def default_folder(grid: Path) -> Path:
    """Return the folder of a sweep without --out: sweeps/NAME for NAME.yaml; for the grid file that a sweep has kept, its folder."""
    return grid.parent if (grid.parent / "trials").is_dir() else Path("sweeps") / grid.stem


def _run_part(sweep: Sweep, part: Part, configs: Sequence[RunConfig], execution: Execution) -> int:
    """Train one part of a sweep, and return 1 if a trial of it failed."""
    from heads.commands import _trials
    from heads.sweeps.execution import train_part
    from heads.sweeps.parts import opened_part

    if not configs:
        print(f"{sweep.folder}, part {part}: there are so few trials that none is in this part.")
        return 0
    with opened_part(sweep, part, configs):
        trials = train_part(sweep, part, configs, execution, _trials.announce)
    status = _trials.print_failures(sweep.folder, trials)
    print(f"Part {part} is over. When all are, the same command without --part writes the report and the tables.")
    return status
