"""What lies in a cache, what its index uses, and what can be removed: the work of `python -m data ls` and `python -m data gc`.

Only files with a place and name that a build, an import or an adaptation gives are known here; others in the folder are neither listed
nor removed. What the index says is in `data.cache`.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data.cache import CachedCorpus, last_report, read_cache
from data.errors import InputError, UnreadableError
from data.feature_store import FeatureStore

USED = "used"
SPARE = "spare"
UNUSED = "unused"

Features = list[tuple[str, Mapping[str, Any] | None]]
"""Corpus and attributes of each feature file of an index; None for a file that is missing or damaged."""

_DAY_S = 24 * 3600
_OF_PREDICT = "predict"
"""Folder of `python -m heads predict --media`: features of clips, and transcripts, which a user may have corrected."""


@dataclass(frozen=True)
class Entry:
    """A file of a cache, or a folder whose files belong together."""

    path: Path
    kind: str  # "manifest", "text features", "pseudo labels", "shards", "adapted encoder", "state of adaptation", "report"
    used_by: tuple[str, ...]  # corpora of the index
    state: str
    """`USED`: the index names it, features of the index come from it, or a user may have changed it. `SPARE`: shards of features that
    are whole. `UNUSED`: none of these; left by other settings, an earlier version of the clips, or a build that has not ended."""

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The file itself, or all files of the folder."""
        if not self.path.is_dir():
            return (self.path,)
        return tuple(sorted(path for path in self.path.rglob("*") if path.is_file()))

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(_stat(path)[0] for path in self.files)

    @cached_property
    def written_s(self) -> float:
        """When the newest of its files was written, in seconds since 1970."""
        return max((_stat(path)[1] for path in self.files), default=0.0)


def list_cache(folder: Path) -> list[Entry]:
    """List what lies in a cache: the files of each corpus in the order of the index, then shards, encoders and what is unused.

    Raises:
        InputError: The index of the cache cannot be read, see `data.cache.read_cache`.
        UnreadableError: A feature file cannot be read now, so that it is not known what it uses.
    """
    corpora, report = read_cache(folder), last_report(folder)
    users = _users(corpora.values())
    features = [(name, _attributes(path)) for name, corpus in corpora.items() for path in corpus.features.values()]
    entries = [Entry(path, kind, tuple(names), USED) for path, (kind, names) in users.items() if path.is_file()]
    entries += _shards(folder, features)
    entries += _encoders(folder, features)
    for name, kind, pattern in (
        ("manifests", "manifest", "*.parquet"),
        ("features", "features", "*.h5"),
        ("pseudo_labels", "pseudo labels", "*.parquet"),
    ):
        entries += [Entry(path, kind, (), UNUSED) for path in _visible(folder / name, pattern) if path not in users]
    if (folder / _OF_PREDICT).is_dir():
        entries.append(Entry(folder / _OF_PREDICT, "clips of predict", (), USED))
    names = tuple(corpora)
    for path in _visible(folder / "reports", "*.html"):
        is_last = path == report
        entries.append(Entry(path, "report", names if is_last else (), USED if is_last else UNUSED))
    return entries


def removable(entries: Iterable[Entry], with_shards: bool, older_than_days: float, now: Callable[[], float] = time.time) -> list[Entry]:
    """Choose the entries that can be removed.

    Args:
        entries: What lies in a cache.
        with_shards: Whether spare shards may go, too. A clip that changes then costs the features of its whole corpus, not one shard.
        older_than_days: Age from which an entry may go: a build that was stopped goes on with younger ones.
        now: The clock, in seconds since 1970.
    """
    states = (UNUSED, SPARE) if with_shards else (UNUSED,)
    limit = now() - older_than_days * _DAY_S
    return [entry for entry in entries if entry.state in states and entry.written_s <= limit]


def expect_no_build(folder: Path) -> None:
    """Raise InputError if a process holds a lock of this cache, because a build may be about to use what seems unused."""
    locks = sorted((folder / "locks").glob("*.lock"))
    if locks:
        output = locks[0].name.removesuffix(".lock").replace("~", "/")
        raise InputError(
            f"{folder}: a build is making {output}. Wait until it has ended. If none is running, the next build removes {locks[0]}."
        )


def remove(entries: Iterable[Entry]) -> int:
    """Remove entries with all their files, and return the number of bytes that were freed."""
    freed = 0
    for entry in entries:
        size = entry.size_bytes
        if entry.path.is_dir():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink(missing_ok=True)
        freed += size
    return freed


def _users(corpora: Iterable[CachedCorpus]) -> dict[Path, tuple[str, list[str]]]:
    found: dict[Path, tuple[str, list[str]]] = {}
    for corpus in corpora:
        for kind, path in corpus.files():
            found.setdefault(path, (kind, []))[1].append(corpus.name)
    return found


def _shards(folder: Path, features: Features) -> Iterator[Entry]:
    """Yield the shards of each corpus and encoder: used while features of the corpus are missing or damaged, then spare."""
    waiting = {corpus for corpus, attributes in features if attributes is None}
    whole = {_origin(corpus, attributes) for corpus, attributes in features if attributes is not None}
    for path in _visible(folder / "shards", "*/*"):
        corpus = path.parent.name
        origins = {_origin(corpus, _attributes(shard) or {}) for shard in path.glob("*.h5")}
        state = USED if corpus in waiting else SPARE if origins & whole else UNUSED
        yield Entry(path, "shards", () if state == UNUSED else (corpus,), state)


def _encoders(folder: Path, features: Features) -> Iterator[Entry]:
    for path in _visible(folder / "encoders", "*"):
        names = dict.fromkeys(corpus for corpus, attributes in features if attributes and _encoder(attributes) == path.name)
        kind = "adapted encoder" if path.is_dir() else "state of adaptation"
        yield Entry(path, kind, tuple(names), USED if names else UNUSED)


def _encoder(attributes: Mapping[str, Any]) -> str:
    encoder = attributes.get("encoder")
    return str(encoder.get("name", "")) if isinstance(encoder, Mapping) else ""


def _origin(corpus: str, attributes: Mapping[str, Any]) -> tuple[str, str]:
    return corpus, json.dumps(attributes.get("identity"), sort_keys=True)


def _attributes(path: Path) -> Mapping[str, Any] | None:
    """Read the attributes of a feature file; None if it is missing or damaged."""
    try:
        with FeatureStore.open(path) as store:
            return store.attrs
    except UnreadableError:
        raise
    except InputError:
        return None


def _visible(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _stat(path: Path) -> tuple[int, float]:
    """Returns the bytes of a file and when it was written; nothing if somebody else has removed it meanwhile."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0.0
    return found.st_size, found.st_mtime
