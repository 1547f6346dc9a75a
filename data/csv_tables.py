"""Reads the text files and tables of corpora: strictly as text, by column name, every complaint with file and line.

Which columns a corpus has is known to its reader; what an utterance table must hold, to `data.schema`.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from data.errors import InputError
from data.files import read_head

if TYPE_CHECKING:
    from data.corpora.base import Finding

SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
"""Names of splits in public label files → ours."""

LABEL_TOLERANCE = 0.5
"""A label up to this far outside its scale is set to the scale's end and reported; farther out it is an error."""


def read_text(path: Path, fallback: str | None = None) -> str:
    """Reads a UTF-8 file, with or without byte order mark.

    Args:
        path: The file.
        fallback: The encoding of a file that is not UTF-8; without one such a file is an error.

    Raises:
        InputError: The file is missing, empty, not the real file (git-lfs, HTML) or not UTF-8.
    """
    read_head(path)
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if fallback is not None:
            return content.decode(fallback)
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: byte {content[error.start]:#04x} is not UTF-8. Save the file as UTF-8.") from error


def read_lines(path: Path, fallback: str | None = None) -> list[tuple[int, str]]:
    """Returns (line number, line) of every line that is not blank; arguments and errors are those of `read_text`."""
    lines = read_text(path, fallback).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def read_table(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Reads a CSV file strictly as text.

    Args:
        path: The file, with a header line.
        required: Columns that must be there; others are kept, their order does not matter.

    Returns:
        Every cell as str; the index holds the line of the file (from 1) where the record begins.

    Raises:
        InputError: The file cannot be read, lacks a column, or a record has too few or too many fields.
    """
    header, records, lines = _records(path)
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(f"{path}:1: columns {repeated} appear twice; expected each once.")
    for line, record in zip(lines, records, strict=True):
        if len(record) != len(header):
            raise InputError(f"{path}:{line}: {len(record)} fields, expected {len(header)} as in the header. Is a quote missing?")
    table = pd.DataFrame(records, columns=header, index=pd.Index(lines, dtype="int64", name="line"), dtype=object)
    require_columns(table, required, path)
    return table


def _records(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, and every other record that is not blank with the line on which it begins."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    records, lines, line = [], [], 1
    try:
        for record in reader:
            if record:
                records.append(record)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{line}: not a CSV record ({error}). Is a quote missing?") from error
    if len(records) < 2:
        raise InputError(f"{path}: expected a header line and at least one row.")
    return [name.strip() for name in records[0]], records[1:], lines[1:]


def require_columns(table: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Raises InputError for the first of `names` that is no column of `table`, with the nearest column that is."""
    for name in names:
        if name not in table:
            folded = {str(column).casefold(): str(column) for column in table}
            near = difflib.get_close_matches(name.casefold(), folded, n=1)
            hint = f" Did you mean {folded[near[0]]!r}? Then rename it." if near else ""
            raise InputError(f"{path}:1: no column {name!r}.{hint} Columns found: {', '.join(map(str, table))}.")


def numbers(column: pd.Series, path: Path, empty: bool = False) -> pd.Series:
    """The float64 values of a text column.

    Args:
        column: As from `read_table`: named, indexed by line.
        path: The file to name in a message.
        empty: Whether an empty cell is NaN; otherwise it is an error.

    Raises:
        InputError: A cell is not a finite number.
    """
    blank = column.str.strip() == ""
    values = pd.to_numeric(column.mask(blank), errors="coerce").astype("float64")
    bad = ~np.isfinite(values) & ~(blank & empty)
    _refuse(column, bad, "a number", path)
    return values


def splits(column: pd.Series, path: Path, empty: bool = False) -> pd.Series:
    """Our names of the splits in a text column; arguments as for `numbers`, an unknown name is an InputError."""
    folded = column.str.strip().str.lower()
    found = folded.map(SPLIT_NAMES)
    bad = found.isna() & ~((folded == "") & empty)
    _refuse(column, bad, f"one of {', '.join(SPLIT_NAMES)}", path)
    return found.fillna("").astype(object)


def whole_numbers(column: pd.Series, path: Path) -> pd.Series:
    """The int64 values of a text column of clip numbers; anything but digits is an InputError."""
    bad = ~column.str.fullmatch(r"[0-9]{1,18}").astype(bool)
    _refuse(column, bad, "a whole number", path)
    return column.astype("int64")


def unique(ids: pd.Series, path: Path) -> pd.Series:
    """Returns `ids` (indexed by line) if none is empty or repeated, else raises an InputError that names both lines."""
    _refuse(ids, ids == "", "an id", path)
    repeated = ids.duplicated()
    if repeated.any():
        line, value = repeated.idxmax(), ids[repeated.idxmax()]
        raise InputError(f"{path}:{line}: id {value!r} is already on line {(ids == value).idxmax()}; expected unique ids.")
    return ids


def _refuse(column: pd.Series, bad: pd.Series, expected: str, path: Path) -> None:
    if bad.any():
        line = bad.idxmax()
        more = f" ({int(bad.sum()) - 1} more rows like it)" if bad.sum() > 1 else ""
        raise InputError(f"{path}:{line}: {column.name} is {column[line]!r}, expected {expected}{more}.")


def onto_scale(values: pd.Series, scale: tuple[float, float], source: Path, where: Sequence[str]) -> tuple[pd.Series, list[Finding]]:
    """Sets labels that lie a little outside their scale to its end, and reports each.

    Args:
        values: float64, named after the label; NaN stays.
        scale: Lowest and highest label.
        source: The file that the labels come from.
        where: Of every value, the utterance or line to name.

    Raises:
        InputError: A label lies more than `LABEL_TOLERANCE` outside.
    """
    from data.corpora.base import Finding  # its package imports the readers, and they import this module

    low, high = scale
    findings = []
    for place in np.flatnonzero((values < low) | (values > high)):
        value = float(values.iloc[place])
        said = f"{values.name} is {value:.6g}, its scale {low:g} to {high:g}"
        if not low - LABEL_TOLERANCE <= value <= high + LABEL_TOLERANCE:
            raise InputError(f"{source}: {where[place]}: {said}. Is the label on another scale?")
        findings.append(Finding("out-of-range", where[place], f"{said}: taken as {np.clip(value, low, high):g} ({source.name})"))
    return values.clip(low, high), findings
