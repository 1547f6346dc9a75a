"""The tables of the paper as files and text: of each CSV, Markdown, LaTeX and a self-contained page, of most a picture as well.

Ours stands beside the paper's, heads that read whole videos and simple baselines stand apart, and every row says what it is a
reproduction of. What is computed is in `heads.tables.results`; how tables and pages are put together in
`heads.sweeps.results.tables` and `heads.sweeps.results.page`.
"""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data.atomic import atomic_path
from heads.evaluation import console
from heads.evaluation.metrics import METRICS
from heads.sweeps.results import page
from heads.sweeps.results.page import Cell
from heads.sweeps.results.report import FROZEN
from heads.sweeps.results.tables import Shown, in_markdown, latex, markdown
from heads.tables import paper
from heads.tables.plots import panels, save
from heads.tables.results import Result, long_table
from heads.tables.rows import GROUPS, TABLES

SPLITS = {
    "valid": "Ours is of the validation split, which chose the epoch of every run, and is optimistic; the paper's is of the test split."
    " --split test opens the test split.",
    "test": "Ours is of the test split, which was opened for the runs behind these figures; opened.csv in each run folder says when.",
}

_SPLIT_WORDS = {"valid": "validation", "test": "test"}

IMPORTED = (
    "Rows of other tools are imported predictions, measured as ours are. What their epochs and settings were chosen on, those tools"
    " answer for; nothing of it is recorded here."
)


class Part(NamedTuple):
    """One table on one corpus."""

    table: str
    corpus: str
    split: str
    results: tuple[Result, ...]

    @property
    def title(self) -> str:
        """What it is of."""
        return f"{TABLES[self.table].title}, CMU-{self.corpus.upper()}, {_SPLIT_WORDS[self.split]} split"

    @property
    def groups(self) -> dict[str, list[Result]]:
        """Key of `GROUPS` → rows, those without rows left out."""
        found = {group: [one for one in self.results if one.row.group == group] for group in GROUPS}
        return {group: rows for group, rows in found.items() if rows}


def write(out: Path, parts: Sequence[Part], notes: Sequence[str]) -> str:
    """Writes the files of all tables into a folder.

    Args:
        out: The folder.
        parts: All of one split; those of one table one after the other. Files of the test split say so in their names.
        notes: About all tables.

    Returns:
        What is printed.
    """
    printed, split = [], parts[0].split
    for table in dict.fromkeys(part.table for part in parts):
        own = [part for part in parts if part.table == table]
        faults = [f"Missing: {part.corpus}, {fault}" for part in own for one in part.results for fault in one.faults]
        imported = [IMPORTED] if any("other tools" in part.groups for part in own) else []
        said = [FROZEN, SPLITS[split], *imported, *notes, *faults]
        stem = f"{table}{'' if split == 'valid' else f'-{split}'}"
        texts = {".md": _markdown(own, said), ".tex": _latex(own, said)}
        picture = _picture(own[0]) if TABLES[table].grid else {}
        _write_files(out / stem, own, texts | {".html": _page(own, said, picture.get(".svg"))}, picture)
        printed.append(f"{_printed(own)}\n\n{_bullets([*said, *paper.NOTES[table]])}\n{out / stem}.*: CSV, Markdown, LaTeX, HTML")
    return "\n\n".join(printed)


def shown(results: Sequence[Result], metrics: Sequence[str]) -> Shown:
    """Rows in pairs: ours, or what was imported, and the paper's beneath where it has any of these metrics."""
    rows = []
    for one in results:
        rows.append([one.row.method, one.row.origin, *(ours(metric, one) for metric in metrics)])
        if any(metric in one.row.paper for metric in metrics):
            rows.append(["", "paper", *(theirs(metric, one) for metric in metrics)])
    return Shown(["method", "from", *(METRICS[metric].label for metric in metrics)], rows, ("method", "from"))


def about(part: Part) -> Shown:
    """What each row is a reproduction of, and what it is not."""
    rows = []
    for one in (one for results in part.groups.values() for one in results):
        facts, kind = one.row.facts, one.row.kind
        known = (facts["head"], facts["task"], Path(facts["preset"]).stem)
        rows.append([one.row.method, *(name or "–" for name in (*known, one.count)), kind.short, kind.long])
    header = ["method", "head", "task", "preset", "seeds", "reproduction", "of what"]
    return Shown(header, rows, tuple(name for name in header if name != "seeds"))


