"""The expert X-ray: numbers that show which experts a trained head uses, for each task, modality and emotion.

The gates are those of `Aux.routing`, after selection; a gate of 0 is an expert not selected. Keys are "modality/block/task". Experts
are numbered from 0. `heads.evaluation.predictions` collects the gates, `heads.evaluation.routing_chart` draws the report.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from data.errors import InputError
from data.labels import EMOTIONS
from heads.models.parts.experts import squared_variation


def xray(gates: Mapping[str, np.ndarray], emotions: np.ndarray, names: Sequence[str] = EMOTIONS) -> dict[str, Any]:
    """Makes the report, ready for JSON.

    Args:
        gates: Key → (n, N) gates after selection.
        emotions: (n, C), above 0 where an emotion is present, NaN where it is not labelled.
        names: Those of the C emotions.

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
    present = {emotion: emotions[:, column] > 0 for column, emotion in enumerate(names)}
    return {
        "utterances": len(emotions),
        "emotions": {emotion: int(has.sum()) for emotion, has in present.items()},
        "experts": {key: _experts(values.astype(np.float64), present) for key, values in gates.items()},
        "overlap": {group: _overlap([gates[key] for key in keys]) for group, keys in groups(gates).items() if len(keys) > 1},
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
    """Computes the mean Jaccard index of the tasks' selected sets."""
    selected = np.stack(tasks) > 0
    return float((selected.all(0).sum(1) / selected.any(0).sum(1).clip(min=1)).mean())


def groups(keys: Mapping[str, Any]) -> dict[str, list[str]]:
    """Groups keys: "modality/block" → its keys, one a task."""
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(key.rpartition("/")[0], []).append(key)
    return found
