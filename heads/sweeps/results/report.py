"""The page and the tables that a sweep ends with: report.html, which needs neither a network nor a script, and tables/.

Here is what they say; how a page is put together is in `heads.sweeps.results.page`, pictures are in
`heads.sweeps.results.plots`, tables as text in `heads.sweeps.results.tables`, and what is computed in
`heads.sweeps.results.trials`. Everything is of the validation split; where the test split was opened, its figures have a section
of their own, and nothing else follows from them.
"""

from html import escape
from pathlib import Path

import pandas as pd

from data.atomic import atomic_path
from data.lookup import expect
from heads.evaluation.metrics import DEFAULT_METRICS, METRICS, default_metric
from heads.sweeps.results import page
from heads.sweeps.results.page import Cell
from heads.sweeps.results.plots import coordinates, curves, effect
from heads.sweeps.results.tables import (
    HEADLINES,
    holm,
    latex,
    markdown,
    number_words,
    option_words,
    p_words,
    paired_table,
    ranked_table,
    signed,
)
from heads.sweeps.results.trials import applies, collect, encoder_names, pairs, ranked, remedy, varied
from heads.sweeps.status import STATUSES

FROZEN = (
    "The features are frozen: the encoders ran once and learn nothing further. The paper fine-tunes its encoders, so these results are"
    " those of another experiment."
)
VALIDATION = (
    "All figures are of the validation split, which chose the epoch of every trial and ranks the configurations: those of the best are"
    " optimistic, and so is its test against the others."
)
COMPARED, DRAWN, LISTED = 8, 5, 100
"""How many of the best configurations are tested in pairs, have learning curves, are in the table of the page."""


def write_report(sweep: Path, metric: str | None = None, table: pd.DataFrame | None = None) -> Path:
    """Writes report.html and tables/ of a sweep, finished or not.

    Args:
        sweep: Folder with `trials/`.
        metric: What configurations are ranked and compared by; if not given, mae, or mean_wf1 where no sentiment was learned.
        table: The result of `collect`, if the folders have been read already.

    Returns:
        The page.

    Raises:
        InputError: There are no trials, or there is no such metric.
    """
    table = collect(sweep) if table is None else table
    metric = metric or default_metric(learned_tasks(table))
    expect(METRICS, metric, "metric")
    corpora = [Corpus(sweep, part, metric) for _, part in table.groupby("corpus") if _has_values(part, metric)]
    _write_tables(sweep, table, corpora)
    sections: dict[str, tuple[str, str]] = {}
    for corpus in corpora:
        sections |= corpus.sections(f"-{corpus.name}" if len(corpora) > 1 else "")
    sections |= _opened(sweep, table) | _not_complete(sweep, table, metric) | _grid(sweep)
    content = page.page("Sweep report", sweep.resolve().name, _tiles(table, corpora, metric), sections, _notes(table))
    with atomic_path(sweep / "report.html") as temporary:
        temporary.write_text(content, encoding="utf-8")
    return sweep / "report.html"


def learned_tasks(table: pd.DataFrame) -> list[str]:
    """Lists the tasks that complete trials of `collect` learned; all tasks where none is complete."""
    return [task for task, metric in DEFAULT_METRICS.items() if _has_values(table, metric)] or list(DEFAULT_METRICS)


