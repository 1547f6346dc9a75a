"""`python -m data export` and `python -m data import`: a cached corpus to the files of another tool, and back."""

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
"""Format → (corpus, where to, modality → rows to keep) to sentences for the user."""

IMPORTS: Mapping[str, Callable[[Path, str], Import]] = {
    "mmsa": read_mmsa,
    "merbench": read_merbench,
}
"""Format → (file or folder, corpus name) to what `write_corpus` writes."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds both commands to those of `python -m data`."""
    words = "Writes the usable utterances of a cached corpus, complete or not at all, and says what was left out or cut, and why."
    out = commands.add_parser("export", help="write the features and labels of a cached corpus for another tool", description=words)
    out.add_argument("cache", type=Path, metavar="CACHE", help="the folder in which BuildFeatures wrote")
    out.add_argument("corpus", metavar="CORPUS", help="a corpus of the cache")
    out.add_argument(
        "--format", required=True, choices=EXPORTS, help="mmsa: one pickle; merbench: a folder of .npy files; csd: .csd files"
    )
    out.add_argument("--out", required=True, type=Path, metavar="PATH", help="the file (mmsa) or folder to write; must not exist")
    for modality in MODALITIES:
        out.add_argument(
            f"--{modality}-limit", type=int, metavar="N", help=f"keep the first N rows of {modality} features (default: all)"
        )
    out.set_defaults(run=_export)

    words = "Adds a corpus to a cache, complete or not at all. A pickle is read without running anything that stands in it."
    back = commands.add_parser(
        "import", help="write the features and labels of another tool into a cache, for heads to train on", description=words
    )
    back.add_argument("path", type=Path, metavar="PATH", help="the pickle (mmsa) or folder (merbench)")
    back.add_argument("--format", required=True, choices=IMPORTS, help="which tool's")
    back.add_argument(
        "--cache", required=True, type=Path, metavar="DIR", help="a cache, made if need be; BuildFeatures forgets what it did not build"
    )
    back.add_argument("--corpus", required=True, metavar="NAME", help="the name to give the corpus")
    back.add_argument(
        "--encoders",
        metavar="NAME",
        help="what made the features: imports of one NAME are taken to be by the same encoders, so that heads go from one to another"
        " (default: only imports of the same files are)",
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
