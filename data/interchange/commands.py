"""The commands `python -m data export` and `python -m data import`, which convert a cached corpus to another tool's files and back.

The modules of the formats do the work; here are the arguments, the tables of formats and the printed notes.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from data.arguments import Parser
from data.cache import CachedCorpus, open_corpus
from data.errors import InputError
from data.interchange.cached import ANNOTATED, Choice
from data.interchange.csd import export_csd, read_csd_features
from data.interchange.imported import Features, Import, write_corpus
from data.interchange.joined import MISSING, expect_feature_set, join
from data.interchange.merbench import export_merbench, read_merbench
from data.interchange.mmsa import export_mmsa, read_mmsa, read_mmsa_features
from data.interchange.npy import read_npy
from data.interchange.npz import export_npz
from data.interchange.parquet import export_parquet
from data.interchange.webdataset import export_webdataset
from data.label_sets import Statement, parse
from data.schema import MODALITIES
from data.targets import EMOTION_SOURCES

_CACHE = Path("cache")
"""The default of --cache, as in all commands."""

EXPORTS: Mapping[str, Callable[[CachedCorpus, Path, Mapping[str, int], Choice], list[str]]] = {
    "mmsa": export_mmsa,
    "merbench": export_merbench,
    "csd": export_csd,
    "npz": export_npz,
    "parquet": export_parquet,
    "webdataset": export_webdataset,
}
"""Format → function of (corpus, path to write, modality → number of rows to keep, choice) that returns sentences for the user."""

_SUFFIXES = {"mmsa": ".pkl", "npz": ".npz"}
"""Formats of one file; the others are folders."""

IMPORTS: Mapping[str, Callable[[Path, str, Statement], Import]] = {
    "mmsa": read_mmsa,
    "merbench": read_merbench,
}
"""Format → function of (file or folder, corpus name) that returns an import for `write_corpus`."""

JOINS: Mapping[str, Callable[[Path, str], Features]] = {
    "npy": read_npy,
    "csd": read_csd_features,
    "mmsa": read_mmsa_features,
}
"""Format → function of (file or folder, name of the features) that returns features for `join`."""


def add_commands(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add both commands to the parser of `python -m data`."""
    words = (
        "Write the usable utterances of a cached corpus in the format of another tool, and print what was left out or cut, and why."
        " If the command fails, it leaves no file behind."
    )
    out = commands.add_parser("export", help="write the features and labels of a cached corpus for another tool", description=words)
    out.add_argument("place", nargs="*", metavar="CACHE CORPUS", help="the same as --cache CACHE --corpus CORPUS")
    words = (
        "mmsa: one pickle; merbench: a folder of .npy files; csd: .csd files; npz: one file for numpy.load; parquet: a folder for"
        " datasets.load_dataset of Hugging Face; webdataset: tar shards"
    )
    out.add_argument("--format", required=True, choices=EXPORTS, help=words)
    _add_place(out, "the cache: the folder that BuildFeatures wrote to")
    words = "file (mmsa, npz) or folder to write; it must not exist (default: exports/CORPUS-FORMAT, with the suffix of a file)"
    out.add_argument("--out", type=Path, metavar="PATH", help=words)
    words = (
        "write these features only, by their names in the cache: text, audio, vision, text.NAME, … (default: text and audio, as far as"
        " there are any)"
    )
    out.add_argument("--modality", nargs="+", metavar="MODALITY", help=words)
    words = "emotion labels of the corpus itself, or its pseudo-labels (default annotated)"
    out.add_argument("--emotions", choices=tuple(EMOTION_SOURCES), default=ANNOTATED, help=words)
    words = "treat pseudo-labels from less similar donor sentences as missing (default 0)"
    out.add_argument("--minimum-similarity", type=float, metavar="COSINE", help=words)
    for modality in MODALITIES:
        out.add_argument(
            f"--{modality}-limit",
            type=int,
            metavar="N",
            help=f"keep the first N rows of each utterance's {modality} (default: all)",
        )
    out.set_defaults(run=_export)

    words = (
        "Add a corpus with the features and labels of another tool to a cache; or, with --modality, add features of another tool to a"
        " corpus that the cache has. A pickle is read without running any code in it. If the command fails, the cache stays as it was."
    )
    back = commands.add_parser(
        "import", help="add the features and labels of another tool to a cache, so that heads can train on them", description=words
    )
    back.add_argument("path", type=Path, metavar="PATH", help="pickle (mmsa), .csd file (csd) or folder (merbench, npy) to read")
    back.add_argument(
        "--format",
        required=True,
        choices=tuple(dict.fromkeys([*IMPORTS, *JOINS])),
        help=f"format of the files; corpora: {', '.join(IMPORTS)}; with --modality: {', '.join(JOINS)}",
    )
    _add_place(back, "the cache, created if missing for a new corpus")
    words = "label set of a whole corpus, as in luigi.cfg, such as '[-1, 1]' for CH-SIMS (docs/labels.md)"
    back.add_argument("--labels", default="", metavar="STATEMENT", help=words)
    back.add_argument(
        "--modality",
        metavar="MODALITY",
        help="add only features, under this name, to a corpus of the cache: vision, openface, …, or text.NAME, audio.NAME for a further"
        " set of text or audio; utterances are found by their ids",
    )
    back.add_argument(
        "--missing",
        choices=MISSING,
        help="with --modality: what happens if utterances have no features: refuse (nothing is imported, default), or exclude (runs"
        " that read these features leave the utterances out)",
    )
    back.add_argument(
        "--encoders",
        metavar="NAME",
        help="name of the encoders that made the features; a head trained on an import can be evaluated on any import with the same"
        " NAME (default: only on imports of the same files)",
    )
    back.set_defaults(run=_import)


