"""Files appear complete or not at all: written under a temporary name, flushed to disk, renamed.

Temporary names say which process of which machine writes them, so that the next run can tell the stray files of a killed process
from those of a living one.
"""

import contextlib
import os
import re
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
    temporary = target.parent / f".{target.name}.tmp~{socket.gethostname()}~{os.getpid()}"
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(target.parent)


def remove_strays(folder: Path) -> list[Path]:
    """Removes temporary files below `folder` whose writer is gone, and returns them."""
    strays = [path for path in folder.rglob(".*.tmp~*") if _is_stray(path)]
    for path in strays:
        path.unlink(missing_ok=True)
    return strays


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
