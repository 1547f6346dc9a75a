"""Options as frozen dataclasses: built from YAML mappings, changed by dotted names. Unknown names and values are refused.

What options there are is in `heads.runs.config` and beside each head.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, Union

import yaml

from data.errors import InputError

T = TypeVar("T")


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind` with `values`, nested mappings for nested dataclasses; the rest at its defaults.

    Args:
        kind: A dataclass.
        values: Field → value.
        where: What to name in a message: a file, "--set".

    Raises:
        InputError: A name is unknown (the message has the nearest one) or a value has the wrong type.
    """
    return _change(kind, None, values, where, "")


def change(options: T, values: Mapping[str, Any], where: str) -> T:
    """A copy of `options` with `values` changed, as in `build`."""
    return _change(type(options), options, values, where, "")


def nested(assignments: Mapping[str, Any]) -> dict[str, Any]:
    """{"train.lr": 1e-4} → {"train": {"lr": 1e-4}}

    Raises:
        InputError: A name has a value and is at the same time a part of another name.
    """
    result: dict[str, Any] = {}
    for name, value in assignments.items():
        *parents, last = name.split(".")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise InputError(f"{name}: {parent} has the value {inner!r} too. Give one of the two.")
        inner[last] = value
    return result


def parse_assignments(texts: list[str]) -> dict[str, Any]:
    """["train.lr=1e-4", "model.fusion.layers=2"] → {dotted name: value}; values are YAML.

    Raises:
        InputError: A text has no "=" or its value is no YAML.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"--set {text!r}: expected NAME=VALUE, for example train.lr=1e-4.")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {text!r}: the value is no YAML ({str(error).splitlines()[0]}).") from error
    return found


def items(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of a nested mapping, as `nested` takes them."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from items(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def flat(options: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every field, nested ones included."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from flat(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


def names(kind: type, prefix: str = "") -> list[str]:
    """Dotted names of all fields of a dataclass."""
    hints = typing.get_type_hints(kind)
    found = []
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        found += names(inner, f"{prefix}{field.name}.") if dataclasses.is_dataclass(inner) else [f"{prefix}{field.name}"]
    return found


def _change(kind: type[T], options: T | None, values: Any, where: str, path: str) -> T:
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: {path.rstrip('.') or 'the whole'} is {values!r}, expected names with values: {_list(kind)}.")
    hints = typing.get_type_hints(kind)
    changed = {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(_unknown(kind, f"{path}{name}", name, where))
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            changed[name] = _change(hint, getattr(options, name, None), value, where, f"{path}{name}.")
        else:
            changed[name] = _typed(value, hint, f"{where}: {path}{name}")
    return dataclasses.replace(options, **changed) if options is not None else kind(**changed)


def _unknown(kind: type, dotted: str, name: str, where: str) -> str:
    fields = [field.name for field in dataclasses.fields(kind)]
    near = difflib.get_close_matches(str(name), fields, n=1)
    hint = f" Did you mean {dotted[: len(dotted) - len(str(name))]}{near[0]}?" if near else ""
    return f"{where}: unknown option {dotted!r}.{hint} Available here: {_list(kind)}."


def _list(kind: type) -> str:
    return ", ".join(field.name for field in dataclasses.fields(kind))


def _typed(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type: bool, int, float, str, None, tuple[X, ...] or a union of these."""
    for option in _alternatives(hint):
        converted = _converted(value, option, where)
        if converted is not _NO:
            return converted
    raise InputError(f"{where} is {value!r}, expected {_describe(hint)}.")


_NO = object()


def _converted(value: Any, hint: Any, where: str) -> Any:
    if hint is type(None):
        return None if value is None else _NO
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(_typed(part, inner, where) for part in value) if isinstance(value, (list, tuple)) else _NO
    if hint is float and not isinstance(value, bool):
        return _number(value)
    return value if type(value) is hint else _NO


def _number(value: Any) -> Any:
    """A finite float; YAML reads 1e-4 as text because it has no dot."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return _NO
    return number if math.isfinite(number) else _NO


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _describe(hint: Any) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "nothing (null)"}
    lists = {int: "a list of whole numbers", float: "a list of numbers", str: "a list of texts"}
    return " or ".join(
        lists[typing.get_args(part)[0]] if typing.get_origin(part) is tuple else words[part] for part in _alternatives(hint)
    )
