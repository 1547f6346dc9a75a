"""Charts of a sweep: effects of options, parallel coordinates, the metric against costs, learning curves. `data.reporting.charts` gives
them their look.

`heads.sweeps.results.report` decides which trials are shown.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from data.reporting.charts import WIDTH, Colours, on_page, tip, tips

_WORST_TO_BEST = LinearSegmentedColormap.from_list("worst to best", ["#8791a0", "#2f7fc8", "#d9481f"])
"""Colours that can be told from the ground of a page in light and in dark."""

_BELOW = -0.14
"""Height at which a line of parallel coordinates passes an option that does nothing."""

FEW = 8
"""Up to so many values of an option stand side by side; more are an axis of numbers."""

CURVES = 5
"""Number of configurations whose learning curves fit into one chart: one for each colour."""


class Scale(NamedTuple):
    """Places of values on an axis."""

    places: np.ndarray  # (n,) float64
    ticks: Sequence[float]
    labels: Sequence[str]
    groups: np.ndarray  # (n,) int64: trials of one group have one mean
    ordered: bool = True  # one value comes before another


def scale(values: pd.Series) -> Scale:
    """Places numbers over two decades or more on a logarithmic axis, many other numbers on a linear one, all else side by side.

    Args:
        values: (n,) values of one option; a missing value is "none".
    """
    distinct = values.dropna().unique()
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values) or values.isna().any():
        return _side_by_side(values)
    if distinct.min() > 0 and distinct.max() / distinct.min() >= 100:
        return _logarithmic(values.to_numpy(float))
    return _side_by_side(values) if len(distinct) <= FEW else _linear(values.to_numpy(float))


def words(value: Any) -> str:
    """Formats a value of an option as a reader writes it."""
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return "none"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, float, np.number)):
        return f"{value:.4g}" if abs(value) < 1e4 and value != int(value) else f"{value:g}"
    text = str(value)
    return f"[{', '.join(map(words, json.loads(text)))}]" if text.startswith("[") else text


def effect(name: str, values: pd.Series, scores: pd.Series, metric: str, labels: Sequence[str], ids: str = "") -> Markup:
    """Draws a point for each trial, and the mean at each value (or group of near values), joined where values have an order.

    Args:
        name: Name of the option.
        values: (n,) values of the option.
        scores: (n,) values of the metric. Outliers stand at the edge, as triangles, and count for no mean.
        metric: Name of the metric.
        labels: (n,) names of the trials, for their tooltips.
        ids: Start of all ids in the chart.
    """
    said = [f"{label}: {name} {words(value)}, {metric} {score:.4f}" for label, value, score in zip(labels, values, scores, strict=True)]
    axis, scored = scale(values), scores.to_numpy(float)
    low, high = _limits(scored)
    shown, beyond = np.clip(scored, low, high), (scored < low) | (scored > high)
    spread = np.random.default_rng(0).uniform(-1, 1, len(scored)) * 0.012 * (np.ptp(axis.ticks) or 1)

    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.subplots()
        for rows, marker in ((~beyond, "o"), (beyond, "^")):
            if rows.any():
                look: dict[str, Any] = {"s": 22, "marker": marker, "alpha": 0.6, "color": colours.accent, "linewidths": 0}
                tips(axes.scatter((axis.places + spread)[rows], shown[rows], **look), np.array(said)[rows].tolist())
        of_groups = [(axis.groups == one) & ~beyond for one in np.unique(axis.groups[~beyond])]
        means = [(axis.places[rows].mean(), scored[rows].mean()) for rows in of_groups]
        axes.plot(*zip(*means, strict=True), color=colours.series[1], marker="D", markersize=5, linewidth=1.6 if axis.ordered else 0)
        _ticks(axes, axis)
        axes.set(xlabel=name, ylabel=metric)

    return on_page(draw, f"{metric} by {name}, {len(scored)} trials", (WIDTH, 200), name=f"{ids}effect-{name}")


def coordinates(
    options: pd.DataFrame,
    applies: pd.DataFrame,
    scores: pd.Series,
    metric: str,
    higher_is_better: bool,
    labels: Sequence[str],
    ids: str = "",
) -> Markup:
    """Draws parallel coordinates: a line for each configuration through its options to its metric, coloured from worst to best.

    Args:
        options: (n, options), the best configuration first.
        applies: (n, options) bool; a line passes below the axis of an option that does nothing in its configuration.
        scores: (n,) values of the metric. Outliers stand at the edge.
        metric: Name of the metric.
        higher_is_better: Direction of the metric.
        labels: (n,) names of the configurations, for their tooltips.
        ids: Start of all ids in the chart.
    """
    said = [f"{label}: {metric} {score:.4f}" for label, score in zip(labels, scores, strict=True)]
    shown = np.clip(scores.to_numpy(float), *_limits(scores.to_numpy(float)))
    scales = [*(scale(options[name][applies[name]]) for name in options), _linear(shown)]
    columns = np.full((len(scores), len(scales)), _BELOW)
    for number, (one, rows) in enumerate(zip(scales, [*applies.to_numpy(bool).T, slice(None)], strict=True)):
        columns[rows, number] = _between_0_and_1(one, one.places)
    apart = np.linspace(0.012, -0.012, len(scores))[:, None] * [*[1] * len(options.columns), 0]  # so that equal courses are seen

    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.subplots()
        lines = _lines(columns + apart)
        tips(lines, said[::-1], "configurations")
        axes.add_collection(lines)
        for place, one in enumerate(scales):
            _upright(axes, place, one, bool((columns[:, place] == _BELOW).any()), colours)
        names = [*options, f"{metric} ({'higher' if higher_is_better else 'lower'} is better)"]
        axes.set_xticks(range(len(scales)), names, color=colours.ink)
        axes.set(xlim=(-0.3, len(scales) - 0.55), ylim=(columns.min() - 0.06, 1.06), yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    label = f"Options and {metric} of {len(scores)} configurations"
    return on_page(draw, label, (max(900, 150 * len(scales)), 320), name=f"{ids}coordinates")


def costs(
    name: str, values: pd.Series, scores: pd.Series, metric: str, higher_is_better: bool, labels: Sequence[str], ids: str = ""
) -> Markup:
    """Draws a point for each configuration at its cost and its metric, and joins those than which none is both cheaper and better.

    Args:
        name: Name of the cost.
        values: (n,) costs, positive numbers.
        scores: (n,) values of the metric. Outliers stand at the edge, as triangles.
        metric: Name of the metric.
        higher_is_better: Direction of the metric.
        labels: (n,) names of the configurations, for their tooltips.
        ids: Start of all ids in the chart.
    """
    cost, scored = values.to_numpy(float), scores.to_numpy(float)
    low, high = _limits(scored)
    shown, beyond = np.clip(scored, low, high), (scored < low) | (scored > high)
    said = np.array([f"{label}: {metric} {y:.4f}, {amount(x)} {name}" for label, x, y in zip(labels, cost, scored, strict=True)])
    front = pareto(cost, scored, higher_is_better)

    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.subplots()
        axes.plot(cost[front], shown[front], color=colours.series[1], linewidth=1.4, marker="D", markersize=8, zorder=1)
        for rows, marker in ((~beyond, "o"), (beyond, "^")):
            if rows.any():
                points = axes.scatter(cost[rows], shown[rows], s=26, marker=marker, alpha=0.75, color=colours.accent, linewidths=0)
                tips(points, said[rows].tolist())
        if cost.max() / cost.min() >= 10:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if cost.max() / cost.min() < 200 else (1,), numticks=8))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set(xlabel=name, ylabel=metric)

    return on_page(draw, f"{metric} by {name}, {len(scored)} configurations", (WIDTH, 220), name=f"{ids}costs-{name}")


def amount(cost: float) -> str:
    """Formats a cost: whole numbers in full, others with four digits."""
    return f"{cost:,.0f}" if cost == int(cost) else f"{cost:,.4g}"


def pareto(cost: np.ndarray, scores: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """Finds the points than which none is both cheaper and better.

    Args:
        cost: (n,) costs.
        scores: (n,) values of a metric.
        higher_is_better: Direction of the metric.

    Returns:
        (m,) int64 places of the points, the cheapest first.
    """
    signed = scores if higher_is_better else -scores
    order = np.lexsort((-signed, cost))
    best = np.maximum.accumulate(signed[order])
    return order[np.concatenate([[True], best[1:] > best[:-1]])]


def curves(histories: Mapping[str, Sequence[pd.DataFrame]], metric: str, ids: str = "") -> Markup:
    """Draws training loss and a validation metric by epoch: a colour for each configuration, a line for each seed.

    Args:
        histories: Label → history.csv of each seed; `CURVES` labels at most.
        metric: Name of the metric.
        ids: Start of all ids in the chart.
    """
    shown = {"train_loss": "training loss", f"valid_{metric}": f"validation {metric}"}

    def draw(figure: Figure, colours: Colours) -> None:
        panels = figure.subplots(1, 2)
        for axes, (column, title) in zip(panels, shown.items(), strict=True):
            for colour, (label, seeds) in zip(colours.series[:CURVES], histories.items(), strict=False):
                for number, history in enumerate(seeds):
                    look: dict[str, Any] = {"color": colour, "linewidth": 1.4, "alpha": 0.85, "marker": "o", "markersize": 3}
                    (line,) = axes.plot(history["epoch"], history[column], label="" if number else label, **look)
                    tip(line, label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set(title=title, xlabel="epoch")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=1, alignment="left")

    label = f"Learning curves of {len(histories)} configurations"
    return on_page(draw, label, (900, 260 + 17 * len(histories)), name=f"{ids}curves")


def _side_by_side(values: pd.Series) -> Scale:
    numbers = pd.api.types.is_numeric_dtype(values)
    known = sorted(values.dropna().unique(), key=None if numbers else words)
    labels = [*map(words, known), *(["none"] if values.isna().any() else [])]
    places = values.map(words).map({label: place for place, label in enumerate(labels)}).to_numpy(float)
    return Scale(places, range(len(labels)), labels, places.astype(int), bool(numbers))


def _logarithmic(values: np.ndarray) -> Scale:
    distinct, places = np.unique(values), np.log10(values)
    if len(distinct) <= FEW:
        return Scale(places, np.log10(distinct).tolist(), [words(value) for value in distinct], np.searchsorted(distinct, values))
    powers = np.arange(np.floor(places.min()), np.ceil(places.max()) + 1)
    return Scale(places, powers.tolist(), [f"{10.0**power:g}" for power in powers], _parts(places))


def _linear(values: np.ndarray) -> Scale:
    known = values[np.isfinite(values)]
    ticks = MaxNLocator(5).tick_values(known.min(), known.max())
    return Scale(values, list(ticks), [f"{tick:.4g}" for tick in ticks], _parts(values))


def _parts(values: np.ndarray) -> np.ndarray:
    """(n,) number of the part that holds each value, of up to six parts with equally many trials."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 7)[1:-1]))
    return np.searchsorted(edges, values)


