"""Finds the media of utterances: scans the folders of a layout once, whatever the suffix, and looks every utterance up.

Nothing is opened here: decoding is `data.media`. Which folders a corpus uses is known to its reader.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from data.corpora.base import Finding

MEDIA_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".m4a", ".mp3", ".mp4", ".mkv", ".webm", ".avi")
"""Where files differ in suffix only, the first of these is taken: lossless audio, lossy audio, video."""


@dataclass(frozen=True)
class Place:
    """Where a layout keeps the media of its utterances.

    `pattern` is a path below the corpus root without suffix; fields in braces are columns of the utterance table.
    """

    pattern: str  # "Raw/{video_id}/{clip_id}"
    suffix: str  # what the public layout has there, for messages; any of MEDIA_SUFFIXES is found
    whole: bool = False  # one recording for many utterances, to be cut by their times
    within: tuple[str, ...] = ()  # the folders to scan where they hang on a field; otherwise the one above the first field

    def scans(self) -> set[tuple[str, int]]:
        """The folders to scan, each with how many folders below it a file lies."""
        folders = self.within or (self.pattern.partition("{")[0].rpartition("/")[0],)
        return {(folder, self.pattern.count("/") - folder.count("/") - 1) for folder in folders}

    def stems(self, table: pd.DataFrame) -> Iterator[str]:
        """The path without suffix for every row of `table`."""
        fields = [name for name in table if f"{{{name}}}" in self.pattern]
        for values in zip(*(table[name] for name in fields), strict=True):
            yield self.pattern.format_map(dict(zip(fields, values, strict=True)))


def list_media(root: Path, folder: str, depth: int | None = None) -> Iterator[PurePosixPath]:
    """Yields the media files below `root/folder`, relative to `root`, sorted; names that begin with a dot are skipped.

    Args:
        root: The corpus.
        folder: Where to look; nothing is yielded if there is no such folder.
        depth: How many folders below `folder` the files lie; None for any.
    """
    here = root / folder
    if not here.is_dir():
        return
    with os.scandir(here) as scan:
        entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        path = PurePosixPath(folder, entry.name)
        if entry.is_dir():
            if depth != 0:
                yield from list_media(root, str(path), None if depth is None else depth - 1)
        elif path.suffix.lower() in MEDIA_SUFFIXES and not depth:
            yield path


def by_stem(paths: Iterable[PurePosixPath]) -> dict[str, str]:
    """Path without suffix → path, the one whose suffix comes first in `MEDIA_SUFFIXES`."""
    ranked = sorted(paths, key=lambda path: MEDIA_SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {str(path.with_suffix("")): str(path) for path in ranked}


def find_media(table: pd.DataFrame, root: Path, places: Sequence[Place]) -> tuple[pd.DataFrame, list[Finding]]:
    """Looks every utterance up.

    Args:
        table: The columns that `places` name.
        root: The corpus.
        places: In order of preference.

    Returns:
        `table` with the columns `media` (path below the root, empty if there is none), `whole` (the medium is to be cut) and
        `expected` (where it was looked for, empty if the corpus has no media at all); and a finding for every media file that
        lies where utterances' media lie but belongs to none.
    """
    scans = set().union(*(place.scans() for place in places))
    files = by_stem({path for folder, depth in scans for path in list_media(root, folder, depth)})
    media, whole, claimed, counts = [""] * len(table), [False] * len(table), set(), []
    for place in places:
        stems = list(place.stems(table))
        claimed.update(stems)
        counts.append(0)
        for row, stem in enumerate(stems):
            if not media[row] and stem in files:
                media[row], whole[row] = files[stem], place.whole
                counts[-1] += 1
    table = table.assign(media=media, whole=whole, expected="")
    if any(counts):
        usual = places[counts.index(max(counts))]
        table["expected"] = [stem + usual.suffix for stem in usual.stems(table)]
    unused = sorted(path for stem, path in files.items() if stem not in claimed)
    return table, [Finding("unused", path, "media file of no utterance") for path in unused]
