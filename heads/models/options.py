"""Options as frozen dataclasses: built from YAML mappings, changed by dotted names, checked against what each field declares.

Unknown names and values are refused. The options themselves are in `heads.runs.config`, `heads.models.tasks` and beside each head. This
module imports no torch.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeVar, Union

from data.errors import InputError, shown
from data.lookup import expect, nearest
from heads.models.strict_yaml import parse_yaml

T = TypeVar("T")

SAME = "same"
FREE = "free"
ZERO_OR_NOT = "zero or not"
"""How an option may differ between the runs of a pack, which are trained as one model: not at all, in any way, or as long as it is
above 0 in all runs or in none. Free options change neither shapes nor operations; a dropout rate of 0 draws no random numbers, so
that it cannot stand beside another rate."""


@dataclass(frozen=True)
class Declared:
    """The declaration of a field, beside its type and default; see `option`."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] | None = None
    kind: str | None = None
    in_pack: str = SAME
    omitted: bool = False

    @property
    def range(self) -> str:
        """The allowed range in words."""
        low = f"more than {self.above:g}" if self.above is not None else f"{self.least:g}"
        if self.below is not None:
            return f"{low} to below {self.below:g}"
        if self.most is not None:
            return f"{low} to {self.most}"
        return low if self.above is not None else f"{low} or more"

    def allows(self, number: float) -> bool:
        """Returns True if a number is in the range."""
        return (
            (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        )

    @property
    def is_ranged(self) -> bool:
        """True if a range is declared."""
        return any(limit is not None for limit in (self.least, self.above, self.most, self.below))


_LARGEST = 2**63 - 1
"""The largest whole number that PyTorch and a table of trials hold."""

_NOTHING = Declared()
_COUNT = Declared(least=1)


def option(
    default: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    choices: Iterable[str] | None = None,
    kind: str | None = None,
    in_pack: str = SAME,
    omitted: bool = False,
) -> Any:
    """Makes a dataclass field that declares its range.

    A whole number without a range is a size or a count and must be 1 or more; other values without a range may be anything of their
    type. None, where the type allows it, is in every range; each number of a tuple must be in it.

    Args:
        default: The default value.
        least: The smallest value.
        above: The values are larger than this.
        most: The largest value.
        below: The values are smaller than this.
        choices: The allowed texts.
        kind: Names the choice in messages; the field's name if not given.
        in_pack: `SAME`, `FREE` or `ZERO_OR_NOT`.
        omitted: At its default, the option is not in `as_dict`: runs from before it existed keep their keys.
    """
    declared = Declared(least, above, most, below, None if choices is None else tuple(choices), kind, in_pack, omitted)
    return dataclasses.field(default=default, metadata={"declared": declared})


def dropout_rate(default: float) -> Any:
    """Makes the field of a dropout rate. The rate is a buffer of the head, so that runs of a pack may differ in it.

    Its range is checked by `heads.models.parts.randomness.Dropout`.
    """
    return option(default, in_pack=ZERO_OR_NOT)


class Field(NamedTuple):
    """One option with its value."""

    name: str  # dotted
    value: Any
    declared: Declared


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Builds an instance of the dataclass `kind` from `values`, nested mappings for nested dataclasses; the rest keeps its defaults.

    Args:
        kind: A dataclass.
        values: Field → value.
        where: A file or flag, to name in a message.

    Raises:
        InputError: A name is unknown (the message has the nearest one) or a value has the wrong type.
    """
    return _change(kind, None, values, where, "")


def change(options: T, values: Mapping[str, Any], where: str) -> T:
    """Returns a copy of `options` with `values` changed, as in `build`."""
    return _change(type(options), options, values, where, "")


def nested(assignments: Mapping[str, Any]) -> dict[str, Any]:
    """Nests dotted names: {"train.lr": 1e-4} → {"train": {"lr": 1e-4}}.

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
                raise InputError(f"{name}: {parent} has the value {shown(inner)} too. Give one of the two.")
        inner[last] = value
    return result


def parse_assignments(texts: list[str]) -> dict[str, Any]:
    """Parses ["train.lr=1e-4", "model.fusion.layers=2"] into {dotted name: value}; values are YAML.

    Raises:
        InputError: A text has no "=" or its value is no YAML.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"--set {shown(text)}: expected NAME=VALUE, for example train.lr=1e-4.")
        try:
            found[name] = parse_yaml(value)
        except ValueError as error:
            raise InputError(f"--set {shown(text)}: the value is no YAML ({error}).") from error
    return found


def items(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of a nested mapping, as `nested` takes them."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from items(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def flat(options: Any) -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of every field, nested ones included."""
    yield from ((field.name, field.value) for field in walk(options))


def walk(options: Any, prefix: str = "") -> Iterator[Field]:
    """Yields every field with its value and what it declares, nested ones included, under dotted names."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{prefix}{field.name}.")
        else:
            yield Field(f"{prefix}{field.name}", value, field.metadata.get("declared", _NOTHING))


def as_dict(options: Any) -> dict[str, Any]:
    """Returns a nested mapping of all options, without those that are declared `omitted` and have their default."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value, declared = getattr(options, field.name), field.metadata.get("declared", _NOTHING)
        if dataclasses.is_dataclass(value):
            if (inner := as_dict(value)) or not dataclasses.fields(value):
                found[field.name] = inner
        elif not (declared.omitted and value == field.default):
            found[field.name] = value
    return found


def check(options: Any, where: str) -> None:
    """Checks every option against the choices and the range that its field declares; see `option`.

    Args:
        options: A dataclass.
        where: A file or flag, to name in a message.

    Raises:
        InputError: A value is none of the choices or out of its range.
    """
    for name, value, rules in walk(options):
        if rules.choices is not None:
            expect(rules.choices, value, rules.kind or name.rpartition(".")[2])
        for number in value if isinstance(value, tuple) else (value,):
            own = rules if rules.is_ranged else _COUNT if type(number) is int else _NOTHING
            if isinstance(number, int | float) and not own.allows(number):
                raise InputError(f"{where}: {name} is {shown(value)}, expected {own.range}.")


def names(kind: type, prefix: str = "") -> list[str]:
    """Lists the dotted names of all fields of a dataclass."""
    hints = _hints(kind)
    found = []
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        found += names(inner, f"{prefix}{field.name}.") if _is_options(inner) else [f"{prefix}{field.name}"]
    return found


def _change(kind: Any, options: Any, values: Any, where: str, path: str) -> Any:
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: {path.rstrip('.') or 'the whole'} is {shown(values)}, expected names with values: {_list(kind)}.")
    hints = _hints(kind)
    changed = {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(_unknown(kind, f"{path}{name}", name, where))
        hint = hints[name]
        if _is_options(hint):
            changed[name] = _change(hint, getattr(options, name, None), value, where, f"{path}{name}.")
        else:
            changed[name] = _typed(value, hint, f"{where}: {path}{name}")
    return dataclasses.replace(options, **changed) if options is not None else kind(**changed)


def _is_options(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _unknown(kind: type, dotted: str, name: str, where: str) -> str:
    near = nearest(str(name), [field.name for field in dataclasses.fields(kind)])
    hint = f" Did you mean {dotted[: len(dotted) - len(str(name))]}{near}?" if near else ""
    return f"{where}: unknown option {shown(dotted)}.{hint} Available here: {_list(kind)}."


def _list(kind: type) -> str:
    return ", ".join(field.name for field in dataclasses.fields(kind))


def _typed(value: Any, hint: Any, where: str) -> Any:
    """Converts `value` to the annotated type: bool, int, float, str, None, tuple[X, ...] or a union of these."""
    for option in _alternatives(hint):
        converted = _converted(value, option, where)
        if converted is not _NO:
            return converted
    raise InputError(f"{where} is {shown(value)}, expected {_describe(hint)}.")


_NO = object()


def _converted(value: Any, hint: Any, where: str) -> Any:
    if hint is type(None):
        return None if value is None else _NO
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(_typed(part, inner, where) for part in value) if isinstance(value, (list, tuple)) else _NO
    if hint is float and not isinstance(value, bool):
        return _number(value)
    if hint is int and type(value) is int and abs(value) > _LARGEST:
        raise InputError(f"{where} is {shown(value)}, expected a whole number of at most 64 bits.")
    return value if type(value) is hint else _NO


def _number(value: Any) -> Any:
    """Converts to a finite float; YAML reads 1e-4 as text because it has no dot."""
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
