"""`python -m heads predict`: predictions of a finished run for any corpus. They are made in `heads.runs.evaluate`."""

import argparse
from pathlib import Path

from data.lookup import lookup
from heads.commands import _flags

WRITERS = {".csv": "to_csv", ".parquet": "to_parquet"}
"""Ending of the file → method of a pandas table that writes it."""

HELP = "predictions of a finished run for any corpus, labelled or not"
DESCRIPTION = (
    "Writes the predictions of a finished run for every utterance of a corpus, labelled or not, beside its labels. Labels of the test"
    " split are left out."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="cache with the features (default: the run's)")
    parser.add_argument("--corpus", metavar="NAME", help="name of the corpus in the cache (default: the run's)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write, one row an utterance: .csv or .parquet")
    _flags.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Write the predictions and print how many there are.

    Raises:
        InputError: FILE ends in something else, the run is not finished, or the cache or device cannot be used.
    """
    writer = lookup(WRITERS, args.out.suffix.lower(), "ending of --out")

    from data.atomic import atomic_path
    from heads.runs.evaluate import predict_all, reopen
    from heads.runs.folder import RunFolder
    from heads.runs.run_data import choose_device
    from heads.runs.streams import told

    folder = RunFolder(args.folder)
    folder.metrics()  # raises if the run is not finished
    run_data = reopen(folder, args.cache, choose_device(args.device), args.corpus)
    table = predict_all(run_data, folder, args.cache)
    with atomic_path(args.out) as temporary:
        getattr(table, writer)(temporary, index=False)
    features = told(folder.config()["config"]["data"])
    left_out = f"; {run_data.left_out:,} others lack some of them" if run_data.left_out else ""
    print(f"{args.out}: {len(table):,} utterances" + (f", from {features} features{left_out}" if features else ""))
    return 0
