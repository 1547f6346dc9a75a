"""What a person sees while a build runs: one bar, one line for an error that they can mend, and a summary."""

import atexit
import contextlib
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from data.errors import InputError

_POLL_S = 0.5


class OneLineErrors(logging.Filter):
    """Logs an `InputError` or an `OSError` (disk full, no permission) as its own text; other exceptions keep their traceback.

    A mistake that every shard runs into is said once a process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, InputError | OSError):
            return True
        task = record.args[-1] if record.args else ""
        record.msg, record.args, record.exc_info = "%s: %s", (task, error), None
        is_new = str(error) not in self._said
        self._said.add(str(error))
        return is_new


def install_one_line_errors(logger: str) -> None:
    """Adds `OneLineErrors` to a logger, once."""
    if not any(isinstance(known, OneLineErrors) for known in logging.getLogger(logger).filters):
        logging.getLogger(logger).addFilter(OneLineErrors())


class BuildBar:
    """One bar for a whole build, whatever the number of workers and of machines.

    The outputs that were missing at the start count once they exist, whoever made them; what this process and its forks have in hand
    counts through a shared counter. Shown only on a terminal.
    """

    def __init__(self) -> None:
        self._in_hand = multiprocessing.Value("q", 0)
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._owner = os.getpid()

    def start(self, missing: Mapping[Path, int]) -> None:
        """Begins to show the progress of outputs, path → utterances; once."""
        if self._thread is None and missing and sys.stderr.isatty():
            self._thread = threading.Thread(target=self._watch, args=(dict(missing),), daemon=True)
            self._thread.start()
            atexit.register(self.end)

    def end(self) -> None:
        """Shows where things stand, for the last time; what is printed next has a line of its own."""
        if self._thread is not None and os.getpid() == self._owner:  # a fork has the locks of the thread, not the thread
            self._ended.set()
            self._thread.join()

    @contextlib.contextmanager
    def in_hand(self) -> Iterator[Callable[[int], None]]:
        """Yields a function that counts finished utterances of an output that does not exist yet."""
        mine = 0

        def advance(count: int) -> None:
            nonlocal mine
            mine += count
            self._add(count)

        try:
            yield advance
        finally:
            self._add(-mine)

    def _add(self, count: int) -> None:
        with self._in_hand.get_lock():
            self._in_hand.value += count

    def _watch(self, missing: dict[Path, int]) -> None:
        finished = 0
        with tqdm(
            total=sum(missing.values()), file=sys.stderr, unit=" clips", desc="BuildFeatures", smoothing=0.05, dynamic_ncols=True
        ) as bar:
            while missing:
                ended = self._ended.wait(_POLL_S)
                for path in [path for path in missing if path.exists()]:
                    finished += missing.pop(path)
                bar.n = min(bar.total, max(bar.n, finished + self._in_hand.value))
                bar.refresh()
                if ended:
                    return


@contextlib.contextmanager
def file_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a callback (what, files done, files in all) that shows one bar on a terminal while many files are read."""
    bar: tqdm | None = None

    def show(what: str, done: int, total: int) -> None:
        nonlocal bar
        if not total or not sys.stderr.isatty():
            return
        if bar is None or bar.desc != what:
            if bar is not None:
                bar.close()
            bar = tqdm(total=total, file=sys.stderr, desc=what, unit=" files", leave=False, dynamic_ncols=True)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
