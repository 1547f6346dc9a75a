"""The bar of a sweep, and TensorBoard event files of its trials."""

import io
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.errors import InputError
from heads.evaluation import console
from heads.runs.folder import RunFolder
from heads.sweeps import progress
from heads.sweeps.progress import Bar, summary_writer, write_events


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,train_loss,seconds,valid_loss,valid_corr\n1,1.5,0.1,0.9,\n2,1.25,0.1,0.8,0.5\n")
    return RunFolder(tmp_path)


def test_every_column_is_a_scalar_by_epoch(folder):
    write_events(folder)
    found = EventAccumulator(str(folder.path)).Reload()
    read = {name: [(event.step, round(event.value, 6)) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}
    assert read == {
        "train_loss": [(1, 1.5), (2, 1.25)],
        "seconds": [(1, 0.1), (2, 0.1)],
        "valid/loss": [(1, 0.9), (2, 0.8)],
        "valid/corr": [(2, 0.5)],
    }


def test_they_are_written_once(folder):
    write_events(folder)
    before = sorted(path.name for path in folder.path.iterdir())
    write_events(folder)
    assert sorted(path.name for path in folder.path.iterdir()) == before


def test_a_run_without_epochs_has_none(tmp_path):
    write_events(RunFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_the_message_says_how_to_get_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        InputError, match=r"^--tensorboard needs TensorBoard, which is not installed\. Install it: pip install '\.\[tensorboard\]'$"
    ):
        summary_writer()
    assert len(pd.read_csv(folder.path / "history.csv")) == 2


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


def test_events_are_written_of_trials_that_end_if_asked_for(tmp_path, terminal):
    for asked in (False, True):
        ended = complete(tmp_path / str(asked), mae=0.5)
        ended.write_history([{"epoch": 1, "train_loss": 0.5, "seconds": 0.1, "valid_loss": 0.5}])
        with Bar(1, [], "mae", events=asked) as bar:
            bar.on_end(ended)
        assert any(ended.path.glob("events.out.tfevents.*")) is asked


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
