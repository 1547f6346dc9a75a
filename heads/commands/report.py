"""`python -m heads report`: the page of a run, or of several side by side. Its content is in `heads.reports`."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.errors import InputError
from heads.commands import _flags

HELP = "a page about runs: curves, errors, calibration, modalities, experts, and every clip"
DESCRIPTION = (
    "Writes a page about finished runs, which opens in a browser without a network: metrics with intervals, learning curves, predicted"
    " against true, confusion, precision and recall, calibration, errors by part of the corpus, what each modality adds, layers,"
    " experts, and a table of all clips. Several runs stand side by side, with mean ± sd over the seeds of a configuration. Pages of"
    " the test split need runs that have opened it before (evaluate), and are recorded in their opened.csv."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders, all on one corpus")
    parser.add_argument(
        "--split", choices=("valid", "test"), default="valid", help="test: all runs have opened it before (default valid)"
    )
    words = "the page (default: report.html in the run folder; of several runs report.html here; report-test.html for test)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=words)
    words = "folder where the features are now (default: where each run found them; without them, the page lacks what they would add)"
    parser.add_argument("--cache", type=Path, metavar="DIR", help=words)
    words = "look into no cache: no texts, sounds, modalities and experts of clips, and no simple baseline is fitted again"
    parser.add_argument("--no-cache", action="store_true", help=words)
    _flags.add_media(parser)
    _flags.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page and print where it is.

    Raises:
        InputError: A run is not finished or has not opened the split, the runs are of several corpora, or the flags do not go together.
    """
    _flags.expect_page(args.out)
    if args.no_cache and args.cache is not None:
        raise InputError("--cache and --no-cache exclude each other. Give one of them.")

    from heads.commands.evaluate import names_in_tables
    from heads.reports.content import Media
    from heads.reports.gathering import Sources, gather
    from heads.reports.run_page import page_name, write_page
    from heads.runs.folder import RunFolder
    from heads.runs.run_data import choose_device

    paths = list(names_in_tables(args.runs).values())
    name = page_name(args.split)
    out = args.out or (paths[0] / name if len(paths) == 1 else Path(name))
    sources = Sources(args.cache, not args.no_cache, args.media_folder)
    content = gather([RunFolder(path) for path in paths], args.split, sources, choose_device(args.device))
    note = write_page(content, out, Media(args.media, _flags.media_bytes(args.media_mb)))
    for line in (*content.notes, *([note] if note else [])):
        print(line)
    print(out)
    return 0