def _limits(scores: np.ndarray) -> tuple[float, float]:
    """Finds limits: three quartile ranges around the middle half, or the extremes if they are nearer."""
    first, third = np.quantile(scores, [0.25, 0.75])
    far = 3 * (third - first) or np.inf
    return max(scores.min(), first - far), min(scores.max(), third + far)


def _between_0_and_1(one: Scale, places: Any) -> np.ndarray:
    low, high = min(one.ticks), max(one.ticks)
    return (np.asarray(places, float) - low) / (high - low) if high > low else np.full(np.shape(places), 0.5)


def _ticks(axes: Axes, one: Scale) -> None:
    turned = sum(map(len, one.labels)) > 45
    axes.set_xticks(one.ticks, one.labels, rotation=30 if turned else 0, ha="right" if turned else "center")
    margin = 0.08 * (np.ptp(one.ticks) or 1)
    axes.set_xlim(min(one.ticks) - margin, max(one.ticks) + margin)


def _lines(columns: np.ndarray) -> LineCollection:
    """Makes one line for each row; the first, the best, is on top and thick."""
    count = len(columns)
    lines = LineCollection([np.column_stack([np.arange(len(row)), row]) for row in columns[::-1]], cmap=_WORST_TO_BEST, alpha=0.85)
    lines.set_array(np.arange(1, count + 1) / count)
    lines.set_norm(Normalize(0, 1))
    lines.set_linewidth([1.2] * (count - 1) + [3.0])
    return lines


def _upright(axes: Axes, place: float, one: Scale, has_below: bool, colours: Colours) -> None:
    axes.plot([place, place], [0, 1], color=colours.muted, linewidth=0.8, zorder=1)
    if has_below:
        axes.text(place + 0.05, _BELOW, "–", fontsize=9.5, va="center", color=colours.muted)
    for height, label in zip(_between_0_and_1(one, one.ticks), one.labels, strict=True):
        axes.plot([place, place + 0.03], [height, height], color=colours.muted, linewidth=0.8, zorder=1)
        axes.text(place + 0.05, height, label, fontsize=9.5, va="center", color=colours.muted)
