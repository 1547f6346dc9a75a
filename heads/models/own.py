"""Heads of one's own: a class in a Python file, in an importable module, or under an entry point of an installed package.

    --head path/to/gated.py:Gated       a file; nothing is put on sys.path for it
    --head package.module:Gated         a module that Python finds
    --head gated                        an entry point of the group `mmolre.heads`

A run is identified by the name of the class and the SHA-256 of its source, not by where the file lies: `short_name` and
`OwnHead.source`. What a class must be is checked here when it is loaded; what it must do, in `heads.models.contract`. This module
imports torch only with a head.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from data.errors import InputError, listed, reason, shown
from data.lookup import nearest
from heads.models.tasks import TASKS

if TYPE_CHECKING:
    from heads.models.base import Head

GROUP = "mmolre.heads"
"""The group of entry points under which installed packages offer heads."""


class HeadError(InputError):
    """The code of a head of one's own raised an error; the text says in which line."""


@dataclass(frozen=True)
class OwnHead:
    """A head of one's own, loaded."""

    name: str  # as `full_name` returns it
    kind: type[Head]
    file: Path  # that the class is defined in
    text: bytes  # its content when it was loaded

    @property
    def source(self) -> str:
        """SHA-256 of the source, 16 hexadecimal digits of it."""
        return _digest(self.text)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """What the class says of its training: `RECIPE`, a nested mapping as in a section of a preset; empty if it says nothing."""
        return getattr(self.kind, "RECIPE", {})


_LOADED: dict[str, OwnHead] = {}
"""Full name → the head as it was loaded last."""


def is_reference(name: str) -> bool:
    """Returns True if a name is FILE.py:CLASS or MODULE:CLASS."""
    return ":" in name


def full_name(name: str) -> str:
    """Returns the name of a head that holds in every folder: a file's path becomes absolute; other names stay."""
    if not is_file(name):
        return name
    file, _, kind = name.rpartition(":")
    return f"{Path(file).expanduser().resolve()}:{kind}"


def short_name(name: str) -> str:
    """Returns the name of a head for folders and tables, such as gated.Gated for /home/me/gated.py:Gated; names of a word stay."""
    if not is_reference(name):
        return name
    place, _, kind = name.rpartition(":")
    return f"{Path(place).stem if is_file(name) else place}.{kind}"


def is_file(name: str) -> bool:
    """Returns True if a name is FILE.py:CLASS."""
    return is_reference(name) and name.rpartition(":")[0].endswith(".py")


def source_of(name: str) -> str | None:
    """Returns `OwnHead.source` of a head that is named by its file, as the file is now; None if it cannot be read."""
    try:
        return _digest(Path(name.rpartition(":")[0]).read_bytes())
    except OSError:
        return None


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def installed() -> dict[str, EntryPoint]:
    """Returns name → entry point, of the heads that installed packages offer, by name.

    Raises:
        InputError: Two packages offer a head of one name.
    """
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in found and point.value != found[point.name].value:
            raise InputError(
                f"Two installed packages offer a head {shown(point.name)}: {found[point.name].value} and {point.value}. Name one of"
                " them as MODULE:CLASS."
            )
        found[point.name] = point
    return found


def loaded(name: str) -> OwnHead:
    """Returns the head of a full name as it was loaded last in this process, or else loads it.

    Raises:
        InputError: As for `load`.
    """
    return _LOADED[name] if name in _LOADED else load(name)


def load(name: str) -> OwnHead:
    """Loads a head by its full name. A file is read again, and executed again if it has changed.

    Raises:
        InputError: There is no such file, module or class, its code raises an error, or the class is no head.
    """
    reference = name if is_reference(name) else installed()[name].value
    place, _, kind = reference.rpartition(":")
    if not is_file(reference):
        return _LOADED[name] if name in _LOADED else _keep(name, kind, _imported(place))  # Python imports a module once
    file = Path(place)
    try:
        text = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: the file of head {kind} cannot be read ({error.strerror or error}).") from error
    return from_text(name, text)


