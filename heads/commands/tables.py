"""`python -m heads tables`: the paper's tables and figures, our numbers beside the paper's. Rows are trained in `heads.tables.build`;
files and texts are made in `heads.tables.report`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from heads.commands import _flags

HELP = "the paper's tables and figures, our numbers beside the paper's; trains what is missing"
DESCRIPTION = (
    "Trains what the paper's tables and figures need on cached features and prints them, our numbers beside the paper's; files are"
    " written below DIR. Finished runs are not retrained. Exit status 1 means that a trial failed."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--only", action=_flags.ListOf, metavar="TABLE", help="table1, table2, table3, fig2, fig3 (default: all)")
    words = f"only these heads; heads that the paper does not list in a table are added as rows of their own, as is {_flags.OWN_HEAD}"
    parser.add_argument("--heads", action=_flags.ListOf, metavar="HEAD", help=words)
    words = "train each row with these seeds (default 1 11 111)"
    parser.add_argument("--seeds", action=_flags.ListOf, of=int, metavar="SEED", help=words)
    words = (
        "native or paper (as published; MMoLRE's family then needs a GPU), common (one recipe, small), light, another preset, or"
        " a YAML file (default: common for table1 and table2, paper for the others)"
    )
    parser.add_argument("--preset", metavar="PRESET", help=words)
    words = "mosi, mosei (default: those that are in the cache)"
    parser.add_argument("--corpora", action=_flags.ListOf, metavar="NAME", help=words)
    parser.add_argument("--split", choices=("valid", "test"), default="valid", help="test opens the test split (default valid)")
    words = (
        "add a row of another tool's predictions to table1, and to table2 if it has emotions; FILE as for score; give CORPUS if the ids"
        " of the file exist in both; may be repeated"
    )
    parser.add_argument("--add", action="append", default=[], metavar="NAME=[CORPUS:]FILE", help=words)
    _flags.add_cache(parser)
    words = "folder for tables and trials (default tables)"
    parser.add_argument("--out", type=Path, default=Path("tables"), metavar="DIR", help=words)
    _flags.add_execution(parser)


def run(args: argparse.Namespace) -> int:
    """Train the rows that are missing, write and print the tables, and return 1 if a trial failed.

    Raises:
        InputError: A flag, the cache or a device cannot be used, nothing is left to show, or the folder is of another sweep.
    """
    from heads.commands import _trials
    from heads.runs.contract_checks import expect_own_heads_kept
    from heads.runs.run_data import memory_bytes
    from heads.sweeps.precision import of_sweep
    from heads.sweeps.results.trials import encoder_names
    from heads.tables.build import TablesRequest, plan_tables, train_tables
    from heads.tables.report import write

    execution = _trials.execution(args)
    request = TablesRequest(
        only=_tuple(args.only),
        heads=_tuple(args.heads),
        seeds=_tuple(args.seeds),
        preset=args.preset,
        corpora=_tuple(args.corpora),
        split=args.split,
        add=tuple(args.add),
    )
    precision = of_sweep(args.out, execution.executor, execution.devices[0])
    plan = plan_tables(request, args.cache, args.out, memory_bytes(args.memory_gb), precision)
    expect_own_heads_kept(plan.sweep.grid.configs())
    if args.dry_run:
        for line in plan.left_out:
            print(line)
        for row, problem in plan.problems.items():
            print(f"{row.method}: {problem}")
        _trials.print_dry_run(plan.sweep, plan.sweep.grid.configs(), execution)
        return 0
    trained = train_tables(plan, execution, _trials.announce)
    status = _trials.print_failures(args.out, trained.trials)
    print(write(args.out, trained.parts, trained.notes, encoder_names(trained.trials)))
    return status


def _tuple(values: Sequence | None) -> tuple | None:
    return None if values is None else tuple(values)
