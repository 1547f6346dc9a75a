"""The exception for all mistakes that a user can make: a wrong path, a broken file, a misspelt setting."""


class InputError(ValueError):
    """A file, a path or a setting of the user cannot be used.

    The text is the whole message: the thing, its value, the allowed values, and what to do. Command lines print it without a
    traceback and end with a status other than 0. Bugs in this program are never reported with it.
    """
