"""Feature files: the (T, D) features of every utterance of a corpus for one modality and encoder setting, in one HDF5 file.

`pipeline` computes features; `data.tensors` makes padded tensors of them; `data.feature_index` handles everything but the values. The
columns may be those of several layers of the encoder side by side; `data.layers` reads from the facts which.

Format "mmolre-features", version 1. Everything is in the root group. N utterances, T rows in the i-th, D columns:

    values        (ΣT, D)  float16 or float32, little-endian, contiguous: the utterances one after the other, T ≥ 1 rows each
    offsets       (N + 1)  int64; utterance i is values[offsets[i]:offsets[i + 1]], offsets[0] = 0, offsets[N] = ΣT
    utterance_id  (N)      fixed-length UTF-8, padded with NUL, unique, in manifest order
    checksum      (N)      uint32: CRC-32 (as in zlib) of the utterance's bytes in `values`
    source        (N)      fixed-length ASCII, padded with NUL: a digest of the input that the utterance's features were computed from

Attributes of the root group: `format` (the name above), `version` (integer), `index_checksum` (uint32), and facts about the file,
one JSON text each (ASCII). Files of the pipeline have at least the facts of `PROVENANCE`. `index_checksum` is one CRC-32 over, in
this order: names and texts of all facts except "when" (n₁, t₁, n₂, t₂, …, sorted by name), the ids and the sources, all in UTF-8 and
joined by NUL, then the bytes of `offsets` and `checksum`. Opening a file therefore checks everything but the values, and `checksum`
checks the values: those of an utterance are compared the first time that an open file reads them. Two files of the same input have
the same bytes, except for the fact "when" and HDF5's own checksum of it. Text has a fixed length because HDF5 stores text of
variable length without a checksum, and a flipped bit there can make HDF5 hang.

A change that a reader of version 1 would misread raises `version`. A reader refuses newer versions and still reads older ones.
Additional datasets are not such a change; they are ignored.

The values are contiguous and uncompressed, because compression saves at most 14 % and takes 6 to 26 times as long to write. HDF5
states their position in the file, so that a read is one system call and avoids the 0.1 ms that HDF5 needs to select rows.
"""

import contextlib
import difflib
import json
import os
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import h5py
import numpy as np

from data.errors import InputError, UnreadableError, reason
from data.feature_index import DTYPES, REBUILD, DamagedFileError, FeatureIndex, dataset, is_finite
from data.files import read_head, unreadable
from data.hdf5 import new_hdf5

