"""`python -m heads`: train heads on a feature cache, and look at what came out.

Each command is one function here; what it can be given is in `heads.commands.arguments`, the work in `heads.training.fit`,
`heads.runs.evaluate` and below them.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.atomic import atomic_path
from data.errors import InputError
from heads.commands.arguments import parser
from heads.models.options import nested, parse_assignments
from heads.runs.config import DEFAULT_PRESET, make_config


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    args = parser().parse_args(argv)
    try:
        status = _COMMANDS[args.command](args)
        sys.stdout.flush()
        return status or 0
    except BrokenPipeError:  # the reader, `head` for one, has seen enough; Python's own flush at exit must not find the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        goes_on = " The same command goes on where it was last saved." if args.command in ("fit", "sweep", "tables") else ""
        print(f"Interrupted.{goes_on}", file=sys.stderr)
        return 130


def _list(args: argparse.Namespace) -> None:
    from data.reporting.tables import aligned
    from heads.commands import listing
    from heads.models.options import flat

    if args.head is None and args.preset is not None:
        raise InputError("--preset is for the options of one head. Name a HEAD, or leave it out.")
    if args.head is None:
        print(aligned(listing.rows(), listing.HEADER, left=len(listing.HEADER) - 1))
        return
    config = make_config(args.head, "CORPUS", args.preset or DEFAULT_PRESET)
    for name, value in flat(config):
        if name not in ("head", "corpus", "preset", "seed"):
            print(f"{name} = {json.dumps(value)}")  # as --set takes it


def _params(args: argparse.Namespace) -> None:
    from heads.commands import parameters

    print(parameters.render(parameters.block_table()))
    print()
    print(parameters.render(parameters.head_table()))


def _fit(args: argparse.Namespace) -> None:
    config = make_config(args.head, args.corpus, args.preset, _changes(args))  # refuses a mistyped name before torch is imported

    from heads.evaluation.console import results
    from heads.runs import run_data
    from heads.runs.folder import run_folder
    from heads.training import fit

    device = run_data.choose_device(args.device)
    run_data = run_data.open_run_data(config, args.cache, device, run_data.memory_bytes(args.memory_gb))
    found = {}
    for seed in dict.fromkeys(args.seed or [config.seed]):
        one = fit.with_seed(run_data, seed)
        folder = run_folder(one.config, args.out)
        found[folder.path.name] = _fit_one(one, folder)
    print(results(found, "valid"))


def _fit_one(run_data: Any, folder: Any) -> dict[str, Any]:
    from heads.evaluation.console import training_bar
    from heads.training import fit

    state = "complete already" if folder.is_complete else f"{fit.facts(run_data)}"
    print(f"{folder.path}: {state}", flush=True)
    with training_bar(folder.path.name, fit.steps(run_data)) as advance:
        return fit.fit(run_data, folder, advance)


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags and --set say, as a nested mapping."""
    flags = {
        "task": args.task,
        "data.emotions": args.emotions,
        "data.minimum_similarity": args.minimum_similarity,
        "data.modalities": args.modalities,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    return nested(given | parse_assignments(args.set))


def _sweep(args: argparse.Namespace) -> int:
    from heads.sweeps.command import sweep

    return sweep(args)


def _tables(args: argparse.Namespace) -> int:
    from heads.tables.build import tables

    return tables(args)


def _score(args: argparse.Namespace) -> None:
    from heads.runs.external import score

    score(args)


def _evaluate(args: argparse.Namespace) -> None:
    from heads.evaluation.console import results
    from heads.runs import evaluate, run_data
    from heads.runs.folder import RunFolder

    device = run_data.choose_device(args.device)
    found, name = {}, args.split if args.checkpoint == "checkpoint" else f"{args.split}-{args.checkpoint}"
    for shown, path in _shown(_chosen(args)).items():
        folder = RunFolder(path)
        run_data = evaluate.reopen(folder, args.cache, device)
        found[shown] = evaluate.evaluate(run_data, folder, args.split, args.checkpoint)
    print(results(found, name))
    if args.sweep:
        from heads.sweeps.command import write_results

        print(f"{write_results(args.sweep, args.metric)}: the report, written again")


def _chosen(args: argparse.Namespace) -> list[Path]:
    """The run folders that are evaluated."""
    if bool(args.runs) == bool(args.sweep):
        raise InputError("Give either run folders or --sweep DIR.")
    if args.sweep:
        from heads.sweeps.command import best_runs

        return best_runs(args.sweep, 1 if args.top is None else args.top, args.metric)
    if args.top is not None or args.metric is not None:
        raise InputError("--top and --metric choose among the trials of --sweep DIR, which is not given.")
    return args.runs


def _shown(paths: Sequence[Path]) -> dict[str, Path]:
    """What each run folder, taken once, is called in tables: its name, or its path where several have that name."""
    unlike = {path.resolve(): path for path in paths}
    counts = Counter(path.name for path in unlike)
    return {str(path) if counts[place.name] > 1 else place.name: path for place, path in unlike.items()}


def _predict(args: argparse.Namespace) -> None:
    from heads.runs import evaluate, run_data
    from heads.runs.folder import RunFolder

    device = run_data.choose_device(args.device)
    table = evaluate.predict(RunFolder(args.folder), args.cache, args.corpus, device)
    with atomic_path(args.out) as temporary:
        table.to_parquet(temporary, index=False)
    print(f"{args.out}: {len(table):,} utterances")


_COMMANDS = {
    "list": _list,
    "params": _params,
    "fit": _fit,
    "sweep": _sweep,
    "tables": _tables,
    "evaluate": _evaluate,
    "predict": _predict,
    "score": _score,
}


if __name__ == "__main__":
    sys.exit(main())