class Corpus:
    """What is said about the trials on one corpus."""

    def __init__(self, sweep: Path, table: pd.DataFrame, metric: str) -> None:
        """Args:
        sweep: Folder with `trials/`.
        table: Of `collect`, of this corpus.
        metric: That a complete trial has.
        """
        self.sweep, self.table, self.metric, self.name = sweep, table, metric, table["corpus"].iloc[0]
        self.complete = table[table["status"] == "complete"]
        self.options, self.ranks = varied(self.complete), ranked(table, metric)
        self.tests = pairs(sweep, self.ranks["key"][:COMPARED], metric)
        self.names = {key: f"#{number}" for number, key in enumerate(self.ranks["key"], 1)}
        self.shown = ranked_table(self.ranks, table, self.options, metric)

    def sections(self, suffix: str) -> dict[str, tuple[str, str]]:
        """Id → title and content; `suffix` is for ids and tells corpora apart."""
        of = f" on {self.name}" if suffix else ""
        found = {
            f"ranked{suffix}": (f"Configurations{of}, the best first", self._ranked()),
            f"effects{suffix}": (f"Effect of each option{of}", self._effects(suffix)),
            f"coordinates{suffix}": (f"Options together{of}", self._coordinates(suffix)),
            f"curves{suffix}": (f"Learning curves of the best{of}", self._curves(suffix)),
            f"paired{suffix}": (f"Paired tests{of}", self._paired()),
        }
        return {name: (title, content) for name, (title, content) in found.items() if content}

    def label(self, key: str) -> str:
        """The place of a configuration and what distinguishes it."""
        short = [name.rpartition(".")[2] for name in self.options]
        names = [part if short.count(part) == 1 else name for part, name in zip(short, self.options, strict=True)]
        trial = self.complete[self.complete["key"] == key].iloc[0]
        values = zip(names, option_words(trial, self.table, self.options), strict=True)
        said = [value if name == "head" else f"{name} {value}" for name, value in values if value != "–"]
        return f"{self.names[key]} {', '.join(said)}".rstrip()

    def _ranked(self) -> str:
        more = (
            f" Of {len(self.ranks):,}, the best {LISTED} are shown; all are in tables/ranked.csv." if len(self.ranks) > LISTED else ""
        )
        better = METRICS[self.metric].direction
        text = (
            f"Ranked by {self.metric} ({better} is better), mean over seeds. The interval is of that mean, by Student's t over seeds"
            " (wide where there are two or three), or, of a single seed, by bootstrap over utterances: the column “over” says which;"
            f" the two cannot be compared.{more}"
        )
        return page.paragraph(text) + page.table(self.shown.header, self.shown.rows[:LISTED], self.shown.left, "Configurations", best=0)

    def _effects(self, suffix: str) -> str:
        figures, scores = [], self.complete[f"valid.{self.metric}"]
        for name in self.options:
            rows = applies(self.complete, name) & scores.notna()
            if self.complete.loc[rows, name].nunique(dropna=False) > 1:
                svg = effect(name, self.complete.loc[rows, name], scores[rows], self.metric, f"{self.name}-" if suffix else "")
                figures.append(page.figure(svg))
        text = (
            "A point is a complete trial, a diamond the mean at a value (or of a sixth of the trials, where an option has many values)."
            " A triangle is a trial too far off to be shown to scale and is in no mean. Other options differ between the values, too."
        )
        return page.paragraph(text, "note") + page.charts(figures) if figures else ""

    def _coordinates(self, suffix: str) -> str:
        ranks = self.ranks[self.ranks["mean"].notna()].set_index("key")
        if not self.options:
            return ""
        first = self.complete.drop_duplicates("key")
        applied = pd.DataFrame({name: applies(self.complete, name) for name in self.options}).loc[first.index].set_axis(first["key"])
        first, higher = first.set_index("key").loc[ranks.index, self.options], METRICS[self.metric].higher_is_better
        ids = f"{self.name}-" if suffix else ""
        svg = coordinates(first, applied.loc[ranks.index], ranks["mean"], self.metric, higher, ids)
        text = "A line is a configuration: red the best, blue in the middle, grey the worst, by rank; the best is thick."
        return page.figure(
            svg, f"{text} It passes below an option that does nothing in it; a metric far off is at the edge.", is_wide=True
        )

    def _curves(self, suffix: str) -> str:
        histories = {}
        for key in self.ranks["key"]:
            names = self.complete.loc[self.complete["key"] == key, "name"]
            files = [self.sweep / "trials" / name / "history.csv" for name in names]
            found = [pd.read_csv(path) for path in files if path.is_file()]
            if found and all(f"valid_{self.metric}" in history for history in found):
                histories[self.label(key)] = found
            if len(histories) == DRAWN:
                break
        if not histories:
            return ""
        svg = curves(histories, self.metric, f"{self.name}-" if suffix else "")
        return page.figure(svg, "A line is a seed. Losses can only be compared where their weights are the same.", is_wide=True)

    def _paired(self) -> str:
        if self.tests.empty:
            return ""
        best = self.ranks["key"][0]
        against = self.tests[self.tests["a"] == best]
        shown = paired_table(against, {key: self.label(key) for key in self.names})
        corrected = map(p_words, holm(against["p_value"].to_numpy(float)))
        rows = [[*row[1:5], p, *row[5:]] for row, p in zip(shown.rows, corrected, strict=True)]
        header = ["against", f"difference in {self.metric}", *shown.header[3:5], "p (Holm)", *shown.header[5:]]
        text = (
            f"Difference in {self.metric} on the same utterances of the validation split, mean over the seeds that both have, by a"
            " paired bootstrap over utterances. It tells whether other utterances would agree, not whether other seeds would."
        )
        compared = page.table(header, rows, ("against", "note"), f"The best, {self.label(best)}, minus each of the next")
        return page.paragraph(text) + compared + self._matrix()

    def _matrix(self) -> str:
        """Row minus column of all pairs of the best."""
        keys = [*dict.fromkeys([*self.tests["a"], *self.tests["b"]])]
        cells = {}
        for _, row in self.tests.iterrows():
            cells[row["a"], row["b"]] = self._cell(row["difference"], row["p_value"])
            cells[row["b"], row["a"]] = self._cell(-row["difference"], row["p_value"])
        rows = [[self.names[a], *(cells.get((a, b), "") for b in keys)] for a in keys]
        caption = "Any two of the best: row minus column, p beneath (not corrected). Green: the row is better, p < .05; red: worse."
        return page.table(["", *(self.names[key] for key in keys)], rows, ("",), caption)

    def _cell(self, difference: float, p_value: float) -> Cell:
        is_better = (difference > 0) == METRICS[self.metric].higher_is_better
        kind = ("good" if is_better else "bad") if p_value < 0.05 else ""
        return Cell(signed(difference), kind, f"p {p_words(p_value)}")


