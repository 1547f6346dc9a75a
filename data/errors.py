"""The one exception for whatever a user can cause: a wrong path, a broken file, a misspelt setting."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The text is the whole message: what, which value, what is allowed, what to do. Command lines print it without a traceback
    and end with a status that is not 0. Mistakes in our own code are never reported with it.
    """
