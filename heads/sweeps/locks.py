"""Locks in the folder of a sweep: one process trains the whole sweep, or several train parts of it at the same time.

DIR/lock is held by a process that trains the whole sweep, and for a moment by each that begins with a part. DIR/parts/3-of-20.lock is
held by the process that trains this part. The whole sweep begins only while no part is held, and a part only while no part of another
division is, so that no trial is trained twice. The locks are released when their process ends, however it ends; all machines that
share DIR see them (NFS: version 4, or 3 with its lock daemon).
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from data.errors import InputError

ENTRY_S = 10.0
"""Seconds that a part waits for other parts that begin at the same moment."""


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[None]:
    """Keep all other processes from a sweep.

    Raises:
        InputError: Another process trains it, or a part of it.
    """
    with _taken(folder / "lock", 0, f"{folder}: another sweep is at work there. Wait for it, or choose another --out."):
        if held := _held_parts(folder):
            raise InputError(f"{folder}: part {_words(held[0])} of this sweep is being trained. Wait for it, or choose another --out.")
        shutil.rmtree(folder / "parts", ignore_errors=True)
        yield


@contextlib.contextmanager
def part(folder: Path, number: int, count: int, begin: Callable[[], None]) -> Iterator[None]:
    """Keep other processes from one part of a sweep, and from the whole.

    Args:
        folder: The folder of the sweep.
        number: Number of the part, from 1.
        count: Number of parts.
        begin: Called while no other process can begin.

    Raises:
        InputError: Another process trains this part, a part of another division, or the whole sweep.
    """
    own = folder / "parts" / f"{number}-of-{count}.lock"
    with contextlib.ExitStack() as held:
        message = f"{folder}: another sweep, without --part, is at work there. Wait for it, or choose another --out."
        with _taken(folder / "lock", ENTRY_S, message):
            for other in _held_parts(folder):
                if not other.stem.endswith(f"-of-{count}"):
                    message = f"part {_words(other)} is being trained. Divide into as many parts, or wait for it."
                    raise InputError(f"{folder}: --part is {number}/{count}, but {message}")
            begin()
            own.parent.mkdir(exist_ok=True)
            held.enter_context(_taken(own, 0, f"{folder}: another process trains part {number}/{count}. Choose another part."))
        yield


def is_held(path: Path) -> bool:
    """Return True if a living process holds this lock."""
    if not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


@contextlib.contextmanager
def _taken(path: Path, timeout_s: float, message: str) -> Iterator[None]:
    """Hold a lock, or refuse with a message after a time."""
    lock = FileLock(path, timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(message) from error
    try:
        yield
    finally:
        lock.release()


def _held_parts(folder: Path) -> list[Path]:
    return [path for path in sorted((folder / "parts").glob("*.lock")) if is_held(path)]


def _words(lock: Path) -> str:
    """Return the part of a lock as --part has it: 3/20."""
    return lock.stem.replace("-of-", "/")
