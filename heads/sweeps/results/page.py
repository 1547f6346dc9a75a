"""Parts of a self-contained HTML page: text, tables, figures, sections, and the style of all of them. No script, nothing fetched.

Whatever is given as text is escaped; what is given as a part is HTML of this module or SVG of `heads.sweeps.results.plots`. What
a page says is decided by whoever writes it. Pages are well-formed XML behind their doctype.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

_STYLE = """
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --card: #fff; --ink: #1a2230; --muted: #56616f; --line: #dde2e9; --soft: #eef1f5; --accent: #1f5aa8;
  --note: #fdf1dc; --note-line: #e8c583; --good: #d9efe3; --bad: #f8dfd8;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #10141a; --card: #181e26; --ink: #e4e9f0; --muted: #a1adbb; --line: #2c3541; --soft: #212934; --accent: #86b6f5;
    --note: #33280f; --note-line: #6b5523; --good: #17402c; --bad: #4a2418;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere; font: 1rem/1.55 system-ui, sans-serif; }
header, main { max-width: 78rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 2rem; }
h1, h2, h3 { line-height: 1.25; margin: 0; }
h1 { font-size: 1.9rem; } h2 { font-size: 1.35rem; } h3 { font-size: 1.02rem; margin: 1.6rem 0 0.4rem; }
p, li { max-width: 52rem; } p { margin: 0.4rem 0; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
code, pre { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 0.86em; }
pre { margin: 0.8rem 0; padding: 0.9rem 1rem; overflow-x: auto; background: var(--soft); border-radius: 8px; overflow-wrap: normal; }
.kicker, figcaption, caption, .note { color: var(--muted); font-size: 0.875rem; }
.kicker { margin: 0 0 0.3rem; font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 0.75rem; margin: 1.4rem 0; }
.tiles > div, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tiles > div { padding: 0.8rem 1rem; display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.tiles dt { color: var(--muted); font-size: 0.875rem; line-height: 1.35; }
.tiles dd { margin: 0; font-size: 1.45rem; font-weight: 650; line-height: 1.25; }
.tiles, table, svg { font-variant-numeric: tabular-nums; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.45rem; list-style: none; margin: 0 0 1.4rem; padding: 0; }
nav a { display: block; padding: 0.3rem 0.75rem; border: 1px solid var(--line); border-radius: 99px; background: var(--card);
  text-decoration: none; font-size: 0.9rem; }
section { padding: 1.4rem 1.5rem 1.6rem; margin: 0 0 1.25rem; scroll-margin-top: 1rem; }
section.notes { background: var(--note); border-color: var(--note-line); }
.notes ul { margin: 0.6rem 0 0; padding-left: 1.2rem; }
.scroll { overflow: auto; max-width: 100%; border: 1px solid var(--line); border-radius: 8px; margin: 0.7rem 0; }
.tall { max-height: 34rem; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.875rem; }
caption { text-align: left; padding: 0.5rem 0.7rem; }
th, td { overflow-wrap: normal; padding: 0.38rem 0.7rem; text-align: right; border-top: 1px solid var(--line); white-space: nowrap; }
thead th { position: sticky; top: 0; color: var(--muted); font-weight: 600; background: var(--soft); }
th.l, td.l { text-align: left; }
td.long { white-space: normal; min-width: 20rem; overflow-wrap: anywhere; }
tr.best > * { font-weight: 650; }
td.good { background: var(--good); } td.bad { background: var(--bad); }
td small { color: var(--muted); display: block; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1.2rem 1.4rem; }
figure { margin: 0.6rem 0 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; } .wide svg { min-width: 44rem; }
svg text { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
figcaption { margin-top: 0.2rem; line-height: 1.4; max-width: 52rem; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 40rem) {
  section { padding: 1.1rem 0.9rem; }
  .tiles { grid-template-columns: 1fr 1fr; }
}
@media print { nav { display: none; } .scroll { overflow: visible; } .tall { max-height: none; } figure, tr { break-inside: avoid; } }
"""


_WHOLE = 40
"""So many rows of a table stand there without a scroll bar."""


class Cell(NamedTuple):
    """A cell that looks like something: `kind` is one of the style's classes for cells, `small` stands below the text."""

    text: str
    kind: str = ""
    small: str = ""


def page(kicker: str, title: str, tiles: Mapping[str, str], sections: Mapping[str, tuple[str, str]], notes: Sequence[str]) -> str:
    """A whole page.

    Args:
        kicker: What sort of page it is.
        title: Of the page.
        tiles: Label → figure, above all.
        sections: Id → title and content (HTML), in order; each is in the navigation.
        notes: What a reader must know first (HTML).
    """
    figures = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in tiles.items())
    links = "".join(f'<li><a href="#{escape(name)}">{escape(heading)}</a></li>' for name, (heading, _) in sections.items())
    parts = "".join(
        f'<section id="{escape(name)}"><h2>{escape(heading)}</h2>{content}</section>\n' for name, (heading, content) in sections.items()
    )
    listed = "".join(f"<li>{note}</li>" for note in notes)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8" />\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(title)}</h1><dl class="tiles">{figures}</dl>\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main>\n'
        f'<section class="notes" id="notes"><h2>Before you use these figures</h2><ul>{listed}</ul></section>\n{parts}</main>\n'
        "</body>\n</html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """Text; `kind` "note" is smaller."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def table(
    header: Sequence[str], rows: Sequence[Sequence[str | Cell]], left: Sequence[str] = (), caption: str = "", best: int | None = None
) -> str:
    """A table that scrolls by itself where it is wide, or has more than `_WHOLE` rows.

    Args:
        header: Names of the columns.
        rows: Of cells.
        left: Columns to the left; the others, of numbers, to the right.
        caption: What the table is.
        best: Number of a row that stands out.
    """
    sides = ["l" if name in left else "" for name in header]
    heads = "".join(f'<th scope="col"{_class(side)}>{escape(name)}</th>' for name, side in zip(header, sides, strict=True))
    lines = "".join(
        f"<tr{_class('best' if number == best else '')}>{''.join(map(_cell, row, sides))}</tr>\n" for number, row in enumerate(rows)
    )
    label = f"<caption>{escape(caption)}</caption>" if caption else ""
    kind = "scroll tall" if len(rows) > _WHOLE else "scroll"
    return (
        f'<div class="{kind}" role="region" tabindex="0" aria-label="{escape(caption or header[0])}"><table>{label}'
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def figure(svg: str, caption: str = "", is_wide: bool = False) -> str:
    """A picture, as SVG, with a caption; a wide one scrolls on a narrow screen."""
    return f"<figure><div{_class('wide' if is_wide else '')}>{svg}</div><figcaption>{escape(caption)}</figcaption></figure>"


def charts(figures: Sequence[str]) -> str:
    """Figures side by side."""
    return f'<div class="charts">{"".join(figures)}</div>'


def listing(text: str, summary: str) -> str:
    """A file's content, folded."""
    return f"<details><summary>{escape(summary)}</summary><pre><code>{escape(text)}</code></pre></details>"


def _cell(cell: str | Cell, side: str) -> str:
    cell = cell if isinstance(cell, Cell) else Cell(cell)
    small = f"<small>{escape(cell.small)}</small>" if cell.small else ""
    return f"<td{_class(f'{side} {cell.kind}'.strip())}>{escape(cell.text)}{small}</td>"


def _class(name: str) -> str:
    return f' class="{escape(name)}"' if name else ""
