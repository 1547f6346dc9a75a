"""`python -m heads tables`: the paper's tables and figures on cached features, ours beside the paper's. What is missing is trained.

Which rows there are is in `heads.tables.rows`, the paper's numbers in `heads.tables.paper`, what came out in
`heads.tables.results`, files and text in `heads.tables.report`. Rows are trained as the trials of one sweep
(`heads.sweeps.session`), DIR/trials, which all tables share: MMoLRE, which is in most of them, is trained once.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from data.atomic import atomic_path
from data.cache import read_cache
from data.errors import InputError
from data.lookup import lookup
from heads.evaluation.metrics import default_metric
from heads.models.base import TASKS
from heads.models.registry import HEADS, MEDIAN
from heads.runs.config import RunConfig, change
from heads.runs.folder import run_folder
from heads.runs.rows import labelled_rows
from heads.runs.run_data import choose_device, memory_bytes
from heads.sweeps.command import check, print_failed, train
from heads.sweeps.dry_run import dry_run
from heads.sweeps.results.trials import encoder_names
from heads.sweeps.sweep import Sweep, loaded_cache, opened, resolved
from heads.tables import paper
from heads.tables.imports import imported
from heads.tables.report import Part, write
from heads.tables.results import Result, never, result
from heads.tables.rows import TABLES, Row, TableSection, rows
from heads.training.packed_engine import signature

_HEADER = "# What `python -m heads tables` was last asked for here. No grid of `heads sweep`.\n"


@dataclass(frozen=True)
class FixedGrid:
    """The configurations of the tables, where a sweep has a grid."""

    path: Path
    runs: tuple[RunConfig, ...]

    def configs(self) -> list[RunConfig]:
        """All of them."""
        return [*self.runs]


@dataclass(frozen=True)
class Planned:
    """What stands in the tables, and which runs that takes."""

    groups: list[TableSection]
    left_out: list[str]  # in words
    problems: dict[Row, str]  # why a row cannot be trained on this cache
    runs: dict[Row, list[RunConfig]]  # of the other rows, one for each seed

    def sweep(self, args: argparse.Namespace) -> Sweep:
        """All runs, as the trials of one sweep.

        Raises:
            InputError: The folder is of another sweep.
        """
        runs = tuple(run for of_row in self.runs.values() for run in of_row)
        grid = FixedGrid(args.out / "grid.yaml", runs)
        if grid.path.is_file() and not grid.path.read_text(encoding="utf-8").startswith(_HEADER):
            raise InputError(f"{args.out}: holds another sweep. Choose another --out.")
        return Sweep(grid, args.cache, args.out, _metric(runs), memory_bytes=memory_bytes(args.memory_gb))


def tables(args: argparse.Namespace) -> int:
    """Carries out the command and returns its exit status: 1 if a trial failed."""
    check(args)
    seeds, devices = tuple(dict.fromkeys(args.seeds or paper.SEEDS)), args.devices or ["auto"]
    planned = _plan(args, seeds)
    sweep = planned.sweep(args)
    added = imported(args.add, planned.groups, args.cache, args.split)
    if args.dry_run:
        for line in (*planned.left_out, *(f"{row.method}: {problem}" for row, problem in planned.problems.items())):
            print(line)
        dry_run(sweep, sweep.grid.configs(), devices, args.pack_size)
        return 0
    with opened(sweep, lambda sweep: _write_asked(sweep, args)):
        trials = train(sweep, sweep.grid.configs(), devices, args)
        trials = trials[trials["name"].isin(_trials(sweep))]
        device = str(choose_device(devices[0]))
        ours = {one: _results(sweep, one, planned, args.split, device) for one in planned.groups}
    status = print_failed(args.out, trials)
    parts = [Part(one.table, one.corpus, args.split, (*found, *added[one])) for one, found in ours.items()]
    print(write(args.out, parts, [*_facts(trials, seeds), *planned.left_out]))
    return status


def _plan(args: argparse.Namespace, seeds: Sequence[int]) -> Planned:
    groups, left_out = _groups(args, _names(args.only, TABLES, "table") or list(TABLES))
    every = [row for group in groups for row in group.rows]
    problems = {row: problem for row in every if (problem := _problem(row, args.cache))}
    _check_some(every, problems)
    return Planned(groups, left_out, problems, {row: _runs(row, seeds) for row in every if row not in problems})


def _trials(sweep: Sweep) -> list[str]:
    """Names of the trials that are asked for; the folder may hold others, of tables that were asked for before."""
    return sorted({run_folder(resolved(sweep, run), sweep.trials).path.name for run in sweep.grid.configs()})


def _facts(trials: pd.DataFrame, seeds: Sequence[int]) -> list[str]:
    spread = f"Ours is mean ± sample deviation over seeds {', '.join(map(str, seeds))}."
    if len(seeds) == 1:
        spread = f"Ours is of seed {seeds[0]}. One seed says nothing about the spread over seeds."
    return [f"Features of {', '.join(encoder_names(trials))}.", spread]


def _results(sweep: Sweep, group: TableSection, planned: Planned, split: str, device: str) -> tuple[Result, ...]:
    found = [
        Result(row, (), planned.problems[row]) if row in planned.problems else result(sweep, row, planned.runs[row], split, device)
        for row in group.rows
    ]
    return (*found, never(found[-1])) if group.table == "table2" else tuple(found)


def _groups(args: argparse.Namespace, names: Sequence[str]) -> tuple[list[TableSection], list[str]]:
    """The rows of each table on each corpus that it has, and, in words, what is left out.

    Raises:
        InputError: Nothing remains, or a name is unknown.
    """
    corpora = _names(args.corpora, dict.fromkeys(paper.CORPORA), "corpus of the paper") or list(paper.CORPORA)
    cached, heads = read_cache(args.cache), _names(args.heads, HEADS, "head")
    missing = [corpus for corpus in corpora if corpus not in cached]
    left_out = [f"{corpus} is not in the cache {args.cache}: what the tables have on it is left out." for corpus in missing]
    groups = []
    for name in names:
        having = [corpus for corpus in TABLES[name].corpora if corpus in corpora and corpus in cached]
        if not having:
            left_out.append(f"{name} is left out: the paper has it on {' and '.join(TABLES[name].corpora)}.")
        for corpus in having:
            found = rows(name, corpus, args.preset, heads)
            if len(found) > 1:
                groups.append(TableSection(name, corpus, tuple(found)))
            else:
                left_out.append(f"{name} is left out on {corpus}: none of {', '.join(heads or ())} has a row there.")
    if not groups:
        raise InputError(f"There is nothing to make a table of. {' '.join(left_out)}")
    return groups, left_out


def _problem(row: Row, cache: Path) -> str | None:
    """Why a row cannot be trained on this cache; None if it can."""
    try:
        run_data = loaded_cache(cache, "cpu", 0).open(row.config)
        if HEADS[row.config.head].simple:
            for split in ("train", "valid"):
                labelled_rows(run_data.config, run_data.tensors, split)
        else:
            signature(run_data.config, run_data.tensors)
    except InputError as error:
        return str(error)
    return None


def _check_some(asked: Sequence[Row], problems: Mapping[Row, str]) -> None:
    """Raises InputError if not one row but the floor's can be trained."""
    if all(row in problems for row in asked if row.config.head != MEDIAN):
        raise InputError(
            f"No row of the tables can be trained on this cache; the first of the reasons: {next(iter(problems.values()))}"
        )


def _runs(row: Row, seeds: Sequence[int]) -> list[RunConfig]:
    """One for each seed; of a simple baseline, which draws nothing, one."""
    asked = seeds[:1] if HEADS[row.config.head].simple else seeds
    return [change(row.config, {"seed": seed}, "--seeds") for seed in asked]


def _write_asked(sweep: Sweep, args: argparse.Namespace) -> None:
    """Writes what was asked into the folder of the sweep."""
    said = {name: getattr(args, name) for name in ("only", "heads", "seeds", "preset", "corpora", "split", "add")}
    with atomic_path(sweep.grid.path) as temporary:
        temporary.write_text(_HEADER + yaml.safe_dump({**said, "trials": _trials(sweep)}, sort_keys=False), encoding="utf-8")


def _metric(runs: Sequence[RunConfig]) -> str:
    """Returns the metric that the bar shows: that of sentiment if any run learns it."""
    return default_metric({task for run in runs for task in TASKS[run.task]})


def _names(given: Sequence[str] | None, known: Mapping[str, object], kind: str) -> list[str] | None:
    """What was given, each once."""
    if given is None:
        return None
    for name in given:
        lookup(known, name, kind)
    return list(dict.fromkeys(given))
