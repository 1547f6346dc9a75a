"""Charts of pages about runs. `data.reporting.charts` gives them their look; `heads.reports.run_page` decides what they show."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from data.reporting.charts import WIDTH, Colours, on_page, tip
from data.reporting.numbers import signed
from heads.evaluation.calibration import Reliability
from heads.evaluation.confusion import Confusion
from heads.evaluation.precision_recall import PrecisionRecall
from heads.evaluation.strata import Stratum, strata

SERIES = 5
"""Number of runs or configurations that one chart can tell apart by colour."""

_DIM = 0.45
"""Largest strength of a colour behind text."""

_QUARTERS, _PERCENT = (0, 0.25, 0.5, 0.75, 1), ("0%", "25%", "50%", "75%", "100%")


class Series(NamedTuple):
    """A run in charts that several share."""

    label: str
    colour: int  # of `Colours.series`


class Course(NamedTuple):
    """The history of a run, and the epoch that was chosen."""

    series: Series
    history: pd.DataFrame
    chosen: int | None


class Span(NamedTuple):
    """A value with its interval; those with one label stand in one row."""

    label: str
    value: float
    low: float
    high: float
    tip: str
    colour: int = 0


def curve(courses: Sequence[Course], column: str, title: str) -> Markup:
    """Draws a column of histories by epoch, a line for each run; a diamond is the epoch that was chosen.

    Args:
        courses: Runs whose history has the column.
        column: Of history.csv.
        title: Title of the chart.
    """

    def draw(figure: Figure, colours: Colours) -> None:
        axes = _panel(figure, left=52)
        for course in courses:
            _course(axes, course, column, colours)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.set(title=title, xlabel="epoch")

    return on_page(draw, f"{title}, by epoch", (WIDTH, 200), layout=None, name=f"curve-{column}")


def _course(axes: Axes, course: Course, column: str, colours: Colours) -> None:
    epochs, values = course.history["epoch"], course.history[column]
    colour = colours.series[course.series.colour]
    (line,) = axes.plot(epochs, values, color=colour, linewidth=1.5, marker="o" if len(epochs) == 1 else None, alpha=0.9)
    tip(line, course.series.label)
    if course.chosen is not None and 0 < course.chosen <= len(values):
        value = float(values.iloc[course.chosen - 1])
        (point,) = axes.plot([course.chosen], [value], color=colour, marker="D", markersize=7, linewidth=0)
        tip(point, f"{course.series.label}: epoch {course.chosen} was chosen, {value:.4f}")


def predicted_and_true(prediction: np.ndarray, truth: np.ndarray, title: str, name: str) -> Markup:
    """Draws a point for each utterance, and the mean prediction at each true class with its 95 % interval.

    Args:
        prediction: (n,) sentiment.
        truth: (n,) in [-3, 3], NaN where unlabelled.
        title: Title of the chart.
        name: Start of its ids.
    """
    known = ~np.isnan(truth) & np.isfinite(prediction)
    prediction, truth = prediction[known], truth[known]
    classes = np.round(truth)
    means = strata(prediction, np.array([f"{one:g}" for one in classes], object), [f"{one:g}" for one in range(-3, 4)])
    limit = max(3.2, float(np.abs(prediction).max(initial=0)) + 0.1)

    def draw(figure: Figure, colours: Colours) -> None:
        axes = _panel(figure)
        axes.plot([-3, 3], [-3, 3], color=colours.muted, linewidth=1, linestyle="--")
        size = 12 if len(truth) < 400 else 5
        axes.scatter(truth, prediction, s=size, alpha=0.5, color=colours.series[0], linewidths=0)
        for one in means:
            place = float(one.name)
            axes.plot([place, place], [one.low, one.high], color=colours.series[1], linewidth=2.2)
            (point,) = axes.plot(place, one.mean, color=colours.series[1], marker="D", markersize=6, linewidth=0)
            tip(
                point,
                f"true {_class(place)}: mean prediction {one.mean:.2f}, 95 % {one.low:.2f} to {one.high:.2f}, {one.count:,} clips",
            )
        axes.set(xlim=(-3.2, 3.2), ylim=(-limit, limit), xlabel="true sentiment", ylabel="predicted", title=title)
        axes.set_xticks(range(-3, 4), [_class(one) for one in range(-3, 4)])

    return on_page(draw, f"Predicted and true sentiment of {len(truth)} clips, {title}", (WIDTH, 260), layout=None, name=name)


def confusion(found: Confusion, title: str, name: str) -> Markup:
    """Draws counts of true (rows) against predicted classes (columns); the stronger a cell, the larger its share of the row."""
    shares, count = found.shares(), len(found.classes)

    def draw(figure: Figure, colours: Colours) -> None:
        axes = _panel(figure, left=26 + 6 * max(map(len, found.classes)))
        for row in range(count):
            for column in range(count):
                _cell(axes, found, shares, row, column, colours)
        axes.set(xlim=(0, count), ylim=(count, 0), xlabel="predicted", ylabel="true", title=title)
        axes.set_xticks(np.arange(count) + 0.5, found.classes)
        axes.set_yticks(np.arange(count) + 0.5, found.classes)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    return on_page(draw, f"{title}: true and predicted classes", (WIDTH, 260), layout=None, name=name)


def _cell(axes: Axes, found: Confusion, shares: np.ndarray, row: int, column: int, colours: Colours) -> None:
    number, share = int(found.counts[row, column]), float(shares[row, column])
    colour = colours.series[2] if row == column else colours.accent
    strength = 0 if math.isnan(share) else _DIM * share
    cell = axes.add_patch(Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, color=colour, alpha=strength, linewidth=0))
    said = "no clip" if math.isnan(share) else f"{number:,} clips, {share:.0%} of those that are {found.classes[row]}"
    tip(cell, f"true {found.classes[row]}, predicted {found.classes[column]}: {said}")
    if number:
        axes.text(column + 0.5, row + 0.5, f"{number:,}", ha="center", va="center", fontsize=9.5, color=colours.ink)


def precision_and_recall(emotion: str, found: Sequence[tuple[Series, PrecisionRecall]]) -> Markup:
    """Draws precision against recall, a line for each run; a dot is the threshold 0.5, the dashed line the base rate."""

    def draw(figure: Figure, colours: Colours) -> None:
        axes = _panel(figure, left=52, right=20)
        for series, curve in found:
            axes.axhline(curve.base_rate, color=colours.muted, linewidth=1, linestyle="--")
            colour = colours.series[series.colour]
            (line,) = axes.step(curve.recall, curve.precision, where="post", color=colour, linewidth=1.6)
            tip(line, f"{series.label}: average precision {curve.average_precision:.3f}, base rate {curve.base_rate:.3f}")
            if curve.at_half:
                (point,) = axes.plot(*curve.at_half, color=colour, marker="o", markersize=6, linewidth=0, clip_on=False)
                tip(point, f"{series.label}, threshold 0.5: recall {curve.at_half[0]:.3f}, precision {curve.at_half[1]:.3f}")
        _shares(axes, emotion, "recall", "precision")

    return on_page(draw, f"Precision and recall of {emotion}", (WIDTH, 210), layout=None, name=f"precision-{emotion}")


def reliability(emotion: str, found: Sequence[tuple[Series, Reliability]]) -> Markup:
    """Draws how often an emotion is present by its predicted probability, and below how many clips have that probability."""

    def draw(figure: Figure, colours: Colours) -> None:
        above, below = _panel(figure, left=52, bottom=112, right=20), _panel(figure, left=52, top=182, right=20)
        above.plot([0, 1], [0, 1], color=colours.muted, linewidth=1, linestyle="--")
        for number, (series, one) in enumerate(found):
            colour = colours.series[series.colour]
            above.plot(one.predicted, one.observed, color=colour, linewidth=1.4)
            for place, share, count in zip(one.predicted, one.observed, one.counts, strict=True):
                (point,) = above.plot(place, share, color=colour, marker="o", markersize=5, linewidth=0, clip_on=False)
                tip(point, f"{series.label}: predicted {place:.2f}, present in {share:.2f} of {count:,} clips")
                width = 0.08 / len(found)
                left = min(math.ceil(place * 10) / 10, 1) - 0.1 if place else 0.0
                below.bar(max(left, 0) + 0.01 + (number + 0.5) * width, count, width, color=colour)
        _shares(above, emotion, "", "present")
        above.tick_params(labelbottom=False)
        below.set(xlim=(0, 1), xlabel="predicted probability", ylabel="clips")
        below.set_xticks(_QUARTERS, _PERCENT)
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True))

    return on_page(draw, f"Reliability of the probabilities of {emotion}", (WIDTH, 270), layout=None, name=f"reliability-{emotion}")


def means(
    found: Sequence[tuple[Series, Sequence[Stratum]]], order: Sequence[str], title: str, names: tuple[str, str], name: str, zero: bool
) -> Markup:
    """Draws the mean of each part of the clips with its 95 % interval, a column of dots for each run.

    Args:
        found: Run and its parts.
        order: Names of the parts from left to right.
        title: Title of the chart.
        names: Names of the horizontal and of the vertical axis.
        name: Start of its ids.
        zero: Draw a line at 0 instead of beginning the axis there.
    """
    places = {part: number for number, part in enumerate(order)}
    longest = max((len(part) for part in order), default=0)
    is_turned = longest * len(order) > 34
    bottom = 48 + 3.2 * longest if is_turned else 40
    left = max(46, 12 + 5 * longest - (WIDTH - 60) / 2 / max(len(order), 1)) if is_turned else 46  # the first name ends in its place

    def draw(figure: Figure, colours: Colours) -> None:
        axes = _panel(figure, left=left, bottom=bottom)
        for number, (series, parts) in enumerate(found):
            shift = 0.13 * (number - (len(found) - 1) / 2)
            for part in parts:
                place, colour = places[part.name] + shift, colours.series[series.colour]
                axes.plot([place, place], [part.low, part.high], color=colour, linewidth=1.8)
                (point,) = axes.plot(place, part.mean, color=colour, marker="o", markersize=6, linewidth=0)
                interval = f"95 % {part.low:.3f} to {part.high:.3f}"
                tip(point, f"{series.label}, {part.name}: {part.mean:.3f}, {interval}, {part.count:,} clips")
        if zero:
            axes.axhline(0, color=colours.muted, linewidth=1, linestyle="--")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xticks(range(len(order)), order, rotation=30 if is_turned else 0, ha="right" if is_turned else "center")
        axes.set(xlim=(-0.5, len(order) - 0.5), xlabel=names[0], ylabel=names[1], title=title)
        axes.grid(visible=False, axis="x")

    return on_page(draw, title, (WIDTH, 160 + bottom), layout=None, name=name)


def spans(found: Sequence[Span], label: str, axis: str, name: str) -> Markup:
    """Draws values with their intervals, those of one label in one row; a dashed line is 0, no difference."""
    rows = {one.label: [other for other in found if other.label == one.label] for one in found}
    height = 14 + 12 * max(map(len, rows.values()))
    margin = 14 + 6 * max(map(len, rows))

    def draw(figure: Figure, colours: Colours) -> None:
        axes = _panel(figure, left=margin, top=8)
        axes.axvline(0, color=colours.muted, linewidth=1, linestyle="--")
        for row, inside in enumerate(rows.values()):
            for number, one in enumerate(inside):
                place = row + 12 / height * (number - (len(inside) - 1) / 2)
                colour = colours.series[one.colour]
                axes.plot([one.low, one.high], [place, place], color=colour, linewidth=2)
                (point,) = axes.plot(one.value, place, color=colour, marker="o", markersize=7, linewidth=0)
                tip(point, one.tip)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=axis)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_yticks(range(len(rows)), list(rows))
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)

    return on_page(draw, label, (max(WIDTH, 150 + margin), 48 + height * len(rows)), layout=None, name=name)


def weights(modality: str, found: Sequence[tuple[Series, Mapping[str, float]]]) -> Markup:
    """Draws the weight of each layer of a modality, a line for each run; the dashed line is that of an even mix."""
    layers = list(found[0][1])

    def draw(figure: Figure, colours: Colours) -> None:
        axes = _panel(figure)
        axes.axhline(1 / len(layers), color=colours.muted, linewidth=1, linestyle="--")
        for series, one in found:
            values = [one.get(layer, math.nan) for layer in layers]
            axes.plot(range(len(layers)), values, color=colours.series[series.colour], linewidth=1.4)
            for place, value in enumerate(values):
                (point,) = axes.plot(place, value, color=colours.series[series.colour], marker="o", markersize=5, linewidth=0)
                tip(point, f"{series.label}, layer {layers[place]}: {value:.3f}")
        every = math.ceil(len(layers) / 9)
        axes.set_xticks(range(0, len(layers), every), layers[::every])
        axes.set_ylim(0, 1.15 * max(1 / len(layers), *(max(one.values()) for _, one in found)))
        axes.set(xlabel="layer (0: embeddings)", ylabel="weight", title=modality)

    return on_page(draw, f"Weights of the layers of {modality}", (WIDTH, 200), layout=None, name=f"layers-{modality}")


def loads(title: str, tasks: Mapping[str, Mapping[str, Any]], name: str) -> Markup:
    """Draws the mean gate of each expert, a row for each task; × is an expert that no clip selects.

    Args:
        title: Modality and block.
        tasks: Task → its part of the report of `heads.evaluation.routing.xray`.
        name: Start of its ids.
    """
    experts = max(len(part["load"]) for part in tasks.values())
    highest = max(max(part["load"]) for part in tasks.values()) or 1.0

    def draw(figure: Figure, colours: Colours) -> None:
        axes = _panel(figure, left=14 + 6 * max(map(len, tasks)))
        for row, (task, part) in enumerate(tasks.items()):
            for expert, load in enumerate(part["load"]):
                strength = load / highest
                cell = axes.add_patch(
                    Rectangle((expert + 0.04, row + 0.06), 0.92, 0.88, color=colours.accent, alpha=strength, linewidth=0)
                )
                tip(
                    cell, f"{title}, {task}, expert {expert}: mean gate {load:.3f}, selected by {part['selected'][expert]:.0%} of clips"
                )
                if expert in part["dead"]:
                    axes.text(expert + 0.5, row + 0.5, "×", ha="center", va="center", color=colours.muted)
        axes.set(xlim=(0, experts), ylim=(len(tasks), 0), xlabel="expert", title=title)
        every = math.ceil(experts / 10)
        axes.set_xticks(np.arange(0, experts, every) + 0.5, [str(number) for number in range(0, experts, every)])
        axes.set_yticks(np.arange(len(tasks)) + 0.5, list(tasks))
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    return on_page(draw, f"Mean gates of the experts of {title}", (WIDTH, 66 + 30 * len(tasks)), layout=None, name=name)


def _panel(figure: Figure, left: float = 46, bottom: float = 40, top: float = 24, right: float = 12) -> Axes:
    """Adds axes with margins in CSS pixels. The layout engine of matplotlib would take as long as the rest of the chart."""
    width, height = 72 * figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height))


def difference(value: float, low: float, high: float, digits: int = 3) -> str:
    """Writes a difference with its interval."""
    return f"{signed(value, digits)} ({signed(low, digits)} to {signed(high, digits)})"


def _shares(axes: Axes, title: str, horizontal: str, vertical: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), title=title, xlabel=horizontal, ylabel=vertical)
    axes.set_xticks(_QUARTERS, _PERCENT)
    axes.set_yticks(_QUARTERS, _PERCENT)


def _class(value: float) -> str:
    return signed(value, 0) if value else "0"
