"""Damaged files are read in a worker process with limits, and what happened is classified.

    clean       refused with one line (InputError, or an OSError, which every command prints as one line)
    read        read, with the result of the valid file or another one
    lines       refused, but not with one line of at most 1,000 printable characters
    traceback   another exception, which a command would show with a traceback
    crash       the process was killed by a signal, such as a segmentation fault
    hang        more than 10 s of processor time, or 100 s on the clock
    memory      more than 1 GB above what the process held before, or a MemoryError
    silent      read with another result, although the file has checksums for what was damaged

Everything but `clean` and `read` is a fault. A case is named by its reader, the seed and a number, and can be run again alone.
"""

import faulthandler
import hashlib
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from fuzz.mutations import BYTES, Mutation

from data.errors import InputError

PROCESSOR_S = 10.0
CLOCK_S = 100.0
LINE_CHARACTERS = 1000
MEMORY_BYTES = 1 << 30
_CEILING_BYTES = 3 << 30
"""What a worker may allocate above its start before it gets a MemoryError."""

FAULTS = ("lines", "traceback", "crash", "hang", "memory", "silent")
OUTCOMES = ("clean", "read", *FAULTS)


@dataclass(frozen=True)
class Reader:
    """A reader of the program with a valid input."""

    name: str
    prepare: Callable[[Path], Iterable[Path]]  # writes the valid input into a folder and returns the files to damage
    read: Callable[[Path], Any]  # reads the folder, as a command does; what it returns is compared
    mutations: Mapping[str, Mutation] = field(default_factory=lambda: BYTES)
    guarded: frozenset[str] = frozenset()  # mutations after which a result that differs is a silent change
    share: float = 1.0  # of the cases of a run, less for slow readers


class Outcome(NamedTuple):
    """What happened to one case."""

    reader: str
    number: int
    mutation: str
    file: str
    kind: str  # of `OUTCOMES`
    message: str


class Case(NamedTuple):
    """One damaged file."""

    number: int
    mutation: str
    file: Path
    content: bytes


class Input(NamedTuple):
    """The valid input of a reader, on disk."""

    reader: Reader
    folder: Path
    contents: Mapping[Path, bytes]  # of the files to damage
    expected: str  # fingerprint of what is read from the valid input


