"""The way from a request to the tables' results: plan the rows, find those that can be trained, train them, evaluate them.

The rows of each table are in `heads.tables.rows`, the paper's numbers in `heads.tables.paper`, metrics of trained rows in
`heads.tables.results`, rows of other tools in `heads.tables.imports`, files and text in `heads.tables.report`. The command is
`heads.commands.tables`. Rows are trained as the trials of one sweep (`heads.sweeps.session`), whose folder OUT/trials all tables share:
MMoLRE, which is in most of them, is trained once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from data.atomic import atomic_path
from data.cache import read_cache
from data.errors import InputError
from data.labels import MOSEI_LABELS
from data.lookup import lookup
from heads.evaluation.metrics import default_metric
from heads.models.registry import HEADS, MEDIAN, find
from heads.models.tasks import TASKS
from heads.runs.config import RunConfig, change
from heads.runs.rows import labelled_rows
from heads.runs.run_data import choose_device
from heads.sweeps.execution import Execution, train_trials
from heads.sweeps.results.trials import encoder_names
from heads.sweeps.sweep import Sweep, Trial, loaded_cache, opened
from heads.tables import paper
from heads.tables.imports import imported
from heads.tables.report import Part
from heads.tables.results import Result, never_predicting, result
from heads.tables.rows import TABLES, Row, TableSection, rows
from heads.training.packed_engine import signature

_HEADER = "# What `python -m heads tables` was last asked for here. No grid of `heads sweep`.\n"


@dataclass(frozen=True, kw_only=True)
class TablesRequest:
    """The tables that are asked for. Its fields, in this order, are what grid.yaml of a folder of tables records."""

    only: tuple[str, ...] | None = None  # keys of TABLES; None: all
    heads: tuple[str, ...] | None = None  # keys of HEADS; None: those of the paper's tables
    seeds: tuple[int, ...] | None = None  # None: the paper's
    preset: str | None = None  # None: each table's own
    corpora: tuple[str, ...] | None = None  # None: those of the paper
    split: str = "valid"  # valid, or test, which is opened then
    add: tuple[str, ...] = ()  # NAME=FILE or NAME=CORPUS:FILE: predictions of other tools

    @property
    def different_seeds(self) -> tuple[int, ...]:
        """The seeds that each row is trained with, each once."""
        return tuple(dict.fromkeys(self.seeds or paper.SEEDS))


@dataclass(frozen=True)
class FixedGrid:
    """The configurations of the tables, in the place of a sweep's grid."""

    path: Path
    runs: tuple[RunConfig, ...]

    def configs(self) -> list[RunConfig]:
        """Return all configurations."""
        return [*self.runs]


@dataclass(frozen=True)
class TablesPlan:
    """The rows of the tables and the trials of a sweep that train them. Nothing is trained or written yet."""

    request: TablesRequest
    sections: list[TableSection]
    left_out: list[str]  # in words: tables and corpora that were asked for and cannot be shown
    problems: dict[Row, str]  # row that cannot be trained on this cache → why
    configs: dict[Row, list[RunConfig]]  # row that can be trained → its configurations, one for each seed
    added: dict[TableSection, tuple[Result, ...]]  # rows of other tools
    sweep: Sweep

    @cached_property
    def trials(self) -> dict[Row, list[Trial]]:
        """Row → its trials, one for each seed."""
        return {row: [self.sweep.open_trial(config) for config in configs] for row, configs in self.configs.items()}

    @property
    def trial_names(self) -> list[str]:
        """Names of all trials, each once. The folder may hold others, of tables that were asked for before."""
        return sorted({trial.folder.path.name for trials in self.trials.values() for trial in trials})


class TrainedTables(NamedTuple):
    """The results of a plan whose trials were trained."""

    parts: list[Part]
    notes: list[str]  # about all tables
    trials: pd.DataFrame  # those of the plan, as `heads.sweeps.results.trials.collect` returns them


def plan_tables(
    request: TablesRequest, cache: Path, out: Path, memory_bytes: int | None = None, precision: str = "float32"
) -> TablesPlan:
    """Choose the rows of the tables and check that each can be trained; read the predictions of other tools.

    Args:
        request: The tables that are asked for.
        cache: Folder that BuildFeatures made.
        out: Folder for tables and trials; nothing is written to it.
        memory_bytes: Features of a run larger than this are streamed from disk; None: 80 % of what is free.
        precision: Of trials whose train.precision is auto.

    Raises:
        InputError: A name is unknown, nothing is left to show or train, a file of predictions cannot be used, or `out` is the folder of
            a sweep.
    """
    sections, left_out = _sections(request, cache)
    every_row = [row for section in sections for row in section.rows]
    problems = {row: problem for row in every_row if (problem := _problem(row.config, cache))}
    if all(row in problems for row in every_row if row.config.head != MEDIAN):
        raise InputError(
            f"No row of the tables can be trained on this cache; the first of the reasons: {next(iter(problems.values()))}"
        )
    configs = {row: _with_seeds(row, request.different_seeds) for row in every_row if row not in problems}
    sweep = _sweep([config for of_row in configs.values() for config in of_row], cache, out, memory_bytes, precision)
    added = imported(request.add, sections, cache, request.split)
    return TablesPlan(request, sections, left_out, problems, configs, added, sweep)


