"""Charts of the paper's figures and of Table III: one panel a metric, our results with every seed beside the paper's numbers.

`data.reporting.charts` draws them for a page or for a file; `heads.tables.report` decides what is in them.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.reporting.charts import Colours, Draw, tip
from heads.evaluation.metrics import METRICS
from heads.tables.results import Result

SIZE = (1100, 620)
"""Width and height in CSS pixels."""


def panels(results: Sequence[Result], metrics: Sequence[str], words: Sequence[str], title: str, note: str) -> Draw:
    """Makes a function that draws a panel for each metric, with the rows side by side.

    Args:
        results: Rows in order; simple baselines are lines across.
        metrics: One metric for each panel, in two rows of panels.
        words: Names of the metrics.
        title: Title above all panels.
        note: Note below all panels.
    """
    rows = [one for one in results if one.row.group != "simple"]
    simple_baselines = [one for one in results if one.row.group == "simple" and one.done]

    def draw(figure: Figure, colours: Colours) -> None:
        grid = figure.subplots(2, len(metrics) // 2, squeeze=False)
        for axes, metric, name in zip(grid.flat, metrics, words, strict=True):
            _panel(axes, rows, simple_baselines, metric, colours)
            axes.set_title(f"{name} ({METRICS[metric].direction} is better)")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
        figure.suptitle(title, x=0.01, ha="left", fontsize=12.5)
        figure.supxlabel(note, fontsize=9.5, color=colours.muted)

    return draw


def _panel(axes: Axes, rows: Sequence[Result], simple_baselines: Sequence[Result], metric: str, colours: Colours) -> None:
    ours, theirs, simple = colours.series[0], colours.series[1], colours.muted
    places = np.arange(len(rows))
    means, deviations = np.array([one.value(metric) for one in rows]).T
    axes.errorbar(
        places - 0.08, means, np.nan_to_num(deviations), fmt="D", color=ours, markersize=5, capsize=3, label="ours, mean ± sd"
    )
    for place, one in zip(places, rows, strict=True):
        values = [value for seed in one.done if seed.values and (value := seed.values.get(metric)) is not None]
        tip(axes.scatter([place - 0.22] * len(values), values, s=9, color=ours, alpha=0.6, linewidths=0), f"{one.row.method}: seeds")
    printed = [one.row.paper.get(metric, np.nan) for one in rows]
    axes.plot(places + 0.12, printed, "s", color=theirs, markersize=5, markerfacecolor="none", label="paper, fine-tuned encoders")
    for one in simple_baselines:
        axes.axhline(one.value(metric).mean, color=simple, linestyle="--", linewidth=1, label=f"{one.row.method}, no feature")
    is_crowded = len(rows) > 5
    axes.set_xticks(places, [one.row.method for one in rows], rotation=90 if is_crowded else 30, ha="center" if is_crowded else "right")
    axes.set_xlim(-0.6, len(rows) - 0.4)
