"""The expert X-ray: which experts a trained head uses, for which task, modality and emotion; as numbers and as a picture.

What is looked at are the gates of `Aux.routing`, after selection; a gate of 0 is an expert not selected. Keys are
"modality/block/task". Experts are numbered from 0. Gates are collected in `heads.evaluation.predictions`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.atomic import atomic_path
from data.errors import InputError
from data.labels import EMOTIONS
from data.lookup import lookup
from heads.models.parts.experts import squared_variation

_FORMATS = {".png": {}, ".svg": {"Date": None}}
"""Suffix of a picture → metadata that makes its bytes depend on the report alone."""


def xray(gates: Mapping[str, np.ndarray], emotions: np.ndarray) -> dict[str, Any]:
    """The report, ready for JSON.

    Args:
        gates: Key → (n, N) gates after selection.
        emotions: (n, 6), above 0 where an emotion is present, NaN where it is not labelled.

    Returns:
        `utterances`: n; `emotions`: emotion → how many have it; `experts`: key → what its experts do: `load` (mean gate), `selected`
        (share of utterances), `dead` (never selected), `squared_variation` of the load, `by_emotion` (mean gate over the
        utterances with an emotion, None if there are none); `overlap`: "modality/block" → experts that all tasks select, as a
        share of those that any selects, mean over utterances.

    Raises:
        InputError: There are no gates.
    """
    if not gates:
        raise InputError("This head has no routers, so there is no routing to report. Choose a head with a mixture, such as mmolre.")
    present = {emotion: emotions[:, column] > 0 for column, emotion in enumerate(EMOTIONS)}
    return {
        "utterances": len(emotions),
        "emotions": {emotion: int(has.sum()) for emotion, has in present.items()},
        "experts": {key: _experts(values.astype(np.float64), present) for key, values in gates.items()},
        "overlap": {group: _overlap([gates[key] for key in keys]) for group, keys in _groups(gates).items() if len(keys) > 1},
    }


def _experts(gates: np.ndarray, present: Mapping[str, np.ndarray]) -> dict[str, Any]:
    selected = gates > 0
    return {
        "load": gates.mean(0).tolist(),
        "selected": selected.mean(0).tolist(),
        "dead": np.flatnonzero(~selected.any(0)).tolist(),
        "squared_variation": squared_variation(torch.from_numpy(gates)).item(),
        "by_emotion": {emotion: gates[has].mean(0).tolist() if has.any() else None for emotion, has in present.items()},
    }


def _overlap(tasks: list[np.ndarray]) -> float:
    """Mean Jaccard index of the tasks' selected sets."""
    selected = np.stack(tasks) > 0
    return float((selected.all(0).sum(1) / selected.any(0).sum(1).clip(min=1)).mean())


def _groups(keys: Mapping[str, Any]) -> dict[str, list[str]]:
    """ "modality/block" → its keys, one a task."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(key.rpartition("/")[0], []).append(key)
    return groups


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draws a report of `xray`: a row for each modality and block, with the load by task, and each task's gates by emotion.

    Args:
        report: Of `xray`.
        path: Ends in .png or .svg.

    Raises:
        InputError: The path ends in something else.
    """
    metadata = lookup(_FORMATS, path.suffix, "picture format")
    groups, experts = _groups(report["experts"]), report["experts"]
    columns = 1 + max(len(keys) for keys in groups.values())
    figure = Figure(figsize=(5.2 * columns, 0.6 + 2.4 * len(groups)), layout="constrained")
    figure.suptitle(f"Experts of {report['utterances']:,} utterances (× never selected)")
    axes = figure.subplots(len(groups), columns, squeeze=False)
    highest = max(max(part["load"]) for part in experts.values())
    widest = max(np.nan_to_num(abs(_changes(part))).max() for part in experts.values()) or 1
    for row, (group, keys) in zip(axes, groups.items(), strict=True):
        loads = _draw_load(row[0], _title(group, report["overlap"]), {key.rpartition("/")[2]: experts[key] for key in keys}, highest)
        for panel, key in zip(row[1:], keys, strict=False):
            changes = _draw_emotions(panel, key, experts[key], report["emotions"], widest)
        for unused in row[1 + len(keys) :]:
            unused.set_axis_off()
    figure.colorbar(loads, ax=axes[:, 0], shrink=0.6).set_label("mean gate")
    figure.colorbar(changes, ax=axes[:, 1:], shrink=0.6).set_label("difference from mean gate")
    with atomic_path(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "xray"}):
        figure.savefig(temporary, format=path.suffix[1:], dpi=120, metadata=metadata)


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
    for number in range(len(EMOTIONS)):
        _mark(axes, part["dead"], number, "black")
    _label(axes, f"{title}: gate by emotion", [f"{emotion} ({counts[emotion]:,})" for emotion in EMOTIONS], len(part["load"]))
    return image


def _changes(part: Mapping[str, Any]) -> np.ndarray:
    """(6, N) mean gates with each emotion minus those of all utterances; NaN for an emotion that none has."""
    nobody = [np.nan] * len(part["load"])
    return np.array([part["by_emotion"][emotion] or nobody for emotion in EMOTIONS]) - part["load"]


def _mark(axes: Axes, dead: list[int], row: int, colour: str) -> None:
    for expert in dead:
        axes.text(expert, row, "×", ha="center", va="center", color=colour)


def _label(axes: Axes, title: str, rows: list[str], experts: int) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(experts), [str(number) for number in range(experts)], fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xlabel("expert", fontsize=8)
