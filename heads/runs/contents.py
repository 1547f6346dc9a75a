"""The content of a run's JSON files: its shape, faults of a file that was read, differences between two. Files are read and written in
`heads.runs.folder`."""

from collections.abc import Mapping
from typing import Any

from heads.models.options import items

CONFIG = {
    "version": int,
    "config": {"head": str, "corpus": str, "data": {"modalities": list}},
    "encoders": dict,
    "made": {"cache": str},
}
ENCODER = {"encoder": object, "identity": object, "dim": int}
METRICS = {"valid": dict, "valid_interval": dict}
_WORDS = {int: "a whole number", str: "text", list: "a list", dict: "a mapping"}


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
        elif not isinstance(content[name], expected):
            return f"{prefix}{name} is not {_WORDS[expected]}"
    return None


def no_metric(content: Mapping[str, Any]) -> str | None:
    """Describes the first value of the validation split that is neither a number nor null, or whose interval is not two of these; None
    if there is none."""
    for name, value in content["valid"].items():
        if not _is_number(value):
            return f"valid.{name} is not a number"
    for name, pair in content["valid_interval"].items():
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_number, pair)):
            return f"valid_interval.{name} is not two numbers"
    return None


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def identity_of(encoder: Mapping[str, Any]) -> Mapping[str, Any]:
    """Picks the fields of an encoder entry of config.json that identify the encoder.

    Imported features are identified by their origin, unless the user named the encoders: their names come from a file, which can be
    renamed.
    """
    is_imported = isinstance(encoder["identity"], dict) and "origin" in encoder["identity"]
    return {**encoder, "encoder": None} if is_imported else encoder


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Describes the first three values that are not as wanted, by dotted names."""
    have, want = dict(items(found)), dict(items(wanted))
    changed = [name for name in have | want if have.get(name) != want.get(name)]
    return "; ".join(f"{name} is {have.get(name)!r}, not {want.get(name)!r}" for name in changed[:3])


def without_nan(value: Any) -> Any:
    """Replaces NaN by None, so that the value can be written as JSON."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value
