"""HDF5 files in the making: complete or not at all, also where the disk fills up or the user interrupts.

Where HDF5 2.0 fails to write in the middle of a flush, its structures no longer hold: closing raises, or crashes the interpreter. So it
never comes to know: it writes through a file of ours that keeps the first failure for us and drops what comes after, and an
interruption, which Python would raise in that file or lose in a callback of h5py, waits until the change at hand is over.
"""

import contextlib
import io
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from data.atomic import atomic_path


class NewFile:
    """An HDF5 file open for writing. Made by `new_hdf5`."""

    def __init__(self, file: h5py.File, output: "_Output") -> None:
        """Use `new_hdf5`."""
        self._file = file
        self._output = output

    @contextlib.contextmanager
    def change(self) -> Iterator[h5py.File]:
        """Yields the file for a change that is not interrupted; an interruption comes at its end.

        Raises:
            OSError: The change cannot be written, for one because the disk is full.
        """
        try:
            with _uninterrupted():
                yield self._file
        finally:
            if self._output.failure is not None:  # whatever HDF5 says of a file of which a part was dropped
                raise self._output.failure


@contextlib.contextmanager
def new_hdf5(path: Path, **options: Any) -> Iterator[NewFile]:
    """Yields an HDF5 file to be changed, which appears at `path` when the block ends without an error.

    Args:
        path: Where to; its folder is made if need be.
        options: Of `h5py.File`.

    Raises:
        OSError: It cannot be written; there is no file then.
    """
    with atomic_path(path) as temporary, _Output(temporary) as output:
        with _uninterrupted():
            made = NewFile(h5py.File(output, "w", **options), output)
        try:
            yield made
        finally:
            with made.change() as file:
                file.close()


class _Output(io.FileIO):
    """A new file that keeps the first failure to write, and from then on drops what it is given."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.failure: OSError | None = None

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        try:
            while rest and self.failure is None:  # one call writes at most 2 GiB
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = error
        return memoryview(content).nbytes

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.failure is None:
                super().truncate(size)
        except OSError as error:
            self.failure = error
        return self.tell()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Lets an interruption wait for the end of the block; only the main thread has any."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)
