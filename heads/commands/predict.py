"""`python -m heads predict`: predictions of a finished run for a corpus of a cache, or for any clips.

Those of a corpus are made in `heads.runs.evaluate`, what clips need before is in `heads.commands._own_clips`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import InputError, shown
from heads.commands import _flags

if TYPE_CHECKING:
    import pandas as pd

FORMATS = {
    ".csv": "text, with an apostrophe before a cell that a spreadsheet would take for a formula",
    ".parquet": "checked by a checksum",
}
"""Endings of the file."""

VIDEOS = ("file", "folder")

HELP = "predictions of a finished run: for clips of yours, or for any corpus, labelled or not"
DESCRIPTION = (
    "Writes the predictions of a finished run for recordings or videos (--media) and their texts (--text, --transcribe), with features"
    " that the run's own encoders compute; or for every utterance of a corpus of a cache, labelled or not, beside its labels. Labels of"
    " the test split are left out. Exit status 1: some clips could not be predicted; each is named in a line."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="cache with the features, or that knows the encoders (default: the run's)"
    )
    words = "file to write, one row an utterance: .csv or .parquet (default predictions.csv)"
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"), metavar="FILE", help=words)
    _flags.add_device(parser)
    corpus = parser.add_argument_group("a corpus")
    corpus.add_argument("--corpus", metavar="NAME", help="name of the corpus in the cache (default: the run's)")
    clips = parser.add_argument_group("clips")
    words = "recordings, videos, or folders of them"
    clips.add_argument("--media", type=Path, nargs="+", default=[], metavar="PATH", help=words)
    words = "CSV file with their texts: columns text, and media or id; optional video_id, clip_id, speaker, start_s and end_s"
    clips.add_argument("--text", type=Path, metavar="CSV", help=words)
    words = "folder of a Whisper checkpoint, which writes the texts of clips that have none"
    clips.add_argument("--transcribe", type=Path, metavar="FOLDER", help=words)
    clips.add_argument("--language", metavar="CODE", help="language for --transcribe, such as en (default: Whisper guesses it)")
    words = "folder of the encoder of a feature set, where it is not found: text=/models/roberta-base; may be repeated"
    clips.add_argument("--encoder", action="append", default=[], metavar="SET=FOLDER", help=words)
    words = "one video, for a run that reads what is before a clip: each file (default), or the files of a folder in order"
    clips.add_argument("--videos", choices=VIDEOS, default="file", help=words)
    words = "folder for features and transcripts, which later calls use again (default: predict/ in the run's cache)"
    clips.add_argument("--work", type=Path, metavar="DIR", help=words)


def run(args: argparse.Namespace) -> int:
    """Write the predictions and print how many there are; return 1 if some clips could not be predicted.

    Raises:
        InputError: FILE ends in something else, flags do not go together, the run is not finished, or the cache, the clips or the
            device cannot be used.
    """
    if args.out.suffix.lower() not in FORMATS:
        raise InputError(f"--out is {args.out}, expected a name that ends in {' or '.join(FORMATS)}.")
    if not (args.media or args.text):
        own = {"--transcribe": args.transcribe, "--language": args.language, "--encoder": args.encoder, "--work": args.work}
        _refuse([name for name, value in own.items() if value], "without --media or --text")
        return _predict_corpus(args.folder, args.cache, args.corpus, args.device, args.out)
    _refuse(["--corpus"] if args.corpus else [], "together with --media or --text: clips are no corpus of a cache")
    _refuse(["--language"] if args.language and not args.transcribe else [], "without --transcribe")
    _refuse(["--transcribe"] if args.transcribe and not args.media else [], "without --media")
    if wrong := [text for text in args.encoder if not all(text.partition("="))]:
        raise InputError(f"--encoder is {shown(wrong[0])}, expected SET=FOLDER, such as text=/models/roberta-base.")
    if args.text and args.out.absolute() == args.text.absolute():
        raise InputError(f"--out is {args.out}, the file of the texts. Choose another name.")

    from heads.commands._own_clips import Request, predict

    request = Request(
        run=args.folder,
        media=tuple(args.media),
        text=args.text,
        whisper=args.transcribe,
        language=args.language,
        encoders=tuple(args.encoder),
        by_folder=args.videos == "folder",
        cache=args.cache,
        work=args.work,
        device=args.device,
    )
    found = predict(request)
    if found is None:
        return 2
    _write(args.out, found.table, args.folder)
    print(found.page())
    print(f"{args.out}: {len(found.table):,} of {len(found.table) + found.failed:,} clips")
    return int(found.failed > 0)


def _refuse(flags: Sequence[str], why: str) -> None:
    if flags:
        raise InputError(f"{', '.join(flags)} cannot be used {why}.")


def _predict_corpus(run: Path, cache: Path | None, corpus: str | None, device: str, out: Path) -> int:
    from heads.runs.evaluate import predict, reopen
    from heads.runs.folder import RunFolder
    from heads.runs.own_clips import open_lacking
    from heads.runs.run_data import choose_device
    from heads.runs.streams import told

    folder = RunFolder(run)
    run_data = open_lacking(folder, cache, corpus, choose_device(device)) or reopen(folder, cache, choose_device(device), corpus)
    table = predict(run_data, folder, cache)
    _write(out, table, run)
    features = told(folder.config()["config"]["data"])
    left_out = f"; {run_data.left_out:,} others lack some of them" if run_data.left_out else ""
    print(f"{out}: {len(table):,} utterances" + (f", from {features} features{left_out}" if features else ""))
    return 0


def _write(out: Path, table: "pd.DataFrame", run: Path) -> None:
    from data.atomic import atomic_path
    from data.manifest import write_table
    from data.spreadsheets import escape_cells

    if out.suffix.lower() == ".parquet":
        write_table(out, table, {"run": run.resolve().name})
        return
    with atomic_path(out) as temporary:
        escape_cells(table).to_csv(temporary, index=False)
