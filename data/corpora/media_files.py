"""The search for the media of utterances: the folders of a layout are scanned once, for all suffixes, and each utterance is looked up.

The reader of a corpus knows its folders; `data.media` decodes media. No file is opened here.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from data.containers import MEDIA_SUFFIXES
from data.findings import Finding


class Name(NamedTuple):
    """A name that the medium of an utterance may have."""

    path: str  # the usual path below the corpus root, with suffix: "Raw/v/1.mp4"
    own: str  # the part that belongs to the utterance, without suffix: "v/1"


@dataclass(frozen=True)
class Place:
    """A place where a layout keeps the media of its utterances.

    `pattern` is a path below the corpus root without suffix. Fields in braces are columns of the utterance table.
    """

    pattern: str  # "Raw/{video_id}/{clip_id}"
    suffix: str  # suffix in the public layout, for messages; files with any of MEDIA_SUFFIXES are found
    whole: bool = False  # True if a recording holds many utterances and is cut at their times
    within: tuple[str, ...] = ()  # folders to scan, if their names depend on a field; by default the folder above the first field

    def scans(self) -> set[tuple[str, int]]:
        """Return the folders to scan, each with the number of folder levels between it and the files."""
        folders = self.within or (self.pattern.partition("{")[0].rpartition("/")[0],)
        return {(folder, self.pattern.count("/") - folder.count("/") - 1) for folder in folders}

    def stems(self, table: pd.DataFrame) -> Iterator[str]:
        """Yield the path without suffix for every row of `table`."""
        fields = [name for name in table if f"{{{name}}}" in self.pattern]
        for values in zip(*(table[name] for name in fields), strict=True):
            yield self.pattern.format_map(dict(zip(fields, values, strict=True)))

    def name(self, stem: str) -> Name:
        """Return the name that belongs to one of `stems`."""
        return Name(stem + self.suffix, stem[self.pattern.index("{") :])


def list_media(root: Path, folder: str, depth: int | None = None) -> Iterator[PurePosixPath]:
    """Yield the media files below `root/folder`, relative to `root`, sorted. Names that begin with a dot are skipped.

    Args:
        root: The corpus root.
        folder: The folder to scan. If it does not exist, nothing is yielded.
        depth: Number of folder levels between `folder` and the files; None means any number.
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
    """Return path without suffix → path; of several, the one whose suffix comes first in `MEDIA_SUFFIXES`."""
    ranked = sorted(paths, key=lambda path: MEDIA_SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {str(path.with_suffix("")): str(path) for path in ranked}


def find_media(table: pd.DataFrame, root: Path, places: Sequence[Place]) -> tuple[pd.DataFrame, list[Finding]]:
    """Find the medium of every utterance.

    Args:
        table: A table with the columns that `places` name.
        root: The corpus root.
        places: The places to search, in order of preference.

    Returns:
        `table` with the columns `media` (path below the root, empty if there is none), `whole` (True if the medium must be cut),
        `expected` (the usual path, empty if the corpus has no media at all) and `names` (a tuple of `Name`); and a finding for every
        media file in the scanned folders that belongs to no utterance.
    """
    scans = set().union(*(place.scans() for place in places))
    files = by_stem({path for folder, depth in scans for path in list_media(root, folder, depth)})
    media, whole, claimed, counts = [""] * len(table), [False] * len(table), set(), []
    names: list[tuple[Name, ...]] = [()] * len(table)
    for place in places:
        stems = list(place.stems(table))
        claimed.update(stems)
        counts.append(0)
        for row, stem in enumerate(stems):
            names[row] += (place.name(stem),)
            if not media[row] and stem in files:
                media[row], whole[row] = files[stem], place.whole
                counts[-1] += 1
    table = table.assign(media=media, whole=whole, expected="", names=pd.Series(names, index=table.index, dtype=object))
    if any(counts):
        usual = places[counts.index(max(counts))]
        table["expected"] = [stem + usual.suffix for stem in usual.stems(table)]
    unused = sorted(path for stem, path in files.items() if stem not in claimed)
    return table, [Finding("unused", path, "media file of no utterance") for path in unused]
