"""The picture of `heads.evaluation.layer_probe`. `data.reporting.charts` gives it its look."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.atomic import atomic_path
from data.reporting.charts import Colours, to_file
from heads.evaluation.layer_probe import MEAN, drawn
from heads.evaluation.metrics import higher_is_better
from heads.models.tasks import TASKS

_PANEL = (360, 260)


def draw(table: pd.DataFrame, task: str, corpus: str, path: Path) -> None:
    """Draws the first metric of each task over the layers: a line for each modality, dashed for the mean of all its layers.

    Args:
        table: Result of `heads.evaluation.layer_probe.probe`.
        task: A key of `TASKS`.
        corpus: Name for the title.
        path: File that ends in .svg or .png.

    Raises:
        InputError: The path ends in something else.
    """
    metrics = [drawn(table, one) for one in TASKS[task]]

    def picture(figure: Figure, colours: Colours) -> None:
        figure.suptitle(f"Ridge on each layer of {corpus}, validation split", color=colours.ink)
        for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
            _draw_metric(axes, table, metric, colours)

    content = to_file(picture, path.suffix, (_PANEL[0] * len(metrics), _PANEL[1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _draw_metric(axes: Axes, table: pd.DataFrame, metric: str, colours: Colours) -> None:
    for number, (modality, rows) in enumerate(table.groupby("modality", sort=False)):
        singles, colour = rows[rows["layer"] != MEAN], colours.series[number]
        axes.plot(singles["layer"].astype(int), singles[metric], marker="o", markersize=4, color=colour, label=str(modality))
        mean = float(rows.loc[rows["layer"] == MEAN, metric].iloc[0])
        axes.axhline(mean, color=colour, linestyle="--", label=f"{modality}, mean of all")
    better = "higher is better" if higher_is_better(metric) else "lower is better"
    axes.set(xlabel="layer (0: embeddings)", ylabel=f"{metric} ({better})")
    axes.legend()
