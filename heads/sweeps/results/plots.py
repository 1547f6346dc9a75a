"""The pictures of a sweep's page, as SVG to be put into HTML: effects of options, parallel coordinates, learning curves.

Lines and text take the colours of the page's style (`heads.sweeps.results.page`), so that they can be read in the light and in
the dark. Which trials are shown is decided in `heads.sweeps.results.report`.
"""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_THEME = {"#010203": "var(--ink)", "#010204": "var(--muted)", "#010205": "var(--line)", "#010206": "var(--accent)"}
"""Colours that stand for those of the page until the picture is put into it."""
_INK, _MUTED, _LINE, _ACCENT = _THEME
_WORST_TO_BEST = LinearSegmentedColormap.from_list("worst to best", ["#9aa3b0", "#3f8fd2", "#e0522d"])
_SERIES = ("#e0522d", "#3f8fd2", "#2aa37a", "#9b6dd6", "#d9a02b")
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _MUTED,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "legend.frameon": False,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_BELOW = -0.14
"""Where a line of parallel coordinates passes an option that does nothing."""
FEW = 8
"""Up to so many values of an option stand side by side; more are an axis of numbers."""


class Scale(NamedTuple):
    """Where values stand on an axis."""

    places: np.ndarray  # (n,) float64
    ticks: Sequence[float]
    labels: Sequence[str]
    groups: np.ndarray  # (n,) int64: trials of one group have one mean
    ordered: bool = True  # whether one value comes before another


def scale(values: pd.Series) -> Scale:
    """Numbers over two decades or more on a logarithmic axis, many other numbers on a linear one, all else side by side.

    Args:
        values: (n,) of one option; what is missing is "none".
    """
    distinct = values.dropna().unique()
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values) or values.isna().any():
        return _side_by_side(values)
    if distinct.min() > 0 and distinct.max() / distinct.min() >= 100:
        return _logarithmic(values.to_numpy(float))
    return _side_by_side(values) if len(distinct) <= FEW else _linear(values.to_numpy(float))


def words(value: Any) -> str:
    """A value of an option as a reader writes it."""
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return "none"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, float, np.number)):
        return f"{value:.4g}" if abs(value) < 1e4 and value != int(value) else f"{value:g}"
    text = str(value)
    return f"[{', '.join(map(words, json.loads(text)))}]" if text.startswith("[") else text


def effect(name: str, values: pd.Series, scores: pd.Series, metric: str, ids: str = "") -> str:
    """A point for each trial, and the mean at each value (or group of near values), joined where values have an order.

    Args:
        name: Of the option.
        values: (n,) of the option.
        scores: (n,) of the metric. What is far off stands at the edge, as a triangle, and counts for no mean.
        metric: Its name.
        ids: Before every id in the picture.
    """
    axis, scores = scale(values), scores.to_numpy(float)
    low, high = _limits(scores)
    shown, beyond = np.clip(scores, low, high), (scores < low) | (scores > high)
    spread = np.random.default_rng(0).uniform(-1, 1, len(scores)) * 0.012 * (np.ptp(axis.ticks) or 1)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for rows, marker in ((~beyond, "o"), (beyond, "^")):
            axes.scatter((axis.places + spread)[rows], shown[rows], s=22, marker=marker, alpha=0.6, color=_ACCENT, linewidths=0)
        of_groups = [(axis.groups == one) & ~beyond for one in np.unique(axis.groups[~beyond])]
        means = [(axis.places[rows].mean(), scores[rows].mean()) for rows in of_groups]
        axes.plot(*zip(*means, strict=True), color=_SERIES[0], marker="D", markersize=4.5, linewidth=1.6 if axis.ordered else 0)
        _ticks(axes, axis)
        axes.set(xlabel=name, ylabel=metric)

    return _svg(f"{ids}effect-{name}", (3.6, 2.5), draw, f"{metric} by {name}, {len(scores)} trials")


def coordinates(
    options: pd.DataFrame, applies: pd.DataFrame, scores: pd.Series, metric: str, higher_is_better: bool, ids: str = ""
) -> str:
    """Parallel coordinates: a line for each configuration through its options to its metric, coloured from worst to best.

    Args:
        options: (n, options), the best configuration first.
        applies: (n, options) bool; an option that does nothing in a configuration is passed below the axis.
        scores: (n,) of the metric. What is far off stands at the edge.
        metric: Its name.
        higher_is_better: Its direction.
        ids: Before every id in the picture.
    """
    shown = np.clip(scores.to_numpy(float), *_limits(scores.to_numpy(float)))
    scales = [*(scale(options.loc[applies[name], name]) for name in options), _linear(shown)]
    columns = np.full((len(scores), len(scales)), _BELOW)
    for number, (one, rows) in enumerate(zip(scales, [*applies.to_numpy(bool).T, slice(None)], strict=True)):
        columns[rows, number] = _between_0_and_1(one, one.places)
    apart = np.linspace(0.012, -0.012, len(scores))[:, None] * [*[1] * len(options.columns), 0]  # lines of one course are seen

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.add_collection(_lines(columns + apart))
        for place, one in enumerate(scales):
            _upright(axes, place, one, has_below=bool((columns[:, place] == _BELOW).any()))
        names = [*options, f"{metric} ({'higher' if higher_is_better else 'lower'} is better)"]
        axes.set_xticks(range(len(scales)), names, color=_INK)
        axes.set(xlim=(-0.3, len(scales) - 0.55), ylim=(columns.min() - 0.06, 1.06), yticks=[])
        axes.grid(False)
        axes.spines[:].set_visible(False)

    return _svg(f"{ids}coordinates", (max(6.0, 1.55 * len(scales)), 3.8), draw, f"Options and {metric} of {len(scores)} configurations")


