"""Signals that ask a command to stop: TERM and USR1, which schedulers of clusters send before they end a job.

Work that can be saved ends its step first (`finishing`, `check`); everything else is left at once.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(BaseException):
    """The command was asked to stop. Like KeyboardInterrupt it is no Exception, so that no error handling takes it for one.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """Exit status: 128 and the number of the signal, as shells report a process that a signal ended."""
        return 128 + self.number

    @property
    def name(self) -> str:
        """Name of the signal, such as SIGTERM."""
        return signal.Signals(self.number).name


@dataclass
class _State:
    asked: int | None = None  # signal that came first
    finishing: int = 0  # contexts of `finishing` that are open


_state = _State()


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Handle the signals inside; only the first one counts. Outside the main thread, where Python allows no handlers, nothing changes.

    Raises:
        Stopped: A signal came; at once, or where `check` is called in a context of `finishing`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _state.asked = None
    handle()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def handle(at_once: bool = True) -> None:
    """Handle the signals from now on, as `stoppable` does.

    Args:
        at_once: False: a signal is only noted until `check`, as in `finishing`.
    """
    _state.finishing = 0 if at_once else 1
    for number in SIGNALS:
        signal.signal(number, _on_signal)


@contextlib.contextmanager
def finishing() -> Iterator[None]:
    """Let a signal that comes inside wait for the next `check`, or for the end of the context.

    Raises:
        Stopped: A signal came.
    """
    _state.finishing += 1
    try:
        yield
    finally:
        _state.finishing -= 1
    check()


def ask(number: int) -> None:
    """Note a signal that came to another process, for the next `check`."""
    if _state.asked is None:
        _state.asked = number


def is_asked() -> bool:
    """Return True if a signal came."""
    return _state.asked is not None


def check() -> None:
    """Stop if a signal came.

    Raises:
        Stopped: A signal came.
    """
    if _state.asked is not None:
        raise Stopped(_state.asked)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _state.asked is None:
        ask(number)
        if not _state.finishing:
            raise Stopped(number)
