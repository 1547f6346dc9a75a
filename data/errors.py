"""The exception for all mistakes that a user can make: a wrong path, a broken file, a misspelt setting."""

_SHOWN_CHARACTERS = 80


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


class UnreadableError(InputError):
    """A file exists and cannot be read now: no file descriptor or memory is left, its disk fails, or it may not be read.

    This says nothing about the content, so nobody may be told to delete the file, and a build must not make it again.
    """
