"""TensorBoard event files."""

import sys

import pandas as pd
import pytest
from heads.sweeps.events import summary_writer, write_events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.errors import InputError
from heads.runs.folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,train_loss,seconds,valid_mae,valid_corr\n1,1.5,0.1,0.9,\n2,1.25,0.1,0.8,0.5\n")
    return RunFolder(tmp_path)


def test_every_column_is_a_scalar_by_epoch(folder):
    write_events(folder)
    found = EventAccumulator(str(folder.path)).Reload()
    read = {name: [(event.step, round(event.value, 6)) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}
    assert read == {
        "train_loss": [(1, 1.5), (2, 1.25)],
        "seconds": [(1, 0.1), (2, 0.1)],
        "valid/mae": [(1, 0.9), (2, 0.8)],
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
