"""Charts drawn by matplotlib: as SVG for a page, in the page's colours in light and dark, or as SVG and PNG files on white.

Histograms, grouped bars and lines are drawn here; other modules draw charts of their own with `on_page` and `to_file`, which give
all of them one look. Sizes are in CSS pixels, and a chart on a page is shown at its size or larger.
"""

import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from data.lookup import lookup
from data.reporting.characters import visible
from data.reporting.numbers import signed

MAX_BINS = 24
WIDTH = 280  # of histograms and bars, in CSS pixels: shown 1:1 on a narrow phone, so that their text stays legible
_LEFT, _RIGHT, _TOP, _PLOT, _BELOW = 38, 14, 8, 112, 34  # margins and height of a histogram's plot
_BAR, _GROUP_GAP, _LABEL, _VALUE = 12, 9, 70, 42  # bar height, space between groups, width of names and of values


@dataclass(frozen=True)
class Colours:
    """Colours of a chart: text, secondary text, grid lines, one that stands out, the ground, and those of series."""

    ink: str
    muted: str
    line: str
    accent: str
    ground: str
    series: tuple[str, ...]


ON_WHITE = Colours("#1a2230", "#56616f", "#dde2e9", "#1f5aa8", "#ffffff", ("#2f6db5", "#b8711a", "#2a8a6e", "#7c5aa6", "#c2416b"))
"""Colours of files. They are the light ones of `templates/style.css`."""

ON_PAGE = Colours("#010203", "#010204", "#010205", "#010206", "#010207", tuple(f"#01030{number}" for number in range(5)))
"""Marks for the variables of the style sheet: matplotlib draws with them, and the variables replace them in the SVG."""

_VARIABLES = {
    **{getattr(ON_PAGE, name): f"var(--{name})" for name in ("ink", "muted", "line", "accent")},
    ON_PAGE.ground: "var(--card)",
    **{mark: f"var(--s{number})" for number, mark in enumerate(ON_PAGE.series)},
}

Draw = Callable[[Figure, Colours], None]
"""Draws a chart into an empty figure."""

_FORMATS: dict[str, dict[str, Any]] = {".png": {"Software": None}, ".svg": dict.fromkeys(("Creator", "Date", "Format", "Type"))}
"""Suffix of a file → metadata that makes its bytes depend on the chart alone."""