def _has_values(table: pd.DataFrame, metric: str) -> bool:
    column = f"valid.{metric}"
    return column in table and bool(table.loc[table["status"] == "complete", column].notna().any())


def _tiles(table: pd.DataFrame, corpora: list[Corpus], metric: str) -> dict[str, str]:
    counts = table["status"].value_counts()
    tiles = {"trials": f"{len(table):,}", **{status: f"{counts.get(status, 0):,}" for status in STATUSES}}
    tiles["configurations"] = f"{table['key'].nunique():,}"
    for corpus in corpora:
        tiles[f"best {metric} on {corpus.name}"] = number_words(corpus.ranks["mean"][0], 4)
    if "seconds" in table:
        tiles["of training, all trials"] = _duration(table["seconds"].sum())
    return tiles


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours:,} h {rest // 60} min" if hours else f"{rest / 60:.0f} min" if rest >= 600 else f"{rest:,} s"


def _notes(table: pd.DataFrame) -> list[str]:
    opened = _with_test(table)["name"].nunique()
    sealed = (
        f'The test split was opened for <a href="#test">{opened:,} of the trials</a>; nothing else on this page follows from it.'
        if opened
        else "The test split is sealed: no trial of this sweep was evaluated on it."
    )
    devices = sorted(table["device"].dropna().unique()) if "device" in table else []
    encoders = ", ".join(encoder_names(table)) or "unknown encoders"
    facts = f"Features of {encoders}; trained on {', '.join(devices) or 'unknown devices'}."
    return [escape(FROZEN), escape(VALIDATION), sealed, escape(facts)]


def _with_test(table: pd.DataFrame) -> pd.DataFrame:
    return table[table[[name for name in table if name.startswith("test.")]].notna().any(axis=1)]


def _opened(sweep: Path, table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """The trials for which the test split was opened, and when."""
    opened = _with_test(table)
    if opened.empty:
        return {}
    metrics = [name for name in HEADLINES if f"test.{name}" in opened]
    rows = []
    for _, trial in opened.iterrows():
        log = pd.read_csv(sweep / "trials" / trial["name"] / "opened.csv")
        times = log.loc[log["split"] == "test", "when"]
        rows.append([trial["name"], *(number_words(trial[f"test.{name}"], 4) for name in metrics), ", ".join(times)])
    content = page.table(["trial", *metrics, "opened"], rows, ("trial", "opened"), "Test split, of the trials for which it was opened")
    return {"test": ("Test split", content)}


def _not_complete(sweep: Path, table: pd.DataFrame, metric: str) -> dict[str, tuple[str, str]]:
    """Trials without a place in the ranking, and why."""
    others = table[table["status"] != "complete"]
    if others.empty:
        return {}
    options = [name for name in varied(table) if name != "corpus"]
    rows = [
        [trial["status"], trial["name"], Cell(_reason(sweep, trial, metric), "long"), *option_words(trial, table, options)]
        for _, trial in others.sort_values(["status", "name"]).iterrows()
    ]
    header = ["status", "trial", "why", *options]
    return {"others": ("Failed, pruned and unfinished trials", page.table(header, rows, header, "Trials that are not ranked"))}


def _reason(sweep: Path, trial: pd.Series, metric: str) -> str:
    if trial["status"] == "pruned":
        return f"pruned after {number_words(trial['epochs'], 0)} epochs at {metric} {number_words(trial.get(f'valid.{metric}'), 4)}"
    if trial["status"] == "failed":
        return f"{trial['error']} {remedy(sweep, trial['name'])}"
    return "not ended yet: the same sweep command goes on with it"


def _grid(sweep: Path) -> dict[str, tuple[str, str]]:
    path = sweep / "grid.yaml"
    if not path.is_file():
        return {}
    return {"grid": ("What was asked for", page.listing(path.read_text(encoding="utf-8"), "grid.yaml"))}


def _write_tables(sweep: Path, table: pd.DataFrame, corpora: list[Corpus]) -> None:
    folder, notes = sweep / "tables", [f"Validation split. {FROZEN}"]
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
        table.to_csv(temporary, index=False)
