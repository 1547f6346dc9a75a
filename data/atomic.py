"""Files and folders that appear complete or not at all: written under a temporary name, flushed to disk, then renamed.

A temporary name holds the machine and the process that writes it, so that a later run can tell the files of a killed process from
those of a running one.
"""

import contextlib
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

_STRAY = re.compile(r"^\..+\.tmp~(?P<host>[^~]+)~(?P<pid>\d+)$")
_FOREIGN_AGE_S = 24 * 3600
"""Age in seconds from which another machine's temporary file counts as abandoned. Its process cannot be checked from here."""


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`. On success it is flushed and renamed to `target`; on failure it is removed.

    The parent folder is created if it is missing. A reader sees the old file or the new one, never a part of it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        with _named(target):
            yield temporary
            _flush(temporary)
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(target.parent)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` to be filled, and rename it to `target`, which must be missing or empty.

    Failures are handled as in `atomic_path`.
    """
    with temporary_folder(target) as temporary, _named(target):
        yield temporary
        os.sync()  # one call flushes all files of the folder
        os.replace(temporary, target)
    _flush(target.parent)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`, and remove it with its content at the end."""
    temporary = _temporary(target)
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process that had this process's id
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_strays(folder: Path) -> list[Path]:
    """Remove the temporary files and folders below `folder` whose writing process has ended, and return their paths."""
    found = (
        Path(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files)
    )  # skips files that vanish meanwhile
    strays = [path for path in found if _is_stray(path)]
    for path in strays:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return strays


def _temporary(target: Path) -> Path:
    return target.parent / f".{target.name}.tmp~{socket.gethostname()}~{os.getpid()}"


@contextlib.contextmanager
def _named(target: Path) -> Iterator[None]:
    """Add the name `target` to an OSError that names no file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(target)
        raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_stray(path: Path) -> bool:
    match = _STRAY.match(path.name)
    if match is None:
        return False
    if match["host"] == socket.gethostname():
        return not _alive(int(match["pid"]))
    try:
        return time.time() - path.stat().st_mtime > _FOREIGN_AGE_S
    except FileNotFoundError:  # its writer has just renamed it
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # OverflowError: no process can have this id
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Return True for a process that has ended, but whose parent has not asked for its status yet (Linux; proc(5), `stat`)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] in ("Z", "X")
    except (OSError, IndexError):
        return False
