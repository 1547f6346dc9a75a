"""The page of one run, or of several side by side. It needs no network; its sections are in `heads.reports.sections`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from data import tuning
from data.atomic import atomic_path
from data.packages import installed_version
from data.reporting import page
from data.reporting.numbers import DASH
from data.reporting.page import Section, Tile
from data.reporting.tables import Cell
from heads.evaluation.metrics import metric_named
from heads.reports import sections
from heads.reports.content import Content, Media
from heads.reports.plots import SERIES
from heads.reports.results import Result, main_metric

_SPLITS = {
    "valid": "All figures are of the validation split, which chose the epoch: they are optimistic. The test split was not read for this"
    " page.",
    "test": "All figures are of the test split, except the learning curves. It was opened: {}.",
}


def page_name(split: str) -> str:
    """Returns the name of the page in a run folder."""
    return "report.html" if split == "valid" else f"report-{split}.html"


def write_page(content: Content, out: Path, media: Media) -> str:
    """Writes the page and returns a sentence on its players; "" if nobody asked for them."""
    order = content.order
    sounds = content.facts.players(list(order), media.source, out.parent, media.limit_bytes)
    result, several = content.results[0], len(content.results) > 1
    title = f"{len(content.results)} runs on {result.corpus}" if several else result.folder.path.resolve().name
    text = page.render_page(
        "Run report",
        title,
        _tiles(content),
        _sections(content, order, sounds.addresses, sounds.note),
        _notes(content, order),
        warning="Before you use these figures",
        maker=f"python -m heads report, version {installed_version('mmolre') or 'not installed'}",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return sounds.note


def _sections(content: Content, order: pd.Index, sounds: Mapping[str, str], said: str) -> list[Section]:
    made: list[tuple[str, str, str, Markup]] = [
        ("metrics", "Metrics", "", sections.metrics(content)),
        ("curves", "Learning curves", "", sections.curves(content)),
        ("sentiment", "Predicted and true sentiment", "Sentiment", sections.sentiment(content)),
        ("emotions", "Emotions: precision and recall", "Emotions", sections.emotions(content)),
        ("calibration", "Calibration", "", sections.calibration(content)),
        ("clips", "Clips", "", sections.clips(content, order, sounds, said)),
        ("errors", "Errors by part of the corpus", "Errors", sections.errors(content, order)),
        ("modalities", "What each modality adds", "Modalities", sections.modalities(content)),
        ("layers", "Layers of the encoders", "Layers", sections.layers(content)),
        ("routing", "Experts", "", sections.routing(content)),
        ("runs", "Runs and their configurations", "Runs", sections.runs(content)),
    ]
    return [Section(name, title, text, nav) for name, title, nav, text in made if text]


def _tiles(content: Content) -> list[Tile]:
    first = content.results[0]
    tiles = [*(_headline(content.results, task) for task in content.tasks), Tile(f"clips of {first.split}", f"{len(first.table):,}")]
    if len(content.results) > 1:
        return [*tiles, Tile("runs", f"{len(content.results):,}")]
    if first.chosen:
        tiles.append(Tile(f"chosen epoch, by {first.chosen[1]}", f"{first.chosen[0]:,} of {first.facts.get('epochs', DASH)}"))
    if "parameters" in first.facts:
        tiles.append(Tile("parameters", f"{first.facts['parameters']:,}"))
    return tiles


def _headline(results: Sequence[Result], task: str) -> Tile:
    """Shows the main metric of a task, of the best run by it."""
    metric = main_metric(task, results[0].labels)
    sign, direction = (1 if metric_named(metric).higher_is_better else -1), metric_named(metric).direction
    known = [result for result in results if not math.isnan(result.metric(metric))]
    if not known:
        return Tile(metric, DASH)
    best = max(known, key=lambda result: sign * result.metric(metric))
    low, high = best.interval(metric)
    label = f"{metric}, {direction} is better" if len(results) == 1 else f"{metric} of the best run, {best.name}"
    return Tile(label, Cell(f"{best.metric(metric):.4f}", below="" if math.isnan(low) else f"{low:.3f} to {high:.3f}"))


def _notes(content: Content, order: pd.Index) -> list[str]:
    first = content.results[0]
    encoders = list(dict.fromkeys(name for result in content.results for name in result.encoders))
    notes = [tuning.note(encoders)] if encoders else []
    times = [f"{result.name}: {', '.join(result.opened) or 'opened.csv is missing'}" for result in content.results]
    notes.append(_SPLITS[first.split].format("; ".join(times)))
    sources = {result.content["config"]["data"].get("emotions") for result in content.results if "mer" in result.tasks}
    if "pseudo" in sources:
        notes.append("True emotions are pseudo-labels: those of a similar sentence of another corpus, not of this clip.")
    if len(sources) > 1:
        notes.append("The runs have different sources of emotions. The table of clips shows the labels of the first one.")
    if len(order) < max(len(result.table) for result in content.results):
        notes.append(f"The runs predict different clips; the table of clips shows the {len(order):,} that all predict.")
    if len(content.results) > SERIES:
        notes.append(f"Charts other than learning curves show the first {SERIES} of {len(content.results)} runs; tables show all.")
    return [*notes, *content.notes]