def train_tables(plan: TablesPlan, execution: Execution, announce: Callable[[str], None]) -> TrainedTables:
    """Train the trials of a plan that are left, and evaluate those that are not evaluated on its split.

    Args:
        plan: A plan; grid.yaml in its folder is written anew.
        execution: Devices and size of packs.
        announce: Called with each line for the user.

    Raises:
        InputError: A device cannot be used, another process trains in the folder, or a trial there was made from another cache.
    """
    split = plan.request.split
    with opened(plan.sweep, lambda sweep: _record(plan)):
        trials = train_trials(plan.sweep, plan.sweep.grid.configs(), execution, announce)
        trials = trials[trials["name"].isin(plan.trial_names)]
        device = str(choose_device(execution.devices[0]))
        ours = {section: _results(plan, section, device) for section in plan.sections}
    parts = [Part(section.table, section.corpus, split, (*found, *plan.added[section])) for section, found in ours.items()]
    return TrainedTables(parts, [*_facts(trials, plan.request.different_seeds), *plan.left_out], trials)


def _sections(request: TablesRequest, cache: Path) -> tuple[list[TableSection], list[str]]:
    """Return the rows of each table on each of its corpora and, in words, what is left out.

    Raises:
        InputError: Nothing is left, or a name is unknown.
    """
    names = _known(request.only, TABLES, "table") or list(TABLES)
    corpora = _known(request.corpora, dict.fromkeys(paper.CORPORA), "corpus of the paper") or list(paper.CORPORA)
    cached, heads = read_cache(cache), None if request.heads is None else [*dict.fromkeys(map(find, request.heads))]
    missing = [corpus for corpus in corpora if corpus not in cached]
    left_out = [f"{corpus} is not in the cache {cache}: what the tables have on it is left out." for corpus in missing]
    sections = []
    for name in names:
        available = [corpus for corpus in TABLES[name].corpora if corpus in corpora and corpus in cached]
        if not available:
            left_out.append(f"{name} is left out: the paper has it on {' and '.join(TABLES[name].corpora)}.")
        for corpus in available:
            found = rows(name, corpus, request.preset, heads)
            if len(found) > 1:
                sections.append(TableSection(name, corpus, tuple(found)))
            else:
                left_out.append(f"{name} is left out on {corpus}: none of {', '.join(heads or ())} has a row there.")
    if not sections:
        raise InputError(f"There is nothing to make a table of. {' '.join(left_out)}")
    return sections, left_out


def _problem(config: RunConfig, cache: Path) -> str | None:
    """Return why a configuration cannot be trained on this cache; None if it can."""
    try:
        run_data = loaded_cache(cache, "cpu", 0).open(config)
        if (labels := run_data.tensors.targets.labels) != MOSEI_LABELS:
            return f"{config.corpus}: its labels are {labels}, those of the paper {MOSEI_LABELS}."
        if HEADS[config.head].simple:
            for split in ("train", "valid"):
                labelled_rows(run_data.config, run_data.tensors, split)
        else:
            signature(run_data.config, run_data.tensors)  # checks the labels and that the head can be built
    except InputError as error:
        return str(error)
    return None


def _with_seeds(row: Row, seeds: Sequence[int]) -> list[RunConfig]:
    """Return the row's configuration with each seed; a simple baseline, which is not random, has one seed."""
    used = seeds[:1] if HEADS[row.config.head].simple else seeds
    return [change(row.config, {"seed": seed}, "--seeds") for seed in used]


def _sweep(configs: Sequence[RunConfig], cache: Path, out: Path, memory_bytes: int | None, precision: str) -> Sweep:
    """Return all configurations as one sweep.

    Raises:
        InputError: The folder is of another sweep.
    """
    grid = FixedGrid(out / "grid.yaml", tuple(configs))
    if grid.path.is_file() and not grid.path.read_bytes().startswith(_HEADER.encode()):
        raise InputError(f"{out}: holds another sweep. Choose another --out.")
    return Sweep(grid, cache, out, _metric(configs), memory_bytes=memory_bytes, precision=precision)


def _record(plan: TablesPlan) -> None:
    """Write down in the folder of the sweep what was asked for."""
    asked = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(plan.request).items()}
    with atomic_path(plan.sweep.grid.path) as temporary:
        text = yaml.safe_dump({**asked, "trials": plan.trial_names}, sort_keys=False)
        temporary.write_text(_HEADER + text, encoding="utf-8")


def _results(plan: TablesPlan, section: TableSection, device: str) -> tuple[Result, ...]:
    """Return the results of a section's rows; in Table II the row that never predicts an emotion comes last."""
    split, found = plan.request.split, []
    for row in section.rows:
        if row in plan.problems:
            found.append(Result(row, (), plan.problems[row]))
        else:
            found.append(result(plan.sweep, row, plan.trials[row], split, device))
    return (*found, never_predicting(found[-1])) if section.table == "table2" else tuple(found)


def _facts(trials: pd.DataFrame, seeds: Sequence[int]) -> list[str]:
    """Return notes on the encoders and seeds of all tables."""
    spread = f"Our results are means ± sample deviations over seeds {', '.join(map(str, seeds))}."
    if len(seeds) == 1:
        spread = f"Our results are from seed {seeds[0]} alone: one seed says nothing about the spread over seeds."
    return [f"Features of {', '.join(encoder_names(trials))}.", spread]


def _metric(configs: Sequence[RunConfig]) -> str:
    """Return the metric that the progress bar shows: one of sentiment if any run learns it."""
    return default_metric({task for config in configs for task in TASKS[config.task]})


def _known(given: Sequence[str] | None, known: Mapping[str, object], kind: str) -> list[str] | None:
    """Return the given names, each once; None if none were given.

    Raises:
        InputError: A name is not in `known`.
    """
    if given is None:
        return None
    for name in given:
        lookup(known, name, kind)
    return list(dict.fromkeys(given))
