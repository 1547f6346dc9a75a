"""Files and folders appear complete or not at all: written under a temporary name, flushed to disk, renamed.

Temporary names say which process of which machine writes them, so that the next run can tell the stray files of a killed process
from those of a living one.
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
"""After this long without a write, another machine's temporary file counts as abandoned: its process cannot be asked."""


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target`; on success it is flushed and renamed to `target`, on failure removed.

    The parent folder is made if need be. A reader sees the old file or the new one, never a part.
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
    """Like `atomic_path`, for a folder that is not there yet, or is empty: yields an empty one beside it to be filled."""
    with temporary_folder(target) as temporary, _named(target):
        yield temporary
        os.sync()  # one call for all files that are in it
        os.replace(temporary, target)
    _flush(target.parent)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yields a new folder beside `target`, and removes it in the end with what is in it."""
    temporary = _temporary(target)
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had our number
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_strays(folder: Path) -> list[Path]:
    """Removes temporary files and folders below `folder` whose writer is gone, and returns them."""
    found = (Path(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files))  # passes over what is gone
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
    """An OSError that names no file, as that of a full disk, names `target`."""
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
    except FileNotFoundError:  # its writer has just finished
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # a number that no process can have
        return False
    except PermissionError:
        return True
    return True
