"""Digests of settings and of files, and a file that remembers the digests of files.

A digest identifies exactly what determined a result. The modules that make a result decide which parts its key consists of; nothing
here knows a corpus or an encoder.
"""

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from data.atomic import atomic_path
from data.errors import InputError

KEY_LENGTH = 12
"""Hex digits of a key. With 48 bits, the probability that two of a million keys collide is 1 in 560."""

_RACY_NS = 2_000_000_000
"""Age in nanoseconds below which a file can change without a change of its time: the coarsest clock of common file systems (FAT)
ticks every 2 s. Source: https://git-scm.com/docs/racy-git"""


def digest(value: Any) -> str:
    """Return the first `KEY_LENGTH` hex digits of the SHA-256 of `value` as canonical JSON.

    Canonical JSON has sorted keys, no spaces, ASCII only, floats as Python writes them, and the words `NaN` and `Infinity`. A tuple
    counts as a list; 1, 1.0 and true differ.

    Raises:
        TypeError: `value` holds something that is not JSON, or a key that is not text.
    """
    _expect_text_keys(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


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

    def digests(
        self,
        paths: Sequence[Path],
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
        states = {key: _state(Path(key)) for key in uses}
        memo = self._load()
        found = {key: memo[key][3] for key, state in states.items() if key in memo and memo[key][:3] == state}
        report = progress or (lambda count: None)
        report(sum(uses[key] for key in found))
        unknown = [key for key in uses if key not in found]
        lasting = {}
        try:
            with ThreadPoolExecutor(workers) as pool:
                for key, (value, read_ns) in zip(unknown, pool.map(_timed_digest, unknown), strict=True):
                    found[key] = value
                    if states[key][1] < read_ns - _RACY_NS:
                        lasting[key] = [*states[key], value, _checksum(key, [*states[key], value])]
                    report(uses[key])
        finally:
            self._save(lasting)
        return [found[key] for key in keys]

    def _load(self) -> dict[str, list[Any]]:
        try:
            memo = json.loads(self.memo_path.read_bytes())
        except (OSError, ValueError, RecursionError):  # RecursionError: nested too deeply
            return {}
        if not isinstance(memo, dict):
            return {}
        return {key: entry for key, entry in memo.items() if _is_entry(key, entry)}

    def _save(self, entries: dict[str, list[Any]]) -> None:
        if not entries:
            return
        with (
            contextlib.suppress(OSError),
            atomic_path(self.memo_path) as temporary,
        ):  # without the memo, digests are only computed again
            temporary.write_text(json.dumps(self._load() | entries, indent=0, sort_keys=True))


def _state(path: Path) -> list[int]:
    try:
        state = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
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
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key of JSON must be text, not {key!r}")
            _expect_text_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _expect_text_keys(inner)
