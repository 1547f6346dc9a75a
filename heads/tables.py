"""`python -m heads tables`: the paper's tables and figures on cached features, ours beside the paper's. What is missing is trained.

Which rows there are is in `heads.table_rows`, the paper's numbers in `heads.paper`, what came out in `heads.table_results`, files and
text in `heads.table_report`. Rows are trained as the trials of one sweep (`heads.sweep`), DIR/trials, which all tables share: MMoLRE,
which is in most of them, is trained once.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from data.atomic import atomic_path
from data.cache import read_cache
from data.errors import InputError
from data.lookup import lookup
from heads import paper
from heads.config import RunConfig, change
from heads.experiment import run_folder
from heads.materials import choose_device, memory_bytes
from heads.pack import signature
from heads.plan import labelled_rows
from heads.registry import HEADS
from heads.sweep import opened, resolved
from heads.sweep_command import train
from heads.table_imports import imported
from heads.table_report import Part, write
from heads.table_results import Result, never, result
from heads.table_rows import FLOOR, TABLES, Group, Row, rows
from heads.train import Run
from heads.trials import write_trials
from heads.workers import Sweep, materials_on

_HEADER = "# What `python -m heads tables` was last asked for here. No grid of `heads sweep`.\n"


@dataclass(frozen=True)
class Asked:
    """The configurations of the tables, where a sweep has a grid."""

    path: Path
    runs: tuple[RunConfig, ...]

    def configs(self) -> list[RunConfig]:
        """All of them."""
        return [*self.runs]


def tables(args: argparse.Namespace) -> None:
    """Carries out the command."""
    names = _names(args.only, TABLES, "table") or list(TABLES)
    seeds, devices = _seeds(args.seeds), args.devices or ["auto"]
    if args.pack_size is not None and args.pack_size < 1:
        raise InputError(f"--pack-size is {args.pack_size}, expected 1 or more.")
    groups, left_out = _groups(args, names)
    asked = Asked(args.out / "grid.yaml", ())
    made = Sweep(asked, args.cache, args.out, "mae", memory_bytes=memory_bytes(args.memory_gb))
    problems = {row: problem for group in groups for row in group.rows if (problem := _problem(made, row))}
    _check_some([row for group in groups for row in group.rows], problems)
    added = imported(args.add, groups, args.cache, args.split)
    runs = {row: _runs(row, seeds) for group in groups for row in group.rows if row not in problems}
    made = _asked(made, args, [run for of_row in runs.values() for run in of_row])
    with opened(made):
        trials = _train(made, devices, args)
        device = str(choose_device(devices[0]))
        ours = {one: _results(made, one, runs, problems, args.split, device) for one in groups}
    parts = [Part(one.table, one.corpus, (*found, *added[one])) for one, found in ours.items()]
    print(write(args.out, parts, args.split, [*_facts(trials, seeds), *left_out]))


def _train(made: Sweep, devices: Sequence[str], args: argparse.Namespace) -> pd.DataFrame:
    """Trains what is missing, and returns all trials of the folder."""
    try:
        train(made, made.grid.configs(), devices, args)
    finally:
        if any(made.trials.iterdir()):
            trials = write_trials(made.folder)
    return trials


def _facts(trials: pd.DataFrame, seeds: Sequence[int]) -> list[str]:
    encoders = sorted({name for column in trials if column.startswith("encoder.") for name in trials[column].dropna()})
    few = " One seed says nothing about the spread over seeds." if len(seeds) == 1 else ""
    return [f"Features of {', '.join(encoders)}.", f"Ours is mean ± sample deviation over seeds {', '.join(map(str, seeds))}.{few}"]


def _results(
    made: Sweep, group: Group, runs: Mapping[Row, Sequence[RunConfig]], problems: Mapping[Row, str], split: str, device: str
) -> tuple[Result, ...]:
    found = [
        Result(row, (), row.method, problems[row]) if row in problems else result(made, row, runs[row], split, device)
        for row in group.rows
    ]
    return (*found, never(found[-1])) if group.table == "table2" else tuple(found)


def _groups(args: argparse.Namespace, names: Sequence[str]) -> tuple[list[Group], list[str]]:
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
                groups.append(Group(name, corpus, tuple(found)))
            else:
                left_out.append(f"{name} is left out on {corpus}: none of {', '.join(heads or ())} has a row there.")
    if not groups:
        raise InputError(f"There is nothing to make a table of. {' '.join(left_out)}")
    return groups, left_out


def _problem(made: Sweep, row: Row) -> str | None:
    """Why a row cannot be trained on this cache; None if it can."""
    try:
        material = materials_on(made.cache, "cpu", 0).open(row.config)
        if HEADS[row.config.head].floor:
            for split in ("train", "valid"):
                labelled_rows(material.config, material.tensors, split)
        else:
            signature(Run(material.config, material.tensors, run_folder(material.config, made.trials)))
    except InputError as error:
        return str(error)
    return None


def _check_some(asked: Sequence[Row], problems: Mapping[Row, str]) -> None:
    """Raises InputError if not one row but the floor's can be trained."""
    if all(row in problems for row in asked if row.config.head != FLOOR):
        raise InputError(
            f"No row of the tables can be trained on this cache; the first of the reasons: {next(iter(problems.values()))}"
        )


def _runs(row: Row, seeds: Sequence[int]) -> list[RunConfig]:
    """One for each seed; of a floor, which draws nothing, one."""
    asked = seeds[:1] if HEADS[row.config.head].floor else seeds
    return [change(row.config, {"seed": seed}, "--seeds") for seed in asked]


def _asked(made: Sweep, args: argparse.Namespace, runs: Sequence[RunConfig]) -> Sweep:
    """The sweep of these runs, with what was asked written into its folder.

    Raises:
        InputError: The folder is of another sweep.
    """
    path = made.folder / "grid.yaml"
    if path.is_file() and not path.read_text(encoding="utf-8").startswith(_HEADER):
        raise InputError(f"{made.folder}: holds another sweep. Choose another --out.")
    trials = sorted({run_folder(resolved(made, run), made.trials).path.name for run in runs})
    said = {name: getattr(args, name) for name in ("only", "heads", "seeds", "preset", "corpora", "split", "add")}
    with atomic_path(path) as temporary:
        temporary.write_text(_HEADER + yaml.safe_dump({**said, "trials": trials}, sort_keys=False), encoding="utf-8")
    return dataclasses.replace(made, grid=Asked(path, tuple(runs)), metric=_metric(runs))


def _metric(runs: Sequence[RunConfig]) -> str:
    """What the bar shows."""
    return "mean_wf1" if runs and all(run.task == "mer" for run in runs) else "mae"


def _names(given: Sequence[str] | None, known: Mapping[str, object], kind: str) -> list[str] | None:
    """Names that were given one by one or with commas between, each once."""
    if given is None:
        return None
    names = [name for part in given for name in part.split(",") if name]
    for name in names:
        lookup(known, name, kind)
    if not names:
        raise InputError(f"No {kind} is named. Available: {', '.join(known)}.")
    return list(dict.fromkeys(names))


def _seeds(given: Sequence[str] | None) -> tuple[int, ...]:
    if given is None:
        return paper.SEEDS
    names = [name for part in given for name in part.split(",") if name]
    if not names or not all(name.isdecimal() for name in names):
        raise InputError(f"--seeds is {' '.join(given)!r}, expected whole numbers of 0 or more, for example 1,11,111.")
    return tuple(dict.fromkeys(map(int, names)))
