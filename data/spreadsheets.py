"""CSV cells that a spreadsheet would take for formulas. `data.csv_tables` reads tables, and reads them as text."""

from collections.abc import Callable

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def escape_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table for a CSV file in which no text begins like a formula: such a text gets an apostrophe in front.

    Texts that begin with `=`, `+`, `-` or `@` (after any apostrophes) and are not numbers are escaped, so that texts from a corpus are
    not executed where the file is opened in a spreadsheet. `unescape_cells` takes the apostrophes away.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    return table.apply(lambda column: _changed(column, lambda cell: f"'{cell}"))


def unescape_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table that `escape_cells` was given."""
    return table.apply(lambda column: _changed(column, lambda cell: cell.removeprefix("'")))


def _changed(column: pd.Series, change: Callable[[str], str]) -> pd.Series:
    cells = [change(cell) if _is_formula(cell) else cell for cell in column]
    return pd.Series(cells, index=column.index, dtype=column.dtype)


def _is_formula(cell: object) -> bool:
    """Return True for a text that is a formula, or would be without its apostrophes."""
    return isinstance(cell, str) and cell.lstrip("'").startswith(_FORMULA) and not _is_number(cell.lstrip("'"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "\t" not in text and "\r" not in text
