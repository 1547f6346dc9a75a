"""The sections of the page of runs. A section without content is empty.

Charts are in `heads.reports.plots`, tables in `heads.reports.tables`, computations in `heads.evaluation`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from data.labels import EMOTIONS
from data.reporting import page
from data.reporting.numbers import DASH
from data.reporting.tables import Cell, Column, Table
from heads.evaluation import confusion
from heads.evaluation.calibration import bias, reliability
from heads.evaluation.metrics import METRICS
from heads.evaluation.modalities import Loss
from heads.evaluation.precision_recall import precision_recall
from heads.evaluation.routing import groups
from heads.evaluation.specificity import Expert, experts
from heads.evaluation.strata import parts, strata
from heads.reports import plots, tables
from heads.reports.clips import Clips, traits
from heads.reports.content import Content
from heads.reports.plots import SERIES, Course, Series, Span
from heads.reports.results import Result, main_metric

_ERRORS = {"msa": "absolute error of sentiment", "mer": "share of emotions decided wrongly"}
_ADDED = {"msa": ("mae", "corr", "acc2_non0", "acc7"), "mer": ("mean_acc", "mean_wf1", "mean_ap")}
"""Metrics that show what a modality adds."""

_FEW_SPEAKERS = 8
"""So many parts without an order stand in a chart; more are in a table."""


def metrics(content: Content) -> Markup:
    """Shows the metrics with their intervals, or those of several runs side by side."""
    if len(content.results) == 1:
        text = (
            "The interval is where the metric would fall for other clips of the same kind, in 95 of 100 draws (bootstrap over clips);"
            " it says nothing about other seeds."
        )
        return page.paragraph(text, "note") + page.table(tables.metrics_of_one(content.results[0]))
    text = "The standard deviation is that of seeds of one configuration. To test a difference: python -m heads compare."
    return page.paragraph(text, "note") + _joined(
        page.table(tables.metrics_of_several(content.results, task)) for task in content.tasks
    )


def curves(content: Content) -> Markup:
    """Shows losses and main metrics by epoch, with the epoch that was kept."""
    configurations = list(dict.fromkeys(result.configuration for result in content.results))
    courses = []
    for number, result in enumerate(content.results):
        colour, label = number, result.name
        if len(content.results) > SERIES:
            colour, label = configurations.index(result.configuration), result.name.rpartition(", seed")[0] or "all seeds"
        if colour < SERIES and result.history is not None:
            courses.append(Course(Series(label, colour), result.history, result.chosen[0] if result.chosen else None))
    if not courses:
        return Markup()
    columns = {"train_loss": "training loss", "valid_loss": "validation loss"}
    for task in content.tasks:
        metric = main_metric([task])
        columns[f"valid_{metric}"] = f"validation {metric}, {METRICS[metric].direction} is better"
    figures = []
    for column, title in columns.items():
        if shown := [course for course in courses if column in course.history]:
            figures.append(plots.curve(shown, column, title))
    caption = (
        "One line a run; a diamond marks the epoch whose parameters were kept. Good: validation follows training and levels off. A"
        " validation loss that rises while the training loss falls is overfitting; a diamond at the last epoch asks for more epochs."
    )
    return _charts(figures, caption, [course.series for course in courses])


def sentiment(content: Content) -> Markup:
    """Shows predicted against true sentiment, and the confusion of classes and of polarity."""
    learned = content.learned("msa")
    if not learned:
        return Markup()
    figures = []
    for series, result in learned:
        prediction, truth = result.sentiment()
        before = "" if len(learned) == 1 else f"{series.label}: "
        figures += [
            plots.predicted_and_true(prediction, truth, f"{before}each clip", f"predicted-{series.colour}"),
            plots.confusion(confusion.of_classes(prediction, truth), f"{before}seven classes", f"acc7-{series.colour}"),
            plots.confusion(confusion.of_polarity(prediction, truth), f"{before}polarity", f"polarity-{series.colour}"),
        ]
    points = (
        "Each clip: a point is a clip, a diamond the mean prediction at a true class, its bar the 95 % interval. Good: diamonds on the"
        " dashed line. A flat row of diamonds means that predictions hardly depend on the truth."
    )
    classes = (
        "Confusion: rows are true classes, columns predicted ones; numbers are clips, and a cell is the stronger the larger its share"
        " of the row. Good: all on the green diagonal, whose share of the clips is acc7. Polarity is the sign, neutral exactly 0, which"
        " a head hardly ever predicts."
    )
    return _charts(figures, points) + page.paragraph(classes, "note")


def emotions(content: Content) -> Markup:
    """Shows precision and recall of each emotion, and its metrics beside those of never predicting it."""
    learned = content.learned("mer")
    if not learned:
        return Markup()
    figures = []
    for number, emotion in enumerate(EMOTIONS):
        found = []
        for series, result in learned:
            probability, truth = result.emotions()
            if curve := precision_recall(probability[:, number], truth[:, number]):
                found.append((series, curve))
        if found:
            figures.append(plots.precision_and_recall(emotion, found))
    everyone = [result for result in content.results if "mer" in result.tasks]
    errors = {}
    for result in everyone:
        probability, truth = result.emotions()
        for number, emotion in enumerate(EMOTIONS):
            errors[result.name, emotion] = reliability(probability[:, number], truth[:, number])
    caption = (
        "Lowering the threshold finds more of the clips that have the emotion (recall) at the price of more false alarms (precision)."
        " A dot is the threshold 0.5. Good: a line far above the dashed base rate, which is what guessing gives. Without a dot, the"
        " emotion is never predicted at 0.5."
    )
    columns = (
        "Base rate: share of clips that have the emotion. never_acc and never_wf1: what never predicting it gives, to be beaten. ECE:"
        " expected calibration error, 0 at best."
    )
    text = _charts(figures, caption, [series for series, _ in learned]) if figures else Markup()
    return text + page.table(tables.emotions(everyone, errors)) + page.paragraph(columns, "note")


def calibration(content: Content) -> Markup:
    """Shows whether probabilities come true as often as they say, and whether sentiment is too high or too low."""
    text = Markup()
    if emotional := content.learned("mer"):
        figures = []
        for number, emotion in enumerate(EMOTIONS):
            found = []
            for series, result in emotional:
                probability, truth = result.emotions()
                one = reliability(probability[:, number], truth[:, number])
                if len(one.counts):
                    found.append((series, one))
            if found:
                figures.append(plots.reliability(emotion, found))
        caption = (
            "How often an emotion is present (dots) among the clips that were given a probability, in steps of 10 %; below, how many"
            " clips those are. Good: dots on the dashed line; below it, probabilities are too high. Dots of few clips say little."
        )
        text += _charts(figures, caption, [series for series, _ in emotional])
    if sentimental := content.learned("msa"):
        found = [(series, bias(*result.sentiment())) for series, result in sentimental]
        order = ["−3", "−2", "−1", "0", "+1", "+2", "+3"]
        order = [name for name in order if any(one.name == name for _, parts_of in found for one in parts_of)]
        chart = plots.means(
            found, order, "Mean error by predicted sentiment", ("predicted, rounded", "prediction − truth"), "bias", zero=True
        )
        caption = (
            "Mean of prediction minus truth, with its 95 % interval, among the clips with a predicted class. Good: on the dashed line;"
            " above it, such predictions are too high."
        )
        text += page.charts([page.figure(chart, caption)])
    return text


def clips(content: Content, order: pd.Index, sounds: Mapping[str, str], said: str) -> Markup:
    """Lists all clips; `sounds` are the addresses of their players, `said` a sentence about them."""
    probe = content.probes.get(content.results[0].name) if len(content.results) == 1 else None
    gates = probe.of(order) if probe else {}
    first = (
        "The largest errors first"
        if "msa" in content.tasks
        else "The clips with most wrong emotions first, confident mistakes before others"
    )
    more = " Chips of experts name a router and its strongest expert, with its gate." if gates else ""
    text = f"{first}. The heading of a column sorts by it; “Columns” shows more, such as video, length and experts.{more}"
    shown = page.table(tables.clips(content.results, content.facts, sounds, gates, order))
    return page.paragraph(text, "note") + (page.paragraph(said, "note") if said else Markup()) + shown


def errors(content: Content, order: pd.Index) -> Markup:
    """Shows the mean error by length, similarity of the donor, speaker and video."""
    facts, figures = content.facts.table.loc[order], []
    for task in content.tasks:
        for title, names, ordered in _cuts(content.facts, facts):
            found = []
            for series, result in content.learned(task):
                found.append((series, strata(result.errors(task).loc[order].to_numpy(), names, ordered)))
            ordered = [name for name in ordered if any(one.name == name for _, some in found for one in some)]
            if len(ordered) > 1:
                label = f"{'Sentiment' if task == 'msa' else 'Emotions'} by {title}"
                name = f"error-{task}-{title.replace(' ', '-')}"
                figures.append(plots.means(found, ordered, label, (title, "error"), name, zero=False))
    text = Markup()
    if figures:
        errors = " and ".join(_ERRORS[task] for task in content.tasks)
        caption = (
            f"Mean error ({errors}) of about equally many clips in each part, with its 95 % interval. Good: low and level. Parts whose"
            " intervals overlap may differ by chance."
        )
        text += _charts(figures, caption, [series for series, _ in content.shown])
    return text + _tables_of_parts(content, order)


def _cuts(known: Clips, facts: pd.DataFrame) -> Iterator[tuple[str, np.ndarray, list[str]]]:
    """Yields cuts of the clips into few parts: title, (n,) name of the part of each, names in order."""
    for column, title, digits in (("words", "words", 0), ("duration_s", "seconds", 1), ("similarity", "similarity of the donor", 2)):
        if known.has(column):
            yield title, *parts(facts[column].to_numpy(float), "", digits)
    names = sorted(set(facts["speaker"]) - {""})
    if 1 < len(names) <= _FEW_SPEAKERS:
        yield "speaker", facts["speaker"].to_numpy(object), names


def _tables_of_parts(content: Content, order: pd.Index) -> Markup:
    """Lists videos, and speakers if they are many, by the mean error over all runs."""
    task, facts, text = content.tasks[0], content.facts.table.loc[order], Markup()
    errors = pd.concat([result.errors(task).loc[order] for result in content.results if task in result.tasks], axis=1).mean(axis=1)
    for column, title in (("video_id", "video"), ("speaker", "speaker")):
        if facts[column].nunique() > (1 if column == "video_id" else _FEW_SPEAKERS):
            found = strata(errors.to_numpy(), facts[column].to_numpy(object))
            text += Markup("<h3>By {}</h3>").format(title) + page.table(tables.strata(found, title, _ERRORS[task]))
    return text


def modalities(content: Content) -> Markup:
    """Shows what the runs lose without each modality."""
    asked = {result.name: probe.losses for result in content.results if (probe := content.probes.get(result.name)) and probe.losses}
    if not asked:
        return Markup()
    shown, figures = [series for series, result in content.shown if result.name in asked], []
    for task in content.tasks:
        metric = main_metric([task])
        if rows := [row for series in shown for row in _costs(series, asked[series.label], metric)]:
            label = f"What {metric} loses without a modality"
            figures.append(plots.spans(rows, label, f"{metric} without it: worse →", f"loss-{metric}"))
    names = [name for task in content.tasks for name in _ADDED[task]]
    caption = (
        "The finished run predicts again, its head untouched, with the features of one modality set to zero, or exchanged among the"
        " clips of the split (shuffled, which keeps their distribution and is the fairer question). To the right of the dashed line the"
        " run is worse without the modality, so it uses it; on the line it does not; to the left it would do better without. The bar is"
        " the 95 % interval over clips."
    )
    return _charts(figures, caption, shown) + page.table(tables.modalities(asked, names))


def _costs(series: Series, losses: Sequence[Loss], metric: str) -> list[Span]:
    """Lists what a metric of one run loses without each modality, above 0 where the run is worse without it."""
    sign, rows = -1 if METRICS[metric].higher_is_better else 1, []
    for loss in losses:
        if change := loss.changes.get(metric):
            low, high = sorted((sign * change.low, sign * change.high))
            name = f"{loss.modality} {loss.how}"
            tip = f"{series.label}, {name}: {metric} {loss.values[metric]:.3f}, {plots.difference(*change[:3])}"
            rows.append(Span(name, sign * change.difference, low, high, tip, series.colour))
    return rows


def layers(content: Content) -> Markup:
    """Shows weights of mixed layers, and the layers that simple baselines chose."""
    text, figures = Markup(), []
    mixed = [(series, result.facts["layer_weights"]) for series, result in content.shown if result.facts.get("layer_weights")]
    for modality in dict.fromkeys(name for _, weights in mixed for name in weights):
        found = [(series, weights[modality]) for series, weights in mixed if modality in weights]
        layers = list(found[0][1])
        figures.append(plots.weights(modality, [one for one in found if list(one[1]) == layers]))
    if figures:
        caption = (
            "Weight of each layer in the learned mix. Even weights (dashed) mean that the head found no layer better than another; a"
            " peak names the layer that it reads."
        )
        text += _charts(figures, caption, [series for series, _ in mixed])
    rows = []
    for result in content.results:
        for target, setting in result.facts.get("chosen", {}).items():
            if picked := {name: number for name, number in setting.items() if name.endswith("_layer")}:
                said = ", ".join(f"{name.removesuffix('_layer')} {number:g}" for name, number in picked.items())
                rows.append([result.name, target, said])
    if rows:
        columns = [Column("run", "words"), Column("target", "words"), Column("layers", "words")]
        text += page.table(Table.of(columns, rows, "Layers that the simple baseline chose on the validation split, for each target"))
    return text


def routing(content: Content) -> Markup:
    """Shows the load of experts, and what their clips have in common."""
    suffix = "" if content.results[0].split == "valid" else f"-{content.results[0].split}"
    reports = [(series, report) for series, result in content.shown if (report := result.folder.routing(f"xray{suffix}"))]
    if not reports:
        return Markup()
    figures = []
    for series, report in reports:
        for group, keys in groups(report["experts"]).items():
            title = group if len(content.results) == 1 else f"{series.label}: {group}"
            told = {key.rpartition("/")[2]: report["experts"][key] for key in keys}
            figures.append(plots.loads(title, told, f"loads-{series.colour}-{group}"))
    caption = (
        "Mean gate of each expert, for each task: the stronger, the more it is used; × is an expert that no clip selects. Good: many"
        " experts used. Tasks with the same experts share; different ones mean that tasks go apart."
    )
    text = _charts(figures, caption)
    found = [(result.name, one) for result in content.results for one in _experts(content, result)]
    if not found:
        return text
    found.sort(key=lambda pair: (not pair[1].is_certain, -abs(pair[1].traits[0].effect) if pair[1].traits else 0))
    said = (
        "What distinguishes the clips of an expert, each weighted by its gate, from all clips: the trait with the largest effect, the"
        " difference of means in standard deviations (0.2 is small, 0.8 large). Clips: their effective number under these weights."
        " Traits are the true sentiment, the presence of each emotion, and the number of words."
    )
    shown = page.table(tables.experts(found, len(content.results) > 1))
    return text + Markup("<h3>What experts are specific to</h3>") + page.paragraph(said, "note") + shown


def _experts(content: Content, result: Result) -> list[Expert]:
    probe = content.probes.get(result.name)
    if probe is None or not probe.gates:
        return []
    emotions: dict[str, np.ndarray] = {}
    if "mer" in result.tasks:
        emotions = dict(zip(EMOTIONS, result.emotions()[1].T, strict=True))
    return experts(probe.of(result.table.index), traits(content.facts, result.table, emotions))


def runs(content: Content) -> Markup:
    """Lists the configurations."""
    columns = ["run", "head", "task", "preset", "seed", "parameters", "epochs", "device"]
    rows = []
    for result in content.results:
        config, made = result.content["config"], result.content["made"]
        facts = [f"{result.facts[name]:,}" if name in result.facts else DASH for name in ("parameters", "epochs")]
        known = [config["head"], str(config.get("task", DASH)), str(config.get("preset", DASH)), str(config.get("seed", DASH)), *facts]
        rows.append([Cell(result.name, below=result.folder.path.resolve().name), *known, str(made.get("device", DASH))])
    kinds = ["words"] * 4 + ["number"] * 3 + ["words"]
    listings = [
        page.listing(json.dumps(result.content, indent=2, ensure_ascii=False), f"config.json of {result.name}")
        for result in content.results
    ]
    return page.table(Table.of(list(map(Column, columns, kinds)), rows, label="Runs")) + _joined(listings)


def _charts(svgs: Sequence[Markup], caption: str, shown: Sequence[Series] = ()) -> Markup:
    """Puts charts side by side, below the names of their colours if they show several runs, and above a sentence about all of them."""
    names = {series.colour: series.label for series in reversed(shown)}
    entries = [Markup('<li><i class="s{}"></i>{}</li>').format(colour, names[colour]) for colour in sorted(names)]
    legend = Markup('<ul class="legend">{}</ul>').format(_joined(entries)) if len(shown) > 1 else Markup()
    return legend + page.charts([page.figure(svg) for svg in svgs]) + page.paragraph(caption, "note")


def _joined(parts_of_page: Iterable[Markup]) -> Markup:
    return Markup("").join(parts_of_page)