PROVENANCE = ("corpus", "modality", "encoder", "identity", "packages", "device", "when")
"""Attributes of every feature file of the pipeline. `identity` holds everything but the utterances that determined the bytes (weights,
text normalisation or decoder, truncation, layers, dtype, padding). The last three tell what made the file, and when."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BLOCK_BYTES = 4 << 20


class Damage(NamedTuple):
    """A problem with the values of one utterance."""

    utterance_id: str
    problem: str


class FeatureStore:
    """A feature file that is open for reading. Created by `open`; holds one file descriptor and everything but the values.

    The values of an utterance are compared with their checksum the first time that this store reads them. So no value that differs
    from what was written is ever returned, and a process that streams the same utterances again and again compares them once.

    It may be used from several threads, after a fork, and in a process that unpickles it (which opens the path again).
    If the file is replaced while it is open, the old content stays readable.
    """

    def __init__(self, path: Path, index: FeatureIndex, dim: int, dtype: np.dtype, position: int, descriptor: int) -> None:
        """Hold an open file. Call `open` instead."""
        self._finalizer = weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor
        self._position = position  # of the values in the file, in bytes
        self.path = path
        self.ids = index.ids
        self.dim = dim
        self.dtype = dtype
        self.attrs: dict[str, Any] = {name: json.loads(text) for name, text in index.facts.items()}
        self.offsets = index.offsets  # (N + 1,) int64
        self.sources = index.sources
        self.checksums = index.checksums  # (N,) uint32
        self._is_compared = np.zeros(len(index.ids), bool)  # utterances whose values had their checksum when they were read

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a feature file and check everything but the values, which are not read.

        Raises:
            DamagedFileError: The file is truncated, or its index is damaged.
            UnreadableError: The file cannot be read now.
            InputError: The file is missing, has a newer version, or is not a feature file (but a git-lfs pointer, an HTML page, …).
        """
        path = Path(path)
        if not read_head(path).startswith(_SIGNATURE):
            raise InputError(f"{path}: not an HDF5 file, and so not a feature file. If it should be one: {REBUILD}")
        try:
            with h5py.File(path, "r", locking=False) as file:  # files never change in place, and locks fail on some network shares
                index = FeatureIndex.read(file, path)
                values = dataset(file, "values")
                position = index.locate(values, path)
                descriptor = os.dup(file.id.get_vfd_handle())  # refers to the checked file, even if another one has the path by now
                return cls(path, index, values.shape[1], values.dtype, position, descriptor)
        except InputError:
            raise
        except Exception as error:  # damaged structures raise any error, from KeyError to RuntimeError
            raise unreadable(path, error) or DamagedFileError(f"{path}: truncated or damaged ({reason(error)}). {REBUILD}") from error

    def close(self) -> None:
        """Close the file. A store without references closes by itself."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[[Path], "FeatureStore"], tuple[Path]]:
        return FeatureStore.open, (self.path,)

    def __repr__(self) -> str:
        return f"<FeatureStore {str(self.path)!r}: {len(self):,} utterances, {self.offsets[-1]:,} × {self.dim} {self.dtype}>"

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._index_of

    def __getitem__(self, utterance_id: str) -> np.ndarray:
        """Return a copy of the features of one utterance, (T, D).

        Raises:
            InputError: There is no such utterance (the message suggests the nearest id), or `read` refuses it.
        """
        index = self._index_of.get(utterance_id)
        if index is None:
            near = difflib.get_close_matches(str(utterance_id), self.ids, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"The first is {self.ids[0]!r}." if self.ids else ""
            raise InputError(f"{self.path}: no utterance {utterance_id!r} among {len(self):,}. {hint}")
        return self.read(index, index + 1)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of rows of each utterance, (N,) int64."""
        return np.diff(self.offsets)

    @cached_property
    def _index_of(self) -> Mapping[str, int]:
        return {utterance_id: index for index, utterance_id in enumerate(self.ids)}

    def read_all(self) -> np.ndarray:
        """Return the features of all utterances, one after the other, (ΣT, D); raise as `read`."""
        return self.read(0, len(self))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the features of the utterances start, …, stop - 1, one after the other, (ΣT, D).

        Raises:
            IndexError: Not 0 ≤ start ≤ stop ≤ N.
            DamagedFileError: Values differ from those that were written, or the file has become shorter since it was opened.
            UnreadableError: The file cannot be read now.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"{self.path}: utterances {start} to {stop} of {len(self)}")
        begin = int(self.offsets[start])
        rows = np.empty((int(self.offsets[stop]) - begin, self.dim), self.dtype)
        for first, end in self._blocks(start, stop):
            block = rows[self.offsets[first] - begin : self.offsets[end] - begin]
            self._fill(block, int(self.offsets[first]))
            self._compare(first, end, block)
        return rows

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide utterances into blocks of a few megabytes: while one is compared, the system reads the next from the disk."""
        most = max(1, _BLOCK_BYTES // (self.dim * self.dtype.itemsize))
        while start < stop:
            end = int(np.searchsorted(self.offsets, self.offsets[start] + most, "right")) - 1
            end = min(max(end, start + 1), stop)
            yield start, end
            start = end

    def _compare(self, start: int, stop: int, rows: np.ndarray) -> None:
        """Compare utterances of `rows`, which begin at utterance `start`, with their checksums, unless that was done before."""
        for index in (start + np.flatnonzero(~self._is_compared[start:stop])).tolist():
            first, end = (self.offsets[index : index + 2] - self.offsets[start]).tolist()
            values = rows[first:end]
            if problem := next(self._differences(index, zlib.crc32(values.data), is_finite(values)), None):
                raise DamagedFileError(
                    f"{self.path}: the values of {self.ids[index]!r} are damaged ({problem}). {REBUILD}"
                    f" List all damaged utterances with: python -m data verify {self.path}"
                )
            self._is_compared[index] = True

    def verify(self) -> list[Damage]:
        """Read all values, a few megabytes at a time, and return their problems in the order of the utterances."""
        return [Damage(self.ids[index], problem) for index in range(len(self)) for problem in self._problems(index)]

    def _problems(self, index: int) -> Iterator[str]:
        checksum, all_finite = 0, True
        start, stop = self.offsets[index : index + 2].tolist()
        step = max(1, _BLOCK_BYTES // (self.dim * self.dtype.itemsize))
        for first in range(start, stop, step):
            rows = np.empty((min(step, stop - first), self.dim), self.dtype)
            self._fill(rows, first)
            checksum = zlib.crc32(rows.data, checksum)
            all_finite = all_finite and is_finite(rows)
        yield from self._differences(index, checksum, all_finite)

    def _differences(self, index: int, checksum: int, all_finite: bool) -> Iterator[str]:
        """Yield the problems of an utterance whose values have this checksum and are finite or not."""
        if checksum != self.checksums[index]:
            yield f"checksum {checksum:08x} of the values, {self.checksums[index]:08x} when they were written"
        if not all_finite:
            yield "values that are not finite"

    def _fill(self, rows: np.ndarray, first: int) -> None:
        """Read `rows`, contiguous, from the file, the first of which is row `first` there."""
        if not self._finalizer.alive:
            raise ValueError(f"{self.path}: the store is closed")
        target = rows.reshape(-1).view(np.uint8)
        position = self._position + first * self.dim * self.dtype.itemsize
        while target.size:  # one call reads at most 2 GiB
            try:
                count = os.preadv(self._descriptor, [target.data], position)
            except OSError as error:
                raise unreadable(self.path, error) or DamagedFileError(f"{self.path}: damaged ({reason(error)}). {REBUILD}") from error
            if count == 0:
                raise DamagedFileError(f"{self.path}: ends at byte {position:,}, inside its values. {REBUILD}")
            target, position = target[count:], position + count


class FeatureWriter:
    """A new feature file, as a context manager. The complete file appears when the block ends without an error.

    Example:
        with FeatureWriter(path, ids, lengths, 768, "float16", attributes, sources) as writer:
            for index, values in encoded:  # in any order
                writer.write(index, values)
    """

    def __init__(
        self,
        path: Path,
        ids: Sequence[str],
        lengths: Sequence[int],
        dim: int,
        dtype: str,
        attributes: Mapping[str, Any],
        sources: Sequence[str],
    ) -> None:
        """Check the arguments. The file is created when the block is entered.

        Args:
            path: The file.
            ids: (N,) utterance ids, in manifest order.
            lengths: (N,) number of rows of each, ≥ 1.
            dim: D.
            dtype: One of `DTYPES`. Written values are rounded to it.
            attributes: JSON-able facts about the file, see `PROVENANCE`.
            sources: (N,) ASCII, a digest of the input that each utterance's features are computed from.

        Raises:
            InputError: An id is empty, repeated or cannot be stored, or a length is below 1.
            ValueError: The arguments do not fit together.
        """
        if dim < 1 or dtype not in DTYPES:
            raise ValueError(f"{path}: dim {dim} must be ≥ 1 and dtype {dtype!r} one of {', '.join(DTYPES)}")
        self.path = path
        self._index = FeatureIndex.of(path, ids, lengths, sources, attributes)
        self._shape = (int(self._index.offsets[-1]), dim)
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._written = np.zeros(len(ids), bool)

    def __enter__(self) -> Self:
        self._block = self._begin()
        self._block.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._block.__exit__(*error)

    def write(self, index: int, values: np.ndarray) -> None:
        """Write the features of utterance `index`, which is allowed once.

        Args:
            index: 0 ≤ index < N.
            values: (T, D), any float type; T as given in `lengths`.

        Raises:
            InputError: A value is not finite, or is too large for the type of the file.
            ValueError: The shape is not (T, D), or the utterance has been written before.
        """
        first, stop = self._index.offsets[index : index + 2].tolist()
        name = f"{self.path}: utterance {self._index.ids[index]!r}"
        if self._written[index]:
            raise ValueError(f"{name} is written twice")
        if values.shape != (stop - first, self._shape[1]):
            raise ValueError(f"{name}: values {values.shape}, expected {(stop - first, self._shape[1])}")
        with np.errstate(over="ignore"):  # values that are too large become infinite and are refused
            stored = np.ascontiguousarray(values, self._dtype)
        if not is_finite(stored):
            largest, limit = np.abs(values).max(), np.finfo(self._dtype).max
            raise InputError(f"{name}: largest value {largest}, expected finite ones up to {limit:g} ({self._dtype.name}).")
        self._file.write_at(self._position + first * stored[0].nbytes, stored.data)
        self._index.checksums[index] = zlib.crc32(stored.data)
        self._written[index] = True

    @contextlib.contextmanager
    def _begin(self) -> Iterator[None]:
        # From version 1.8 on, HDF5 adds checksums to its structures; damage in older layouts is not detected.
        layout = ("v108", "v108")
        page = {"alignment_threshold": 4096, "alignment_interval": 4096}  # the values begin at a page boundary
        with new_hdf5(self.path, libver=layout, locking=False, **page) as made:
            self._file = made
            with made.change() as file:
                values = file.create_dataset("values", self._shape, self._dtype, fill_time="never")
                self._position = made.place(values) if values.size else 0
            yield
            if missing := np.flatnonzero(~self._written).tolist():
                names = ", ".join(repr(self._index.ids[index]) for index in missing[:3])
                raise ValueError(f"{self.path}: {len(missing):,} of {len(self._written):,} utterances not written, first {names}")
            with made.change() as file:
                self._index.write(file)


def is_intact(path: Path) -> bool:
    """Return True if `path` is a feature file that can be opened: complete, of a known version, with an undamaged index.

    This is fast, because no values are read (`FeatureStore.verify` reads them). `FeatureStore.open` tells why a file is not intact.

    Raises:
        UnreadableError: The file cannot be read now, so nobody knows.
    """
    try:
        FeatureStore.open(path).close()
    except UnreadableError:
        raise
    except InputError:
        return False
    return True
