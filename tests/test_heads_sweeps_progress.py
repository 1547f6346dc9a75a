"""The bar of a sweep, and logs of its trials."""

import io
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from heads.evaluation import console
from heads.runs.folder import RunFolder
from heads.sweeps import progress
from heads.sweeps.progress import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Stands for standard error, which pytest itself replaces between a fixture and its test."""
    made = Terminal()
    for module in (progress, console):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=made))
    return made


def complete(path: Path, **values: float | None) -> RunFolder:
    """Make a complete trial with these validation values."""
    folder = RunFolder(path)
    folder.path.mkdir()
    folder.write_metrics({"valid": values, "valid_interval": {}})
    return folder


def last(terminal: io.StringIO) -> str:
    """Return the last line of the bar."""
    return re.split(r"[\r\n]+", terminal.getvalue().strip())[-1]


def test_the_bar_counts_trials_and_shows_the_best_value(tmp_path, terminal):
    failed = RunFolder(tmp_path / "failed")
    failed.path.mkdir()
    failed.write_failure("made up")
    with Bar(4, [complete(tmp_path / "first", mae=0.9)], "mae") as bar:
        assert last(terminal).startswith("sweep:  25%")
        assert "1 of 4 trials, 0 in flight, best mae 0.9000" in last(terminal)
        bar.on_start(3)
        bar.on_progress(1.0)
        bar.on_end(failed)
        bar.on_progress(1.0)
        bar.on_end(complete(tmp_path / "better", mae=0.5))
        bar.on_progress(7.0)
        bar.on_end(complete(tmp_path / "worse", mae=0.7, corr=None))
    assert last(terminal).startswith("sweep: 100%"), "it never runs over its end"
    assert "4 of 4 trials, 0 in flight, best mae 0.5000" in last(terminal)


def test_a_higher_value_is_better_where_the_metric_says_so_and_a_missing_one_is_none(tmp_path, terminal):
    with Bar(2, [complete(tmp_path / "first", corr=None)], "corr") as bar:
        assert "best" not in last(terminal)
        bar.on_end(complete(tmp_path / "second", corr=0.25))
        bar.on_end(complete(tmp_path / "third", corr=0.125))
        assert (bar.best, bar.over) == (0.25, 3)


def test_trials_that_end_are_logged_if_asked_for(tmp_path, terminal, monkeypatch):
    logged = []
    monkeypatch.setattr(progress, "log_finished", lambda *given: logged.append(given))
    ended = complete(tmp_path / "ended", mae=0.5)
    with Bar(1, [], "mae", ["tensorboard"], tmp_path) as bar:
        bar.on_end(ended)
    assert logged == [(["tensorboard"], ended, tmp_path)]


def test_without_a_terminal_there_is_a_line_from_time_to_time(tmp_path, monkeypatch, capsys):
    with Bar(4, [], "mae"):
        pass
    assert capsys.readouterr().err == "", "short work says nothing"
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.01)
    with Bar(4, [complete(tmp_path / "first", mae=0.9)], "mae") as bar:
        bar.on_start(2)
        time.sleep(0.02)
        bar.on_wait()
        bar.on_wait()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"sweep:  25%, 00:00 so far, \S+ left, 1 of 4 trials, 2 in flight, best mae 0\.9000", line)
