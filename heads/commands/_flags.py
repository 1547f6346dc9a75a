"""Flags that several commands share, and the type of flags that take lists. The other flags are in the module of their command."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data.errors import InputError, shown
from heads.runs.config import DEFAULT_PRESET, EMOTION_CHOICES, PRESETS

PRESET_HELP = f"{', '.join(PRESETS)}, or a YAML file (default {DEFAULT_PRESET})"

EMOTION_SOURCES = tuple(name for name in EMOTION_CHOICES if name != "auto")
"""Choices of --emotions; "auto" is what happens without it."""


MEDIA, MEDIA_MB = ("link", "embed", "none"), 20
"""The same as `data.reporting.audio.SOURCES` and `LIMIT_BYTES`, which are not imported here because NumPy comes with them; a test
compares the two."""


class ListOf(argparse.Action):
    """A flag whose values are separated by blanks or commas: --seed 1 11 111 or --seed 1,11,111."""

    def __init__(self, option_strings: Sequence[str], dest: str, of: Callable[[str], Any] = str, **options: Any) -> None:
        """`of` converts one value; a ValueError that it raises becomes a message that asks for whole numbers."""
        super().__init__(option_strings, dest, nargs="+", **options)
        self.of = of

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        texts = [text for part in values for text in part.split(",") if text]
        try:
            found = [self.of(text) for text in texts]
        except ValueError as error:
            raise argparse.ArgumentError(self, f"{shown(' '.join(values))}, expected whole numbers, for example 1,11,111") from error
        if not found:
            raise argparse.ArgumentError(self, f"{shown(' '.join(values))} names nothing")
        setattr(namespace, self.dest, found)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add --cache."""
    words = "folder that BuildFeatures made (default cache)"
    parser.add_argument("--cache", type=Path, default=Path("cache"), metavar="DIR", help=words)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    words = "auto (the GPU if there is one), cpu, cuda, cuda:1, … (default auto)"
    parser.add_argument("--device", default="auto", metavar="DEVICE", help=words)


def add_emotions(parser: argparse.ArgumentParser) -> None:
    """Add --emotions."""
    words = "emotion labels of the corpus itself, or its pseudo-labels (default: annotated if the corpus has any, else pseudo)"
    parser.add_argument("--emotions", choices=EMOTION_SOURCES, help=words)


def add_media(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what the players of a page play; `media_bytes` reads one of them."""
    words = "players: link to the media (default), embed their sound in the page, or none"
    parser.add_argument("--media", choices=MEDIA, default=MEDIA[0], help=words)
    words = "folder of the corpus, with its media (default: the one that the cache was built from)"
    parser.add_argument("--media-folder", type=Path, metavar="DIR", help=words)
    words = f"MB of sound that --media embed may add to the page, the first clips of its table first (default {MEDIA_MB})"
    parser.add_argument("--media-mb", type=float, default=MEDIA_MB, metavar="MB", help=words)


def media_bytes(megabytes: float) -> int:
    """Converts --media-mb to bytes.

    Raises:
        InputError: The number is below 0 or not finite.
    """
    if not 0 <= megabytes * 1e6 < math.inf:
        raise InputError(f"--media-mb is {megabytes}, expected a number of 0 or more.")
    return int(megabytes * 1e6)


def expect_page(path: Path | None) -> None:
    """Raises InputError if the file of a page does not end in .html, and browsers would not show it."""
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out is {path}, expected a name that ends in .html.")


def add_memory(parser: argparse.ArgumentParser) -> None:
    """Add --memory-gb."""
    words = "GB of device memory for features; larger features are streamed from disk (default: 80 %% of what is free)"
    parser.add_argument("--memory-gb", type=float, metavar="GB", help=words)


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how trials are trained; `heads.commands._trials.execution` reads them."""
    words = "print the number of trials, how they are trained, and estimates of memory and time; train nothing"
    parser.add_argument("--dry-run", action="store_true", help=words)
    words = "number of trials that are trained together (default: as many as save time and fit into the memory of the device)"
    parser.add_argument("--pack-size", type=int, metavar="N", help=words)
    words = "devices, with one worker each: cpu, cuda:0, … (default: the GPU, or as many workers on the CPU as measured to be fastest)"
    parser.add_argument("--devices", action=ListOf, metavar="DEVICE", help=words)
    words = "local: processes on this machine (default); ray: a Ray cluster"
    parser.add_argument("--executor", choices=("local", "ray"), default="local", help=words)
    words = "address of a running Ray cluster (default: start a local one)"
    parser.add_argument("--ray-address", metavar="ADDRESS", help=words)
    add_memory(parser)
    parser.add_argument("--tensorboard", action="store_true", help="write a TensorBoard event file into every run folder")
