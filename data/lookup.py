"""Finds a name in a table, or among choices; a miss names the nearest one and lists them all."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from data.errors import InputError

T = TypeVar("T")


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Returns `table[name]`.

    Args:
        table: One of the plain tables of the project (`CORPORA`, `ENCODERS`, …).
        name: What the user asked for.
        kind: What the table holds, in the singular, for the message ("corpus").

    Raises:
        InputError: `name` is not in the table.
    """
    expect(table, name, kind)
    return table[name]


def expect(names: Iterable[str], name: str, kind: str) -> None:
    """Raises InputError if `name` is not one of `names`; `kind` as in `lookup`."""
    names = list(names)
    if name in names:
        return
    folded = {key.casefold(): key for key in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
    raise InputError(f"Unknown {kind} {name!r}.{hint} Available: {', '.join(names)}.")
