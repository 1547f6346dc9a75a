"""The tables of the paper as files and text: of each CSV, Markdown, LaTeX and a self-contained page, of most a picture as well.

Our results stand beside the paper's, heads that read whole videos and simple baselines stand apart, and every row says what it
reproduces. `heads.tables.results` computes the numbers; `data.reporting` renders tables and pages.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from data import tuning
from data.atomic import atomic_path
from data.packages import installed_version
from data.reporting import charts, page
from data.reporting.numbers import DASH
from data.reporting.page import Section, Tile
from data.reporting.tables import Cell, Column, Link, Table, in_markdown, latex, markdown, terminal
from data.spreadsheets import escape_cells
from heads.evaluation.metrics import METRICS
from heads.sweeps.results.tables import run_href
from heads.tables import paper
from heads.tables.plots import SIZE, panels
from heads.tables.results import Result, long_table
from heads.tables.rows import GROUPS, TABLES

SPLITS = {
    "valid": "Our results are on the validation split, which chose the epoch of every run, and are optimistic; the paper's are on the"
    " test split. --split test opens the test split.",
    "test": "Our results are on the test split, which was opened for these runs; opened.csv in each run folder says when.",
}

_SPLIT_WORDS = {"valid": "validation", "test": "test"}

IMPORTED = (
    "Rows of other tools are imported predictions, measured as ours are. How those tools chose their epochs and settings is not"
    " recorded here."
)


class Part(NamedTuple):
    """One table on one corpus."""

    table: str
    corpus: str
    split: str
    results: tuple[Result, ...]

    @property
    def title(self) -> str:
        """Table, corpus and split in words."""
        return f"{TABLES[self.table].title}, CMU-{self.corpus.upper()}, {_SPLIT_WORDS[self.split]} split"

    @property
    def groups(self) -> dict[str, list[Result]]:
        """Key of `GROUPS` → rows; groups without rows are left out."""
        found = {group: [one for one in self.results if one.row.group == group] for group in GROUPS}
        return {group: rows for group, rows in found.items() if rows}


def write(out: Path, parts: Sequence[Part], notes: Sequence[str], encoders: Sequence[str] = ()) -> str:
    """Writes the files of all tables into a folder.

    Args:
        out: Folder of the files.
        parts: Parts of one split; those of one table follow each other. Files of the test split say so in their names.
        notes: Notes on all tables.
        encoders: Encoders of the features, as `data.tuning.encoder_words` writes them.

    Returns:
        Text for the terminal.
    """
    printed, split = [], parts[0].split
    for table in dict.fromkeys(part.table for part in parts):
        own = [part for part in parts if part.table == table]
        faults = [f"Missing: {part.corpus}, {fault}" for part in own for one in part.results for fault in one.faults]
        imported = [IMPORTED] if any("other tools" in part.groups for part in own) else []
        said = [tuning.note(encoders), SPLITS[split], *imported, *notes, *faults]
        stem = f"{table}{'' if split == 'valid' else f'-{split}'}"
        picture = _picture(own[0], encoders) if TABLES[table].grid else None
        texts = {".md": _markdown(own, said), ".tex": _latex(own, said), ".html": _page(own, said, picture, encoders)}
        files = {suffix: charts.to_file(picture, suffix, SIZE) for suffix in (".svg", ".png")} if picture else {}
        _write_files(out / stem, own, texts, files)
        printed.append(f"{_printed(own)}\n\n{_bullets([*said, *paper.NOTES[table]])}\n{out / stem}.*: CSV, Markdown, LaTeX, HTML")
    return "\n\n".join(printed)


def shown(results: Sequence[Result], metrics: Sequence[str]) -> Table:
    """Lists rows in pairs: our results (or imported ones), and the paper's beneath where it has any of these metrics."""
    rows = []
    for one in results:
        rows.append([one.row.method, one.row.origin, *(ours(metric, one) for metric in metrics)])
        if any(metric in one.row.paper for metric in metrics):
            rows.append(["", "paper", *(theirs(metric, one) for metric in metrics)])
    return Table.of([Column("method", "words"), Column("from", "words"), *(Column(METRICS[metric].label) for metric in metrics)], rows)


def about(part: Part) -> Table:
    """Lists what each row reproduces and how it differs, with links to its run folders."""
    rows = []
    for one in (one for results in part.groups.values() for one in results):
        facts, kind = one.row.facts, one.row.kind
        known = (facts["head"], facts["task"], Path(facts["preset"]).stem)
        count = Cell(one.count or DASH, links=_links(one))
        rows.append([one.row.method, *(name or DASH for name in known), count, kind.short, kind.long])
    words = [Column(name, "words") for name in ("method", "head", "task", "preset")]
    columns = [*words, Column("seeds"), Column("reproduction", "words"), Column("of what", "long")]
    return Table.of(columns, rows, label=f"Rows on CMU-{part.corpus.upper()}")


def ours(metric: str, one: Result) -> str:
    """Formats mean ± deviation over seeds as the paper prints numbers; one seed has no deviation."""
    mean, sd = one.value(metric)
    printed = METRICS[metric].printed
    return printed(mean) if np.isnan(sd) else f"{printed(mean)} ± {printed(sd)}"


def theirs(metric: str, one: Result) -> str:
    """Formats the paper's number."""
    return METRICS[metric].printed(one.row.paper.get(metric, np.nan))


