"""A build has one bar on a terminal and lines elsewhere, and an error that the user can mend is one line."""

import io
import itertools
import logging
import os
import pty
import re
import termios
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from data.errors import InputError
from pipeline.console import BuildBar, OneLineErrors, file_bar, install_one_line_errors

LIMIT_S = 10  # a test that waits longer has failed


@pytest.fixture
def terminal(monkeypatch) -> Iterator[Callable[[], str]]:
    """A function that ends a terminal that stands for stderr, and returns what it has shown."""
    reading, writing = pty.openpty()
    termios.tcsetwinsize(writing, (24, 100))
    stream = os.fdopen(writing, "w")
    monkeypatch.setattr("pipeline.console.sys", SimpleNamespace(stderr=stream))  # pytest puts back sys.stderr before each test
    shown = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(reading, 1 << 16):
                shown.extend(chunk)
        except OSError:  # how a terminal says that nobody writes to it any more
            os.close(reading)

    thread = threading.Thread(target=read)
    thread.start()

    def end() -> str:
        stream.close()
        thread.join()
        return shown.decode()

    yield end
    end()


def counts(shown: str, name: str) -> list[tuple[int, int]]:
    return [(int(n), int(total)) for n, total in re.findall(rf"{name}: +\d+%\|[^|]*\| (\d+)/(\d+) ", shown)]


class Refresh:
    """The pause of a bar that ends when the test says so."""

    def __init__(self) -> None:
        self._pausing, self._go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, _ended: threading.Event) -> None:
        self._pausing.release()
        assert self._go.acquire(timeout=LIMIT_S)

    def once(self) -> None:
        """Lets a bar that is not at its end refresh, and waits until it has."""
        self.last()
        assert self._pausing.acquire(timeout=LIMIT_S)
        self._pausing.release()

    def last(self) -> None:
        """Lets the bar refresh when it pauses."""
        assert self._pausing.acquire(timeout=LIMIT_S)
        self._go.release()


def wait_for(bar: BuildBar) -> None:
    assert bar._thread is not None
    bar._thread.join(LIMIT_S)
    assert not bar._thread.is_alive()


def test_outputs_count_once_they_exist_whoever_made_them(tmp_path, terminal):
    refresh = Refresh()
    bar = BuildBar(refresh)
    bar.start({tmp_path / "a": 30, tmp_path / "b": 12})
    bar.start({tmp_path / "c": 5})  # a second task of the same build
    (tmp_path / "a").touch()
    refresh.once()
    (tmp_path / "b").touch()
    refresh.last()
    wait_for(bar)
    shown = counts(terminal(), "BuildFeatures")
    assert shown == sorted(shown)
    assert {total for _, total in shown} == {42}
    assert {n for n, _ in shown} == {0, 30, 42}


def test_what_is_in_hand_counts_and_a_failure_takes_nothing_back_from_the_bar(tmp_path, terminal):
    refresh = Refresh()
    bar = BuildBar(refresh)
    bar.start({tmp_path / "a": 30})

    def work() -> None:
        with bar.in_hand() as advance:
            advance(7)
            advance(3)
            refresh.once()
            raise InputError("a clip is bad")

    with pytest.raises(InputError):
        work()
    refresh.once()
    (tmp_path / "a").touch()
    refresh.last()
    wait_for(bar)
    assert {n for n, _ in counts(terminal(), "BuildFeatures")} == {0, 10, 30}


def test_what_forked_workers_have_in_hand_counts_too(tmp_path, terminal):
    refresh = Refresh()
    bar = BuildBar(refresh)
    bar.start({tmp_path / "a": 30})
    (counted, counts_now), (seen, sees_now) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with bar.in_hand() as advance:
            advance(11)
            os.write(counts_now, b"x")
            os.read(seen, 1)
        os._exit(0)
    os.read(counted, 1)
    refresh.once()
    os.write(sees_now, b"x")
    os.waitpid(child, 0)
    for end in (counted, counts_now, seen, sees_now):
        os.close(end)
    (tmp_path / "a").touch()
    refresh.last()
    wait_for(bar)
    assert {n for n, _ in counts(terminal(), "BuildFeatures")} == {0, 11, 30}


@pytest.fixture
def log_file(monkeypatch) -> io.StringIO:
    """A stream that stands for stderr and is no terminal."""
    stream = io.StringIO()
    monkeypatch.setattr("pipeline.console.sys", SimpleNamespace(stderr=stream))
    return stream


