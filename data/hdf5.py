"""HDF5 files in the making: complete or not at all, also where the disk fills up.

HDF5 tries to write again, when a file is closed and when the program ends, what could not be written before; where that fails too,
HDF5 2.0 crashes the interpreter. So it writes through a file of ours that reports a failure once and then drops what it is given.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from data.atomic import atomic_path


@contextlib.contextmanager
def new_hdf5(path: Path, **options: Any) -> Iterator[h5py.File]:
    """Yields an HDF5 file open for writing, which appears at `path` when the block ends without an error.

    Args:
        path: Where to; its folder is made if need be.
        options: Of `h5py.File`.

    Raises:
        OSError: It cannot be written, for one because the disk is full; there is no file then.
    """
    with atomic_path(path) as temporary, _Output(temporary) as output, h5py.File(output, "w", **options) as file:
        try:
            yield file
            file.flush()  # a failure shows here: closing must have nothing left to write
        except BaseException:
            output.is_dropped = True
            raise


class _Output(io.FileIO):
    """A new file that drops whatever it is given once something has gone wrong."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.is_dropped = False

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        while rest and not self.is_dropped:  # one call writes at most 2 GiB
            rest = rest[super().write(rest) :]
        return memoryview(content).nbytes

    def truncate(self, size: int | None = None) -> int:
        return self.tell() if self.is_dropped else super().truncate(size)
