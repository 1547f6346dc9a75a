"""Tables of pages about runs: metrics, emotions, parts of the corpus, modalities, experts, clips."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from data.labels import EMOTIONS
from data.reporting.numbers import DASH, signed
from data.reporting.tables import HIGHER, LOWER, Cell, Chip, Column, Row, Table
from heads.evaluation.calibration import Reliability
from heads.evaluation.intervals import mean_sd
from heads.evaluation.metrics import EMOTION_METRICS, METRICS, SENTIMENT_METRICS
from heads.evaluation.modalities import Loss
from heads.evaluation.specificity import LEAST, Expert
from heads.evaluation.strata import Stratum
from heads.reports.clips import Clips
from heads.reports.results import Result, emotions_of

FEW_RUNS = 5
"""With more runs, clips show the mean prediction and its standard deviation instead of a column for each run."""

_MEANS = tuple(f"mean_{name}" for name in EMOTION_METRICS)
_LABELS = {"msa": "Sentiment", "mer": "Emotions, mean of the six"}


def metrics_of_one(result: Result) -> Table:
    """Lists the metrics of one run with their intervals."""
    groups: dict[str, list[Row]] = {}
    values = result.metrics
    for task in result.tasks:
        names = SENTIMENT_METRICS if task == "msa" else _MEANS
        groups[_LABELS[task]] = [
            [name, number(values[name]), _interval(*result.interval(name)), METRICS[name].direction] for name in names if name in values
        ]
    columns = [Column("metric", "words"), Column("value"), Column("95 % interval"), Column("better", "words")]
    return Table(columns, groups, label="Metrics")


def metrics_of_several(results: Sequence[Result], task: str) -> Table:
    """Lists the metrics of runs side by side, with mean ± standard deviation under the seeds of a configuration."""
    results = [result for result in results if task in result.tasks]
    names = [name for name in (SENTIMENT_METRICS if task == "msa" else _MEANS) if all(name in result.metrics for result in results)]
    groups: dict[str, list[Row]] = {}
    for configuration in dict.fromkeys(result.configuration for result in results):
        seeds = [result for result in results if result.configuration == configuration]
        rows: list[Row] = [[one.name, *(number(one.metrics[name]) for name in names)] for one in seeds]
        if len(seeds) > 1:
            rows.append(_spread(seeds, names))
        groups[configuration] = rows
    if all(len(rows) == 1 for rows in groups.values()):
        groups = {"": [row for rows in groups.values() for row in rows]}
    columns = [Column(name, best=HIGHER if METRICS[name].higher_is_better else LOWER) for name in names]
    return Table([Column("run", "words"), *columns], groups, f"{_LABELS[task]}. Bold: the best run by a metric.")


def _spread(seeds: Sequence[Result], names: Sequence[str]) -> Row:
    found = mean_sd([{name: one.metrics[name] for name in names} for one in seeds])
    cells = [f"{found[name].mean:.3f} ± {found[name].sd:.3f}".replace("-", "−") for name in names]
    return [f"mean ± sd of {len(seeds)} seeds", *cells]


def emotions(results: Sequence[Result], expected_errors: Mapping[tuple[str, str], Reliability]) -> Table:
    """Lists the metrics of each emotion, a row for each run, beside the share of clips that have it.

    Args:
        results: Runs that predict emotions.
        expected_errors: (name of the run, emotion) → its reliability.
    """
    groups: dict[str, list[Row]] = {}
    for emotion in EMOTIONS:
        rows: list[Row] = []
        for result in results:
            _, truth = result.emotions()
            present = truth[:, EMOTIONS.index(emotion)]
            known = present[~np.isnan(present)]
            rate = Cell(f"{known.mean():.1%}", float(known.mean()), below=f"{int(known.sum()):,} clips") if len(known) else Cell(DASH)
            error = number(expected_errors[result.name, emotion].expected_error)
            values = [number(result.metrics.get(f"{emotion}_{name}", math.nan)) for name in EMOTION_METRICS]
            rows.append([emotion if len(results) == 1 else result.name, rate, *values, error])
        groups[emotion] = rows
    if len(results) == 1:
        groups = {"": [row for rows in groups.values() for row in rows]}
    columns = [
        Column("emotion" if len(results) == 1 else "run", "words"),
        Column("base rate"),
        *map(Column, EMOTION_METRICS),
        Column("ECE"),
    ]
    return Table(columns, groups, label="Emotions")


def strata(found: Sequence[Stratum], what: str, error: str) -> Table:
    """Lists parts of a corpus, to be sorted and searched."""
    columns = [
        Column(what, "words"),
        Column("clips"),
        Column(error),
        Column("from", over="95 % interval"),
        Column("to", over="95 % interval"),
    ]
    rows = [
        [one.name, Cell(f"{one.count:,}", one.count), number(one.mean, 3), number(one.low, 3), number(one.high, 3)] for one in found
    ]
    return Table.of(columns, rows, label=f"{error} by {what}", explored=True)


def modalities(found: Mapping[str, Sequence[Loss]], metrics: Sequence[str]) -> Table:
    """Lists metrics without each modality, a group for each run; the change is small, under the value.

    Args:
        found: Name of a run → its losses.
        metrics: Names of the metrics in the columns.
    """
    groups: dict[str, list[Row]] = {
        name if len(found) > 1 else "": [[f"{one.modality} {one.how}", *(_change(one, metric) for metric in metrics)] for one in losses]
        for name, losses in found.items()
    }
    columns = [Column("without", "words"), *(Column(name) for name in metrics)]
    caption = "Metrics without a modality, and the change with its 95 % interval. Green: worse without it; red: better, beyond chance."
    return Table(columns, groups, caption)


def _change(loss: Loss, name: str) -> Cell:
    value, change = loss.values.get(name, math.nan), loss.changes.get(name)
    if change is None or math.isnan(value):
        return Cell(DASH)
    is_sure = change.low > 0 or change.high < 0
    is_worse = (change.difference < 0) == METRICS[name].higher_is_better
    kind = ("good" if is_worse else "bad") if is_sure else ""
    below = f"{signed(change.difference, 3)} ({signed(change.low, 3)} to {signed(change.high, 3)})"
    return replace(number(value, 3), kind=kind, below=below)


def experts(found: Sequence[tuple[str, Expert]], several: bool) -> Table:
    """Lists experts by what they are specific to; those of few clips are pale.

    Args:
        found: Label of a run and an expert.
        several: Show the label.
    """
    rows: list[Row] = []
    for label, one in found:
        kind = "" if one.is_certain else "pale"
        shown = [Cell(f"{one.key} {one.number}", kind=kind), *([Cell(label, kind=kind)] if several else [])]
        first, second = (one.traits[place] if place < len(one.traits) else None for place in (0, 1))
        shown += [Cell(f"{one.utterances:.0f}", one.utterances, kind=kind), Cell(f"{one.load:.3f}", one.load, kind=kind)]
        if first is None:
            rows.append([*shown, *(Cell(DASH, kind=kind) for _ in range(5))])
            continue
        direction = "more" if first.effect > 0 else "less"
        also = f"{second.name}, {'more' if second.effect > 0 else 'less'} ({signed(second.effect, 2)})" if second else DASH
        shown += [Cell(f"{direction} {first.name}", kind=kind), Cell(signed(first.effect, 2), first.effect, kind=kind)]
        shown += [*(replace(number(value, 2), kind=kind) for value in (first.mean, first.of_all))]
        rows.append([*shown, Cell(also, kind=kind)])
    columns = [
        Column("expert", "words"),
        *([Column("run", "words", filter="choice")] if several else []),
        Column("clips"),
        Column("mean gate"),
        Column("specific to", "words", filter="choice"),
        Column("effect"),
        Column("its mean"),
        Column("of all"),
        Column("then", "words"),
    ]
    caption = f"The most specific experts first; pale where they rest on fewer than {LEAST} clips: mostly chance."
    return Table.of(columns, rows, caption, explored=True)


def clips(
    results: Sequence[Result], facts: Clips, sounds: Mapping[str, str], gates: Mapping[str, np.ndarray], order: pd.Index
) -> Table:
    """Lists utterances, to be sorted, searched and filtered.

    Args:
        results: Runs that predict the same utterances.
        facts: What the cache says about them.
        sounds: utterance_id → address for its player.
        gates: Key → (n, N) gates of one run, of the utterances in their order; none for several runs.
        order: The n utterances.
    """
    parts = [text_columns(facts, sounds, order), _sentiment(results, order), _emotions(results, order)]
    parts += [donor_columns(facts, order), origin_columns(facts, order)]
    if gates:
        chips = [_chosen(gates, place) for place in range(len(order))]
        parts.append(([Column("experts", "long", filter="choice", is_hidden=True)], [[Cell("", chips=one)] for one in chips]))
    columns = [column for part, _ in parts for column in part]
    rows = [[cell for _, cells in parts for cell in cells[place]] for place in range(len(order))]
    return Table.of(columns, rows, label="Clips", explored=True)


Part = tuple[list[Column], Sequence[Sequence[str | Cell]]]
"""Columns, and their cells for each clip."""


def text_columns(facts: Clips, sounds: Mapping[str, str], order: pd.Index) -> Part:
    """Shows the id, with a player where there is a sound, and the text."""
    columns, cells = [Column("clip", "words")], [[Cell(str(name), audio=sounds.get(str(name), ""))] for name in order]
    if not facts.has("text"):
        return columns, cells
    texts = facts.table.loc[order, "text"]
    return [*columns, Column("text", "long")], [[*cell, " ".join(str(text).split())] for cell, text in zip(cells, texts, strict=True)]


def _sentiment(results: Sequence[Result], order: pd.Index) -> Part:
    learned = [result for result in results if "msa" in result.tasks]
    if not learned:
        return [], [[] for _ in order]
    tables = [result.table.loc[order] for result in learned]
    truth = tables[0]["sentiment_true"].to_numpy(float)
    predicted = np.stack([table["sentiment"].to_numpy(float) for table in tables], axis=1)
    error = np.abs(predicted - truth[:, None]).mean(1)
    own_error = [Column("error" if len(learned) == 1 else "mean error", filter="range")], [[number(one, 2)] for one in error]
    own_values = _prediction_columns(learned), [_prediction_cells(line) for line in predicted]
    first, second = (own_values, own_error) if len(learned) == 1 else (own_error, own_values)
    true = [signed_number(one) for one in truth]
    cells = [[one, *before, *after] for one, before, after in zip(true, first[1], second[1], strict=True)]
    return [Column("true"), *first[0], *second[0]], cells


def _prediction_columns(learned: Sequence[Result]) -> list[Column]:
    if len(learned) == 1:
        return [Column("predicted")]
    if len(learned) <= FEW_RUNS:
        return [Column(result.name, over="predicted") for result in learned]
    return [Column("mean", over="predicted"), Column("sd", over="predicted")]


def _prediction_cells(values: np.ndarray) -> list[Cell]:
    if len(values) <= FEW_RUNS:
        return [signed_number(value) for value in values]
    return [signed_number(values.mean()), number(values.std(ddof=1), 2)]


def _emotions(results: Sequence[Result], order: pd.Index) -> Part:
    learned = [result for result in results if "mer" in result.tasks]
    if not learned:
        return [], [[] for _ in order]
    found = [emotions_of(result.table.loc[order]) for result in learned]
    probability, truth = np.mean([one for one, _ in found], axis=0), found[0][1]
    wrong = np.mean([(((one > 0.5) != (truth > 0)) & ~np.isnan(truth)).sum(1) for one, _ in found], axis=0)
    columns = [
        Column("emotions", "words", filter="choice"),
        Column("predicted emotions", "words", filter="choice"),
        Column("wrong emotions"),
    ]
    cells = []
    for place in range(len(order)):
        labelled = not np.isnan(truth[place]).all()
        true = tuple(Chip(name) for name, present in zip(EMOTIONS, truth[place], strict=True) if present > 0)
        given = tuple(Chip(name, f"{one:.2f}") for name, one in zip(EMOTIONS, probability[place], strict=True) if one > 0.5)
        count = Cell(f"{wrong[place]:.3g}", float(wrong[place])) if labelled else Cell(DASH)
        cells.append([Cell("none" if labelled else DASH, chips=true), Cell("none", chips=given), count])
    return columns, cells


def donor_columns(facts: Clips, order: pd.Index, is_hidden: bool = False) -> Part:
    """Shows the donor of pseudo-labels and its similarity, where the corpus has any."""
    if not facts.has("similarity"):
        return [], [[] for _ in order]
    rows = facts.table.loc[order]
    columns = [Column("donor of pseudo-labels", "long", is_hidden=is_hidden), Column("similarity", filter="range", is_hidden=is_hidden)]
    cells: list[list[str | Cell]] = []
    for text, name, corpus, similarity in zip(
        rows["donor_text"], rows["donor_id"], rows["donor_corpus"], rows["similarity"], strict=True
    ):
        whole = " ".join(str(text).split()) or DASH
        cells.append([Cell(whole, below=f"{corpus} {name}".strip()), number(similarity, 3)])
    return columns, cells


def origin_columns(facts: Clips, order: pd.Index) -> Part:
    """Shows video, speaker and length, hidden until a reader asks for them."""
    columns, kept = [], []
    for name, title, kind in (
        ("video_id", "video", "words"),
        ("speaker", "speaker", "words"),
        ("words", "words", "number"),
        ("duration_s", "seconds", "number"),
    ):
        if facts.has(name):
            is_many = kind == "words" and facts.table[name].nunique() > 60
            filtered = "" if kind == "number" or is_many else "choice"
            columns.append(Column(title, kind, filter=filtered, is_hidden=True))
            kept.append((name, kind))
    rows = facts.table.loc[order]
    values = [rows[name].tolist() for name, _ in kept]
    digits = [0 if name == "words" else 1 for name, _ in kept]
    cells: list[list[str | Cell]] = [
        [str(one) if kind == "words" else number(one, few) for one, (_, kind), few in zip(line, kept, digits, strict=True)]
        for line in (zip(*values, strict=True) if values else ([] for _ in order))
    ]
    return columns, cells


def _chosen(gates: Mapping[str, np.ndarray], place: int) -> tuple[Chip, ...]:
    """Names the strongest expert of each router for one utterance."""
    return tuple(Chip(f"{key} {values[place].argmax()}", f"{values[place].max():.2f}") for key, values in gates.items())


def number(value: float, digits: int = 4) -> Cell:
    """Makes a cell of a number; a dash where there is none."""
    return Cell(DASH) if math.isnan(value) else Cell(f"{value:,.{digits}f}".replace("-", "−"), float(value))


def signed_number(value: float) -> Cell:
    if math.isnan(value):
        return Cell(DASH)
    return Cell(signed(value, 2) if abs(value) >= 0.005 else "0.00", float(value))


def _interval(low: float, high: float) -> str:
    return DASH if math.isnan(low) or math.isnan(high) else f"{low:.4f} to {high:.4f}".replace("-", "−")