class Clock:
    """A clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("pipeline.console.time", SimpleNamespace(monotonic=lambda: self.now))


def test_without_a_terminal_lines_tell_rate_and_time_left(tmp_path, log_file, monkeypatch):
    clock, refresh = Clock(monkeypatch), Refresh()
    bar = BuildBar(refresh)
    bar.start({tmp_path / name: 10 for name in "abc"})
    for seconds, made in ((5, "a"), (6, ""), (1, "b"), (59, ""), (1, "")):  # 5 s is too early, 12 s is not; then a minute
        clock.now += seconds
        if made:
            (tmp_path / made).touch()
        refresh.once()
    clock.now += 8
    (tmp_path / "c").touch()
    refresh.last()
    wait_for(bar)
    assert log_file.getvalue().splitlines() == [
        "BuildFeatures: 1 of 3 files, 10 of 30 clips (33 %), 0.9 clips/s, 00:22 left",
        "BuildFeatures: 2 of 3 files, 20 of 30 clips (66 %), 0.3 clips/s, 00:35 left",
        "BuildFeatures: 3 of 3 files, 30 of 30 clips (100 %), 0.4 clips/s, 00:00 left",
    ]


def test_without_a_terminal_files_that_are_read_are_a_line_a_minute(log_file, monkeypatch):
    clock = Clock(monkeypatch)
    with file_bar() as progress:
        for done in range(1, 11):
            progress("clips: fingerprints", done, 10)
            clock.now += 20
    assert log_file.getvalue().splitlines() == [
        "clips: fingerprints: 4 of 10 files (40 %), 0.1 files/s, 01:30 left",
        "clips: fingerprints: 7 of 10 files (70 %), 0.1 files/s, 00:51 left",
        "clips: fingerprints: 10 of 10 files (100 %), 0.1 files/s, 00:00 left",
    ]


def test_with_nothing_to_do_there_is_no_bar(terminal):
    bar = BuildBar()
    bar.start({})
    with file_bar() as progress:
        progress("donors: fingerprints", 0, 0)
    assert bar._thread is None
    assert terminal() == ""


def test_files_of_one_corpus_after_the_other_share_one_line_that_goes_away(terminal, monkeypatch):
    ticks = itertools.count(step=0.06)
    monkeypatch.setattr("tqdm.std.time", lambda: next(ticks))  # tqdm's clock, which it reads before it draws
    with file_bar() as progress:
        for corpus in ("mosi", "mosei"):
            for done in range(0, 11, 2):
                progress(f"{corpus}: fingerprints", done, 10)
    shown = terminal()
    assert "\n" not in shown
    assert shown.endswith("\r")
    for corpus in ("mosi", "mosei"):
        seen = counts(shown, f"{corpus}: fingerprints")
        assert seen == sorted(seen)
        assert len(seen) >= 3
        assert seen.count((0, 10)) == 1


@pytest.fixture
def log():
    logger, stream = logging.getLogger("test of one-line errors"), io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    install_one_line_errors(logger.name)
    install_one_line_errors(logger.name)
    yield logger, stream
    logger.removeHandler(handler)
    for known in list(logger.filters):
        logger.removeFilter(known)


def fail(logger: logging.Logger, task: str, error: Exception) -> None:
    try:
        raise error
    except type(error):
        logger.exception("[pid %s] Worker %s failed    %s", 17, "Worker(host=h)", task)


def test_errors_that_a_person_can_mend_are_one_line_with_their_task(log):
    logger, stream = log
    fail(logger, "Manifest(corpus=mosi)", InputError("mosi/3.wav: cut off."))
    fail(logger, "Features(corpus=mosi)", OSError(28, "No space left on device", "cache/a.h5"))
    assert stream.getvalue().splitlines() == [
        "Manifest(corpus=mosi): mosi/3.wav: cut off.",
        "Features(corpus=mosi): [Errno 28] No space left on device: 'cache/a.h5'",
    ]
    assert sum(isinstance(known, OneLineErrors) for known in logger.filters) == 1


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_memory_that_is_not_there_is_one_line(log, error):
    logger, stream = log
    fail(logger, "FeatureShard(shard=0)", error)
    assert stream.getvalue().startswith("FeatureShard(shard=0): not enough memory. Set a smaller shard_clips (luigi.cfg")
    assert stream.getvalue().count("\n") == 1


def test_a_warning_without_an_exception_has_no_traceback_and_is_said_once(log):
    logger, stream = log
    for _ in range(3):
        logger.warning("Failed connecting to remote scheduler %r", "http://127.0.0.1:9", exc_info=True)
    assert stream.getvalue() == "Failed connecting to remote scheduler 'http://127.0.0.1:9'\n"


def test_the_same_mistake_is_said_once(log):
    logger, stream = log
    for shard in range(20):
        fail(logger, f"FeatureShard(shard={shard})", InputError("device = cuda means a GPU here."))
    assert stream.getvalue() == "FeatureShard(shard=0): device = cuda means a GPU here.\n"


def test_other_errors_keep_their_traceback_and_other_messages_stay_as_they_are(log):
    logger, stream = log
    fail(logger, "Features(corpus=mosi)", KeyError("x"))
    logger.warning("as it is: %s", "this")
    assert "[pid 17] Worker Worker(host=h) failed    Features(corpus=mosi)\nTraceback (most recent call last):" in stream.getvalue()
    assert stream.getvalue().endswith("KeyError: 'x'\nas it is: this\n")


def test_the_end_shows_where_things_stand_at_once(tmp_path, terminal):
    bar = BuildBar()
    bar.start({tmp_path / "a": 30, tmp_path / "b": 12})
    (tmp_path / "a").touch()
    bar.end()
    assert bar._thread is not None
    assert not bar._thread.is_alive()
    assert counts(terminal(), "BuildFeatures")[-1] == (30, 42)
