"""The content of a run's files: their shape, faults of a file that was read, differences between two. Files are read and written in
`heads.runs.folder`."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from data.errors import shown
from heads.models.options import items

CONFIG = {
    "version": int,
    "config": {"head": str, "corpus": str, "data": {"modalities": list}},
    "encoders": dict,
    "made": {"cache": str},
}
ENCODER = {"encoder": object, "identity": object, "dim": int}
METRICS = {"valid": dict, "valid_interval": dict}
FURTHER_METRICS = {
    "parameters": int,
    "epochs": int,
    "pruned": bool,
    "selected": dict,
    "test": dict,
    "test_interval": dict,
    "layer_weights": dict,
    "chosen": dict,
    "label_set": dict,
}
"""What metrics.json may have besides."""
HISTORY = ("epoch", "train_loss", "seconds", "valid_loss")
"""Columns that history.csv has without gaps; values of metrics may be missing."""
_WORDS = {int: "a whole number", bool: "true or false", str: "text", list: "a list", dict: "a mapping"}
_LARGEST = 2**63 - 1


def parse_json(text: str) -> Any:
    """Parses JSON that a table can hold.

    Raises:
        ValueError: The text is no JSON, is nested too deeply, or has a number or a character that a table cannot hold.
    """
    try:
        content = json.loads(text, parse_int=_whole, parse_constant=_no_number)
        json.dumps(content, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return content


def _whole(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) > _LARGEST:
        raise ValueError(f"{digits[:20]}… is a whole number of more than 64 bits")
    return int(digits)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def fault_of(content: Any, shape: Mapping[str, Any], prefix: str = "") -> str | None:
    """Describes the first fault of a mapping that was read from JSON; None if there is none.

    Args:
        content: The mapping.
        shape: Name → type, or the shape of a mapping within.
        prefix: Stands before the names in the description.
    """
    if not isinstance(content, dict):
        return f"{prefix.rstrip('.') or 'the whole'} is not {_WORDS[dict]}"
    for name, expected in shape.items():
        if name not in content:
            return f"{prefix}{name} is missing"
        if isinstance(expected, Mapping):
            if fault := fault_of(content[name], expected, f"{prefix}{name}."):
                return fault
        elif not isinstance(content[name], expected) or (expected is int and isinstance(content[name], bool)):
            return f"{prefix}{name} is not {_WORDS[expected]}"
    return None


def fault_of_metrics(content: Any) -> str | None:
    """Describes the first fault of the content of metrics.json; None if there is none. Metrics are numbers or null."""
    if fault := fault_of(content, METRICS):
        return fault
    if fault := fault_of(content, {name: kind for name, kind in FURTHER_METRICS.items() if name in content}):
        return fault
    for criterion, chosen in content.get("selected", {}).items():
        if fault := fault_of(chosen, {"epoch": int, "value": object}, f"selected.{criterion}."):
            return fault
    for part in ("layer_weights", "chosen"):
        for name, numbers in content.get(part, {}).items():
            if not isinstance(numbers, dict) or not all(map(_is_number, numbers.values())):
                return f"{part}.{name} is not names with numbers"
    for split in ("valid", "test"):
        for name, value in content.get(split, {}).items():
            if not _is_number(value):
                return f"{split}.{name} is not a number"
        for name, pair in content.get(f"{split}_interval", {}).items():
            if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_number, pair)):
                return f"{split}_interval.{name} is not two numbers"
    return None


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value))


def fault_of_history(history: pd.DataFrame) -> str | None:
    """Describes the first fault of the table of history.csv; None if there is none."""
    if missing := [name for name in HISTORY if name not in history]:
        return f"column {missing[0]} is missing"
    for name, values in history.items():
        if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values) or np.isinf(values).any():
            return f"column {name} is not all numbers"
        if name in HISTORY and values.isna().any():
            return f"column {name} has a gap"
    if history["epoch"].tolist() != list(range(1, len(history) + 1)):
        return "its epochs are not 1, 2, 3, …"
    return None


def fault_of_routing(content: Any) -> str | None:
    """Describes the first fault of a routing report (`heads.evaluation.routing.xray`); None if there is none."""
    if fault := fault_of(content, {"utterances": int, "emotions": dict, "experts": dict, "overlap": dict}):
        return fault
    for name, part in content["experts"].items():
        where = f"experts.{name}."
        if fault := fault_of(part, {"load": list, "selected": list, "dead": list, "by_emotion": dict}, where):
            return fault
        gates = [part["load"], part["selected"], *(found for found in part["by_emotion"].values() if found is not None)]
        if not all(isinstance(one, list) and len(one) == len(part["load"]) and all(map(_is_number, one)) for one in gates):
            return f"{where.rstrip('.')} has lists that are not of the same length, or not of numbers"
    return None if content["experts"] else "experts is empty"


def fault_of_predictions(table: pd.DataFrame) -> str | None:
    """Describes the first fault of a table of `heads.runs.folder.predictions_table`; None if there is none."""
    if "utterance_id" not in table:
        return "column utterance_id is missing"
    for name, values in table.drop(columns="utterance_id").items():
        if not pd.api.types.is_float_dtype(values):
            return f"column {name} is not all numbers"
        if not str(name).endswith("_true") and f"{name}_true" not in table:
            return f"column {name}_true is missing"
    return None


def identity_of(encoder: Mapping[str, Any]) -> Mapping[str, Any]:
    """Picks the fields of an encoder entry of config.json that identify the encoder.

    Imported features are identified by their origin, unless the user named the encoders: their names come from a file, which can be
    renamed. The word for the tuning of an encoder (`data.tuning`) only describes it: older files of the same features lack it.
    """
    is_imported = isinstance(encoder["identity"], dict) and "origin" in encoder["identity"]
    if is_imported:
        return {**encoder, "encoder": None}
    if not isinstance(encoder["encoder"], Mapping):
        return encoder
    return {**encoder, "encoder": {name: value for name, value in encoder["encoder"].items() if name != "tuning"}}


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Describes the first three values that are not as wanted, by dotted names."""
    have, want = dict(items(found)), dict(items(wanted))
    changed = [name for name in have | want if have.get(name) != want.get(name)]
    return "; ".join(f"{name} is {shown(have.get(name))}, not {shown(want.get(name))}" for name in changed[:3])


def without_nan(value: Any) -> Any:
    """Replaces NaN by None, so that the value can be written as JSON."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value
