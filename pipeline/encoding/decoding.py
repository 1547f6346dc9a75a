"""Decodes recordings in order, in the calling thread or ahead of it in processes of their own (`data.decoder`).

Values and errors are the same either way: a file that a process cannot decode is decoded again here, where its turn comes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np

from data import decoder
from data.errors import InputError
from data.media import decode

_MOST = 8
"""Largest number of decoders that a GPU gets by itself."""
_AHEAD_BYTES = 128 << 20
"""While so many bytes of samples wait for their turn, no further file is begun."""
_ORDERS = 2
"""Files that a process has in hand: while one is handed over, it knows the next."""
_PIPE_BYTES = 1 << 20
"""What a process can hand over before it is asked (Linux: the most that any user may set). 16 s of speech."""
_WAIT_S = 5.0

_kept: dict[int, _Processes] = {}
"""Number of processes → those that wait for the next shard, because starting them takes longer than a shard on a GPU."""


def number_of_decoders(setting: int, device: str, threads: int) -> int:
    """Returns how many recordings are decoded at the same time, 1 meaning in the process of the encoder.

    Args:
        setting: [build] decoders; 0 stands for 1 beside a CPU, which has enough to do, and for up to 8 beside a GPU.
        device: Of the encoder.
        threads: Cores that this worker may use: workers that share a machine do not have more decoders than it has cores.
    """
    wanted = setting or (1 if device == "cpu" else _MOST)
    return max(1, min(wanted, threads))


def recordings(paths: Sequence[Path], decoders: int = 1) -> Iterator[np.ndarray]:
    """Yields the samples (S,) float32 at 16 kHz of each file, in order.

    Args:
        paths: The files.
        decoders: 1: they are decoded one at a time, here. More: ahead, in so many processes, which end with this one at the latest.

    Raises:
        MediaError, InputError: As `data.media.decode`, where the turn of the file comes; or a process was ended from outside.
    """
    if decoders < 2 or len(paths) < 2:
        yield from map(decode, paths)
        return
    processes = _kept.pop(decoders, None) or _Processes(decoders)
    try:
        yield from processes.recordings(paths)
    except BaseException:  # GeneratorExit too: what they have in hand is for nobody
        processes.end()
        raise
    _kept[decoders] = processes


class _Process:
    """One process that decodes."""

    def __init__(self) -> None:
        root = str(Path(decoder.__file__).parents[1])
        given = os.environ.get("PYTHONPATH")
        environment = os.environ | {"PYTHONPATH": root if not given else root + os.pathsep + given}
        # It inherits the blocked signals, and with that ends by nothing but the end of its input: what the terminal or a scheduler
        # sends to all processes of a build is for those that know what is to be finished.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "data.decoder"], bufsize=0, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self.answers = self._process.stdin, self._process.stdout
        with contextlib.suppress(PermissionError, AttributeError):  # a user's pipes may have 64 MB in all, and only Linux can do this
            fcntl.fcntl(self.answers, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def ask(self, path: Path) -> None:
        """Gives the process a file to decode."""
        try:
            self._orders.write(json.dumps(os.fspath(path)).encode() + b"\n")
        except BrokenPipeError:
            self._lost(path)

    def answer(self, path: Path) -> np.ndarray | None:
        """Returns the samples of the first file that was asked for and not answered, `path`; None if it cannot be decoded."""
        number = np.empty(1, decoder.NUMBER)
        self._read(number, path)
        if number[0] == decoder.FAILED:
            return None
        samples = np.empty(number[0], np.float32)
        self._read(samples, path)
        return samples

    def _read(self, target: np.ndarray, path: Path) -> None:
        rest = target.data.cast("B")
        while rest:
            count = self.answers.readinto(rest)  # pyright: ignore[reportAttributeAccessIssue]  # a FileIO, because of bufsize = 0
            if not count:
                self._lost(path)
            rest = rest[count:]

    def _lost(self, path: Path) -> None:
        status = self._process.wait()
        cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        hint = (
            "; by the system if memory is short: set fewer decoders in luigi.cfg, section [build]" if status == -signal.SIGKILL else ""
        )
        raise InputError(f"{path}: the process that decodes it was ended ({cause}{hint}).")

    def close(self) -> None:
        """Lets the process end when it has decoded its file."""
        self._orders.close()
        self.answers.close()

    def wait(self) -> None:
        """Waits until the process has ended, and kills it if that takes too long."""
        try:
            self._process.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Processes:
    """Processes that decode for one consumer at a time."""

    def __init__(self, count: int) -> None:
        self._all = [_Process() for _ in range(count)]
        self.end = weakref.finalize(self, _end, self._all)

    def recordings(self, paths: Sequence[Path]) -> Iterator[np.ndarray]:
        """Yields the samples of each file in order, see the function of this name."""
        asked: dict[_Process, deque[int]] = {process: deque() for process in self._all}
        done: dict[int, np.ndarray | None] = {}
        begun = 0
        for turn, path in enumerate(paths):
            while True:
                while begun < len(paths) and _bytes(done) < _AHEAD_BYTES:
                    process = min(asked, key=lambda one: len(asked[one]))
                    if len(asked[process]) == _ORDERS:
                        break
                    process.ask(paths[begun])
                    asked[process].append(begun)
                    begun += 1
                if turn in done:
                    break
                ready = wait([process.answers.fileno() for process, orders in asked.items() if orders])
                for process in [one for one in asked if one.answers.fileno() in ready]:
                    index = asked[process].popleft()
                    done[index] = process.answer(paths[index])
            samples = done.pop(turn)
            yield decode(path) if samples is None else samples


def _bytes(done: dict[int, np.ndarray | None]) -> int:
    return sum(samples.nbytes for samples in done.values() if samples is not None)


def _end(processes: Sequence[_Process]) -> None:
    for process in processes:
        process.close()
    for process in processes:
        process.wait()
