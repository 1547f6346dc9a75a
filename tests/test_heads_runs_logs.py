"""Logs of runs, read back by the tools that they are for: TensorBoard, and W&B and MLflow where they are installed."""

import json
import logging
import sys
from collections.abc import Iterator

import pandas as pd
import pytest
import small_runs
from caches import make_cache
from command_line import call
from sweeps import call_sweep

from data.errors import InputError
from heads.runs import logs
from heads.runs.folder import RunFolder, run_folder
from heads.runs.logs import expect_installed, log_finished
from heads.training.fit import fit

SHORT = {"train.max_epochs": 2}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    """A run that was trained without a log."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs"), changes=SHORT)


def events(folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """Name → (step, value) of each scalar of a run's event files."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder.path)).Reload()
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


def expected(folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """The same from history.csv."""
    history = pd.read_csv(folder.path / "history.csv").set_index("epoch")
    columns = {str(name).replace("valid_", "valid/", 1): history[name].dropna() for name in history}
    return {name: [*values.items()] for name, values in columns.items() if len(values)}


def approximately(found: dict[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, object]]]:
    """Compare in float32."""
    return {name: [(step, pytest.approx(value, rel=1e-6)) for step, value in pairs] for name, pairs in found.items()}


def test_fit_logs_while_it_trains_and_an_interrupted_run_is_logged_from_its_first_epoch(cache, tmp_path, monkeypatch):
    run_data = small_runs.run_data(cache, changes={"train.max_epochs": 3, "train.patience": 3})
    folder = run_folder(run_data.config, tmp_path)
    monkeypatch.setattr("heads.training.loop.SAVE_EVERY_S", 0.0)

    def stop_in_epoch_3(steps: int, note: str) -> None:
        if steps and folder.saved_epochs == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(run_data, folder, stop_in_epoch_3, ["tensorboard"])
    assert [step for step, _ in events(folder)["train_loss"]] == [1, 2]
    fit(run_data, folder, logs=["tensorboard"])
    assert events(folder) == approximately(expected(folder))
    assert [step for step, _ in events(folder)["valid/mae"]] == [1, 2, 3]
    before = sorted(path.name for path in folder.path.iterdir())
    fit(run_data, folder, logs=["tensorboard"])
    assert sorted(path.name for path in folder.path.iterdir()) == before, "once"


def test_a_finished_run_is_logged_when_it_is_asked_for(finished, cache, capsys):
    status, out, _ = call(capsys, *small_runs.command(cache, finished.path.parent, changes=SHORT), "--log", "tensorboard")
    assert (status, "already finished" in out) == (0, True)
    assert events(finished) == approximately(expected(finished))


def test_trials_of_a_sweep_are_logged_in_their_folders(cache, tmp_path, capsys):
    assert call_sweep(capsys, cache, tmp_path, "--log", "tensorboard", grid={"train.lr": [0.01, 0.003]})[0] == 0
    folders = [RunFolder(path) for path in (tmp_path / "sweep" / "trials").iterdir()]
    assert len(folders) == 2
    for folder in folders:
        assert events(folder) == approximately(expected(folder))


def records(content: bytes) -> Iterator[bytes]:
    """Records of a `.wandb` file: after a header of 7 bytes LevelDB's log format, blocks of 32 KB in which each part of a record has a
    checksum (4 bytes), a length (2) and a type (1): whole, first, middle or last."""
    assert content[:4] == b":W&B"
    place, parts = 7, []
    while place + 7 <= len(content):
        if place % 2**15 > 2**15 - 7:
            place += -place % 2**15
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []


@pytest.mark.filterwarnings("ignore")  # of W&B's own packages
def test_wandb_has_the_run_offline_with_its_options_and_the_chosen_epoch(finished, tmp_path, monkeypatch):
    protocol = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    log_finished(["wandb"], finished, tmp_path)
    (file,) = finished.path.glob("wandb/offline-run-*/*.wandb")
    rows, config, summary = [], {}, {}
    for data in records(file.read_bytes()):
        record = protocol.Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item})
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        summary |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update}
    found = {name: [(row["_step"], row[name]) for row in rows if name in row] for name in expected(finished)}
    assert found == approximately(expected(finished))
    assert (config["head"], config["train.lr"]) == ("pre-fusion", 0.01)
    assert summary["chosen/mae"] == finished.metrics()["valid"]["mae"]
    before = sorted(finished.path.glob("wandb/*"))
    log_finished(["wandb"], finished, tmp_path)
    assert sorted(finished.path.glob("wandb/*")) == before, "once"


@pytest.mark.filterwarnings("ignore")  # of MLflow's own packages
def test_mlflow_has_the_run_once_with_its_options_and_the_chosen_epoch(finished, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for _ in range(2):
        log_finished(["mlflow"], finished, tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mmolre")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (finished.path.name, "FINISHED")
    assert (run.data.params["head"], run.data.params["train.lr"]) == ("pre-fusion", "0.01")
    found = {name: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)] for name in expected(finished)}
    assert found == approximately(expected(finished))
    assert run.data.metrics["chosen/mae"] == finished.metrics()["valid"]["mae"]


def test_a_log_that_fails_is_given_up_with_a_line_and_the_run_goes_on(finished, tmp_path, monkeypatch, caplog):
    class Full(logs.TensorBoardLog):
        def epoch(self, number, values):
            raise OSError(28, "No space left on device")

        @staticmethod
        def is_there(folder, out):
            return False

    monkeypatch.setattr(logs, "LOGS", {"full": Full})
    with caplog.at_level(logging.WARNING, "heads"):
        log_finished(["full"], finished, tmp_path)
    (line,) = caplog.messages
    assert line == f"{finished.path}: --log full failed, and the run goes on without it ([Errno 28] No space left on device)."


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_package_that_is_missing_is_missed_in_a_line_that_says_how_to_get_it(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        InputError, match=rf"^--log {name} needs the package {name}, which is not installed .*: pip install '\.\[{name}\]'$"
    ):
        expect_installed([name])


def test_a_run_that_is_not_complete_is_not_logged(tmp_path):
    log_finished(["tensorboard"], RunFolder(tmp_path), tmp_path)
    assert list(tmp_path.iterdir()) == []
