"""The page and the tables that a sweep ends with: report.html, which needs no network, and tables/.

This module holds their content. Charts are in `heads.sweeps.results.plots`, tables in `heads.sweeps.results.tables`, computations in
`heads.sweeps.results.trials`, the look of the page in `data.reporting`. Everything is about the validation split; where the test
split was opened, its results have a section of their own, and nothing else follows from them.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from data import tuning
from data.atomic import atomic_path
from data.errors import InputError
from data.packages import installed_version
from data.reporting import page
from data.reporting.numbers import duration, number, signed
from data.reporting.page import Section, Tile
from data.reporting.tables import Cell, Column, Table, latex, markdown
from data.spreadsheets import escape_cells
from heads.evaluation.intervals import holm
from heads.evaluation.metrics import CLASS_METRIC, DEFAULT_METRICS, default_metric, metric_named
from heads.runs.folder import RunFolder
from heads.sweeps.results.plots import CURVES, coordinates, costs, curves, effect
from heads.sweeps.results.tables import (
    HEADLINES,
    metric_cell,
    metric_words,
    option_column,
    option_words,
    p_words,
    paired_table,
    ranked_table,
    run_href,
)
from heads.sweeps.results.trials import applied, applies, collect, encoder_names, follows_head, pairs, ranked, remedy, varied
from heads.sweeps.status import STATUSES

VALIDATION = (
    "All figures are of the validation split, which chose the epoch of every trial and ranks the configurations: those of the best are"
    " optimistic, and so is its test against the others."
)
COMPARED, LISTED = 8, 2000
"""Numbers of the best configurations that are tested in pairs and that are in the table of the page."""


def write_report(sweep: Path, metric: str | None = None, table: pd.DataFrame | None = None) -> Path:
    """Writes report.html and tables/ of a sweep, finished or not.

    Args:
        sweep: Folder with `trials/`.
        metric: Metric that ranks and compares configurations; if not given, mae, or mean_wf1 where no sentiment was learned.
        table: Result of `collect`, if the folders have been read already.

    Returns:
        Path of the page.

    Raises:
        InputError: There are no trials, or there is no such metric.
    """
    table = collect(sweep) if table is None else table
    metric = metric or usual_metric(table)
    metric_named(metric)  # raises if there is none
    corpora = [Corpus(sweep, part, metric) for _, part in table.groupby("corpus") if _has_values(part, metric)]
    _write_tables(sweep, table, corpora)
    sections = [section for one in corpora for section in one.sections(f"-{one.name}" if len(corpora) > 1 else "")]
    sections += [*_opened(sweep, table), *_not_complete(sweep, table, metric), *_grid(sweep)]
    content = page.render_page(
        "Sweep report",
        sweep.resolve().name,
        _tiles(table, corpora, metric),
        sections,
        _notes(table),
        warning="Before you use these figures",
        maker=f"python -m heads sweep, version {installed_version('mmolre') or 'not installed'}",
    )
    with atomic_path(sweep / "report.html") as temporary:
        temporary.write_text(content, encoding="utf-8")
    return sweep / "report.html"


def learned_tasks(table: pd.DataFrame) -> list[str]:
    """Lists the tasks that complete trials of `collect` learned; all tasks where none is complete."""
    known = {"msa": (DEFAULT_METRICS["msa"],), "mer": (DEFAULT_METRICS["mer"], CLASS_METRIC)}
    return [task for task, metrics in known.items() if any(_has_values(table, metric) for metric in metrics)] or list(known)


def usual_metric(table: pd.DataFrame) -> str:
    """Returns the metric that ranks the trials of `collect` unless another is asked for."""
    return default_metric(learned_tasks(table), _has_values(table, CLASS_METRIC))


class Corpus:
    """The part of the report about the trials on one corpus."""

    def __init__(self, sweep: Path, table: pd.DataFrame, metric: str) -> None:
        """Args:
        sweep: Folder with `trials/`.
        table: Result of `collect`, rows of this corpus.
        metric: Metric that a complete trial has.
        """
        self.sweep, self.table, self.metric, self.name = sweep, table, metric, table["corpus"].iloc[0]
        self.complete = table[table["status"] == "complete"]
        self.options, self.ranks = varied(self.complete), ranked(table, metric)
        self.free = [name for name in self.options if not follows_head(self.complete, name)]
        self.has = applied(table, self.free)
        self.tests = pairs(sweep, self.ranks["key"][:COMPARED], metric)
        self.names = {key: f"#{number}" for number, key in enumerate(self.ranks["key"], 1)}
        self.shown = ranked_table(self.ranks, table, self.options, metric)

    def sections(self, suffix: str) -> list[Section]:
        """List the sections that have content; `suffix` ends their ids and tells corpora apart."""
        of = f" on {self.name}" if suffix else ""
        parts = (
            ("ranked", "Configurations{}, the best first", "Ranking{}", self._ranked()),
            ("effects", "Effect of each option{}", "Effects{}", self._effects(suffix)),
            ("coordinates", "Options together{}", "Options together{}", self._coordinates(suffix)),
            ("costs", f"{self.metric} against size and time{{}}", "Size and time{}", self._costs(suffix)),
            ("curves", "Learning curves of the best{}", "Learning curves{}", self._curves(suffix)),
            ("paired", "Paired tests{}", "Paired tests{}", self._paired()),
        )
        found = [Section(f"{name}{suffix}", title.format(of), content, nav.format(of)) for name, title, nav, content in parts]
        return [section for section in found if section.content]

    def label(self, key: str) -> str:
        """Name a configuration by its place and the options that distinguish it."""
        short = [name.rpartition(".")[2] for name in self.free]
        names = [part if short.count(part) == 1 else name for part, name in zip(short, self.free, strict=True)]
        trial = self.complete[self.complete["key"] == key].iloc[0]
        values = zip(names, option_words(trial, self.has), strict=True)
        said = [value if name == "head" else f"{name} {value}" for name, value in values if value != "–"]
        return f"{self.names[key]} {', '.join(said)}".rstrip()

    def _ranked(self) -> Markup:
        more = (
            f" Of {len(self.ranks):,}, the best {LISTED} are shown; all are in tables/ranked.csv." if len(self.ranks) > LISTED else ""
        )
        better = metric_named(self.metric).direction
        text = (
            f"Ranked by {self.metric} ({better} is better), mean over seeds. The interval is of that mean, by Student's t over seeds"
            " (wide where there are two or three), or, of a single seed, by bootstrap over utterances: the column “over” says which;"
            f" the two cannot be compared.{more}"
        )
        bold = "Bold: the best of a column. Under a key: links to the run folders."
        return page.paragraph(text) + page.paragraph(bold, "note") + page.table(self.shown.head(LISTED))

    def _effects(self, suffix: str) -> Markup:
        figures, scores = [], self.complete[f"valid.{self.metric}"]
        for name in self.free:
            rows = applies(self.complete, name) & scores.notna()
            if self.complete.loc[rows, name].nunique(dropna=False) > 1:
                labels = [f"{self.names[key]}, seed {seed}" for key, seed in self.complete.loc[rows, ["key", "seed"]].to_numpy()]
                ids = f"{self.name}-" if suffix else ""
                svg = effect(name, self.complete.loc[rows, name], scores[rows], self.metric, labels, ids)
                figures.append(page.figure(svg))
        text = (
            "A point is a complete trial, a diamond the mean at a value (or of a sixth of the trials, where an option has many values)."
            " A triangle is a trial too far off to be shown to scale and is in no mean. Other options differ between the values, too."
        )
        return page.paragraph(text, "note") + page.charts(figures) if figures else Markup()

    def _coordinates(self, suffix: str) -> Markup:
        ranks = self.ranks[self.ranks["mean"].notna()].set_index("key")
        if not self.free:
            return Markup()
        first = self.complete.drop_duplicates("key")
        has = self.has.loc[first["name"]].set_axis(first["key"])
        first, higher = first.set_index("key").loc[ranks.index, self.free], metric_named(self.metric).higher_is_better
        ids = f"{self.name}-" if suffix else ""
        labels = list(map(self.label, ranks.index))
        svg = coordinates(first, has.loc[ranks.index], ranks["mean"], self.metric, higher, labels, ids)
        text = "A line is a configuration: red the best, blue in the middle, grey the worst, by rank; the best is thick."
        return page.figure(
            svg, f"{text} It passes below an option that does nothing in it; a metric far off is at the edge.", is_wide=True
        )

    def _costs(self, suffix: str) -> Markup:
        figures, higher = [], metric_named(self.metric).higher_is_better
        for column, name in (("parameters", "parameters"), ("seconds", "seconds of training")):
            ranks = self.ranks[self.ranks["mean"].notna() & (self.ranks[column] > 0)]
            if ranks[column].nunique() > 1:
                labels, ids = list(map(self.label, ranks["key"])), f"{self.name}-" if suffix else ""
                figures.append(page.figure(costs(name, ranks[column], ranks["mean"], self.metric, higher, labels, ids)))
        text = (
            "A point is a configuration, mean over its seeds; a triangle one whose metric is too far off to be shown to scale. The line"
            " joins those than which none is both cheaper and better. Seconds are those of history.csv: on the device, and beside the"
            " trials, of that time."
        )
        return page.paragraph(text, "note") + page.charts(figures) if figures else Markup()

    def _curves(self, suffix: str) -> Markup:
        histories = {}
        for key in self.ranks["key"]:
            names = self.complete.loc[self.complete["key"] == key, "name"]
            histories_of = [RunFolder(self.sweep / "trials" / name).history() for name in names]
            found = [history for history in histories_of if history is not None]
            if found and all(f"valid_{self.metric}" in history for history in found):
                histories[self.label(key)] = found
            if len(histories) == CURVES:
                break
        if not histories:
            return Markup()
        svg = curves(histories, self.metric, f"{self.name}-" if suffix else "")
        return page.figure(svg, "A line is a seed. Losses can only be compared where their weights are the same.", is_wide=True)

    def _paired(self) -> Markup:
        if self.tests.empty:
            return Markup()
        best = self.ranks["key"][0]
        against = self.tests[self.tests["a"] == best]
        shown = paired_table(against, {key: self.label(key) for key in self.names})
        corrected = map(p_words, holm(against["p_value"].to_numpy(float)))
        rows = [[*row[1:5], p, *row[5:]] for row, p in zip(shown.rows, corrected, strict=True)]
        columns = [Column("against", "words"), Column(f"difference in {self.metric}"), *shown.columns[3:5], Column("p (Holm)")]
        text = (
            f"Difference in {self.metric} on the same utterances of the validation split, mean over the seeds that both have, by a"
            " paired bootstrap over utterances. It tells whether other utterances would agree, not whether other seeds would."
        )
        caption = f"The best, {self.label(best)}, minus each of the next"
        compared = page.table(Table.of([*columns, *shown.columns[5:]], rows, caption, explored=True))
        return page.paragraph(text) + compared + page.table(self._matrix())

    def _matrix(self) -> Table:
        """Compare all pairs of the best: row minus column."""
        keys = [*dict.fromkeys([*self.tests["a"], *self.tests["b"]])]
        cells = {}
        for _, row in self.tests.iterrows():
            cells[row["a"], row["b"]] = self._cell(row["difference"], row["p_value"])
            cells[row["b"], row["a"]] = self._cell(-row["difference"], row["p_value"])
        rows = [[self.names[a], *(cells.get((a, b), "") for b in keys)] for a in keys]
        caption = "Any two of the best: row minus column, p beneath (not corrected). Green: the row is better, p < .05; red: worse."
        return Table.of([Column("", "words"), *(Column(self.names[key]) for key in keys)], rows, caption)

    def _cell(self, difference: float, p_value: float) -> Cell:
        is_better = (difference > 0) == metric_named(self.metric).higher_is_better
        kind = ("good" if is_better else "bad") if p_value < 0.05 else ""
        return Cell(signed(difference), kind=kind, below=f"p {p_words(p_value)}")


def _has_values(table: pd.DataFrame, metric: str) -> bool:
    column = f"valid.{metric}"
    return column in table and bool(table.loc[table["status"] == "complete", column].notna().any())


def _tiles(table: pd.DataFrame, corpora: list[Corpus], metric: str) -> list[Tile]:
    counts = table["status"].value_counts()
    tiles = [Tile("trials", f"{len(table):,}"), *(Tile(status, f"{counts.get(status, 0):,}") for status in STATUSES)]
    tiles.append(Tile("configurations", f"{table['key'].nunique():,}"))
    tiles += [Tile(f"best {metric} on {corpus.name}", metric_words(corpus.ranks["mean"][0])) for corpus in corpora]
    if "seconds" in table:
        tiles.append(Tile("of training, all trials", duration(table["seconds"].sum())))
    return tiles


def _notes(table: pd.DataFrame) -> list[str]:
    opened = _with_test(table)["name"].nunique()
    sealed = (
        Markup('The test split was opened for <a href="#test">{} of the trials</a>; nothing else on this page follows from it.').format(
            number(opened, 0)
        )
        if opened
        else "The test split is sealed: no trial of this sweep was evaluated on it."
    )
    devices = sorted(table["device"].dropna().unique()) if "device" in table else []
    names = encoder_names(table)
    encoders = ", ".join(names) or "unknown encoders"
    return [tuning.note(names), VALIDATION, sealed, f"Features of {encoders}; trained on {', '.join(devices) or 'unknown devices'}."]


def _with_test(table: pd.DataFrame) -> pd.DataFrame:
    return table[table[[name for name in table if str(name).startswith("test.")]].notna().any(axis=1)]


def _opened(sweep: Path, table: pd.DataFrame) -> list[Section]:
    """Shows the trials for which the test split was opened, with the times."""
    opened = _with_test(table)
    if opened.empty:
        return []
    metrics = [name for name in HEADLINES if f"test.{name}" in opened]
    rows = []
    for _, trial in opened.iterrows():
        times = _times(RunFolder(sweep / "trials" / trial["name"]))
        rows.append([_run(trial), *(metric_cell(trial[f"test.{name}"]) for name in metrics), times])
    columns = [Column("trial", "words"), *map(Column, metrics), Column("opened", "words")]
    caption = "Test split, of the trials for which it was opened"
    return [Section("test", "Test split", page.table(Table.of(columns, rows, caption, explored=True)))]


def _times(folder: RunFolder) -> str:
    """List when the test split of a run was opened, or say why that is unknown."""
    try:
        log = folder.openings()
    except InputError as error:
        return str(error)
    return "opened.csv is missing" if log is None else ", ".join(log.loc[log["split"] == "test", "when"])


def _not_complete(sweep: Path, table: pd.DataFrame, metric: str) -> list[Section]:
    """Shows trials that have no place in the ranking, with the reasons."""
    others = table[table["status"] != "complete"]
    if others.empty:
        return []
    options = [name for name in varied(table) if name != "corpus"]
    has = applied(table, options)
    rows = [
        [trial["status"], _run(trial), _reason(sweep, trial, metric), *option_words(trial, has)]
        for _, trial in others.sort_values(["status", "name"]).iterrows()
    ]
    columns = [
        *(Column("status", "words", filter="choice"), Column("trial", "words"), Column("why", "long")),
        *(option_column(name, table) for name in options),
    ]
    content = page.table(Table.of(columns, rows, "Trials that are not ranked", explored=True))
    return [Section("others", "Failed, damaged, pruned and unfinished trials", content, "Other trials")]


def _run(trial: pd.Series) -> Cell:
    return Cell(trial["name"], href=run_href(trial["name"]))


def _reason(sweep: Path, trial: pd.Series, metric: str) -> str:
    if trial["status"] == "pruned":
        return f"pruned after {number(trial['epochs'], 0)} epochs at {metric} {metric_words(trial.get(f'valid.{metric}', np.nan))}"
    if trial["status"] in ("failed", "damaged"):
        return f"{trial['error']} {remedy(sweep, trial['name'])}"
    return "not ended yet: the same sweep command goes on with it"


def _grid(sweep: Path) -> list[Section]:
    path = sweep / "grid.yaml"
    if not path.is_file():
        return []
    return [Section("grid", "Requested grid", page.listing(path.read_text(encoding="utf-8", errors="backslashreplace"), "grid.yaml"))]


def _write_tables(sweep: Path, table: pd.DataFrame, corpora: list[Corpus]) -> None:
    folder, notes = sweep / "tables", [f"Validation split. {tuning.note(encoder_names(table))}"]
    _write_csv(folder / "trials.csv", table)
    for name in ("ranked", "paired"):
        frames = {corpus.name: corpus.ranks if name == "ranked" else corpus.tests for corpus in corpora}
        if not frames:
            continue
        _write_csv(folder / f"{name}.csv", pd.concat(frames, names=["corpus"]).reset_index("corpus"))
        shown = {c.name: c.shown if name == "ranked" else paired_table(c.tests, c.names) for c in corpora}
        for suffix, form in ((".md", markdown), (".tex", latex)):
            texts = [form(one, [*notes, f"Corpus: {corpus}."]) for corpus, one in shown.items()]
            with atomic_path(folder / f"{name}{suffix}") as temporary:
                temporary.write_text("\n".join(texts), encoding="utf-8")


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        escape_cells(table).to_csv(temporary, index=False)
