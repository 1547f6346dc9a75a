"""The command line `python -m pipeline`: explain a build, compute features of clips with the encoders of a run, or transcribe clips."""

import argparse
import os
import sys
from pathlib import Path

from data.arguments import Parser
from data.errors import InputError
from pipeline.config_file import expect_readable_files


def main(argv: list[str] | None = None, prog: str = "python -m pipeline") -> int:
    """Runs the command line and returns the exit status. `prog` is the name of the program in its help."""
    args = _parser(prog).parse_args(argv)
    try:
        return args.run(args)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(prog=prog, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    words = "Reads luigi.cfg and the cache that it names, and prints what BuildFeatures would compute, and why. Runs nothing."
    explain = commands.add_parser("explain", help="print what would be computed, and why; run nothing", description=words)
    explain.set_defaults(run=_explain)

    words = (
        "Computes the features of a folder with a label.csv with the encoders of a run, found by the SHA-256 of their files. The corpus"
        " has the name of the folder, into which luigi.cfg is written. python -m heads predict --media calls it."
    )
    encode = commands.add_parser("encode", help="compute features of clips with the encoders of a run", description=words)
    encode.add_argument("config", type=Path, metavar="CONFIG", help="config.json of a run")
    encode.add_argument("clips", type=Path, metavar="FOLDER", help="folder with a label.csv, as the reader `folder` takes it")
    encode.add_argument("--into", type=Path, required=True, metavar="CACHE", help="cache that gets the features")
    words = "cache whose builds have used or adapted the encoders; may be repeated"
    encode.add_argument("--cache", type=Path, action="append", default=[], metavar="DIR", help=words)
    words = "folder of the encoder of a feature set, such as text=/models/roberta-base; may be repeated"
    encode.add_argument("--encoder", type=_assignment, action="append", default=[], metavar="SET=FOLDER", help=words)
    words = "feature set of the run; may be repeated (default: all)"
    encode.add_argument("--only", action="append", default=[], metavar="SET", help=words)
    encode.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="device of the encoders (default auto)")
    encode.set_defaults(run=_encode)

    words = (
        "Writes the texts of the clips of a folder with a label.csv that have a medium and no text into transcripts-KEY.csv beside it,"
        " and prints the path of that file. If it is there already, it stays as it is, corrections included. The key is made of the"
        " checkpoint, the language and the clips. Nothing is downloaded."
    )
    transcribe = commands.add_parser("transcribe", help="write the texts of clips with a local Whisper checkpoint", description=words)
    transcribe.add_argument("clips", type=Path, metavar="FOLDER", help="folder with a label.csv, as the reader `folder` takes it")
    transcribe.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="folder of a Whisper checkpoint")
    words = "language that is spoken, such as en or german (default: guessed for each window)"
    transcribe.add_argument("--language", metavar="CODE", help=words)
    transcribe.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="device of the model (default auto)")
    transcribe.set_defaults(run=_transcribe)
    return parser


def _assignment(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r}, expected SET=FOLDER, such as text=/models/roberta-base")
    return name, Path(folder)


def _explain(args: argparse.Namespace) -> int:
    expect_readable_files()  # before Luigi, which reads them as soon as it is imported
    from pipeline.explain import explain
    from pipeline.this_build import current_build

    print("\n".join(explain(current_build().plan)))
    return 0


def _transcribe(args: argparse.Namespace) -> int:
    from pipeline.transcription import transcribe

    print(transcribe(args.clips, args.model, args.language, args.device))
    return 0


def _encode(args: argparse.Namespace) -> int:
    from pipeline.encode import configure
    from pipeline.same_encoders import Places

    clips, caches = args.clips.absolute(), tuple(cache.absolute() for cache in args.cache)
    places = Places(caches, {name: folder.expanduser().absolute() for name, folder in args.encoder})
    path = configure(args.config.absolute(), clips, args.into.absolute(), places, args.device, args.only)
    os.chdir(clips)
    os.environ["LUIGI_CONFIG_PATH"] = str(path)
    sys.argv = ["luigi", "--module", "pipeline", "BuildFeatures"]
    from pipeline import luigi_command

    return luigi_command.main() or 0


if __name__ == "__main__":
    sys.exit(main())