def on_page(draw: Draw, label: str, size: tuple[float, float], layout: str | None = "constrained", name: str = "") -> Markup:
    """Draws a chart for a page.

    A part of the chart gets a tooltip by `tip`, the points or lines of a collection get theirs by `tips`.

    Args:
        draw: Draws the chart.
        label: The chart in words, for screen readers.
        size: Width and height in CSS pixels.
        layout: matplotlib's layout engine; None if `draw` places its axes itself.
        name: Start of all ids in the SVG, unique on the page; made from the label by default.

    Returns:
        An SVG element without fonts, fixed colours or ids that another chart of the page could have.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "-", name or label)
    with matplotlib.rc_context(_look(ON_PAGE) | {"svg.hashsalt": name}):
        file = io.StringIO()
        _figure(draw, size, ON_PAGE, layout).savefig(file, format="svg", transparent=True, metadata=_FORMATS[".svg"])
    text = _plain(file.getvalue()[file.getvalue().index("<svg") :], name)
    opening = f'<svg role="img" aria-label="{escape(label)}" style="--width: {size[0]:g}px" '
    return Markup(visible(text.replace("<svg ", opening, 1)))


def to_file(draw: Draw, suffix: str, size: tuple[float, float]) -> bytes:
    """Draws a chart for a file on white; the same chart gives the same bytes.

    Args:
        draw: Draws the chart.
        suffix: ".svg" or ".png".
        size: Width and height in CSS pixels; a PNG has twice as many pixels.

    Raises:
        InputError: The suffix is another one.
    """
    metadata = lookup(_FORMATS, suffix, "picture format")
    file = io.BytesIO()
    with matplotlib.rc_context(_look(ON_WHITE) | {"svg.hashsalt": "chart"}):
        _figure(draw, size, ON_WHITE, "constrained").savefig(file, format=suffix[1:], dpi=144, metadata=metadata)
    return file.getvalue()


def tip(artist: Any, text: str) -> None:
    """Gives a part of a chart a tooltip."""
    artist.set_gid(f"tip:{text}")


def tips(collection: Any, texts: Sequence[str], name: str = "points") -> None:
    """Gives each point or line of a collection a tooltip, in their order; the script of a page shows them.

    Args:
        collection: A collection of matplotlib, as `Axes.scatter` returns it.
        texts: (n,) one for each of its parts.
        name: Class of the collection in the SVG.
    """
    collection.set_gid(f"tips:{name}:{json.dumps(list(texts), ensure_ascii=False)}")


@dataclass(frozen=True)
class Histogram:
    """Counts over bins of equal width; bin `i` holds `origin + i·width ≤ value < origin + (i + 1)·width`."""

    origin: float
    width: float
    counts: Mapping[str, np.ndarray]  # series → (num_bins,) int; series are stacked
    whole: bool = False  # values are whole numbers: a bin is named by its first and last value
    centred: bool = False  # a bin stands for the value in its middle

    @property
    def total(self) -> int:
        """Number of counted values over all series."""
        return int(sum(counts.sum() for counts in self.counts.values()))

    def name(self, index: int) -> str:
        """Name a bin in words, such as "5 to 9"."""
        low = self.origin + index * self.width
        high = low + self.width
        if not self.whole:
            return f"{low:.4g} to {high:.4g}"
        return f"{low:.0f}" if self.width == 1 else f"{low:.0f} to {high - 1:.0f}"


def nice_width(span: float, whole: bool) -> float:
    """Finds the smallest 1, 2 or 5 × 10^k that covers `span` in at most `MAX_BINS` bins."""
    least = max(span / (MAX_BINS - 1), 1.0 if whole else 1e-6)
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))


def histogram(
    series: Mapping[str, np.ndarray],
    *,
    whole: bool = False,
    width: float | None = None,
    low: float | None = None,
    high: float | None = None,
    centred: bool = False,
) -> Histogram:
    """Counts every value once; none is left out.

    Args:
        series: Name → (N,) finite values.
        whole: The values are whole numbers.
        width: Width of a bin; a round number by default.
        low: Left edge of the first bin; by default the multiple of `width` below the least value. Lower values, which only
            rounding can give, are counted in the first bin.
        high: Right edge of the last bin, itself included; by default it follows from the greatest value.
        centred: A bin stands for the value in its middle, and is labelled with it.
    """
    values = np.concatenate([np.asarray(part, float) for part in series.values()])
    least, most = (values.min(), values.max()) if values.size else (0.0, 0.0)
    width = width or nice_width(most - least, whole)
    origin = math.floor(least / width) * width if low is None else low
    if high is not None:
        origin = min(origin, high - width)
    bins = math.floor((most - origin) / width) + 1 if high is None else round((high - origin) / width)
    counts = {}
    for name, part in series.items():
        index = np.floor((np.asarray(part, float) - origin) / width).astype(int).clip(0, bins - 1)
        counts[name] = np.bincount(index, minlength=bins)
    return Histogram(float(origin), float(width), counts, whole, centred)


def histogram_svg(hist: Histogram, label: str, unit: str, top_share: float | None = None, first_colour: int = 0) -> Markup:
    """Draws a histogram as shares of its values, stacked by series; each bar's count is in its tooltip.

    Args:
        hist: Histogram to draw.
        label: The chart in words, for screen readers.
        unit: Unit of the values ("words"), for the tooltips and below the axis.
        top_share: Share (0 to 1) that the vertical axis has to reach; by default that of the highest bar.
        first_colour: Number of the first series's colour.
    """
    stacked = sum(hist.counts.values(), np.zeros(1))
    total, bins = max(hist.total, 1), len(stacked)
    step, top = _share_scale(top_share or stacked.max() / total)
    height = _TOP + _PLOT + _BELOW

    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.add_axes((_LEFT / WIDTH, _BELOW / height, (WIDTH - _LEFT - _RIGHT) / WIDTH, _PLOT / height))
        below = np.zeros(bins)
        for number, (series, counts) in enumerate(hist.counts.items(), first_colour):
            for index in np.flatnonzero(counts):
                share = counts[index] / total
                (bar,) = axes.bar(index + 0.5, share, 0.88, below[index], color=colours.series[number], clip_on=False, zorder=2)
                tip(bar, f"{series}: {counts[index]} ({share:.1%}) at {hist.name(int(index))} {unit}")
            below += counts / total
        axes.set(xlim=(0, bins), ylim=(0, top))
        ticks = np.arange(round(top / step) + 1) * step
        axes.set_yticks(ticks, [f"{100 * tick:g}%" for tick in ticks])
        axes.set_xticks(*_bin_labels(hist, bins))
        axes.grid(visible=False, axis="x")
        axes.spines["left"].set_visible(False)
        axes.text(1, -28 / _PLOT, unit, ha="right", va="center", color=colours.muted, transform=axes.transAxes)

    return on_page(draw, label, (WIDTH, height), layout=None)


def bar_groups_svg(groups: Mapping[str, Mapping[str, tuple[int, int]]], label: str) -> Markup:
    """Draws shares as horizontal bars: one group per row, one bar per series, each with its value beside it.

    Args:
        groups: Row → series → (count, total). Every row has the same series.
        label: The chart in words, for screen readers.
    """
    top = max((part / max(whole, 1) for bars in groups.values() for part, whole in bars.values()), default=0) or 1.0
    room = WIDTH - _LABEL - _VALUE
    height = sum(_BAR * len(bars) + _GROUP_GAP for bars in groups.values())

    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.add_axes((_LABEL / WIDTH, 0, room / WIDTH, 1))
        axes.set(xlim=(0, top), ylim=(height, 0))
        y, places = _GROUP_GAP / 2, []
        for bars in groups.values():
            places.append(y + _BAR * len(bars) / 2)
            for number, (series, (part, whole)) in enumerate(bars.items()):
                share = part / max(whole, 1)
                (bar,) = axes.barh(y + _BAR / 2, max(share, 0.5 * top / room), _BAR - 1.5, color=colours.series[number], clip_on=False)
                tip(bar, f"{series}: {part} of {whole} ({share:.1%})")
                axes.text(share + 4 * top / room, y + _BAR / 2, f"{share:.1%}", va="center", color=colours.muted, fontsize=9.5)
                y += _BAR
            y += _GROUP_GAP
        axes.set_yticks(places, list(groups))
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    return on_page(draw, label, (WIDTH, height), layout=None)


def signed_bars_svg(groups: Mapping[str, Mapping[str, tuple[float, str]]], label: str) -> Markup:
    """Draws signed values as horizontal bars from a line at zero: one group per row, one bar per series, each with its value beside it.

    Args:
        groups: Row → series → (value, tooltip).
        label: The chart in words, for screen readers.
    """
    values = [value for bars in groups.values() for value, _ in bars.values()]
    low, high = min(0.0, *values), max(0.0, *values)
    span = high - low or 1.0
    left = _LABEL + (_VALUE if low < 0 else 0)  # a negative value stands left of its bar
    room = WIDTH - left - _VALUE
    height = sum(_BAR * len(bars) + _GROUP_GAP for bars in groups.values())

    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.add_axes((left / WIDTH, 0, room / WIDTH, 1))
        axes.set(xlim=(low, low + span), ylim=(height, 0))
        axes.axvline(0, color=colours.muted, linewidth=0.8)
        y = _GROUP_GAP / 2
        for name, bars in groups.items():
            axes.text(
                -(left - 2) / room, y + _BAR * len(bars) / 2, name, va="center", fontsize=10, transform=axes.get_yaxis_transform()
            )
            for number, (value, words) in enumerate(bars.values()):
                (bar,) = axes.barh(y + _BAR / 2, value, _BAR - 1.5, color=colours.series[number], clip_on=False, zorder=2)
                tip(bar, words)
                place, side = value + (-4 if value < 0 else 4) * span / room, "right" if value < 0 else "left"
                axes.text(place, y + _BAR / 2, signed(value, 1), ha=side, va="center", color=colours.muted, fontsize=9.5)
                y += _BAR
            y += _GROUP_GAP
        axes.set_axis_off()

    return on_page(draw, label, (WIDTH, height), layout=None)


def lines_svg(
    places: Sequence[float],
    series: Mapping[str, Sequence[float]],
    label: str,
    names: tuple[str, str],
    mark: tuple[float, float, str] | None = None,
) -> Markup:
    """Draws values as lines with a legend.

    Args:
        places: (N,) whole numbers on the horizontal axis.
        series: Name → (N,) values.
        label: The chart in words, for screen readers.
        names: Names of the horizontal and of the vertical axis.
        mark: Place, value and tooltip of a point that stands out.
    """

    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.subplots()
        for number, (name, values) in enumerate(series.items()):
            axes.plot(places, values, color=colours.series[number], marker="o", markersize=3.5, linewidth=1.6, label=name)
        if mark is not None:
            (point,) = axes.plot(*mark[:2], color=colours.accent, marker="D", markersize=7, linewidth=0)
            tip(point, mark[2])
        axes.set_xticks(places[:: math.ceil(len(places) / 10)])
        axes.set(xlabel=names[0], ylabel=names[1])
        axes.legend()

    return on_page(draw, label, (1.5 * WIDTH, 240))


def _look(colours: Colours) -> Any:
    return {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 10.5,
        "text.color": colours.ink,
        "axes.labelcolor": colours.muted,
        "axes.labelsize": 10.5,
        "axes.edgecolor": colours.muted,
        "axes.linewidth": 0.8,
        "axes.titlecolor": colours.ink,
        "axes.titlesize": 11,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": True,
        "figure.dpi": 72,  # a point is a CSS pixel
        "grid.color": colours.line,
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "legend.fontsize": 10.5,
        **{f"{axis}tick.{name}": value for axis in "xy" for name, value in _ticks(colours).items()},
    }


def _ticks(colours: Colours) -> dict[str, Any]:
    return {"color": colours.muted, "labelsize": 10, "major.size": 0, "minor.size": 0, "major.pad": 5}


def _figure(draw: Draw, size: tuple[float, float], colours: Colours, layout: Any) -> Figure:
    figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout=layout, facecolor=colours.ground)
    draw(figure, colours)
    if colours is ON_PAGE:
        for part in (figure, *figure.axes):
            part.patch.set_visible(False)
    return figure


def _plain(svg: str, name: str) -> str:
    """Makes matplotlib's SVG a part of a page: its font, its colours, tooltips, and no ids but those that are used."""
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<clipPath.*?</clipPath>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'\sclip-path="[^"]*"', "", svg)  # charts draw nothing outside of their axes that should be hidden
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', svg)
    svg = re.sub(r"font: (?:[a-z]+ )*([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*;?\s*", "", svg)
    svg = re.sub(r'\stransform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(
        r"<g id='([^']*)'>", lambda found: f'<g id="{found[1].replace(chr(34), "&quot;")}">', svg
    )  # a text with a quotation mark
    svg = re.sub(r'<g id="tip:([^"]*)">', r"<g><title>\1</title>", svg)
    svg = re.sub(r'<g id="tips:(\w+):([^"]*)">', r'<g class="\1" data-tips="\2">', svg)
    used = set(re.findall(r'href="#([^"]+)', svg))
    svg = re.sub(r'\sid="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = svg.replace('href="#', f'href="#{name}-')
    svg = re.sub(r'(?<=[\s"])(d|x|y)="([^"]*)"', lambda found: f'{found[1]}="{_short(found[2])}"', svg)
    for mark, variable in _VARIABLES.items():
        svg = svg.replace(mark, variable)
    svg = re.sub(r">\s+<", "><", svg).strip()
    while svg != (svg := re.sub(r"<(g|defs)(/>|></\1>)", "", svg)):
        pass  # a group is empty when the groups in it have gone
    return svg


def _short(numbers: str) -> str:
    """Two digits of coordinates are enough."""
    return " ".join(re.sub(r"(\.\d\d)\d+", r"\1", numbers).split())


def _share_scale(highest: float) -> tuple[float, float]:
    """Finds step and top of an axis with at most five steps that reaches `highest`."""
    step = next(s * 10.0**k for k in (-5, -4, -3, -2, -1) for s in (1, 2, 5) if highest <= 5 * s * 10.0**k)
    return step, step * max(math.ceil(highest / step - 1e-9), 1)


def _bin_labels(hist: Histogram, bins: int) -> tuple[Sequence[float], list[str]]:
    """Places and labels below a histogram: at the middle of the bins that stand for one value, else at their left edges."""
    every = max(math.ceil(bins / 7), 1)
    shift = 0.5 if hist.centred or (hist.whole and hist.width == 1) else 0.0
    shown = range(0, bins if shift or hist.whole else bins + 1, every)
    labels = [f"{hist.origin + (index + shift * hist.centred) * hist.width:.4g}" for index in shown]
    return [index + shift for index in shown], [label.replace("-", "\N{MINUS SIGN}") for label in labels]
