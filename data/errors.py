"""The exception for all mistakes that a user can make: a wrong path, a broken file, a misspelt setting."""

import itertools
from collections.abc import Iterable

_SHOWN_CHARACTERS = 80
_LISTED_CHARACTERS = 400
_REASON_CHARACTERS = 300


class InputError(ValueError):
    """A file, a path or a setting of the user cannot be used.

    The text is the whole message: the thing, its value, the allowed values, and what to do. Command lines print it without a
    traceback and end with a status other than 0. Bugs in this program are never reported with it.
    """


def shown(value: object) -> str:
    """Return the `repr` of a value as a message shows it: one line of at most 80 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply; an integer of more than 4,300 digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def listed(names: Iterable[object]) -> str:
    """Return names of the user's with commas between them, as a message shows them: one line of at most 400 characters."""
    return _printable(", ".join(map(str, itertools.islice(names, _LISTED_CHARACTERS))), _LISTED_CHARACTERS)


def reason(error: BaseException) -> str:
    """Return the text of an exception as a message shows it: one line of at most 300 characters; its name if it has no text."""
    return _printable(" ".join(str(error).split()) or type(error).__name__, _REASON_CHARACTERS)


def _printable(text: str, most: int) -> str:
    text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"


class UnreadableError(InputError):
    """A file exists and cannot be read now: no file descriptor or memory is left, its disk fails, or it may not be read.

    This says nothing about the content, so nobody may be told to delete the file, and a build must not make it again.
    """
