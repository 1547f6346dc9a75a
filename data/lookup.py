"""Names looked up in a table or in a list of choices. The error for an unknown name suggests the nearest one and lists all."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from data.errors import InputError, shown

T = TypeVar("T")


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return `table[name]`.

    Args:
        table: A plain table of the project (`CORPORA`, `ENCODERS`, …).
        name: The name that the user gave.
        kind: The kind of the table's entries, in the singular, for the message ("corpus").

    Raises:
        InputError: `name` is not in the table.
    """
    expect(table, name, kind)
    return table[name]


def expect(names: Iterable[str], name: str, kind: str) -> None:
    """Raise InputError if `name` is not one of `names`; `kind` as in `lookup`."""
    names = list(names)
    if name in names:
        return
    near = nearest(name, names)
    hint = f" Did you mean {shown(near)}?" if near else ""
    raise InputError(f"Unknown {kind} {shown(name)}.{hint} Available: {', '.join(names)}.")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is most like `name`, whatever the case of its letters; None if none is like it."""
    folded = {key.casefold(): key for key in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None
