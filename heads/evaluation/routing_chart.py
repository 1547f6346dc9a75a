"""The picture of an expert X-ray (`heads.evaluation.routing`). `data.reporting.charts` gives it its look."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.atomic import atomic_path
from data.reporting.charts import Colours, to_file
from heads.evaluation.routing import groups


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draws a report of `xray`: a row for each modality and block, with the load by task, and each task's gates by emotion.

    Args:
        report: Result of `heads.evaluation.routing.xray`.
        path: File that ends in .png or .svg.

    Raises:
        InputError: The path ends in something else.
    """
    grouped = groups(report["experts"])
    columns = 1 + max(len(keys) for keys in grouped.values())

    def picture(figure: Figure, colours: Colours) -> None:
        _draw(figure, report, grouped, columns, colours)

    content = to_file(picture, path.suffix, (380 * columns, 45 + 175 * len(grouped)))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _draw(figure: Figure, report: Mapping[str, Any], grouped: Mapping[str, list[str]], columns: int, colours: Colours) -> None:
    experts = report["experts"]
    figure.suptitle(f"Experts of {report['utterances']:,} utterances (× never selected)", color=colours.ink)
    axes = figure.subplots(len(grouped), columns, squeeze=False)
    highest = max(max(part["load"]) for part in experts.values())
    widest = max(np.nan_to_num(abs(_changes(part))).max() for part in experts.values()) or 1
    loads: Any = None
    changes: Any = None
    for row, (group, keys) in zip(axes, grouped.items(), strict=True):
        loads = _draw_load(row[0], _title(group, report["overlap"]), {key.rpartition("/")[2]: experts[key] for key in keys}, highest)
        for panel, key in zip(row[1:], keys, strict=False):
            changes = _draw_emotions(panel, key, experts[key], report["emotions"], widest)
        for unused in row[1 + len(keys) :]:
            unused.set_axis_off()
    for image, shown, label in ((loads, axes[:, 0], "mean gate"), (changes, axes[:, 1:], "difference from mean gate")):
        bar = figure.colorbar(image, ax=shown, shrink=0.6)
        bar.set_label(label)
        bar.outline.set_visible(False)


def _title(group: str, overlap: Mapping[str, float]) -> str:
    return f"{group}: load" + (f" (tasks overlap {overlap[group]:.2f})" if group in overlap else "")


def _draw_load(axes: Axes, title: str, tasks: Mapping[str, Mapping[str, Any]], highest: float) -> Any:
    loads = np.full((len(tasks), max(len(part["load"]) for part in tasks.values())), np.nan)
    for number, part in enumerate(tasks.values()):
        loads[number, : len(part["load"])] = part["load"]
    image = axes.imshow(loads, aspect="auto", cmap="viridis", vmin=0, vmax=highest)
    for number, part in enumerate(tasks.values()):
        _mark(axes, part["dead"], number, "white")
    _label(axes, title, list(tasks), loads.shape[1])
    return image


def _draw_emotions(axes: Axes, title: str, part: Mapping[str, Any], counts: Mapping[str, int], widest: float) -> Any:
    image = axes.imshow(_changes(part), aspect="auto", cmap="RdBu_r", vmin=-widest, vmax=widest)
    for number in range(len(counts)):
        _mark(axes, part["dead"], number, "black")
    _label(axes, f"{title}: gate by emotion", [f"{emotion} ({counts[emotion]:,})" for emotion in counts], len(part["load"]))
    return image


def _changes(part: Mapping[str, Any]) -> np.ndarray:
    """(C, N) mean gates of utterances with each emotion minus those of all utterances; NaN for an emotion that none has."""
    nobody = [np.nan] * len(part["load"])
    return np.array([gates or nobody for gates in part["by_emotion"].values()]) - part["load"]


def _mark(axes: Axes, dead: list[int], row: int, colour: str) -> None:
    for expert in dead:
        axes.text(expert, row, "×", ha="center", va="center", color=colour)


def _label(axes: Axes, title: str, rows: list[str], experts: int) -> None:
    axes.set_title(title)
    axes.set_xticks(range(experts), [str(number) for number in range(experts)])
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("expert")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
