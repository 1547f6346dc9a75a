"""Files that cannot be used whatever their format: a failed download (nothing, a git-lfs pointer, an HTML page), an unreadable file.

The content of a file is read by the module of its format.
"""

import errno
import os
import re
from pathlib import Path

from data.errors import InputError, UnreadableError

_HEAD_BYTES = 1024

_ABOUT_THE_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
_ABOUT_THE_CONTENT = (errno.EINVAL, errno.EOVERFLOW, errno.EFBIG)
"""Errors of libraries that seek to a damaged position. They also report damage as an OSError without a number."""


def read_head(path: Path) -> bytes:
    """Return the first bytes of `path`, at most 1,024.

    Raises:
        InputError: There is no such file, it is empty, or it is a git-lfs pointer or an HTML page instead of the file itself.
        UnreadableError: The file cannot be read now.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise unreadable(path, error) or InputError(f"{path}: cannot be read ({error.strerror}).") from error
    if not head:
        raise InputError(f"{path}: the file is empty. Download it again.")
    if head.startswith(b"version https://git-lfs."):
        raise InputError(f"{path}: a git-lfs pointer, not the file itself. Run 'git lfs pull' where it was cloned.")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        raise InputError(f"{path}: an HTML page, not the file itself (a login or error page was saved). Download it again.")
    return head


def unreadable(path: Path, error: BaseException) -> InputError | None:
    """Return the error to raise for a file that could not be read at all; None if `error` may come from what is in the file.

    Readers ask this before they call a file damaged. A path that names no file gives a plain InputError.
    """
    if isinstance(error, MemoryError):
        return _unreadable(path, "not enough memory")
    number = _number(error)
    if number is None or number in _ABOUT_THE_CONTENT:
        return None
    reason = os.strerror(number)
    return InputError(f"{path}: cannot be read ({reason}).") if number in _ABOUT_THE_PATH else _unreadable(path, reason)


def _number(error: BaseException) -> int | None:
    """Return the number of the system's error, which HDF5 states in its text alone."""
    if not isinstance(error, OSError):
        return None
    said = re.search(r"errno = (\d+)", str(error))
    return int(said[1]) if error.errno is None and said else error.errno


def _unreadable(path: Path, reason: str) -> UnreadableError:
    return UnreadableError(f"{path}: cannot be read ({reason}). It may be whole: keep it, and try again when the reason is gone.")
