"""Processes that do the tasks of a build one after the other, so that each of them imports torch and loads an encoder once.

They are forked when they are first needed, from which they know the plan of the build. They end with it: when their owner closes them,
and when it dies in whatever way. What a task is, and which comes next, is not known here: see `pipeline.luigi_worker`.
"""

from __future__ import annotations

import collections
import ctypes
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from pipeline.interruption import QuietEnd

_WAIT_S = 20.0
"""Longest time in seconds that processes get to clean up before they are killed."""

_BEGUN = "begun"
_PR_SET_PDEATHSIG = 1
_CONTEXT = multiprocessing.get_context("fork")


class WorkerProcess:
    """One process, which is idle or does an order.

    Args:
        do: Does an order in the process and returns its result; both are pickled.
        siblings: Connections of other processes, which this one must not keep open.
    """

    def __init__(self, do: Callable[[Any], Any], siblings: Sequence[Connection] = ()) -> None:
        self.connection, theirs = _CONTEXT.Pipe()
        self.encoder = ""  # that it has loaded last
        self.order: Any = None
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, do, os.getpid(), [self.connection, *siblings]))
        self._process.start()
        theirs.close()

    def is_alive(self) -> bool:
        """Tells whether the process has not ended."""
        return self._process.is_alive()

    def terminate(self) -> None:
        """Asks the process to clean up and end."""
        self._process.terminate()

    def takes(self, order: Any) -> bool:
        """Gives an order to the process, and tells whether it begins; one that was killed while it was idle does not."""
        try:
            self.connection.send(order)
            return self.connection.recv() == _BEGUN
        except (EOFError, OSError):
            return False

    def join(self, seconds: float = _WAIT_S) -> None:
        """Waits until the process has ended, and kills it if that takes too long."""
        self._process.join(max(seconds, 0))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def end(self) -> int:
        """Ends the process, and returns its status; that of a signal is its number, negative."""
        self.connection.close()
        self.join()
        return self._process.exitcode or 0


class WorkerProcesses:
    """All processes of a build; `put`, `get` and `close` are those of a queue of results.

    Args:
        do: See `WorkerProcess`.
        lost: Returns the result of an order whose process has ended without one: (order, exit status) → result.
    """

    def __init__(self, do: Callable[[Any], Any], lost: Callable[[Any, int], Any]) -> None:
        self._do, self._lost = do, lost
        self._idle: list[WorkerProcess] = []
        self._busy: dict[Connection, WorkerProcess] = {}
        self._results: collections.deque[Any] = collections.deque()

    def start(self, order: Any, encoder: str) -> WorkerProcess:
        """Gives an order to an idle process, or to a new one if there is none.

        Args:
            order: What `do` gets.
            encoder: Name of the encoder that it needs, or "". A process that has loaded it is the first choice.
        """
        while True:
            is_new = not self._idle
            if is_new:
                self._idle.append(WorkerProcess(self._do, self._connections()))
            process = min(self._idle, key=lambda one: (one.encoder != encoder, one.encoder != ""))
            has_begun = process.takes(order)
            if has_begun:
                process.order, process.encoder = order, encoder or process.encoder
                self._busy[process.connection] = process
            self._idle.remove(process)
            if has_begun:
                return process
            status = process.end()
            if is_new:
                self.put(self._lost(order, status))
                return process

    def _connections(self) -> Sequence[Connection]:
        return [*self._busy, *(process.connection for process in self._idle)]

    def put(self, result: Any) -> None:
        """Adds a result that comes from no process."""
        self._results.append(result)

    def get(self, timeout: float) -> Any:
        """Returns the next result.

        Raises:
            queue.Empty: There is none within `timeout` seconds.
        """
        if not self._results:
            ready = wait(list(self._busy), timeout)
            for connection in [known for known in self._busy if known in ready]:
                self._receive(self._busy.pop(connection))
        if not self._results:
            raise queue.Empty
        return self._results.popleft()

    def _receive(self, process: WorkerProcess) -> None:
        try:
            self._results.append(process.connection.recv())
        except (EOFError, OSError):  # OSError: killed in the middle of it
            self.put(self._lost(process.order, process.end()))
        else:
            self._idle.append(process)

    def close(self) -> None:
        """Ends all processes; what they are doing is given up, without a trace."""
        for process in self._busy.values():
            process.terminate()
        for connection in self._connections():
            connection.close()
        until = time.monotonic() + _WAIT_S
        for process in (*self._busy.values(), *self._idle):
            process.join(until - time.monotonic())
        self._busy, self._idle = {}, []


def _serve(connection: Connection, do: Callable[[Any], Any], owner: int, inherited: Sequence[Connection]) -> None:
    """Does the orders of the owner until it closes the connection or dies."""
    for other in inherited:
        other.close()
    with QuietEnd(None):
        _end_with(owner)
        try:
            while True:
                order = connection.recv()
                connection.send(_BEGUN)
                connection.send(do(order))
        except (EOFError, ConnectionError):
            return


def _end_with(owner: int) -> None:
    """Lets the kernel send TERM to this process when the owner ends, in whatever way (Linux). Source: prctl(2)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != owner:  # it ended before
        raise SystemExit(1)