def curves(histories: Mapping[str, Sequence[pd.DataFrame]], metric: str, ids: str = "") -> str:
    """Training loss and a validation metric by epoch: a colour for each configuration, a line for each seed.

    Args:
        histories: Label → history.csv of each seed; as many labels as there are colours at most.
        metric: Its name.
        ids: Before every id in the picture.
    """
    shown = {"train_loss": "training loss", f"valid_{metric}": f"validation {metric}"}

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2)
        for axes, (column, title) in zip(panels, shown.items(), strict=True):
            for colour, (label, seeds) in zip(_SERIES, histories.items(), strict=False):
                for number, history in enumerate(seeds):
                    look = {"color": colour, "linewidth": 1.4, "alpha": 0.8, "marker": "o", "markersize": 2.5}
                    axes.plot(history["epoch"], history[column], label="" if number else label, **look)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set(title=title, xlabel="epoch")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=1, fontsize=9, alignment="left")

    return _svg(f"{ids}curves", (9.5, 3.0 + 0.2 * len(histories)), draw, f"Learning curves of {len(histories)} configurations")


def _side_by_side(values: pd.Series) -> Scale:
    numbers = pd.api.types.is_numeric_dtype(values)
    known = sorted(values.dropna().unique(), key=None if numbers else words)
    labels = [*map(words, known), *(["none"] if values.isna().any() else [])]
    places = values.map(words).map({label: place for place, label in enumerate(labels)}).to_numpy(float)
    return Scale(places, range(len(labels)), labels, places.astype(int), bool(numbers))


def _logarithmic(values: np.ndarray) -> Scale:
    distinct, places = np.unique(values), np.log10(values)
    if len(distinct) <= FEW:
        return Scale(places, np.log10(distinct), [words(value) for value in distinct], np.searchsorted(distinct, values))
    powers = np.arange(np.floor(places.min()), np.ceil(places.max()) + 1)
    return Scale(places, powers, [f"{10.0**power:g}" for power in powers], _parts(places))


def _linear(values: np.ndarray) -> Scale:
    known = values[np.isfinite(values)]
    ticks = MaxNLocator(5).tick_values(known.min(), known.max())
    return Scale(values, ticks, [f"{tick:.4g}" for tick in ticks], _parts(values))


def _parts(values: np.ndarray) -> np.ndarray:
    """(n,) number of the part that a value is in, of up to six parts with equally many trials."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 7)[1:-1]))
    return np.searchsorted(edges, values)


def _limits(scores: np.ndarray) -> tuple[float, float]:
    """Three quartile ranges around the middle half, or what there is if that is less."""
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
    """One line for each row, the first, the best, on top and thick."""
    count = len(columns)
    lines = LineCollection([np.column_stack([np.arange(len(row)), row]) for row in columns[::-1]], cmap=_WORST_TO_BEST, alpha=0.85)
    lines.set_array(np.arange(1, count + 1) / count)
    lines.set_norm(Normalize(0, 1))
    lines.set_linewidths([1.2] * (count - 1) + [3.0])
    return lines


def _upright(axes: Axes, place: float, one: Scale, has_below: bool) -> None:
    axes.plot([place, place], [0, 1], color=_MUTED, linewidth=0.8, zorder=1)
    if has_below:
        axes.text(place + 0.05, _BELOW, "–", fontsize=8, va="center", color=_MUTED)
    for height, label in zip(_between_0_and_1(one, one.ticks), one.labels, strict=True):
        axes.plot([place, place + 0.03], [height, height], color=_MUTED, linewidth=0.8, zorder=1)
        axes.text(place + 0.05, height, label, fontsize=8, va="center", color=_MUTED)


def _svg(name: str, size_in: tuple[float, float], draw: Callable[[Figure], None], label: str) -> str:
    """Draws a picture whose ids are its own, and names it for those who cannot see it."""
    name = re.sub(r"[^A-Za-z0-9-]", "-", name)
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=size_in, layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    text = file.getvalue()
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text[text.index("<svg") :]).replace("xlink:href", "href")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, themed in _THEME.items():
        text = text.replace(colour, themed)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
