"""Shows a build: one progress bar on a terminal, a line at times in a log file, and one line for each error that the user can mend.

The summary at the end is written by `pipeline.report.gather`.
"""

import atexit
import contextlib
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from data.errors import InputError

_REFRESH_S = 0.5
_LINE_S, _SHORTEST_LINE_S = 60.0, 10.0
"""Longest time, and shortest, between two lines of progress where there is no terminal."""


class OneLineErrors(logging.Filter):
    """A filter that logs an error that the user can mend as its own text, without a traceback.

    These are an `InputError`, an `OSError` (disk full, no permission), and memory that is not there. Other exceptions keep their
    traceback. An error that many shards raise is logged once a process.

    Args:
        others: More exceptions of this kind.
    """

    def __init__(self, *others: type[Exception]) -> None:
        super().__init__()
        self._others = others
        self._logged: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if record.exc_info and error is None:  # Luigi's scheduler client asks for a traceback where there is none
            record.exc_info = None
            return self._is_new(record.getMessage())
        if is_out_of_memory(error):
            text = "not enough memory. Set a smaller shard_clips (luigi.cfg, section [build]), use fewer --workers, or free memory."
        elif isinstance(error, (InputError, OSError, *self._others)):
            text = str(error)
        else:
            return True
        task = record.args[-1] if isinstance(record.args, tuple) and record.args else "error"  # Luigi names the task last
        record.msg, record.args, record.exc_info = "%s: %s", (task, text), None
        return self._is_new(text)

    def _is_new(self, text: str) -> bool:
        is_new = text not in self._logged
        self._logged.add(text)
        return is_new


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tells whether an error of Python, NumPy or torch says that memory cannot be had."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter: torch, which is not imported here
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def install_one_line_errors(logger: str, *others: type[Exception]) -> None:
    """Adds `OneLineErrors` to the logger of this name; a second call changes nothing."""
    if not any(isinstance(known, OneLineErrors) for known in logging.getLogger(logger).filters):
        logging.getLogger(logger).addFilter(OneLineErrors(*others))


class BuildBar:
    """The progress of a whole build, whatever the number of workers and of machines: a bar on a terminal, lines elsewhere (a log file).

    The outputs that were missing at the start count once they exist, whoever made them. Utterances of outputs that this process and its
    forks are computing count through a shared counter. A line is written when an output is finished, but not within 10 s of the last
    one, and each minute in any case.

    Args:
        pause: Waits until the progress is to be refreshed, or has ended. A test replaces it, so as not to depend on time.
    """

    def __init__(self, pause: Callable[[threading.Event], object] = lambda ended: ended.wait(_REFRESH_S)) -> None:
        self._pause = pause
        self._in_hand = multiprocessing.Value("q", 0)
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._owner = os.getpid()

    def start(self, missing: Mapping[Path, int]) -> bool:
        """Shows the progress of these outputs, path → utterances. Later calls change nothing and return False."""
        if self._thread is not None or not missing:
            return False
        show = self._draw if sys.stderr.isatty() else self._write
        self._thread = threading.Thread(target=show, args=(dict(missing),), daemon=True)
        self._thread.start()
        atexit.register(self.end)
        return True

    def end(self) -> None:
        """Refreshes the bar for the last time and ends its line."""
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

    def _draw(self, missing: dict[Path, int]) -> None:
        with tqdm(
            total=sum(missing.values()), file=sys.stderr, unit=" clips", desc="BuildFeatures", smoothing=0.05, dynamic_ncols=True
        ) as bar:
            for clips in self._watch(missing):
                bar.n = clips
                bar.refresh()

    def _write(self, missing: dict[Path, int]) -> None:
        total, outputs = sum(missing.values()), len(missing)
        began = last = time.monotonic()
        written = outputs
        for clips in self._watch(missing):
            now = time.monotonic()
            is_due = now - last >= _LINE_S or (len(missing) < written and now - last >= _SHORTEST_LINE_S) or not missing
            if is_due:
                line = progress_line(clips, total, now - began)
                print(f"BuildFeatures: {outputs - len(missing):,} of {outputs:,} files, {line}", file=sys.stderr, flush=True)
                last, written = now, len(missing)

    def _watch(self, missing: dict[Path, int]) -> Iterator[int]:
        """Yields the number of finished utterances at each refresh, and takes the outputs that exist out of `missing`."""
        total, finished, clips = sum(missing.values()), 0, 0
        while missing:
            self._pause(self._ended)
            ended = self._ended.is_set()
            for path in [path for path in missing if path.exists()]:
                finished += missing.pop(path)
            clips = min(total, max(clips, finished + self._in_hand.value))
            yield clips
            if ended:
                return


def say(line: str) -> None:
    """Writes a line above the bar, or into the log file."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


def progress_line(done: int, total: int, seconds: float, unit: str = "clips") -> str:
    """Returns how much is done, at which rate, and the time that the rest takes at this rate."""
    share = f"{done:,} of {total:,} {unit} ({100 * done // max(total, 1)} %)"
    if not done or seconds <= 0:
        return f"{share} after {tqdm.format_interval(seconds)}"
    rate = done / seconds
    return f"{share}, {rate:,.1f} {unit}/s, {tqdm.format_interval((total - done) / rate)} left"


@contextlib.contextmanager
def file_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a callback (name of the step, files done, files in all) that shows the progress while many files are read.

    That is a bar on a terminal, and a line a minute elsewhere.
    """
    bar: tqdm | None = None
    began: dict[str, float] = {}
    last = time.monotonic()

    def show(step: str, done: int, total: int) -> None:
        nonlocal bar, last
        if not total:
            return
        if not sys.stderr.isatty():
            now = time.monotonic()
            began.setdefault(step, now)
            if now - last >= _LINE_S:
                print(f"{step}: {progress_line(done, total, now - began[step], 'files')}", file=sys.stderr, flush=True)
                last = now
            return
        if bar is None or bar.desc != step:
            if bar is not None:
                bar.close()
            bar = tqdm(total=total, file=sys.stderr, desc=step, unit=" files", leave=False, dynamic_ncols=True)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
