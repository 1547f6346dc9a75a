"""`python -m heads evaluate`: metrics of finished runs on a split. Runs are evaluated in `heads.runs.evaluate`; trials of a sweep are
ranked in `heads.sweeps.results.trials`."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data.errors import InputError
from heads.commands import _flags

SPLITS = ("train", "valid", "test")
"""The same as `data.schema.SPLITS`, which is not imported here because pandas comes with it; a test compares the two."""

HELP = "metrics of finished runs on a split; every opening of a split is recorded"
DESCRIPTION = (
    "Prints and writes the metrics of finished runs on a split. Every opening of a split is recorded in opened.csv of the run folder."
    " Open the test split when nothing is left to choose. Pictures of routing are drawn for RUN folders, not for the trials of --sweep."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="run folders")
    words = "instead of run folders: evaluate the best trials of a sweep by validation"
    parser.add_argument("--sweep", type=Path, metavar="DIR", help=words)
    words = "number of configurations of --sweep, each with all its seeds (default 1)"
    parser.add_argument("--top", type=int, metavar="N", help=words)
    words = "validation metric that ranks the trials of --sweep (default mae; mean_wf1 for emotions alone)"
    parser.add_argument("--metric", metavar="METRIC", help=words)
    parser.add_argument("--split", choices=SPLITS, default="valid", help="default valid")
    words = "checkpoint (the chosen epoch, default), best-mae, …"
    parser.add_argument("--checkpoint", default="checkpoint", metavar="NAME", help=words)
    words = "folder where the features are now (default: where the run found them)"
    parser.add_argument("--cache", type=Path, metavar="DIR", help=words)
    _flags.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate the runs and print their metrics; of a sweep, write the report again.

    Raises:
        InputError: The flags do not go together, a run is not finished, or its features are not those that it was trained on.
    """
    from heads.evaluation.console import results
    from heads.runs.evaluate import FinishedRuns, evaluate
    from heads.runs.folder import RunFolder
    from heads.runs.run_data import choose_device
    from heads.runs.streams import told

    device = choose_device(args.device)
    if bool(args.runs) == bool(args.sweep):
        raise InputError("Give either run folders or --sweep DIR.")
    if args.sweep:
        paths = best_runs(args.sweep, 1 if args.top is None else args.top, args.metric)
    elif args.top is not None or args.metric is not None:
        raise InputError("--top and --metric choose among the trials of --sweep DIR, which is not given.")
    else:
        paths = args.runs
    finished, found, read = FinishedRuns(args.cache, device), {}, {}
    for shown, path in names_in_tables(paths).items():
        folder = RunFolder(path)
        run_data = finished.reopen(folder)
        found[shown] = evaluate(run_data, folder, args.split, args.checkpoint, with_pictures=not args.sweep)
        if features := told(folder.config()["config"]["data"]):
            others = f" ({run_data.left_out:,} utterances lack some of them and are left out)" if run_data.left_out else ""
            read[shown] = f"{features} features{others}"
    for shown, features in read.items():
        print(f"{shown}: {features}")
    print(results(found, args.split if args.checkpoint == "checkpoint" else f"{args.split}-{args.checkpoint}"))
    if args.sweep:
        from heads.sweeps.results.report import write_report
        from heads.sweeps.results.trials import write_trials

        print(f"{write_report(args.sweep, args.metric, write_trials(args.sweep))}: the report, written again")
    return 0


def best_runs(folder: Path, count: int, metric: str | None) -> list[Path]:
    """Return the run folders of the best configurations of a sweep, with all seeds of each.

    Args:
        folder: The folder of the sweep.
        count: How many configurations at most.
        metric: A metric of the validation split; None: mae, or mean_wf1 where no sentiment was learned.

    Raises:
        InputError: There are no trials, no such metric, no trial with a value of it, or `count` is below 1.
    """
    if count < 1:
        raise InputError(f"--top is {count}, expected 1 or more.")

    from heads.sweeps.results.report import usual_metric
    from heads.sweeps.results.trials import collect, ranked

    trials = collect(folder)
    best = ranked(trials, metric or usual_metric(trials)).head(count)
    complete = trials[trials["status"] == "complete"]
    return [folder / "trials" / name for key in best["key"] for name in complete.loc[complete["key"] == key, "name"]]


def names_in_tables(paths: Sequence[Path]) -> dict[str, Path]:
    """Return shown name → run folder, each folder once: its name, or its path where several folders have that name."""
    different = {path.resolve(): path for path in paths}
    counts = Counter(path.name for path in different)
    return {str(path) if counts[place.name] > 1 else place.name: path for place, path in different.items()}
