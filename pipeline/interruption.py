"""Ends a build that is interrupted (Ctrl-C, TERM, HUP, USR1): no stray file, one line, exit status 130, 143, 129 or 138.

The signals become a `KeyboardInterrupt`, which Luigi does not take for a failed task, so that every open file is cleaned up on the way
out. What is finished stays; the same command goes on. USR1, which schedulers of clusters send some time before they end a job, lets
the tasks that are being run finish first (`pipeline.luigi_setup.PatientWorker`); only a build that has not begun to plan ends at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, NoReturn

from pipeline import this_build

_WAIT_S = 20
"""Longest time in seconds that the workers of an interrupted build get to clean up."""


class Interrupted(KeyboardInterrupt):
    """A signal that ends the process."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def install() -> None:
    """Makes the signals end this process and its forks cleanly. A signal that is ignored (nohup) stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)
    sys.excepthook = _end


def end_in_order(number: int) -> NoReturn:
    """Ends a build that has finished its tasks in hand because of a signal, and has others left.

    Raises:
        SystemExit: With the status of the signal.
    """
    name = signal.Signals(number).name
    _end_bar()
    print(f"interrupted ({name}): what was in hand is finished; the same command goes on.", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


class QuietEnd:
    """Ends a forked task that is interrupted without a traceback. Luigi enters it around each task ([worker] task_process_context)."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt) and multiprocessing.parent_process() is not None:
            raise SystemExit(_status(error)) from None


def _raise(number: int, _: FrameType | None) -> None:
    for later in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if callable(signal.getsignal(later)):
            signal.signal(later, _ignore)  # one is enough: a second one must not disturb the clean-up
    raise Interrupted(number)


def _ignore(number: int, _: FrameType | None) -> None:
    pass


def _status(error: BaseException) -> int:
    return error.status if isinstance(error, Interrupted) else 128 + signal.SIGINT


def _end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if not isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    for child in multiprocessing.active_children():
        child.join(_WAIT_S)
    _end_bar()
    print(f"interrupted ({error or 'SIGINT'}): no incomplete file is left; the same command goes on.", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(_status(error))  # Python has no other way to a status of its own for an interruption


def _end_bar() -> None:
    if this_build.current_build.cache_info().currsize:
        this_build.current_build().bar.end()
