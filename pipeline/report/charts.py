"""Small inline-SVG charts: histograms and grouped bars, styled by the page's CSS variables (classes `s0`, `s1`, …).

What is counted is decided in `pipeline.report.counts`; nothing here knows a corpus.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

MAX_BINS = 24
WIDTH = 320  # of every chart, in CSS pixels: drawn 1:1 on a narrow phone, so that its text stays legible
_LEFT, _RIGHT, _TOP, _PLOT = 38, 14, 8, 112  # margins and height of a histogram's plot
_BAR, _GROUP_GAP, _LABEL, _VALUE = 12, 9, 70, 42  # bar height, space between groups, width of names and of values


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
        """How many values were counted, over all series."""
        return int(sum(counts.sum() for counts in self.counts.values()))

    def name(self, index: int) -> str:
        """The bin in words, such as "5 to 9"."""
        low = self.origin + index * self.width
        high = low + self.width
        if not self.whole:
            return f"{low:.4g} to {high:.4g}"
        return f"{low:.0f}" if self.width == 1 else f"{low:.0f} to {high - 1:.0f}"


def nice_width(span: float, whole: bool) -> float:
    """The smallest 1, 2 or 5 × 10^k that covers `span` in at most `MAX_BINS` bins."""
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
    return Histogram(origin, width, counts, whole, centred)


def histogram_svg(hist: Histogram, label: str, unit: str, top_share: float | None = None, first_colour: int = 0) -> Markup:
    """Draws a histogram as shares of its values, stacked by series; each bar's count is in its tooltip.

    Args:
        hist: What to draw.
        label: The chart in words, for screen readers.
        unit: What a value is ("words"), for the tooltips and below the axis.
        top_share: Share (0 to 1) that the vertical axis has to reach; by default that of the highest bar.
        first_colour: Number of the first series's colour.
    """
    stacked = sum(hist.counts.values())
    total, bins = max(hist.total, 1), len(stacked)
    step, top = _share_scale(top_share or stacked.max() / total)
    slot = (WIDTH - _LEFT - _RIGHT) / bins
    parts = _share_axis(step, top)
    below = np.zeros(bins)
    for number, (series, counts) in enumerate(hist.counts.items()):
        for index in np.flatnonzero(counts):
            height = _PLOT * counts[index] / total / top
            y = _TOP + _PLOT - _PLOT * below[index] / total / top - height
            tip = f"{series}: {counts[index]} ({counts[index] / total:.1%}) at {hist.name(index)} {unit}"
            parts.append(
                Markup('<rect class="s{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"><title>{}</title></rect>').format(
                    first_colour + number, _LEFT + index * slot + slot * 0.06, y, slot * 0.88, height, tip
                )
            )
        below += counts
    parts += _value_axis(hist, slot)
    parts.append(_text(WIDTH - _RIGHT, _TOP + _PLOT + 28, unit, "end"))
    return _svg(_TOP + _PLOT + 34, label, parts)


def bar_groups_svg(groups: Mapping[str, Mapping[str, tuple[int, int]]], label: str) -> Markup:
    """Draws shares as horizontal bars: one group per row, one bar per series, each with its value beside it.

    Args:
        groups: Row → series → (how many, of how many). Every row has the same series.
        label: The chart in words, for screen readers.
    """
    top = max((part / max(whole, 1) for bars in groups.values() for part, whole in bars.values()), default=0) or 1.0
    room = WIDTH - _LABEL - _VALUE
    parts, y = [], 2.0
    for name, bars in groups.items():
        height = _BAR * len(bars)
        parts.append(_text(_LABEL - 6, y + height / 2 + 3.5, name, "end"))
        for number, (series, (part, whole)) in enumerate(bars.items()):
            share = part / max(whole, 1)
            parts.append(
                Markup('<rect class="s{}" x="{}" y="{:.1f}" width="{:.2f}" height="{}"><title>{}</title></rect>').format(
                    number, _LABEL, y, max(room * share / top, 0.5), _BAR - 1.5, f"{series}: {part} of {whole} ({share:.1%})"
                )
            )
            parts.append(_text(_LABEL + room * share / top + 4, y + _BAR - 2, f"{share:.1%}", "start"))
            y += _BAR
        y += _GROUP_GAP
    return _svg(y - _GROUP_GAP + 4, label, parts)


def _svg(height: float, label: str, parts: list[Markup]) -> Markup:
    opening = Markup('<svg role="img" viewBox="0 0 {} {:.0f}" aria-label="{}">').format(WIDTH, height, label)
    return opening + Markup("").join(parts) + Markup("</svg>")


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, words)


def _share_scale(highest: float) -> tuple[float, float]:
    """Step and top of an axis with at most five steps that reaches `highest`."""
    step = next(s * 10.0**k for k in (-5, -4, -3, -2, -1) for s in (1, 2, 5) if highest <= 5 * s * 10.0**k)
    return step, step * max(math.ceil(highest / step - 1e-9), 1)


def _share_axis(step: float, top: float) -> list[Markup]:
    parts = []
    for tick in range(round(top / step) + 1):
        y = _TOP + _PLOT * (1 - tick * step / top)
        kind = "axis" if tick == 0 else "grid"
        parts.append(Markup('<line class="{}" x1="{}" x2="{}" y1="{:.2f}" y2="{:.2f}"/>').format(kind, _LEFT, WIDTH - _RIGHT, y, y))
        parts.append(_text(_LEFT - 5, y + 3.5, f"{100 * tick * step:g}%", "end"))
    return parts


def _value_axis(hist: Histogram, slot: float) -> list[Markup]:
    """Values below the axis: at the middle of the bins where that is what a bin stands for, else at their left edges."""
    bins = len(next(iter(hist.counts.values())))
    every = max(math.ceil(bins / 7), 1)
    shift = 0.5 if hist.centred or (hist.whole and hist.width == 1) else 0.0
    parts = []
    for index in range(0, bins if shift or hist.whole else bins + 1, every):
        value = hist.origin + (index + shift * hist.centred) * hist.width
        parts.append(_text(_LEFT + (index + shift) * slot, _TOP + _PLOT + 14, f"{value:.4g}", "middle"))
    return parts
