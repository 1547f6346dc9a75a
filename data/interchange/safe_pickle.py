"""Pickles of arrays and plain values: read from untrusted files without running code in them, and written for any version of NumPy.

A pickle may contain NumPy arrays and scalars, strings, bytes, numbers, booleans, None, lists and dicts. Any other name in a pickle is
refused before it is looked up. NumPy's own functions are not called either, because they trust the pickle (`numpy.ndarray` of objects
over given bytes crashes the interpreter). Stand-ins replace them, and arrays are made from the right number of bytes and a data type
of a short list. `data.interchange.pickle_opcodes` bounds memory and nesting before anything is interpreted. The modules of the formats
interpret the content.

Source: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from data.errors import InputError, shown
from data.files import read_head, unreadable
from data.interchange.pickle_opcodes import ExcessError, check_opcodes

PROTOCOL = 4
"""Protocol of written pickles. Protocol 4 exists since Python 3.4 and allows arrays larger than 4 GiB."""

_PLAIN = (str, bytes, bool, int, float, type(None))
_DTYPE = re.compile(r"[biuf][0-9]{1,2}|[?bBhHiIlLqQefdg]|[SU][0-9]{1,9}|O8?")
_KNOWN = "numpy arrays, strings, bytes, numbers, booleans, None, lists and dicts"


class _Dtype:
    """A stand-in for `numpy.dtype` while a pickle is read."""

    __slots__ = ("made",)

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise _Refused(f"numpy.dtype({shown(code)})")
        self.made = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, subarray, names, fields, *_ = state
        if (subarray, names, fields) != (None, None, None) or order not in ("<", ">", "=", "|"):
            raise _Refused("numpy.dtype with fields")
        self.made = self.made.newbyteorder(order)


class _Array:
    """A stand-in for `numpy.ndarray` while a pickle is read."""

    __slots__ = ("made",)

    def __init__(self) -> None:
        self.made: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *_, shape, dtype, is_fortran, content = state
        self.made = _filled(content, dtype, shape, "F" if is_fortran else "C")


class _Function:
    """A stand-in for a function or type that a pickle names: it can be called, and has no attribute that the pickle could set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("attributes of a function")


