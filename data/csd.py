"""Computational sequences of the CMU multimodal SDK (`.csd` files), read and written.

A `.csd` is an HDF5 file with one root group, named after the sequence. The group holds `data/<id>/features` (n, ...),
`data/<id>/intervals` (n, 2) in seconds, and `metadata/<key>`, one JSON string each. The SDK's reader requires only the metadata
"root name". CMU distributes the labels of MOSI and MOSEI, and features by video or by segment, in this format.

`data.corpora.cmu` interprets the columns of label files; `data.interchange.csd` exports a cached corpus.

Source: https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK (mmsdk/mmdatasdk/computational_sequence).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from data.errors import InputError, shown
from data.files import read_head, unreadable
from data.hdf5 import new_hdf5

_MOST_COMPRESSED = 1032
"""Largest ratio of the bytes of a dataset to those in the file: deflate's limit (https://zlib.net/zlib_tech.html)."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Entry(NamedTuple):
    """The features and times that a sequence holds for one id."""

    features: np.ndarray  # (n, ...)
    intervals: np.ndarray  # (n, 2), seconds


@dataclass(frozen=True)
class Sequence:
    """A whole computational sequence, in memory."""

    name: str
    entries: Mapping[str, Entry]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_csd(path: Path) -> Sequence:
    """Read a `.csd`, with the ids in the order of the file.

    Raises:
        InputError: The file is missing, is a git-lfs pointer or an HTML page, is not HDF5, is truncated or damaged, or its groups
            or shapes are not those of a computational sequence.
    """
    if not read_head(path).startswith(_SIGNATURE):
        raise InputError(f"{path}: not a .csd (HDF5) file. Download it again.")
    try:
        file = h5py.File(path, "r")
    except (OSError, MemoryError) as error:
        raise unreadable(path, error) or InputError(f"{path}: {_damage(error)}") from error
    with file:
        try:
            return _read_root(file, path)
        except InputError:
            raise
        except Exception as error:  # HDF5 reports damage by errors of many types, KeyError among them
            raise unreadable(path, error) or InputError(f"{path}: {_damage(error)}") from error


def write_csd(path: Path, name: str, entries: Iterable[tuple[str, Entry]], metadata: Mapping[str, Any] | None = None) -> None:
    """Write a `.csd` that the SDK can read. Only one entry is in memory at a time.

    Args:
        path: The file, which appears complete or not at all.
        name: Name of the root group and value of the metadata "root name".
        entries: Pairs of an id and its features and intervals.
        metadata: Other JSON-able facts, e.g. "dimension names".

    Raises:
        InputError: An id is repeated or cannot name an HDF5 group, or the shapes of an entry do not fit.
    """
    if not _is_group_name(name):
        raise InputError(f"{path}: a sequence cannot be named {shown(name)}: expected a name without '/'.")
    with new_hdf5(path) as made:
        with made.change() as file:
            data = file.create_group(f"{name}/data")
        for entry_id, entry in entries:
            with made.change():
                _check_id(path, data, entry_id)
                _check_shapes(path, entry_id, entry)
                data.create_dataset(f"{entry_id}/features", data=entry.features)
                data.create_dataset(f"{entry_id}/intervals", data=entry.intervals)
        with made.change() as file:
            for key, value in {**(metadata or {}), "root name": name}.items():
                file.create_dataset(f"{name}/metadata/{key}", data=[json.dumps(value)], dtype=h5py.string_dtype())


def _damage(error: Exception) -> str:
    if "truncated" in str(error):
        return "truncated: shorter on disk than its header says. Download it again."
    return f"damaged ({type(error).__name__}: {shown(str(error))}). Download it again."


def _read_root(file: h5py.File, path: Path) -> Sequence:
    names = list(file)
    root = file[names[0]] if len(names) == 1 else None
    if not isinstance(root, h5py.Group):
        raise InputError(f"{path}: not a computational sequence: expected one root group, found {shown(names)}.")
    data = root.get("data")
    if not isinstance(data, h5py.Group):
        raise InputError(
            f"{path}: not a computational sequence: expected a group 'data' in {shown(names[0])}, found {shown(list(root))}."
        )
    entries = {str(entry_id): _read_entry(data, str(entry_id), path) for entry_id in data}
    return Sequence(names[0], entries, _read_metadata(root))


def _read_entry(data: h5py.Group, entry_id: str, path: Path) -> Entry:
    stored: Any = data
    try:
        entry = Entry(_values(stored[f"{entry_id}/features"]), _values(stored[f"{entry_id}/intervals"]))
    except (KeyError, AttributeError) as error:
        raise InputError(f"{path}: {shown(entry_id)}: expected datasets 'features' and 'intervals'.") from error
    _check_shapes(path, entry_id, entry)
    return entry


def _values(dataset: Any) -> np.ndarray:
    """Read a dataset that is not larger than what the file can store.

    Raises:
        RuntimeError: Its shape is too large. Reading it would allocate the memory before a value is missed.
    """
    if dataset.nbytes > _MOST_COMPRESSED * (dataset.id.get_storage_size() + 1):
        raise RuntimeError(f"a shape of {dataset.shape}, for which the file has {dataset.id.get_storage_size():,} bytes")
    return dataset[()]


def _read_metadata(root: h5py.Group) -> dict[str, Any]:
    group: Any = root.get("metadata", {})
    return {key: _parse(_values(group[key])) for key in group}


def _parse(stored: Any) -> Any:
    """Return the JSON value of a metadata dataset, a scalar or of shape (1,); the raw text if another tool wrote no JSON."""
    value = np.ravel(np.asarray(stored, dtype=object))[0] if np.size(stored) else ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, an integer of thousands of digits, nested too deeply
        return text


def _is_group_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _check_id(path: Path, data: h5py.Group, entry_id: str) -> None:
    if not _is_group_name(entry_id):
        raise InputError(f"{path}: {shown(entry_id)} cannot be the id of an entry: expected a name without '/'.")
    if entry_id in data:
        raise InputError(f"{path}: id {shown(entry_id)} is given twice; expected unique ids.")


def _check_shapes(path: Path, entry_id: str, entry: Entry) -> None:
    features, intervals = entry
    numeric = np.issubdtype(features.dtype, np.number) and np.issubdtype(intervals.dtype, np.number)
    if not numeric or features.ndim < 1 or intervals.shape != (len(features), 2):
        raise InputError(
            f"{path}: {shown(entry_id)}: features {features.dtype} {features.shape}, "
            f"intervals {intervals.dtype} {intervals.shape}; expected numbers of shapes (n, ...) and (n, 2)."
        )
