"""The pictures of the paper's figures and of Table III: one panel a metric, ours with every seed, the paper's where it is known.

They stand alone, as SVG and PNG files, on white. What is in them is decided in `heads.tables.report`.
"""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heads.evaluation.metrics import METRICS
from heads.tables.results import Result

_OURS, _PAPER, _FLOOR = "#1f5aa8", "#e0522d", "#8a94a2"
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e7ec",
    "svg.hashsalt": "tables",
}


def panels(results: Sequence[Result], metrics: Sequence[str], words: Sequence[str], title: str, note: str) -> Figure:
    """A panel for each metric, the rows side by side.

    Args:
        results: In order; simple baselines are lines across.
        metrics: One for each panel, two rows of panels.
        words: What the metrics are called.
        title: Above all.
        note: Below all.
    """
    rows = [one for one in results if one.row.group != "simple"]
    simple_baselines = [one for one in results if one.row.group == "simple" and one.done]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(11, 6.2), layout="constrained", facecolor="white")
        grid = figure.subplots(2, len(metrics) // 2, squeeze=False)
        for axes, metric, name in zip(grid.flat, metrics, words, strict=True):
            _panel(axes, rows, simple_baselines, metric)
            axes.set_title(f"{name} ({METRICS[metric].direction} is better)", fontsize=9)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)
        figure.suptitle(title, x=0.01, ha="left")
        figure.supxlabel(note, fontsize=8, color="#56616f")
    return figure


def save(figure: Figure, form: str) -> bytes:
    """The bytes of a picture; the same picture gives the same bytes.

    Args:
        figure: Of `panels`.
        form: svg or png.
    """
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type")) if form == "svg" else {"Software": None}
    file = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(file, format=form, dpi=150, metadata=metadata)
    return file.getvalue()


def _panel(axes: Axes, rows: Sequence[Result], simple_baselines: Sequence[Result], metric: str) -> None:
    places = np.arange(len(rows))
    means, deviations = np.array([one.value(metric) for one in rows]).T
    axes.errorbar(
        places - 0.08, means, np.nan_to_num(deviations), fmt="D", color=_OURS, markersize=5, capsize=3, label="ours, mean ± sd"
    )
    for place, one in zip(places, rows, strict=True):
        values = [seed.values.get(metric) for seed in one.done]
        axes.scatter([place - 0.22] * len(values), values, s=9, color=_OURS, alpha=0.5, linewidths=0)
    printed = [one.row.paper.get(metric, np.nan) for one in rows]
    axes.plot(places + 0.12, printed, "s", color=_PAPER, markersize=5, markerfacecolor="none", label="paper, fine-tuned encoders")
    for one in simple_baselines:
        axes.axhline(one.value(metric).mean, color=_FLOOR, linestyle="--", linewidth=1, label=f"{one.row.method}, no feature")
    crowded = {"rotation": 90, "ha": "center", "fontsize": 8} if len(rows) > 5 else {"rotation": 30, "ha": "right"}
    axes.set_xticks(places, [one.row.method for one in rows], **crowded)
    axes.set_xlim(-0.6, len(rows) - 0.4)
