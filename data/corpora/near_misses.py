"""Near misses: media files that nearly have the name that an utterance expects.

Names differ because of the program that unpacked, renamed or numbered the files: `0001` for `1`, the suffix as part of the id, another
folder, an accent in another Unicode form. A near miss is never used; messages name it, so that the user can rename the file or the id.

`data.corpora.media_files` searches for the exact names. No file is opened here.
"""

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from data.containers import MEDIA_SUFFIXES
from data.corpora.media_files import Name, suffix_of_medium


class NearMisses:
    """Media files that belong to no utterance, to be searched for near misses."""

    def __init__(self, files: Iterable[PurePosixPath]) -> None:
        self._by_end: dict[tuple[str, str], list[str]] = {}
        for file in sorted(files):
            *above, last = _parts(str(file))
            for part in {"", *above}:
                self._by_end.setdefault((part, last), []).append(str(file))

    def nearest(self, names: Sequence[Name]) -> tuple[Name, str, str] | None:
        """Return one of `names`, its near miss and how the two differ; None if no name has one.

        If there are several pairs, the most similar one is returned.
        """
        pairs = [(name, file) for name in names for file in self._candidates(name.own) if _fits(name.own, file)]
        if not pairs:
            return None
        name, file = max(pairs, key=lambda pair: difflib.SequenceMatcher(None, pair[0].path, pair[1]).ratio())
        return name, file, _difference(name, file)

    def _candidates(self, own: str) -> list[str]:
        parts = _parts(own)
        return self._by_end.get(("" if len(parts) < 2 else parts[-2], parts[-1]), []) if parts else []


def _without_suffix(path: str) -> str:
    while suffix := suffix_of_medium(path):
        path = path.removesuffix(suffix)
    return path


def _strip_parts(path: str) -> str:
    return "/".join(part.strip() for part in path.split("/"))


def _visible(path: str) -> str:
    """Leave out characters that are not seen (zero-width spaces, byte order marks), and replace unusual spaces by a space."""
    kinds = {character: unicodedata.category(character) for character in path}
    return "".join(" " if kinds[character] == "Zs" else character for character in path if kinds[character] not in ("Cf", "Cc"))


_STEPS: Mapping[str, Callable[[str], str]] = {
    "an invisible character or an unusual space": _visible,
    "Unicode form (NFC or NFD)": lambda path: unicodedata.normalize("NFC", path),
    "upper and lower case": str.casefold,
    "a backslash in place of '/'": lambda path: path.replace("\\", "/"),
    "a suffix in the id": _without_suffix,
    "a space at an end": _strip_parts,
    "leading zeros": lambda path: re.sub(r"(?<![0-9])0+(?=[0-9])", "", path),
    "'$_$' or brackets in place of '/'": lambda path: path.replace("$_$", "/").replace("[", "/").replace("]", ""),
    "'-' or a space in place of '_'": lambda path: re.sub(r"(?<=\w)[- ](?=\w)", "_", path),
    "'_' in place of '/'": lambda path: path.replace("_", "/"),
}
"""Difference between two names → the step that removes it. The order matters."""


def _parts(path: str, without: str = "") -> list[str]:
    """Return the parts of a path after all steps but one."""
    for difference, step in _STEPS.items():
        if difference != without:
            path = step(path)
    return [part for part in path.split("/") if part]


def _fits(own: str, file: str, without: str = "") -> bool:
    """Return True if the parts of `own` are among those of `file`, in order, and both end with the same part."""
    wanted, found = _parts(own, without), _parts(PurePosixPath(file).with_suffix("").as_posix(), without)
    rest: Iterator[str] = iter(found)
    return bool(wanted) and wanted[-1] == found[-1] and all(part in rest for part in wanted)


def _difference(name: Name, file: str) -> str:
    differences = [difference for difference in _STEPS if not _fits(name.own, file, without=difference)]
    suffix = PurePosixPath(file).suffix
    if suffix.lower() not in MEDIA_SUFFIXES:
        differences.append(f"suffix {suffix!r}, which is not read")
    elif not differences and PurePosixPath(name.path).with_suffix("") == PurePosixPath(file).with_suffix(""):
        differences.append(f"suffix {suffix!r}")
    return " and ".join(differences or ["another folder"])
