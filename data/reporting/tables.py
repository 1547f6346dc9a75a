"""Tables of typed cells, and their Markdown, LaTeX and terminal text. `data.reporting.page` renders them as HTML.

A table holds text that is ready to be read. Where a number stands behind the text, the cell holds that, too, unrounded: the best
number of a column is found by it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

HIGHER, LOWER = "higher", "lower"

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


class Link(NamedTuple):
    """A link to a file or folder, relative to the page."""

    text: str
    href: str


class Chip(NamedTuple):
    """One of several values of a cell, such as an emotion; `beside` is small, after the name, such as its intensity."""

    name: str
    beside: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its name and the kind of its cells.

    `kind` is "number" (aligned right), "words" (aligned left), "long" (words that wrap) or "code" (a path, which wraps). `best` is
    `HIGHER` or `LOWER` where the best number of the column is to stand out. Neighbours with the same `over` share a heading.

    In a table that is explored, `filter` is "choice" (rows with one value, or with one chip) or "range" (rows between two numbers),
    and `is_hidden` leaves the column out until a reader asks for it.
    """

    name: str
    kind: str = "number"
    best: str = ""
    over: str = ""
    filter: str = ""
    is_hidden: bool = False

    @property
    def full_name(self) -> str:
        """The name with the shared heading before it, for forms of one header row."""
        return f"{self.over} {self.name}".strip()


@dataclass(frozen=True)
class Cell:
    """A cell. Markdown, LaTeX and terminal show its `text` alone; HTML shows everything."""

    text: str
    value: float | None = None  # the exact number behind the text
    kind: str = ""  # "good" or "bad": coloured
    beside: str = ""  # small, after the text
    below: str = ""  # small, under the text
    badge: str = ""  # a warning, after the text
    href: str = ""  # the text is a link to this
    links: tuple[Link, ...] = ()  # small, under the text
    chips: tuple[Chip, ...] = ()  # in the place of the text
    audio: str = ""  # address of a sound (`data.reporting.audio`): a player under the text


Row = Sequence[str | Cell]


@dataclass(frozen=True)
class Table:
    """Rows in titled groups that share the widths of their columns; the first cell of a row is its heading.

    `total` is a row under all groups. `label` names the table for screen readers; by default the caption does. A table that is
    `explored` has one group without a title; the script of the page sorts, searches and filters its rows, hides its columns, and shows
    `data.reporting.page.PAGE_ROWS` rows at a time. Without the script it shows all rows.
    """

    columns: Sequence[Column]
    groups: Mapping[str, Sequence[Row]]
    caption: str = ""
    label: str = ""
    total: Row = ()
    explored: bool = False

    def __post_init__(self) -> None:
        """Check that rows which are sorted are no parts of groups."""
        if self.explored and list(self.groups) != [""]:
            raise ValueError(f"A table that is explored has one group of rows without a title, not {', '.join(self.groups)}.")

    @classmethod
    def of(
        cls,
        columns: Sequence[Column],
        rows: Sequence[Row],
        caption: str = "",
        label: str = "",
        total: Row = (),
        *,
        explored: bool = False,
    ) -> Self:
        """Make a table of one group without a title."""
        return cls(columns, {"": rows}, caption, label, total, explored)

    @property
    def rows(self) -> list[list[Cell]]:
        """All rows with the total, every cell as a `Cell`."""
        lines = [row for group in self.groups.values() for row in group] + ([self.total] if self.total else [])
        return [[as_cell(cell) for cell in row] for row in lines]

    @property
    def texts(self) -> list[list[str]]:
        """The texts of all rows."""
        return [[cell.text for cell in row] for row in self.rows]

    def head(self, count: int) -> Self:
        """Keep the first `count` rows of each group."""
        return replace(self, groups={title: rows[:count] for title, rows in self.groups.items()})

    def best(self) -> set[tuple[int, int]]:
        """Find the best cells: (row of `rows`, column). Equal numbers are all best; a column of one single number has no best."""
        found: set[tuple[int, int]] = set()
        rows = self.rows[: -1 if self.total else None]
        for place, column in enumerate(self.columns):
            values = {number: cell.value for number, row in enumerate(rows) if (cell := row[place]).value is not None}
            known = {number: value for number, value in values.items() if value is not None and not math.isnan(value)}
            if not column.best or not known:
                continue
            best = max(known.values()) if column.best == HIGHER else min(known.values())
            equal = {(number, place) for number, value in known.items() if math.isclose(value, best, rel_tol=1e-9, abs_tol=1e-12)}
            found |= equal if len(equal) < len(known) else set()
        return found


def as_cell(cell: str | Cell) -> Cell:
    """Makes a cell of text; leave a cell as it is."""
    return cell if isinstance(cell, Cell) else Cell(cell)


def aligned(rows: Sequence[Sequence[str]], header: Sequence[str], left: int = 1) -> str:
    """Aligns text for a terminal; the first `left` columns to the left, the others to the right."""
    kinds = ["words" if number < left else "number" for number in range(len(header))]
    return terminal(Table.of(list(map(Column, header, kinds)), rows))


def terminal(table: Table) -> str:
    """Renders a table as aligned text for a terminal."""
    lines = [[column.full_name for column in table.columns], *table.texts]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = [str.rjust if column.kind == "number" else str.ljust for column in table.columns]
    return "\n".join(
        "  ".join(side(text, width) for side, text, width in zip(sides, line, widths, strict=True)).rstrip() for line in lines
    )


def markdown(table: Table, notes: Sequence[str] = ()) -> str:
    """Renders a table as GitHub Markdown with the notes beneath."""
    sides = ["--:" if column.kind == "number" else ":--" for column in table.columns]
    header = [column.full_name for column in table.columns]
    lines = [f"| {' | '.join(map(in_markdown, line))} |" for line in (header, sides, *table.texts)]
    return "\n".join([*lines, "", *(f"{in_markdown(note)}\n" for note in notes)])


def latex(table: Table, notes: Sequence[str] = ()) -> str:
    """Renders a table as a LaTeX tabular with rules of the package booktabs; the notes are comments above."""
    sides = "".join("r" if column.kind == "number" else "l" for column in table.columns)
    lines = [" & ".join(map(in_latex, line)) + r" \\" for line in ([column.full_name for column in table.columns], *table.texts)]
    comments = [f"% {' '.join(note.split())}" for note in (*notes, r"needs \usepackage{booktabs}")]
    body = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*comments, *body]) + "\n"


def in_markdown(text: str) -> str:
    """Escapes text so that Markdown shows it as it stands."""
    return re.sub(r"[\\&<>*_|]", r"\\\g<0>", " ".join(text.split()))


def in_latex(text: str) -> str:
    """Escapes text so that LaTeX prints it as it stands."""
    escaped = re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], " ".join(text.split()))
    return re.sub(r"^[\[*]", r"{\g<0>}", escaped)  # at the beginning of a row they would be an argument of the \\ before
