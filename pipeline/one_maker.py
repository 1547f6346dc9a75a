"""One process at a time makes an output: builds without a scheduler that share a cache do no work twice.

A process holds a lock file in cache/locks/ while it makes an output; the file names host and process and is refreshed every 10 s.
Another process that wants the same output makes something else meanwhile, or waits. A lock whose process has ended is taken over: at
once on the same machine, and after 30 s without a refresh on others. A lock that stays empty, as the kill of a process between
creating and writing it leaves it behind, is removed after some seconds. Outputs appear atomically, so even a lock that is lost (a
machine that sleeps) only costs time.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import SoftFileLease, Timeout

FOLDER = "locks"
LEASE_S = 30.0
"""Seconds without a refresh after which another machine's lock is taken over."""

_POLL_S = 0.2
_EMPTY_S = 2.0
"""A lock that is empty twice, so long after one another, belongs to no process: filelock writes it at once, and takes over none that
is empty."""


@contextlib.contextmanager
def only_maker(cache: Path, output: Path, make_another: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Waits until no other process makes `output`, and keeps others from it in the block. The caller looks then whether it exists.

    Args:
        cache: The folder of all outputs.
        output: A file below it.
        make_another: Called instead of waiting, as long as another process makes `output`; returns False if there is nothing to make.
    """
    path = _lock_path(cache, output)
    lock = SoftFileLease(path, lease_duration=LEASE_S)
    while not _acquired(lock, path):
        if not make_another():
            print(f"BuildFeatures: waits for {output.name}, which {_holder(path)} is making.", file=sys.stderr, flush=True)
            _wait(lock, path)
            break
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def if_nobody_makes(cache: Path, output: Path) -> Iterator[bool]:
    """Yields False if another process makes `output`; otherwise keeps others from it in the block, and yields True."""
    path = _lock_path(cache, output)
    lock = SoftFileLease(path, lease_duration=LEASE_S)
    is_ours = _acquired(lock, path)
    try:
        yield is_ours
    finally:
        if is_ours:
            lock.release()


def _acquired(lock: SoftFileLease, path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _wait(lock: SoftFileLease, path: Path) -> None:
    """Acquires a lock as soon as its process releases it or has ended."""
    empty = None
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=_EMPTY_S, poll_interval=_POLL_S)
            return
        before, empty = empty, _identity_if_empty(path)
        if empty is not None and empty == before:
            path.unlink(missing_ok=True)


def _identity_if_empty(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return None if found.st_size else (found.st_ino, found.st_ctime_ns)


def remove_stale(cache: Path) -> None:
    """Removes the locks of processes of this machine that have ended, and the folder of the locks if it is empty."""
    folder = cache / FOLDER
    for path in folder.glob("*.lock"):
        with contextlib.suppress(Timeout, OSError), SoftFileLease(path, lease_duration=LEASE_S, timeout=0):
            pass  # taken over from its process, and removed by the release
        with contextlib.suppress(FileNotFoundError):
            if not (found := path.stat()).st_size and time.time() - found.st_mtime > LEASE_S:
                path.unlink()
    with contextlib.suppress(OSError):  # somebody else's lock is in it, or there is none
        folder.rmdir()


def _lock_path(cache: Path, output: Path) -> Path:
    return cache / FOLDER / ("~".join(output.relative_to(cache).parts) + ".lock")


def _holder(path: Path) -> str:
    try:
        found = dict(re.findall(r"^(pid|host)=(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
