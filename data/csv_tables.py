"""Text files and CSV tables, read strictly: cells as text, columns by name, and errors that name the file and the line.

The modules of `data.corpora` and `data.interchange` know the columns of their files; `data.schema` defines the utterance table.
"""

import csv
import difflib
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.errors import InputError, listed, shown
from data.files import read_head
from data.findings import Finding

SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
"""Name of a split in public label files → its name in `data.schema.SPLITS`."""

LABEL_TOLERANCE = 0.5
"""Largest distance of a label from its scale at which it is set to the end of the scale and reported; a larger one is an error."""

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_DIRECTIVE = re.compile(r'"?sep=([,;\t|])"?[ ,;]*[\r\n]*', re.IGNORECASE)
"""First line that Excel reads and writes to name the delimiter."""

_SHORT = 16
"""Characters of a cell up to which equal cells of a table are one text in memory: names of splits, speakers, videos and files recur."""

_STEPS = 4
_SCORES = 10


def read_text(path: Path, fallback: str | None = None) -> str:
    """Read a UTF-8 file, with or without byte order mark.

    Args:
        path: The file.
        fallback: Encoding of a file that is not UTF-8. If None, such a file is an error.

    Raises:
        InputError: The file is missing, empty, not UTF-8, or a git-lfs pointer or an HTML page instead of the file.
    """
    content = _read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if fallback is not None:
            return content.decode(fallback)
        raise _not_utf8(path, content, error) from error


def _read_bytes(path: Path) -> bytes:
    read_head(path)
    return path.read_bytes()


def _not_utf8(path: Path, content: bytes, error: UnicodeDecodeError) -> InputError:
    line = content.count(b"\n", 0, error.start) + 1
    return InputError(f"{path}:{line}: byte {content[error.start]:#04x} is not UTF-8. Save the file as UTF-8.")


def read_lines(path: Path, fallback: str | None = None) -> list[tuple[int, str]]:
    """Return (line number, line) for every line that is not blank. Arguments and errors are those of `read_text`."""
    lines = read_text(path, fallback).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def read_table(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file with all cells as text.

    What spreadsheets leave in a file is skipped: rows of empty cells, unnamed columns without content, and a first line
    `sep=,`, which names the delimiter.

    Args:
        path: The file, with a header line.
        required: Columns that must exist, in any order. Other columns are kept.

    Returns:
        A table of str. Its index is the line of the file (from 1) on which the record begins.

    Raises:
        InputError: The file cannot be read, has another delimiter than it should, lacks a column, or a record has too few or too many
            fields.
    """
    header, records, lines = _records(path)
    for line, record in zip(lines, records, strict=True):
        if len(record) != len(header):
            raise InputError(f"{path}:{line}: {len(record)} fields, expected {len(header)} as in the header. Is a quote missing?")
    table = pd.DataFrame(records, columns=header, index=pd.Index(lines, dtype="int64", name="line"), dtype=object)
    del records  # a million lists
    table = table.loc[:, [name != "" or table.iloc[:, i].str.strip().any() for i, name in enumerate(header)]]
    repeated = sorted({name for name in header if list(table).count(name) > 1})
    if repeated:
        raise InputError(f"{path}:1: columns {repeated} appear twice; expected each once.")
    require_columns(table, required, path)
    return table


def _records(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return the header, all other records with a cell that is not blank, and the lines on which these begin.

    One line of the file at a time is in memory as text, beside the cells.
    """
    content = _read_bytes(path)
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, content, error) from error
    source = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    first = source.readline()
    directive = _DIRECTIVE.fullmatch(first)
    delimiter = directive[1] if directive else ","
    skipped = 1 if directive else 0
    reader = csv.reader(source if directive else itertools.chain([first], source), strict=True, delimiter=delimiter)
    records, lines, line = [], [], 1 + skipped
    known: dict[str, str] = {}
    try:
        for record in reader:
            if any(map(str.strip, record)):
                records.append([known.setdefault(cell, cell) if len(cell) <= _SHORT else cell for cell in record])
                lines.append(line)
            line = reader.line_num + 1 + skipped
            if len(records) == 1:
                _refuse_other_delimiter(records[0], delimiter, path, lines[0])
    except csv.Error as error:
        raise InputError(f"{path}:{line}: not a CSV record ({error}). Is a quote missing?") from error
    if len(records) < 2:
        raise InputError(f"{path}: expected a header line and at least one row.")
    return [name.strip() for name in records[0]], records[1:], lines[1:]


def _refuse_other_delimiter(header: Sequence[str], delimiter: str, path: Path, line: int) -> None:
    """Raise InputError if another delimiter would split the header into more columns."""
    for other, name in _DELIMITERS.items():
        if other != delimiter and sum(cell.count(other) for cell in header) >= len(header):
            raise InputError(
                f"{path}:{line}: the columns are separated by {name}, expected {_DELIMITERS[delimiter]}. Save it as CSV with commas."
            )


def line_names(table: pd.DataFrame, path: Path) -> list[str]:
    """Return the file and line of each row of a table that is indexed by line, such as "label.csv:12"."""
    return [f"{path.name}:{line}" for line in table.index]