def make_input(reader: Reader, folder: Path) -> Input:
    """Write the valid input of a reader below `folder`, and read it."""
    (folder / "input").mkdir(parents=True)
    files = sorted(reader.prepare(folder / "input"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = fingerprint(reader.read(folder / "input"))
    return Input(reader, folder / "input", {file: file.read_bytes() for file in files}, expected)


def run(valid: Input, seed: int, numbers: Iterable[int], until: float = float("inf")) -> Iterator[Outcome]:
    """Read damaged files, one after the other, in one worker; a new one takes over after a crash or a hang.

    Args:
        valid: What is damaged.
        seed: With the name of the reader and the number, it determines the case.
        numbers: Numbers of the cases.
        until: `time.monotonic()` after which no case begins.
    """
    waiting = list(numbers)
    while waiting and time.monotonic() < until:
        for outcome in _work(valid, seed, waiting, until):
            waiting = waiting[waiting.index(outcome.number) + 1 :]
            yield outcome


def case(reader: Reader, seed: int, number: int, contents: Mapping[Path, bytes]) -> Case:
    """Make a case, the same for the same arguments."""
    rng = random.Random(f"{reader.name} {seed} {number}")
    file, mutation = rng.choice(list(contents)), rng.choice(list(reader.mutations))
    return Case(number, mutation, file, reader.mutations[mutation](rng, contents[file]))


def _work(valid: Input, seed: int, numbers: list[int], until: float) -> Iterator[Outcome]:
    """Read cases in a new worker until it is done or dies, and yield what happened to each."""
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads and fork; the child starts none of ours
        worker = os.fork()
    if worker == 0:
        os.close(ours)
        _serve(valid, seed, numbers, until, theirs)
    os.close(theirs)
    started: list[Any] | None = None
    for line in _lines(ours, worker):
        message = json.loads(line)
        if len(message) == len(Outcome._fields):
            yield Outcome(*message)
            started = None
        else:
            started = message
    os.close(ours)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    if started is not None:
        for file, content in valid.contents.items():
            file.write_bytes(content)
        is_hang = -status in (signal.SIGPROF, signal.SIGALRM)
        yield Outcome(*started, "hang" if is_hang else "crash", f"ended by {signal.Signals(-status).name if status < 0 else status}")
    elif status != 0:
        raise RuntimeError(f"The worker of {valid.reader.name} ended with status {status} between two cases.")


def _lines(pipe: int, worker: int) -> Iterator[bytes]:
    """Yield what the worker writes until it ends; end it if it is silent for too long."""
    pending = b""
    while True:
        *complete, pending = pending.split(b"\n")
        yield from complete
        if not select.select([pipe], [], [], CLOCK_S)[0]:
            os.kill(worker, signal.SIGALRM)
            return
        read = os.read(pipe, 1 << 16)
        if not read:
            return
        pending += read


def _serve(valid: Input, seed: int, numbers: list[int], until: float, pipe: int) -> None:
    """Be the worker: read the cases and write what happened into the pipe; never returns."""
    status = 1
    try:
        faulthandler.disable()
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (_held("VmData") + _CEILING_BYTES,) * 2)
        for number in numbers:
            if time.monotonic() > until:
                break
            made = case(valid.reader, seed, number, valid.contents)
            where = [valid.reader.name, number, made.mutation, str(made.file.relative_to(valid.folder))]
            os.write(pipe, json.dumps(where).encode() + b"\n")
            kind, message = _outcome(valid, made)
            os.write(pipe, json.dumps([*where, kind, message[:500]]).encode() + b"\n")
            made.file.write_bytes(valid.contents[made.file])
        status = 0
    finally:
        os._exit(status)


def _outcome(valid: Input, made: Case) -> tuple[str, str]:
    made.file.write_bytes(made.content)
    before = _reset_peak()
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_S)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = fingerprint(valid.reader.read(valid.folder))
        is_silent = found != valid.expected and made.mutation in valid.reader.guarded
        kind, message = ("silent", "another result") if is_silent else ("read", "" if found == valid.expected else "another result")
    except (InputError, OSError) as error:
        message = str(error)
        kind = "clean" if message.isprintable() and len(message) <= LINE_CHARACTERS else "lines"
    except MemoryError as error:
        kind, message = "memory", f"MemoryError: {error}"
    except BaseException as error:
        kind, message = "traceback", f"{type(error).__name__}: {error} ({_origin(error)})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    excess = _held("VmHWM") - before
    return (kind, message) if excess <= MEMORY_BYTES else ("memory", f"{excess / 1e9:.1f} GB: {message}")


def _origin(error: BaseException) -> str:
    """Return file and line where an exception was raised."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"


def _held(name: str) -> int:
    """Return a size of this process in bytes, by its name in /proc/self/status."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) << 10


def _reset_peak() -> int:
    """Let the peak of the resident memory begin anew, and return what is resident."""
    Path("/proc/self/clear_refs").write_text("5")
    return _held("VmRSS")


def fingerprint(value: Any) -> str:
    """Return a hash of what a reader returned: tables, arrays, paths, objects and plain values."""
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()


def _feed(found: "hashlib._Hash", value: Any) -> None:
    if isinstance(value, pd.DataFrame):
        value = [list(map(str, value.columns)), *(value[name].tolist() for name in value.columns)]
    if isinstance(value, np.ndarray):
        found.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _feed(found, key)
            _feed(found, item)
    elif isinstance(value, list | tuple):
        found.update(b"[%d" % len(value))
        for item in value:
            _feed(found, item)
    else:
        found.update(f"{type(value).__name__}{value!r}".encode("utf-8", "surrogatepass"))


def cleared(folder: Path) -> Path:
    """Return a folder for what a reader writes, without what an earlier case has left there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
