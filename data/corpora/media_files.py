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

_OTHER_SUFFIXES = (".ape", ".m4b", ".mp2", ".mpeg", ".mpg", ".pcm", ".rm", ".rmvb", ".snd", ".sph", ".voc", ".vob", ".weba", ".wv")
"""Suffixes of sound and video that are not read."""


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


def list_all_media(root: Path) -> list[PurePosixPath]:
    """List the files anywhere below `root` that look like sound or video, relative to `root`, sorted.

    Names that begin with a dot and folders that cannot be read are skipped.
    """
    return sorted(_walk(root))


def has_any_media(root: Path) -> bool:
    """Return True if `list_all_media` would find a file."""
    return next(_walk(root), None) is not None


def _walk(root: Path) -> Iterator[PurePosixPath]:
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            below = PurePosixPath(Path(folder).relative_to(root).as_posix())
            yield from (below / name for name in files if not name.startswith(".") and suffix_of_medium(name))
        seen.add(real)


def suffix_of_medium(name: str) -> str:
    """Return the suffix of a file that looks like sound or video, as it is written; else an empty text."""
    suffix = PurePosixPath(name).suffix
    return suffix if suffix.strip().lower() in (*MEDIA_SUFFIXES, *_OTHER_SUFFIXES) else ""


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
        and, for utterances without a medium, `expected` (the usual path, empty if the corpus has no media at all) and `names` (a tuple
        of `Name`, empty if nothing that looks like a medium is below `root`); and a finding for every media file in the scanned
        folders that belongs to no utterance.
    """
    scans = set().union(*(place.scans() for place in places))
    files = by_stem({path for folder, depth in scans for path in list_media(root, folder, depth)})
    media, whole, claimed, counts = [""] * len(table), [False] * len(table), set(), []
    for place in places:
        counts.append(0)
        for row, stem in enumerate(place.stems(table)):
            if stem in files:
                claimed.add(stem)
                if not media[row]:
                    media[row], whole[row] = files[stem], place.whole
                    counts[-1] += 1
    usual = places[counts.index(max(counts))] if any(counts) else None
    missing = [row for row, medium in enumerate(media) if not medium]
    table = table.assign(media=media, whole=whole, **_expectations(table, missing, places, usual, root))
    unused = sorted(path for stem, path in files.items() if stem not in claimed)
    return table, [Finding("unused", path, "media file of no utterance") for path in unused]


def _expectations(
    table: pd.DataFrame, missing: Sequence[int], places: Sequence[Place], usual: Place | None, root: Path
) -> dict[str, pd.Series]:
    """Return the columns `expected` and `names` that `find_media` describes.

    Args:
        table: A table with the columns that `places` name.
        missing: Its rows that have no medium.
        places: The places that were searched.
        usual: The place where most media are; None if there are none.
        root: The corpus root.
    """
    expected = [""] * len(table)
    names: list[tuple[Name, ...]] = [()] * len(table)
    lacking = table.iloc[list(missing)]
    if usual is not None:
        for row, stem in zip(missing, usual.stems(lacking), strict=True):
            expected[row] = stem + usual.suffix
    if missing and has_any_media(root):
        for place in places:
            for row, stem in zip(missing, place.stems(lacking), strict=True):
                names[row] += (place.name(stem),)
    return {name: pd.Series(values, index=table.index, dtype=object) for name, values in (("expected", expected), ("names", names))}