class _Refused(Exception):
    """A pickle contains something that is refused. The text names it."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows only the names in pickles of plain arrays, for all versions of NumPy."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[str, Callable[..., Any]] = {
            "numpy.ndarray": _empty,
            "numpy.dtype": _dtype,
            "multiarray._reconstruct": _empty,
            "multiarray.scalar": _scalar,
            "numeric._frombuffer": _from_buffer,
            "_codecs.encode": _encode,
            "__builtin__.bytes": _no_bytes,
        }
        short = re.sub(r"^numpy\._?core\.", "", module)
        if f"{short}.{name}" not in known:
            raise _Refused(_one_line(f"{module}.{name}"))
        return _Function(known[f"{short}.{name}"])


def load(path: Path) -> Any:
    """Read a whole pickle. Arrays of numbers are read-only, because they share memory with the bytes that were read.

    Raises:
        InputError: The file is missing, empty, truncated, damaged, too large for the memory, or not a pickle (but a git-lfs pointer,
            an HTML page, …); or it contains something other than arrays and plain values, or more than `pickle_opcodes` allows, which
            the message names.
    """
    if not read_head(path).startswith(b"\x80"):
        raise InputError(f"{path}: not a pickle (of protocol 2 or newer). Is it compressed, or of another format?")
    try:
        with path.open("rb") as file:
            check_opcodes(file, os.fstat(file.fileno()).st_size)
            file.seek(0)
            return _settle(_Unpickler(file).load())
    except MemoryError as error:  # also if a damaged pickle asks for more bytes than the file has
        size = f"{path.stat().st_size:,} bytes"
        raise InputError(
            f"{path}: not enough memory. A pickle is read as a whole, and this one has {size}. If there is more memory,"
            " the file is damaged: download it again."
        ) from error
    except ExcessError as error:
        raise InputError(
            f"{path}: refused to unpickle {error}. Features need less; lists of numbers belong in NumPy arrays. If it has no such"
            " lists, the file is damaged: download it again."
        ) from error
    except _Refused as error:
        raise InputError(f"{path}: refused to unpickle {error}. Files from others may hold {_KNOWN}, nothing else.") from error
    except Exception as error:  # a damaged pickle raises any error
        if (cannot := unreadable(path, error)) is not None:
            raise cannot from error
        if isinstance(error, EOFError) or "truncated" in str(error):
            raise InputError(f"{path}: truncated: it ends inside its pickle. Download it again.") from error
        raise InputError(f"{path}: damaged ({type(error).__name__}: {_one_line(str(error))}). Download it again.") from error


def dump(value: Any, file: IO[bytes]) -> None:
    """Write arrays and plain values, none of which may contain itself. This needs memory for a copy of the largest array.

    NumPy 2 pickles arrays with the name `numpy._core`, which versions before 1.26 do not have. Here, arrays are pickled with the name
    `numpy.ndarray`, which all versions have.
    """
    pickler = _Pickler(file, PROTOCOL)
    pickler.fast = True  # otherwise it keeps the bytes of every array until the end, to find repetitions
    pickler.dump(value)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if type(value) is not np.ndarray:
            return NotImplemented
        return np.ndarray, ((0,), "b"), value.__reduce__()[2]


def _one_line(text: str) -> str:
    """Return a text that a pickle may have chosen, without line breaks and control characters, shortened like any value."""
    return shown(text).strip("'\"")


def _empty(*_: Any) -> _Array:
    return _Array()


def _dtype(code: Any, *_: Any) -> _Dtype:
    return _Dtype(code)


def _scalar(dtype: _Dtype, content: bytes) -> Any:
    return _filled(content, dtype, (1,), "C")[0].item()


def _from_buffer(content: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: Any, axes: Any = None) -> np.ndarray:
    if axes is None:
        return _filled(content, dtype, shape, order)
    return _filled(content, dtype, shape, "C").transpose(axes)


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _Refused(f"_codecs.encode to {shown(encoding)}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _filled(content: Any, dtype: Any, shape: tuple[int, ...], order: Any) -> np.ndarray:
    """Return a read-only array that shares memory with its bytes, or an array of objects from a list."""
    if not isinstance(dtype, _Dtype):
        raise _Refused(f"an array of type {shown(dtype)}")
    if dtype.made.kind == "O" and isinstance(content, list):
        array = np.empty(len(content), object)
        for index, value in enumerate(content):  # assigning all values at once would make NumPy inspect them
            array[index] = value
    elif dtype.made.kind != "O" and isinstance(content, bytes | bytearray):
        array = np.frombuffer(content, dtype.made).reshape(shape, order=order)
        array.flags.writeable = False
        return array
    else:
        raise _Refused(f"an array of {dtype.made} from {type(content).__name__}")
    return array.reshape(shape, order=order)


def _settle(root: Any) -> Any:
    """Replace stand-ins by their arrays, and refuse values that are neither arrays nor plain. Cycles and shared values are allowed."""
    holder, seen = [root], set()
    pending: list[Any] = [holder]
    while pending:
        container = pending.pop()
        if id(container) in seen:
            continue
        seen.add(id(container))
        if isinstance(container, dict) and (strange := [key for key in container if type(key) not in _PLAIN]):
            raise _Refused(f"{type(strange[0]).__name__} as a key")
        cells = container.ravel("K") if isinstance(container, np.ndarray) else container  # for the arrays made here, "K" gives a view
        for place in list(cells) if isinstance(cells, dict) else range(len(cells)):
            cells[place] = value = _array(cells[place])
            if type(value) in (list, dict) or (isinstance(value, np.ndarray) and value.dtype.kind == "O"):
                pending.append(value)
            elif type(value) not in (*_PLAIN, np.ndarray):
                raise _Refused(type(value).__name__)
    return holder[0]


def _array(value: Any) -> Any:
    if not isinstance(value, _Array):
        return value
    if value.made is None:
        raise _Refused("an array without values")
    return value.made
