"""`python -m heads predict`: predictions of a finished run for any corpus. They are made in `heads.runs.evaluate`."""

import argparse
from pathlib import Path

from data.errors import InputError
from heads.commands import _flags

FORMATS = {
    ".csv": "text, with an apostrophe before a cell that a spreadsheet would take for a formula",
    ".parquet": "checked by a checksum",
}
"""Endings of the file."""

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
    if args.out.suffix.lower() not in FORMATS:
        raise InputError(f"--out is {args.out}, expected a name that ends in {' or '.join(FORMATS)}.")

    from data.atomic import atomic_path
    from data.manifest import write_table
    from data.spreadsheets import escape_cells
    from heads.runs.evaluate import predict, reopen
    from heads.runs.folder import RunFolder
    from heads.runs.run_data import choose_device
    from heads.runs.streams import told

    folder = RunFolder(args.folder)
    run_data = reopen(folder, args.cache, choose_device(args.device), args.corpus)
    table = predict(run_data, folder, args.cache)
    if args.out.suffix.lower() == ".parquet":
        write_table(args.out, table, {"run": args.folder.resolve().name})
    else:
        with atomic_path(args.out) as temporary:
            escape_cells(table).to_csv(temporary, index=False)
    features = told(folder.config()["config"]["data"])
    left_out = f"; {run_data.left_out:,} others lack some of them" if run_data.left_out else ""
    print(f"{args.out}: {len(table):,} utterances" + (f", from {features} features{left_out}" if features else ""))
    return 0