def ours(metric: str, one: Result) -> str:
    """Mean ± deviation over seeds, as the paper would print it; no deviation of one seed."""
    mean, sd = one.value(metric)
    printed = METRICS[metric].printed
    return printed(mean) if np.isnan(sd) else f"{printed(mean)} ± {printed(sd)}"


def theirs(metric: str, one: Result) -> str:
    """The paper's number."""
    return METRICS[metric].printed(one.row.paper.get(metric, np.nan))


def _sides(table: str) -> list[tuple[str, ...]]:
    """The metrics of a table, no more side by side than can be read: accuracies and F1 of emotions apart."""
    metrics = TABLES[table].metrics
    return [metrics] if TABLES[table].task == "msa" else [metrics[::2], metrics[1::2]]


def _printed(parts: Sequence[Part]) -> str:
    """For a terminal."""
    texts = []
    for part in parts:
        for group, results in part.groups.items():
            texts.append(f"{part.title}: {GROUPS[group]}")
            for metrics in _sides(part.table):
                one = shown(results, metrics)
                texts.append(console.table(one.rows, one.header, left=2))
        one = about(part)
        texts.append(console.table([row[:-1] for row in one.rows], one.header[:-1], left=4))
    return "\n\n".join(texts)


def _bullets(notes: Sequence[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


def _markdown(parts: Sequence[Part], notes: Sequence[str]) -> str:
    texts = []
    for part in parts:
        texts.append(f"# {part.title}\n")
        for group, results in part.groups.items():
            texts += [f"## {GROUPS[group]}\n", markdown(shown(results, TABLES[part.table].metrics), ())]
        texts += ["## What each row is\n", markdown(about(part), ())]
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


def _page(parts: Sequence[Part], notes: Sequence[str], picture: bytes | None) -> str:
    table, sections = parts[0].table, {}
    for part in parts:
        sections[part.corpus] = (part.title.partition(", ")[2], _tables(part) + (_figure(picture, part) if picture else ""))
        one = about(part)
        rows = [[*row[:-1], Cell(row[-1], "long")] for row in one.rows]
        content = page.table(one.header, rows, one.left, f"Rows on CMU-{part.corpus.upper()}")
        sections[f"rows-{part.corpus}"] = (f"What each row on CMU-{part.corpus.upper()} is", content)
    sections["paper"] = ("About the paper's numbers", "".join(page.paragraph(note) for note in paper.NOTES[table]))
    done = [one for part in parts for one in part.results]
    tiles = {
        "rows": str(len(done)),
        "runs": str(len({seed.folder for one in done for seed in one.done if one.row.origin == "ours"})),
        "split": parts[0].split,
    }
    return page.page("The paper's numbers and ours", TABLES[table].title, tiles, sections, [escape(note) for note in notes])


def _tables(part: Part) -> str:
    """Ours, the paper's below it in small."""
    parts = []
    for group, results in part.groups.items():
        for metrics in _sides(part.table):
            rows = [[one.row.method, *(_cell(metric, one) for metric in metrics)] for one in results]
            parts.append(page.table(["method", *(METRICS[metric].label for metric in metrics)], rows, ("method",), GROUPS[group]))
    return "".join(parts)


def _cell(metric: str, one: Result) -> Cell:
    return Cell(ours(metric, one), small=f"paper {theirs(metric, one)}" if metric in one.row.paper else "")


def _figure(picture: bytes, part: Part) -> str:
    source = f"data:image/svg+xml;base64,{b64encode(picture).decode()}"
    image = f'<img alt="{escape(part.title)}" style="width: 100%; height: auto; border-radius: 8px" src="{source}" />'
    return page.figure(image, f"{FROZEN} Where the paper's number is not known, there is none.", is_wide=True)


def _picture(part: Part) -> dict[str, bytes]:
    figure = panels(
        part.results,
        TABLES[part.table].metrics,
        [METRICS[metric].label for metric in TABLES[part.table].metrics],
        part.title,
        "Ours: frozen features. Paper: fine-tuned encoders, test split. Numbers that the paper gives as a picture only are missing.",
    )
    return {f".{form}": save(figure, form) for form in ("svg", "png")}


def _write_files(stem: Path, parts: Sequence[Part], texts: dict[str, str], pictures: dict[str, bytes]) -> None:
    table = pd.concat([long_table(part.corpus, part.results, part.split) for part in parts])
    texts = texts | {".csv": table.to_csv(index=False)}
    for suffix, content in {**{name: text.encode() for name, text in texts.items()}, **pictures}.items():
        with atomic_path(stem.with_name(stem.name + suffix)) as temporary:
            temporary.write_bytes(content)