def _sides(table: str) -> list[tuple[str, ...]]:
    """Divides the metrics of a table into parts that can be read side by side: accuracies and F1 of emotions apart."""
    metrics = TABLES[table].metrics
    return [metrics] if TABLES[table].task == "msa" else [metrics[::2], metrics[1::2]]


def _printed(parts: Sequence[Part]) -> str:
    """Renders tables for a terminal."""
    texts = []
    for part in parts:
        for group, results in part.groups.items():
            texts.append(f"{part.title}: {GROUPS[group]}")
            texts += [terminal(shown(results, metrics)) for metrics in _sides(part.table)]
        one = about(part)
        texts.append(terminal(Table.of(one.columns[:-1], [row[:-1] for row in one.rows])))
    return "\n\n".join(texts)


def _bullets(notes: Sequence[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


def _markdown(parts: Sequence[Part], notes: Sequence[str]) -> str:
    texts = []
    for part in parts:
        texts.append(f"# {part.title}\n")
        for group, results in part.groups.items():
            texts += [f"## {GROUPS[group]}\n", markdown(shown(results, TABLES[part.table].metrics))]
        texts += ["## What each row is\n", markdown(about(part))]
    said = [in_markdown(note) for note in (*notes, *paper.NOTES[parts[0].table])]
    return "\n".join([*texts, "## Notes\n", _bullets(said), ""])


def _latex(parts: Sequence[Part], notes: Sequence[str]) -> str:
    texts = []
    for part in parts:
        for group, results in part.groups.items():
            heading = [f"{part.title}: {GROUPS[group]}"]
            texts.append(latex(shown(results, TABLES[part.table].metrics), [*heading, *notes, *paper.NOTES[part.table]]))
        texts.append(latex(about(part), [f"{part.title}: what each row is"]))
    return "\n".join(texts)


def _page(parts: Sequence[Part], notes: Sequence[str], picture: charts.Draw | None, encoders: Sequence[str]) -> str:
    table, sections = parts[0].table, []
    for part in parts:
        name = f"CMU-{part.corpus.upper()}"
        content = _tables(part) + (_figure(picture, part, encoders) if picture else "")
        sections.append(Section(part.corpus, part.title.partition(", ")[2], content, nav=name))
        sections.append(Section(f"rows-{part.corpus}", f"What each row on {name} is", page.table(about(part)), nav=f"Rows on {name}"))
    said = Markup().join(page.paragraph(note) for note in paper.NOTES[table])
    sections.append(Section("paper", "About the paper's numbers", said))
    done = [one for part in parts for one in part.results]
    tiles = [
        Tile("rows", str(len(done))),
        Tile("runs", str(len({seed.folder for one in done for seed in one.done if one.row.origin == "ours"}))),
        Tile("split", _SPLIT_WORDS[parts[0].split]),
    ]
    return page.render_page(
        "The paper's numbers and ours",
        TABLES[table].title,
        tiles,
        sections,
        notes,
        warning="Before you use these figures",
        maker=f"python -m heads tables, version {installed_version('mmolre') or 'not installed'}",
    )


def _tables(part: Part) -> Markup:
    """Renders our results with the paper's below in small; groups share the widths of columns."""
    bold = page.paragraph("Bold: the best of our results in a column, over all groups. Small: the paper's number.", "note")
    tables = []
    for metrics in _sides(part.table):
        columns = [Column("method", "words"), *(Column(METRICS[name].label, best=METRICS[name].direction) for name in metrics)]
        rows = {
            GROUPS[group]: [[one.row.method, *(_cell(metric, one) for metric in metrics)] for one in results]
            for group, results in part.groups.items()
        }
        tables.append(page.table(Table(columns, rows, label=f"{part.title}: {', '.join(column.name for column in columns[1:])}")))
    return bold + Markup().join(tables)


def _cell(metric: str, one: Result) -> Cell:
    mean, _ = one.value(metric)
    return Cell(ours(metric, one), float(mean), below=f"paper {theirs(metric, one)}" if metric in one.row.paper else "")


def _links(one: Result) -> tuple[Link, ...]:
    """Links to the run folders of a row; imported predictions have none."""
    return tuple(Link(f"seed {seed.seed}", run_href(seed.folder)) for seed in one.done if seed.seed is not None)


def _figure(picture: charts.Draw, part: Part, encoders: Sequence[str]) -> Markup:
    svg = charts.on_page(picture, part.title, SIZE)
    return page.figure(svg, f"{tuning.note(encoders)} Where the paper's number is not known, there is none.", is_wide=True)


def _picture(part: Part, encoders: Sequence[str]) -> charts.Draw:
    words = ", ".join(tuning.tunings(encoders) or [tuning.FROZEN])
    return panels(
        part.results,
        TABLES[part.table].metrics,
        [METRICS[metric].label for metric in TABLES[part.table].metrics],
        part.title,
        f"Ours: {words} features. Paper: fine-tuned encoders, test split. Numbers that the paper gives as a picture only are missing.",
    )


def _write_files(stem: Path, parts: Sequence[Part], texts: dict[str, str], pictures: dict[str, bytes]) -> None:
    table = pd.concat([long_table(part.corpus, part.results, part.split) for part in parts])
    texts = texts | {".csv": escape_cells(table).to_csv(index=False)}
    for suffix, content in {**{name: text.encode() for name, text in texts.items()}, **pictures}.items():
        with atomic_path(stem.with_name(stem.name + suffix)) as temporary:
            temporary.write_bytes(content)