def _add_place(parser: argparse.ArgumentParser, cache: str) -> None:
    """Add --cache and --corpus."""
    parser.add_argument("--cache", type=Path, metavar="DIR", help=f"{cache} (default {_CACHE})")
    parser.add_argument("--corpus", metavar="NAME", help="name of the corpus in the cache")


def _place(args: argparse.Namespace) -> tuple[Path, str]:
    """Return cache and name of the corpus, given as options or, to an export, as the first two words."""
    words = getattr(args, "place", [])
    if words and (len(words) != 2 or args.cache is not None or args.corpus is not None):
        raise InputError(f"{' '.join(words)}: expected CACHE CORPUS, or --cache DIR --corpus NAME instead.")
    if words:
        return Path(words[0]), words[1]
    if args.corpus is None:
        raise InputError("Which corpus? Give --corpus NAME.")
    return args.cache or _CACHE, args.corpus


def _export(args: argparse.Namespace) -> int:
    if args.minimum_similarity is not None and args.emotions == ANNOTATED:
        raise InputError("--minimum-similarity is about --emotions pseudo, which is not given.")
    choice = Choice(
        modalities=None if args.modality is None else tuple(dict.fromkeys(args.modality)),
        emotions=args.emotions,
        minimum_similarity=args.minimum_similarity or 0.0,
    )
    given = {modality: getattr(args, f"{modality}_limit") for modality in MODALITIES}
    limits = {modality: limit for modality, limit in given.items() if limit is not None}
    cache, corpus = _place(args)
    out = args.out or Path("exports") / f"{corpus}-{args.format}{_SUFFIXES.get(args.format, '')}"
    notes = EXPORTS[args.format](open_corpus(cache, corpus), out, limits, choice)
    print("\n".join([f"wrote {out}", *notes]))
    return 0


def _import(args: argparse.Namespace) -> int:
    formats = IMPORTS if args.modality is None else JOINS
    if args.format not in formats:
        way = "brings no labels: give --modality NAME" if args.modality is None else "holds a whole corpus: leave out --modality"
        raise InputError(f"--format {args.format} {way}, or choose one of {', '.join(formats)}.")
    cache, corpus = _place(args)
    if args.modality is None:
        if args.missing is not None:
            raise InputError("--missing is about the features of --modality NAME, which is not given.")
        notes = write_corpus(cache, IMPORTS[args.format](args.path, corpus, parse(args.labels, "--labels")), args.encoders)
    else:
        if args.labels:
            raise InputError("--labels is about whole corpora; features of --modality bring no labels. Leave it out.")
        expect_feature_set(args.modality)
        features = JOINS[args.format](args.path, args.modality)
        notes = join(cache, corpus, args.modality, features, args.path, args.missing or MISSING[0], args.encoders)
    print("\n".join([f"imported {args.path} into {cache}", *notes]))
    return 0
