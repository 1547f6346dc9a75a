"""The commands `python -m data export` and `python -m data import`, which convert a cached corpus to another tool's files and back.

The modules of the formats do the work; here are the arguments, the tables of formats and the printed notes.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from data.cache import CachedCorpus, open_corpus
from data.interchange.csd import export_csd
from data.interchange.imported import Import, write_corpus
from data.interchange.merbench import export_merbench, read_merbench
from data.interchange.mmsa import export_mmsa, read_mmsa
from data.schema import MODALITIES

EXPORTS: Mapping[str, Callable[[CachedCorpus, Path, Mapping[str, int]], list[str]]] = {
    "mmsa": export_mmsa,
    "merbench": export_merbench,
    "csd": export_csd,
}
"""Format → function of (corpus, path to write, modality → number of rows to keep) that returns sentences for the user."""

IMPORTS: Mapping[str, Callable[[Path, str], Import]] = {
    "mmsa": read_mmsa,
    "merbench": read_merbench,
}
"""Format → function of (file or folder, corpus name) that returns an import for `write_corpus`."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands to the parser of `python -m data`."""
    words = (
        "Write the usable utterances of a cached corpus in the format of another tool, and print what was left out or cut, and why."
        " If the command fails, it leaves no file behind."
    )
    out = commands.add_parser("export", help="write the features and labels of a cached corpus for another tool", description=words)
    out.add_argument("cache", type=Path, metavar="CACHE", help="the cache: the folder that BuildFeatures wrote to")
    out.add_argument("corpus", metavar="CORPUS", help="name of a corpus in the cache")
    out.add_argument(
        "--format", required=True, choices=EXPORTS, help="mmsa: one pickle; merbench: a folder of .npy files; csd: .csd files"
    )
    out.add_argument("--out", required=True, type=Path, metavar="PATH", help="file (mmsa) or folder to write; it must not exist")
    for modality in MODALITIES:
        out.add_argument(
            f"--{modality}-limit",
            type=int,
            metavar="N",
            help=f"keep the first N rows of each utterance's {modality} (default: all)",
        )
    out.set_defaults(run=_export)

    words = (
        "Add a corpus with the features and labels of another tool to a cache. A pickle is read without running any code in it."
        " If the command fails, the cache stays as it was."
    )
    back = commands.add_parser(
        "import", help="add the features and labels of another tool to a cache, so that heads can train on them", description=words
    )
    back.add_argument("path", type=Path, metavar="PATH", help="pickle (mmsa) or folder (merbench) to read")
    back.add_argument("--format", required=True, choices=IMPORTS, help="format of the files")
    back.add_argument(
        "--cache",
        required=True,
        type=Path,
        metavar="DIR",
        help="the cache, created if missing; BuildFeatures drops imports from its index",
    )
    back.add_argument("--corpus", required=True, metavar="NAME", help="name of the corpus in the cache")
    back.add_argument(
        "--encoders",
        metavar="NAME",
        help="name of the encoders that made the features; a head trained on an import can be evaluated on any import with the same"
        " NAME (default: only on imports of the same files)",
    )
    back.set_defaults(run=_import)


def _export(args: argparse.Namespace) -> int:
    given = {modality: getattr(args, f"{modality}_limit") for modality in MODALITIES}
    limits = {modality: limit for modality, limit in given.items() if limit is not None}
    notes = EXPORTS[args.format](open_corpus(args.cache, args.corpus), args.out, limits)
    print("\n".join([f"wrote {args.out}", *notes]))
    return 0


def _import(args: argparse.Namespace) -> int:
    notes = write_corpus(args.cache, IMPORTS[args.format](args.path, args.corpus), args.encoders)
    print("\n".join([f"imported {args.path} into {args.cache}", *notes]))
    return 0
