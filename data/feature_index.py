"""The index of a feature file: everything but the values. Its rules, its checksum, and how it is read and written.

`data.feature_store` specifies the format and reads the values; other modules use that module.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import h5py
import numpy as np

from data.errors import InputError, shown

FORMAT = "mmolre-features"
VERSION = 1
DTYPES = ("float16", "float32")
REBUILD = "Delete it and run BuildFeatures again."

_OWN_ATTRIBUTES = ("format", "version", "index_checksum")


class DamagedFileError(InputError):
    """A feature file is truncated, or its parts contradict each other."""


@dataclass(frozen=True)
class FeatureIndex:
    """The ids, positions and checksums of the N utterances of a feature file, and its attributes."""

    ids: tuple[str, ...]
    offsets: np.ndarray  # (N + 1,) int64
    sources: tuple[str, ...]  # ASCII
    checksums: np.ndarray  # (N,) uint32
    facts: Mapping[str, str]  # name → JSON text, sorted by name

    @classmethod
    def of(cls, path: Path, ids: Sequence[str], lengths: Sequence[int], sources: Sequence[str], attributes: Mapping[str, Any]) -> Self:
        """Return the index of a new file, in which all checksums are still 0.

        Raises:
            InputError: An id is empty, repeated or cannot be stored, or a length is below 1.
            ValueError: The arguments differ in length, or an attribute has a name that the format reserves.
        """
        if not len(ids) == len(lengths) == len(sources):
            raise ValueError(f"{path}: {len(ids)} ids, {len(lengths)} lengths, {len(sources)} sources")
        if reserved := set(attributes) & set(_OWN_ATTRIBUTES):
            raise ValueError(f"{path}: the attributes {sorted(reserved)} are the format's own")
        _expect_utterances(path, ids, lengths)
        return cls(
            ids=tuple(ids),
            offsets=np.cumsum([0, *lengths], dtype="<i8"),
            sources=tuple(sources),
            checksums=np.zeros(len(ids), "<u4"),
            facts={name: json.dumps(value, sort_keys=True) for name, value in sorted(attributes.items())},
        )

    @classmethod
    def read(cls, file: h5py.File, path: Path) -> Self:
        """Read and check the index of an open file. A damaged file may also raise any error of HDF5.

        Raises:
            DamagedFileError: The parts of the index contradict each other or their checksum.
            InputError: The file is not a feature file, or has a newer version.
        """
        attributes: Any = file.attrs
        name, version = attributes.get("format"), attributes.get("version")
        if not isinstance(name, bytes) or name.decode() != FORMAT:
            raise InputError(f"{path}: HDF5, but not a feature file: its attribute 'format' is {shown(name)}, expected {FORMAT!r}.")
        if version > VERSION:
            raise InputError(f"{path}: feature file of version {version}; this program reads up to {VERSION}. Install a newer one.")
        index = cls(
            ids=_texts(dataset(file, "utterance_id")),
            offsets=dataset(file, "offsets")[()],
            sources=_texts(dataset(file, "source")),
            checksums=dataset(file, "checksum")[()],
            facts={name: attributes[name].decode() for name in sorted(attributes) if name not in _OWN_ATTRIBUTES},
        )
        if attributes["index_checksum"] != index.checksum():
            raise DamagedFileError(f"{path}: its ids, offsets, sources, checksums or attributes are damaged. {REBUILD}")
        steps, count = np.diff(index.offsets), len(index.ids)
        if not count == len(steps) == len(index.sources) == len(index.checksums) or index.offsets[0] != 0 or (steps < 1).any():
            raise DamagedFileError(f"{path}: {count} ids and offsets that do not belong together. {REBUILD}")
        return index

    def locate(self, values: h5py.Dataset, path: Path) -> int:
        """Return the position of the values in the file, in bytes; 0 if there are none.

        Raises:
            DamagedFileError: The values differ from the index or from the format.
        """
        rows = int(self.offsets[-1])
        position = values.id.get_offset() if values.size else 0
        if values.ndim != 2 or len(values) != rows or values.dtype.name not in DTYPES or position is None:
            found, expected = f"{values.shape} {values.dtype}", f"{rows} rows of {' or '.join(DTYPES)}, contiguous"
            raise DamagedFileError(f"{path}: the values are {found}, expected {expected}. {REBUILD}")
        return position

    def write(self, file: h5py.File) -> None:
        """Write the index into the root group of an open file."""
        file["offsets"] = self.offsets
        file["utterance_id"] = _fixed_length(self.ids, "utf-8")
        file["checksum"] = self.checksums
        file["source"] = _fixed_length(self.sources, "ascii")
        file.attrs["format"] = np.bytes_(FORMAT)
        file.attrs["version"] = VERSION
        file.attrs["index_checksum"] = self.checksum()
        for name, text in self.facts.items():
            file.attrs[name] = np.bytes_(text)

    def checksum(self) -> np.uint32:
        """Compute the `index_checksum` of the format."""
        texts = [part for name, text in self.facts.items() if name != "when" for part in (name, text)]
        checksum = zlib.crc32("\0".join([*texts, *self.ids, *self.sources]).encode())
        return np.uint32(zlib.crc32(self.checksums.data, zlib.crc32(self.offsets.data, checksum)))


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset of a feature file. Anything else of this name fails when it is read."""
    return cast(h5py.Dataset, file[name])


def is_finite(values: np.ndarray) -> bool:
    """Return True if all of at least one value are finite; NumPy's test takes 30 times as long for float16.

    A float16 that is not finite has the bits 0x7C00 to 0x7FFF if it is positive, and 0xFC00 to 0xFFFF if it is negative: the largest
    numbers of 16 bits with and without a sign.
    """
    if values.dtype.name == "float16":
        return bool(values.view("<i2").max() < 0x7C00 and values.view("<u2").max() < 0xFC00)
    return bool(np.isfinite(values).all())


def _fixed_length(texts: Sequence[str], encoding: str) -> np.ndarray:
    encoded = [text.encode(encoding) for text in texts]
    return np.array(encoded, h5py.string_dtype(encoding, max(map(len, encoded), default=1) or 1))


def _texts(stored: h5py.Dataset) -> tuple[str, ...]:
    return tuple(text.decode() for text in stored[()].tolist())


def _expect_utterances(path: Path, ids: Sequence[str], lengths: Sequence[int]) -> None:
    seen: set[str] = set()
    for utterance_id, length in zip(ids, lengths, strict=True):
        name = f"{path}: utterance {shown(utterance_id)}"
        if not utterance_id or "\0" in utterance_id or not is_unicode(utterance_id):
            raise InputError(f"{name}: expected an id of at least one character, in Unicode, without NUL.")
        if utterance_id in seen:
            raise InputError(f"{name} occurs twice, expected unique ids.")
        if length < 1:
            raise InputError(f"{name}: {length} rows, expected 1 or more.")
        seen.add(utterance_id)


def is_unicode(text: str) -> bool:
    """Return True if a text can be stored as UTF-8, which excludes lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
