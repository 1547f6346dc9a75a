"""HTML pages and their parts. A page is complete in itself: it loads nothing but sounds that it links to (`data.reporting.audio`).
Text is escaped; `Markup` is taken as HTML.

The layout is in `templates/page.html`, the parts are macros in `templates/parts.html`, the look is in `templates/style.css`. A report
with templates of its own renders them with `fragment`. Pages are well-formed XML after their doctype.

Each page has one script, `templates/script.js`: it makes tables that are explored sort, search and filter, and shows the tooltips of
charts. All content is in the page without it. The page's Content-Security-Policy allows this script alone, by its hash, and no network.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data.reporting import numbers
from data.reporting.characters import visible
from data.reporting.tables import Cell, Table, as_cell

TEMPLATES = Path(__file__).parent / "templates"
FEW_ROWS = 40
"""A table with more rows has a scroll bar of its own."""
PAGE_ROWS = 50
"""Number of rows that a table which is explored shows at a time."""


class Tile(NamedTuple):
    """A headline number at the top of a page."""

    label: str
    value: str | Cell
    name: str = ""  # id of the element that holds the number


class Section(NamedTuple):
    """A section of a page; the navigation leads to it."""

    name: str  # id, unique on the page
    title: str
    content: Markup
    nav: str = ""  # shorter title for the navigation
    data: Mapping[str, str] = {}  # data attributes of the element


def render_page(
    kicker: str,
    title: str,
    tiles: Sequence[Tile],
    sections: Sequence[Section],
    notes: Sequence[str],
    *,
    warning: str,
    maker: str,
    lead: str = "",
) -> str:
    """Renders a whole page.

    Args:
        kicker: Kind of page, above the title.
        title: Title of the page.
        tiles: Headline numbers.
        sections: Sections in order.
        notes: Remarks that a reader must know first.
        warning: Heading of the notes.
        maker: Program that made the page, for its last line.
        lead: Paragraph below the title.
    """
    page = {"kicker": kicker, "title": title, "tiles": tiles, "sections": sections, "notes": notes}
    return environment(None).get_template("page.html").render(page=page | {"warning": warning, "maker": maker, "lead": lead}) + "\n"


def fragment(folder: Path, name: str, **values: Any) -> Markup:
    """Renders a template of a report; it can import `parts.html` of the kit.

    Args:
        folder: Folder with the report's templates.
        name: File name of the template.
        values: Variables of the template.
    """
    return Markup(environment(folder).get_template(name).render(**values))


def table(content: Table) -> Markup:
    """Renders a table in a box of its own, which scrolls where the table is wide or long."""
    return _part("table", content)


def paragraph(text: str, kind: str = "") -> Markup:
    """Renders a paragraph; `kind` "note" is smaller."""
    return _part("paragraph", text, kind)


def figure(svg: Markup, caption: str = "", is_wide: bool = False) -> Markup:
    """Renders a chart with a caption; a wide one keeps its size and scrolls on a narrow screen."""
    return _part("figure", svg, caption, is_wide)


def charts(figures: Sequence[Markup]) -> Markup:
    """Renders figures side by side."""
    return _part("charts", figures)


def listing(text: str, summary: str) -> Markup:
    """Renders the content of a file, folded away."""
    return _part("listing", text, summary)


@cache
def environment(folder: Path | None) -> Environment:
    """Makes the environment that renders the kit's templates, and those of `folder` before them."""
    made = Environment(
        loader=FileSystemLoader([*([folder] if folder else []), TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"size": numbers.size, "duration": numbers.duration, "share": numbers.share, "cell": as_cell}
    made.filters |= {"flat": _flat, "pretty": _pretty, "spans": _spans}
    made.globals |= {"FEW_ROWS": FEW_ROWS, "PAGE_ROWS": PAGE_ROWS, "SCRIPT": _script(), "POLICY": _policy()}
    return made


def _script() -> Markup:
    """Content of the script element; in XML, it is a part whose signs have no meaning."""
    return Markup(f"//<![CDATA[\n{(TEMPLATES / 'script.js').read_text(encoding='utf-8')}//]]>")


def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()
    sounds = "media-src 'self' file: data:"
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; {sounds}; base-uri 'none'; form-action 'none'"


@cache
def _parts() -> Any:
    return environment(None).get_template("parts.html").module


def _part(name: str, *arguments: Any) -> Markup:
    return Markup(getattr(_parts(), name)(*arguments))


def _spans(content: Table) -> list[tuple[str, int]]:
    """Shared headings of neighbouring columns with their widths; a column without one stands alone."""
    spans: list[tuple[str, int]] = []
    for column in content.columns:
        if column.over and spans and spans[-1][0] == column.over:
            spans[-1] = (column.over, spans[-1][1] + 1)
        else:
            spans.append((column.over, 1))
    return spans


def _pretty(value: Any) -> str:
    """Formats a setting: four digits of a float, items of a list, a dash for what is empty."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_pretty(item) for item in value) or numbers.DASH
    return numbers.DASH if value is None or value == "" or value == {} else str(value)


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested settings: {"a": {"b": 1}, "c": [{"d": 2}]} → {"a.b": 1, "c.1.d": 2}."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            value = dict(enumerate(value, 1))
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat
