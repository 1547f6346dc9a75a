"""The first bytes of a file, checked for what a failed download leaves behind: nothing, a git-lfs pointer or an HTML page.

The content of a file is read by the module of its format.
"""

from pathlib import Path

from data.errors import InputError, UnreadableError

_HEAD_BYTES = 1024


def read_head(path: Path) -> bytes:
    """Return the first bytes of `path`, at most 1,024.

    Raises:
        InputError: There is no such file, it is empty, or it is a git-lfs pointer or an HTML page instead of the file itself.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror}).") from error
    if not head:
        raise InputError(f"{path}: the file is empty. Download it again.")
    if head.startswith(b"version https://git-lfs."):
        raise InputError(f"{path}: a git-lfs pointer, not the file itself. Run 'git lfs pull' where it was cloned.")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        raise InputError(f"{path}: an HTML page, not the file itself (a login or error page was saved). Download it again.")
    return head