def from_text(name: str, text: bytes) -> OwnHead:
    """Loads the head of a file from the content that the file has or had.

    Raises:
        InputError: Its code raises an error, or the class is missing or no head.
    """
    place, _, kind = name.rpartition(":")
    known = _LOADED.get(name)
    if known is not None and known.text == text:
        return known
    return _keep(name, kind, _executed(Path(place), text), text)


def _executed(file: Path, text: bytes) -> ModuleType:
    """Executes a file as a module of its own, which no import finds by the name of the file."""
    module = ModuleType(f"mmolre_head_{_digest(bytes(file) + text)}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # where dataclasses looks for the types of fields
    try:
        exec(compile(text, str(file), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise HeadError(_in_short(error, {str(file)}) or f"{file}: {type(error).__name__}: {reason(error)}") from error
    return module


def _imported(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise InputError(
                f"There is no module {error.name!r} for the head. Name the file (path/to/file.py:CLASS), or install the package."
            ) from error
        raise HeadError(f"module {module}: {reason(error)}.") from error
    except (Exception, SystemExit) as error:
        raise HeadError(_in_short(error, None) or f"module {module}: {type(error).__name__}: {reason(error)}") from error


def _keep(name: str, kind: str, module: ModuleType, text: bytes | None = None) -> OwnHead:
    file = Path(module.__file__ or module.__name__)
    found = OwnHead(name, _class(module, kind, file), file, file.read_bytes() if text is None else text)
    _LOADED[name] = found
    return found


def _class(module: ModuleType, name: str, file: Path) -> type[Head]:
    """Returns the class of a head, checked as far as that is possible without making one."""
    from heads.models.base import Head  # imports torch

    kind = getattr(module, name, None)
    if kind is None:
        heads = [key for key, value in vars(module).items() if _is_head(value, Head) and value.__module__ == module.__name__]
        near = nearest(name, heads)
        hint = f" Did you mean {near}?" if near else ""
        raise InputError(f"{file}: there is no class {shown(name)}.{hint} Heads there: {listed(heads) or 'none'}.")
    if not _is_head(kind, Head):
        raise InputError(f"{file}: {name} is no head: a head is a subclass of heads.models.base.Head. See docs/heads.md.")
    options = getattr(kind, "Options", None)
    if not (isinstance(options, type) and dataclasses.is_dataclass(options) and _is_frozen(options)):
        raise InputError(f"{file}: {name}.Options is {shown(options)}, expected a frozen dataclass of the head's options.")
    if without := [one.name for one in dataclasses.fields(options) if _has_no_default(one)]:
        raise InputError(f"{file}: {name}.Options: {listed(without)} has no default. Every option needs one.")
    if kind.only_task not in (None, *TASKS):
        raise InputError(f"{file}: {name}.only_task is {shown(kind.only_task)}, expected one of {', '.join(TASKS)}, or None.")
    if not isinstance(recipe := getattr(kind, "RECIPE", {}), Mapping):
        raise InputError(f'{file}: {name}.RECIPE is {shown(recipe)}, expected names with values, such as {{"train.lr": 1e-3}}.')
    return kind


def _is_head(value: object, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base) and value is not base


def _is_frozen(options: Any) -> bool:
    return options.__dataclass_params__.frozen


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@contextlib.contextmanager
def errors_in_short() -> Iterator[None]:
    """Turns an error that the code of a loaded head raises into a `HeadError` that names its line; others pass."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if (words := in_short(error)) is None:
            raise
        raise HeadError(words) from error


def in_short(error: BaseException) -> str | None:
    """Returns file, line and message of an error that the code of a loaded head raised; None if no line of it took part."""
    return _in_short(error, {str(one.file) for one in _LOADED.values()})


def _in_short(error: BaseException, files: Collection[str] | None) -> str | None:
    """Returns file, line and message of an error; the line is the last one in one of `files`, or the last of all if that is None."""
    if isinstance(error, SyntaxError) and (files is None or error.filename in files):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if files is None or frame.filename in files]
    return f"{frames[-1].filename}:{frames[-1].lineno}: {type(error).__name__}: {reason(error)}" if frames else None