def require_columns(table: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Raise InputError for the first of `names` that is not a column of `table`, and suggest the nearest column."""
    for name in names:
        if name not in table:
            folded = {str(column).casefold(): str(column) for column in table}
            near = difflib.get_close_matches(name.casefold(), folded, n=1)
            hint = f" Did you mean {shown(folded[near[0]])}? Then rename it." if near else ""
            raise InputError(f"{path}:1: no column {name!r}.{hint} Columns found: {listed(table)}.")


def numbers(column: pd.Series, path: Path, empty: bool = False) -> pd.Series:
    """Return the float64 values of a text column.

    Args:
        column: A column of `read_table`, named and indexed by line.
        path: The file, for messages.
        empty: True if an empty cell means NaN; otherwise it is an error.

    Raises:
        InputError: A cell is not a finite number.
    """
    blank = column.str.strip() == ""
    values = pd.to_numeric(column.mask(blank), errors="coerce").astype("float64")
    bad = (values.isna() | np.isinf(values)) & ~(blank & empty)
    _refuse(column, bad, "a number", path)
    return values


def splits(column: pd.Series, path: Path, empty: bool = False) -> pd.Series:
    """Return the splits of a text column by their names in `data.schema.SPLITS`; arguments as for `numbers`.

    Raises:
        InputError: A cell is not a key of `SPLIT_NAMES`, in any case of letters.
    """
    folded = column.str.strip().str.lower()
    found = folded.map(SPLIT_NAMES)
    bad = found.isna() & ~((folded == "") & empty)
    _refuse(column, bad, f"one of {', '.join(SPLIT_NAMES)}", path)
    return found.fillna("").astype(object)


def expect_classes(column: pd.Series, classes: Sequence[str] | None, path: Path) -> None:
    """Raise InputError unless each cell of a text column is one of the classes, or any text if there is no list of them."""
    cells = column.str.strip()
    _refuse(column, cells == "", "a class, as all other rows have one. Name it, or remove the row", path)
    if classes is not None:
        _refuse(column, ~cells.isin(list(classes)), f"one of {', '.join(classes)}", path)


def whole_numbers(column: pd.Series, path: Path) -> pd.Series:
    """Return the int64 values of a text column of clip numbers, or raise InputError for a cell that is not all digits."""
    bad = ~column.str.fullmatch(r"[0-9]{1,18}").astype(bool)
    _refuse(column, bad, "a whole number", path)
    return column.astype("int64")


def unique(ids: pd.Series, path: Path) -> pd.Series:
    """Return `ids` (indexed by line) if none is empty or repeated; otherwise raise an InputError that names both lines."""
    _refuse(ids, ids == "", "an id", path)
    repeated = ids.duplicated()
    if repeated.any():
        line: Any = repeated.idxmax()
        value = ids[line]
        raise InputError(f"{path}:{line}: id {shown(value)} is already on line {(ids == value).idxmax()}; expected unique ids.")
    return ids


def _refuse(column: pd.Series, bad: pd.Series, expected: str, path: Path) -> None:
    if bad.any():
        line: Any = bad.idxmax()
        more = f" ({int(bad.sum()) - 1} more rows like it)" if bad.sum() > 1 else ""
        raise InputError(f"{path}:{line}: {column.name} is {shown(column[line])}, expected {expected}{more}.")


def expect_wide_scale(sentiment: pd.Series, source: Path) -> None:
    """Raise InputError if sentiments are scores in [-1, 1], as in CH-SIMS, or the numbers 0 and 1 of two classes.

    On our scale of [-3, 3] all scores would count as weak, and a negative class as neutral. Scores are recognised by fractions among at
    least `_STEPS` different multiples of 0.2 (CH-SIMS), or among at least `_SCORES` different values; classes in at least `_SCORES`
    labels. In MOSI and MOSEI, a third of the labels or more are beyond ±1.

    Args:
        sentiment: float64 labels. NaN is skipped.
        source: The file that the labels come from.
    """
    values = sentiment.dropna()
    if len(values) >= _SCORES and set(values) == {0, 1}:
        raise InputError(
            f"{source}: all {len(values):,} sentiments are 0 or 1, as the numbers of two classes are; expected a scale of -3 to 3."
            " Write the sentiment of each class, such as -3 and 3."
        )
    fifths = (values * 5).round()
    in_fifths = bool(np.allclose(values * 5, fifths, atol=1e-4))
    enough = fifths.nunique() >= _STEPS if in_fifths else values.nunique() >= _SCORES
    if enough and values.between(-1, 1).all() and (fifths % 5 != 0).any():
        raise InputError(
            f"{source}: all {len(values):,} sentiments are between {values.min():g} and {values.max():g}, as on a scale of -1 to 1"
            " (CH-SIMS); expected a scale of -3 to 3. Multiply them by 3, or state the scale [-1, 1] (docs/labels.md)."
        )


def onto_scale(
    values: pd.Series, scale: tuple[float, float], source: Path, where: Sequence[str], tolerance: float = LABEL_TOLERANCE
) -> tuple[pd.Series, list[Finding]]:
    """Set labels that are slightly outside their scale to its end, and report each of them.

    Args:
        values: float64 labels, in a column named after the label. NaN is kept.
        scale: Lowest and highest label.
        source: The file that the labels come from.
        where: The utterance or line of each value, for messages.
        tolerance: Largest distance from the scale that is slight.

    Raises:
        InputError: A label is outside its scale by more than the tolerance.
    """
    low, high = scale
    findings = []
    for place in np.flatnonzero((values < low) | (values > high)).tolist():
        value = float(values.iloc[place])
        said = f"{values.name} is {value:.6g}, its scale {low:g} to {high:g}"
        if not low - tolerance <= value <= high + tolerance:
            raise InputError(f"{source}: {where[place]}: {said}. Is the label on another scale?")
        findings.append(Finding("out-of-range", where[place], f"{said}: taken as {np.clip(value, low, high):g} ({source.name})"))
    return values.clip(low, high), findings
