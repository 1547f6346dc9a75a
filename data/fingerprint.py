"""Digests of settings and of files, and a file that remembers the digests of files.

A digest identifies exactly what determined a result. The modules that make a result decide which parts its key consists of; nothing
here knows a corpus or an encoder.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.atomic import atomic_path
from data.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

KEY_LENGTH = 12
"""Hex digits of a key. With 48 bits, the probability that two of a million keys collide is 1 in 560."""

RACY_NS = 2_000_000_000
"""Age in nanoseconds below which a file can change without a change of its time: the coarsest clock of common file systems (FAT)
ticks every 2 s. Source: https://git-scm.com/docs/racy-git"""

_PIECE = 10_000
"""Entries of a list whose JSON is in memory at once, and files that wait for a thread at once."""

_LISTS = (list, tuple)  # no unions of types: `list | tuple` is made anew, which takes longer than the test itself
_CONTAINERS = (dict, *_LISTS)

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def digest(value: Any) -> str:
    """Return the first `KEY_LENGTH` hex digits of the SHA-256 of `value` as canonical JSON.

    Canonical JSON has sorted keys, no spaces, ASCII only, floats as Python writes them, and the words `NaN` and `Infinity`. A tuple
    counts as a list; 1, 1.0 and true differ.

    Raises:
        TypeError: `value` holds something that is not JSON, or a key that is not text.
    """
    _expect_text_keys(value)
    hashed = hashlib.sha256()
    for text in _pieces(value):
        hashed.update(text.encode())
    return hashed.hexdigest()[:KEY_LENGTH]


def table_digest(table: "pd.DataFrame") -> str:
    """Return all 64 hex digits of the SHA-256 of a table as CSV without its index: exactly the text of pandas' `to_csv`, which takes
    twice as long. No more than `_PIECE` rows are text at once.
    """
    hashed = hashlib.sha256()
    hashed.update(_csv([list(table)]))
    for start in range(0, len(table), _PIECE):
        columns = [column for _, column in table.iloc[start : start + _PIECE].items()]
        cells = [column.astype(object).where(column.notna(), "").tolist() for column in columns]
        hashed.update(_csv(zip(*cells, strict=True)))
    return hashed.hexdigest()


def _csv(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator=os.linesep).writerows(rows)
    return text.getvalue().encode()


def _pieces(value: Any) -> Iterator[str]:
    """Yield the canonical JSON of a value: that of a long list, and of a list that holds one, in several pieces."""
    if isinstance(value, _LISTS) and len(value) > _PIECE:
        for start in range(0, len(value), _PIECE):
            yield "," if start else "["
            yield _canonical(value[start : start + _PIECE])[1:-1]
        yield "]"
    elif _is_long(value):
        for place, inner in enumerate(value):
            yield "," if place else "["
            yield from _pieces(inner)
        yield "]"
    else:
        yield _canonical(value)


def file_digest(path: Path) -> str:
    """Return all 64 hex digits of the SHA-256 of a file's content, which is read in pieces.

    Raises:
        InputError: The file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


class FileDigests:
    """Digests of files, remembered between runs, so that an unchanged corpus of many gigabytes is not read again.

    A file counts as unchanged if its size, its modification time and its change time are the same. (Unpacking an archive can set back
    the modification time, but not the change time.) A file that was modified less than 2 s before it was read is not remembered.
    Several processes may share a memo file: it is replaced as a whole and keeps the entries of others. Entries that are lost in a race,
    damaged, or from an older version without checksums are computed again.
    """

    def __init__(self, memo_path: Path) -> None:
        """Use the memo file `memo_path`, JSON: {absolute path: [size, mtime_ns, ctime_ns, SHA-256, checksum of path and these]}."""
        self.memo_path = memo_path
        self._loaded: tuple[list[int], dict[str, Any]] | None = None  # the memo file as it was read last: its state, its entries

    def digests(
        self,
        paths: Sequence[Path | str],
        workers: int = min(8, os.cpu_count() or 1),
        progress: Callable[[int], None] | None = None,
    ) -> list[str]:
        """Return the `file_digest` of each path, in order.

        Args:
            paths: Files. A file that occurs several times is read once.
            workers: Number of reading threads.
            progress: Called from this thread with the number of newly finished paths, which suits `tqdm.update`.

        Raises:
            InputError: A file is missing or cannot be read.
        """
        keys = [os.path.abspath(path) for path in paths]
        uses = Counter(keys)
        states = {key: _state(key) for key in uses}
        memo = self._load()
        found = {key: memo[key][3] for key, state in states.items() if _is_entry(key, memo.get(key)) and memo[key][:3] == state}
        report = progress or (lambda count: None)
        report(sum(uses[key] for key in found))
        unknown = [key for key in uses if key not in found]
        lasting = {}
        try:
            with ThreadPoolExecutor(workers) as pool:
                for start in range(0, len(unknown), _PIECE):
                    some = unknown[start : start + _PIECE]
                    for key, (value, read_ns) in zip(some, pool.map(_timed_digest, some), strict=True):
                        found[key] = value
                        if states[key][1] < read_ns - RACY_NS:
                            lasting[key] = [*states[key], value, _checksum(key, [*states[key], value])]
                        report(uses[key])
        finally:
            self._save(lasting)
        return [found[key] for key in keys]

    def remembered(self) -> dict[str, str]:
        """Return absolute path → digest of all files that the memo knows. They may have changed since, or be gone."""
        return {key: entry[3] for key, entry in self._load().items() if _is_entry(key, entry)}

    def _load(self) -> dict[str, Any]:
        """Return what the memo file says, and read it only if it is another one than last time. Its entries have yet to be checked."""
        try:
            found = os.stat(self.memo_path)
            state = [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
            if self._loaded is None or self._loaded[0] != state:
                self._loaded = state, json.loads(self.memo_path.read_bytes())
        except (OSError, ValueError, RecursionError):  # RecursionError: nested too deeply
            return {}
        return self._loaded[1] if isinstance(self._loaded[1], dict) else {}

    def _save(self, entries: dict[str, list[Any]]) -> None:
        if not entries:
            return
        known = {key: entry for key, entry in self._load().items() if key not in entries and _is_entry(key, entry)}
        self._loaded = None
        with (
            contextlib.suppress(OSError),
            atomic_path(self.memo_path) as temporary,
        ):  # without the memo, digests are only computed again
            lines = (f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in sorted((known | entries).items()))
            temporary.write_text("{" + ",\n".join(lines) + "}")


def _state(key: str) -> list[int]:
    try:
        state = os.stat(key)
    except OSError as error:
        raise _unreadable(Path(key), error) from error
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def _timed_digest(key: str) -> tuple[str, int]:
    start_ns = time.time_ns()
    return file_digest(Path(key)), start_ns


def _is_entry(key: str, entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 5 and entry[4] == _checksum(key, entry[:4])


def _checksum(key: str, parts: list[Any]) -> int:
    """Return the CRC-32 of an entry of the memo: a damaged digest would be taken for another content of the file."""
    return zlib.crc32(json.dumps([key, *parts]).encode())


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read ({error.strerror or error}). Check the path and its permissions.")


def _expect_text_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a key of JSON must be text, not {key!r}")
        value = value.values()
    elif not isinstance(value, _LISTS):
        return
    for inner in value:
        if isinstance(inner, _CONTAINERS):
            _expect_text_keys(inner)


def _is_long(value: Any) -> bool:
    """Return True for a list of more than `_PIECE` entries, or one that holds such a list."""
    return isinstance(value, _LISTS) and (len(value) > _PIECE or any(map(_is_long, value)))
