"""The page of two predictors: which metrics differ, and on which clips. The tests are in `heads.evaluation.comparison`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from data.atomic import atomic_path
from data.labels import EMOTIONS
from data.packages import installed_version
from data.reporting import page
from data.reporting.numbers import DASH, signed
from data.reporting.page import Section, Tile
from data.reporting.tables import Cell, Chip, Column, Table
from heads.evaluation.comparison import MetricTest, differing
from heads.evaluation.metrics import METRICS
from heads.reports import plots
from heads.reports.clips import Clips
from heads.reports.content import Media
from heads.reports.plots import Span
from heads.reports.results import emotions_of
from heads.reports.tables import Part, donor_columns, number, origin_columns, signed_number, text_columns

_SPLITS = {
    "valid": "The figures are of the validation split, which chose the epochs of both. The test split was not read for this page.",
    "test": "The figures are of the test split, which was opened before.",
}


@dataclass(frozen=True)
class Side:
    """One of the two predictors: its name as it was given, and one table of predictions for each of its seeds."""

    name: str
    tables: Sequence[pd.DataFrame]

    def predicts(self, task: str) -> bool:
        """True if it predicts msa or mer."""
        return all(("sentiment" if task == "msa" else EMOTIONS[0]) in table for table in self.tables)


def write_page(
    a: Side, b: Side, split: str, tests: Sequence[MetricTest], facts: Clips, notes: Sequence[str], out: Path, media: Media
) -> str:
    """Writes the page and returns a sentence on its players; "" if nobody asked for them.

    Args:
        a: The first predictor.
        b: The other one, for the same utterances.
        split: valid or test.
        tests: Result of `heads.evaluation.comparison.compare`.
        facts: What the cache says about the utterances.
        notes: What is missing, in sentences.
        out: The file.
        media: Where sounds come from.
    """
    gains = _gains(a, b)
    sounds = facts.players([str(name) for name in gains.index], media.source, out.parent, media.limit_bytes)
    said = page.paragraph(sounds.note, "note") if sounds.note else Markup()
    sections = [
        Section("metrics", "Which metrics differ", _metrics(tests)),
        Section("clips", "On which clips", _clips(a, b, gains, facts, sounds.addresses, said), "Clips"),
    ]
    text = page.render_page(
        "Comparison",
        "A against B",
        _tiles(a, tests, gains),
        sections,
        [_SPLITS[split], *notes],
        warning="Before you use these figures",
        maker=f"python -m heads compare, version {installed_version('mmolre') or 'not installed'}",
        lead=f"A is {a.name}{_seeds(a)}. B is {b.name}{_seeds(b)}.",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return sounds.note


def _seeds(side: Side) -> str:
    return f", means of {len(side.tables)} seeds" if len(side.tables) > 1 else ""


def _tiles(a: Side, tests: Sequence[MetricTest], gains: pd.DataFrame) -> list[Tile]:
    first = tests[0]
    tiles = [Tile(f"{first.metric} of {name}", Cell(f"{value:.4f}")) for name, value in (("A", first.a), ("B", first.b))]
    tiles.append(Tile("p (Holm)", f"{first.p_holm:.3f}" if first.p_holm == first.p_holm else DASH))
    counts = gains["closer"].value_counts()
    tiles += [Tile(f"clips on which {name} is closer", f"{counts.get(name, 0):,}") for name in ("A", "B")]
    return [*tiles, Tile("clips", f"{len(gains):,}")]


def _metrics(tests: Sequence[MetricTest]) -> Markup:
    rows = []
    for one in tests:
        sign = 1 if METRICS[one.metric].higher_is_better else -1
        low, high = sorted((sign * one.difference.low, sign * one.difference.high))
        tip = f"{one.metric}: A {one.a:.4f}, B {one.b:.4f}, A − B {plots.difference(*one.difference[:3])}"
        if not math.isnan(one.difference.difference):
            rows.append(Span(one.metric, sign * one.difference.difference, low, high, tip))
    caption = (
        "A dot to the right of the dashed line: A is better by this much; the bar is the 95 % interval over clips. Where it crosses the"
        " line, other clips of the same kind may well reverse the order."
    )
    figures = [page.figure(plots.spans(rows, "Advantage of A in each metric", "A is better →", "advantage"), caption)] if rows else []
    text = (
        "p: paired bootstrap over clips, of no difference; Holm: corrected for the number of metrics; Wilcoxon: signed ranks of the"
        " clips' own values. Green: A is better, red: B is better, p (Holm) < .05."
    )
    return page.charts(figures) + page.table(_tests(tests)) + page.paragraph(text, "note")


def _tests(tests: Sequence[MetricTest]) -> Table:
    columns = [Column("metric", "words"), *map(Column, ("A", "B", "A − B", "95 % interval", "p", "p (Holm)", "p (Wilcoxon)"))]
    rows = []
    for one in tests:
        change = one.difference
        is_better = (change.difference > 0) == METRICS[one.metric].higher_is_better
        kind = ("good" if is_better else "bad") if one.p_holm < 0.05 else ""
        told = Cell(signed(change.difference), change.difference, kind=kind)
        interval = f"{signed(change.low)} to {signed(change.high)}"
        ps = [number(value, 3) for value in (change.p_value, one.p_holm, one.p_wilcoxon)]
        rows.append(
            [Cell(one.metric, below=f"{METRICS[one.metric].direction} is better"), number(one.a), number(one.b), told, interval, *ps]
        )
    return Table.of(columns, rows, label="Tests of no difference")


def _gains(a: Side, b: Side) -> pd.DataFrame:
    """By utterance_id, the largest differences first: true, a, b, gain (sentiment), wrong_a, wrong_b (emotions), and who is closer."""
    parts = []
    if a.predicts("msa") and b.predicts("msa"):
        parts.append(differing(a.tables, b.tables).set_index("utterance_id"))
    if a.predicts("mer") and b.predicts("mer"):
        wrong = pd.concat({"wrong_a": _wrong(a), "wrong_b": _wrong(b)}, axis=1)
        order = (wrong["wrong_a"] - wrong["wrong_b"]).abs().sort_values(ascending=False, kind="stable").index
        parts.append(wrong.loc[order])
    found = (
        parts[0]
        if len(parts) == 1
        else parts[0].join(parts[1], how="outer").loc[[*parts[0].index, *parts[1].index.difference(parts[0].index)]]
    )
    gain = found["gain"] if "gain" in found else found["wrong_a"] - found["wrong_b"]
    return found.assign(closer=np.select([gain > 0, gain < 0, gain == 0], ["B", "A", "neither"], DASH))


def _wrong(side: Side) -> pd.Series:
    """Counts the emotions of each labelled utterance that are decided wrongly, mean over seeds."""
    found = []
    for table in side.tables:
        probability, truth = emotions_of(table)
        known = ~np.isnan(truth)
        wrong = np.where(known, (probability > 0.5) != (truth > 0), False).sum(1).astype(float)
        labelled = np.flatnonzero(known.any(1))
        found.append(pd.Series(wrong[labelled], index=table["utterance_id"].iloc[labelled]))
    return pd.concat(found, axis=1).mean(axis=1)


def _clips(a: Side, b: Side, gains: pd.DataFrame, facts: Clips, sounds: Mapping[str, str], said: Markup) -> Markup:
    order = gains.index
    parts = [text_columns(facts, sounds, order), _sentiment(gains), _emotions(a, b, gains), donor_columns(facts, order, is_hidden=True)]
    parts.append(origin_columns(facts, order))
    columns = [column for part, _ in parts for column in part]
    rows = [[cell for _, cells in parts for cell in cells[place]] for place in range(len(order))]
    what = "absolute error of sentiment" if "gain" in gains else "number of wrong emotions"
    text = (
        f"The clips first on which the two differ most in the {what}. A negative difference: A is closer to the truth. The heading of a"
        " column sorts by it; “closer” chooses the clips of one side; “Columns” shows more of them."
    )
    return page.paragraph(text, "note") + said + page.table(Table.of(columns, rows, label="Clips", explored=True))


def _sentiment(gains: pd.DataFrame) -> Part:
    closer = [[str(name)] for name in gains["closer"]]
    if "gain" not in gains:
        return [Column("closer", "words", filter="choice")], closer
    columns = [
        *map(Column, ("true", "A", "B")),
        Column("error of A − error of B", filter="range"),
        Column("closer", "words", filter="choice"),
    ]
    values = gains[["true", "a", "b", "gain"]].to_numpy(float)
    shown = [[signed_number(one) for one in line] for line in values.tolist()]
    return columns, [[*cells, *name] for cells, name in zip(shown, closer, strict=True)]


def _emotions(a: Side, b: Side, gains: pd.DataFrame) -> Part:
    if "wrong_a" not in gains:
        return [], [[] for _ in gains.index]
    (mine, truth), (theirs, _) = (_mean_emotions(side, gains.index) for side in (a, b))
    columns = [
        Column("emotions", "words", filter="choice"),
        Column("A", "words", over="predicted emotions"),
        Column("B", "words", over="predicted emotions"),
    ]
    columns += [Column("A", over="wrong emotions"), Column("B", over="wrong emotions")]
    cells = []
    for place, (wrong_a, wrong_b) in enumerate(zip(gains["wrong_a"], gains["wrong_b"], strict=True)):
        labelled = not np.isnan(truth[place]).all()
        true = tuple(Chip(name) for name, present in zip(EMOTIONS, truth[place], strict=True) if present > 0)
        given = [Cell("none", chips=_over_half(values[place])) for values in (mine, theirs)]
        cells.append([Cell("none" if labelled else DASH, chips=true), *given, number(wrong_a, 1), number(wrong_b, 1)])
    return columns, cells


def _mean_emotions(side: Side, order: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    found = [emotions_of(table.set_index("utterance_id").reindex(order)) for table in side.tables]
    return np.mean([one for one, _ in found], axis=0), found[0][1]


def _over_half(values: np.ndarray) -> tuple[Chip, ...]:
    return tuple(Chip(name, f"{one:.2f}") for name, one in zip(EMOTIONS, values, strict=True) if one > 0.5)
