"""Run folders: what is in them, that it can be read again, and what is said where it cannot."""

import csv
import datetime
import json
import socket

import numpy as np
import pandas as pd
import pytest
import small_runs
import torch
from caches import make_cache
from safetensors.torch import load_file

from data.errors import InputError
from data.labels import EMOTIONS
from data.manifest import read_manifest
from heads.evaluation.predictions import Predictions
from heads.runs.config import RunConfig
from heads.runs.folder import RunFolder, predictions_table, run_folder

CONTENT = {
    "version": 1,
    "config": {"head": "mmolre", "corpus": "mosi", "data": {"modalities": ("text",)}},
    "encoders": {"text": {"encoder": None, "identity": {}, "dim": 8}},
    "made": {"cache": "/cache", "device": "cpu"},
}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=24)


@pytest.fixture(scope="module")
def complete(cache, tmp_path_factory):
    """A run of mmolre. Not to be changed."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs"), "mmolre", {"train.keep": ["mae", "mean_wf1", "corr"]})


def test_a_run_folder_holds_json_csv_parquet_safetensors_and_svg(complete):
    found = sorted(path.name for path in complete.path.iterdir())
    checkpoints = ["best-corr.safetensors", "best-mae.safetensors", "best-mean_wf1.safetensors", "checkpoint.safetensors"]
    assert found == [*checkpoints, "config.json", "history.csv", "metrics.json", "predictions.parquet", "xray.json", "xray.svg"]
    for name in checkpoints:
        assert {value.dtype for value in load_file(complete.path / name).values()} == {torch.float32}
    for name in ("config.json", "metrics.json", "xray.json"):
        assert json.loads((complete.path / name).read_text())
    assert (complete.path / "predictions.parquet").read_bytes()[:4] == b"PAR1"
    assert (complete.path / "xray.svg").read_text().startswith("<?xml")


def test_metrics_say_what_was_trained_and_what_came_out(complete):
    metrics = complete.metrics()
    assert {name: metrics[name] for name in ("head", "corpus", "task", "seed")} == {
        "head": "mmolre",
        "corpus": "mosi",
        "task": "both",
        "seed": 1,
    }
    assert metrics["parameters"] == sum(value.numel() for value in complete.load_checkpoint("checkpoint.safetensors").values())
    assert (metrics["epochs"], set(metrics["selected"])) == (3, {"loss", "mae", "mean_wf1", "corr"})
    assert "test" not in metrics
    assert metrics["valid"].keys() == metrics["valid_interval"].keys()
    low, high = metrics["valid_interval"]["mae"]
    assert low < metrics["valid"]["mae"] < high


def test_the_history_has_a_row_an_epoch(complete):
    history = pd.read_csv(complete.path / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert {"train_loss", "seconds", "valid_loss", "valid_mae", "valid_mean_wf1"} <= set(history)
    best = complete.metrics()["selected"]["loss"]
    assert best == {"epoch": history["epoch"][history["valid_loss"].idxmin()], "value": history["valid_loss"].min()}


def test_predictions_are_of_the_validation_split_beside_the_truth(complete, cache):
    table = pd.read_parquet(complete.path / "predictions.parquet")
    assert list(table) == ["utterance_id", "sentiment", "sentiment_true", *EMOTIONS, *(f"{emotion}_true" for emotion in EMOTIONS)]
    manifest = read_manifest(cache / "manifests" / "mosi.parquet")
    manifest = manifest[manifest["split"] == "valid"]
    assert table["utterance_id"].tolist() == manifest["utterance_id"].tolist()
    np.testing.assert_allclose(table["sentiment_true"], manifest["sentiment"], rtol=1e-6)
    for emotion in EMOTIONS:
        np.testing.assert_allclose(table[f"{emotion}_true"], manifest[emotion], rtol=1e-6)
    error = table["sentiment"].astype(float) - table["sentiment_true"].astype(float)
    assert error.abs().mean() == pytest.approx(complete.metrics()["valid"]["mae"], rel=1e-12)


def test_what_is_not_defined_is_null(folder):
    nan = float("nan")
    folder.write_metrics({"valid": {"corr": nan, "mae": 0.1 + 0.2}, "valid_interval": {"corr": (nan, 1.0)}})
    assert folder.metrics() == {"valid": {"corr": None, "mae": 0.1 + 0.2}, "valid_interval": {"corr": [None, 1.0]}}
    assert "NaN" not in (folder.path / "metrics.json").read_text()


def test_a_folder_is_of_one_run(folder):
    folder.begin(CONTENT)
    assert folder.config() == json.loads(json.dumps(CONTENT))
    folder.begin({**CONTENT, "made": {"cache": "/moved", "device": "cuda"}})
    assert folder.config()["made"] == {"cache": "/cache", "device": "cpu"}
    with pytest.raises(
        InputError,
        match=r"holds a run of another configuration: encoders\.text\.dim is 8, not 3\. Choose another folder",
    ):
        folder.begin({**CONTENT, "encoders": {"text": {"encoder": None, "identity": {}, "dim": 3}}})


def test_a_folder_of_something_else_is_not_written_into(folder):
    folder.path.mkdir()
    (folder.path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"run: is not empty and holds no run \(no config\.json\)\. Choose another folder\.$"):
        folder.begin(CONTENT)
    assert [path.name for path in folder.path.iterdir()] == ["thesis.tex"]


def test_what_a_killed_run_left_is_removed_and_no_obstacle(folder):
    folder.path.mkdir()
    stray = folder.path / f".config.json.tmp~{socket.gethostname()}~{2**22 + 1}"
    stray.touch()
    folder.begin(CONTENT)
    stray.touch()
    folder.begin(CONTENT)
    assert [path.name for path in folder.path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("text", ['{"model_type": "bert"}', "[1]", "3"])
def test_another_programs_config_is_no_run(folder, text):
    folder.path.mkdir()
    (folder.path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json: not the configuration of a run, so .*run is no run folder\.$"):
        folder.config()


def test_what_cannot_be_read_is_named(folder):
    with pytest.raises(InputError, match=r"run/config\.json: no such file, so .*run is no run folder\.$"):
        folder.config()
    folder.begin(CONTENT)
    with pytest.raises(
        InputError, match=r"run: this run is not complete\. Run the same fit command again; it goes on where it stopped\.$"
    ):
        folder.metrics()
    (folder.path / "metrics.json").touch()
    with pytest.raises(InputError, match=r"metrics\.json/config\.json: no such file, so "):
        RunFolder(folder.path / "metrics.json").config()


def test_a_folder_that_holds_no_run_is_not_an_unfinished_one(folder):
    message = r"run/config\.json: no such file, so .*run is no run folder\.$"
    with pytest.raises(InputError, match=message):
        folder.metrics()
    folder.path.mkdir()
    with pytest.raises(InputError, match=message):
        folder.metrics()


def test_checkpoints_come_back_bit_for_bit(folder):
    turned = torch.randn(3, 2).t()
    folder.save_checkpoint("checkpoint.safetensors", {"a": turned, "b": torch.tensor(1.5, requires_grad=True)})
    found = folder.load_checkpoint("checkpoint.safetensors")
    assert torch.equal(found["a"], turned)
    assert torch.equal(found["b"], torch.tensor(1.5))


def test_checkpoints_may_be_read_by_whom_other_files_may(folder):
    folder.write_json("config.json", CONTENT)
    folder.save_checkpoint("checkpoint.safetensors", {"a": torch.zeros(2)})
    folder.save_state({"a": torch.zeros(2)}, {"history": []})
    modes = {path.name: path.stat().st_mode for path in folder.path.iterdir()}
    assert set(modes) == {"config.json", "checkpoint.safetensors", "state.safetensors"}
    assert len(set(modes.values())) == 1, "that of the umask"


def test_parameters_with_two_names_are_saved_twice(folder):
    shared = torch.randn(3)
    folder.save_checkpoint("checkpoint.safetensors", {"text": shared, "audio": shared})
    found = folder.load_checkpoint("checkpoint.safetensors")
    assert torch.equal(found["text"], shared)
    assert torch.equal(found["audio"], shared)


def test_the_state_of_a_run_comes_back_and_goes(folder):
    assert folder.load_state() is None
    tensors, progress = {"head/a": torch.randn(3)}, {"history": [{"epoch": 1, "valid_mae": 0.1 + 0.2}], "selection": {"waited": 1}}
    folder.save_state(tensors, progress)
    found, facts = folder.load_state()
    assert torch.equal(found["head/a"], tensors["head/a"])
    assert facts == progress
    folder.remove_state()
    assert folder.load_state() is None
    folder.remove_state()


def test_every_opening_of_a_split_is_a_line(folder):
    folder.begin(CONTENT)
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    folder.record_opening("test", "checkpoint")
    folder.record_opening("valid", "best-mae")
    with (folder.path / "opened.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert [(row["split"], row["checkpoint"]) for row in (first, second)] == [("test", "checkpoint"), ("valid", "best-mae")]
    assert before <= datetime.datetime.fromisoformat(first["when"]) <= datetime.datetime.now(datetime.UTC)


@pytest.mark.parametrize("task", ["msa", "mer"])
def test_a_table_of_predictions_has_what_was_learned(cache, task):
    targets = small_runs.run_data(cache).tensors.targets
    rows, rng = np.array([2, 5]), np.random.default_rng(0)
    sentiment = rng.normal(size=2).astype(np.float32) if task == "msa" else None
    logits = rng.normal(size=(2, 6)).astype(np.float32) if task == "mer" else None
    table = predictions_table(Predictions(rows, sentiment, logits, {}), targets)
    assert table["utterance_id"].tolist() == [targets.ids[2], targets.ids[5]]
    assert ("sentiment" in table, "fear" in table) == (task == "msa", task == "mer")
    if task == "mer":
        np.testing.assert_allclose(table[list(EMOTIONS)], 1 / (1 + np.exp(-logits.astype(float))), rtol=1e-12)


def test_a_folder_is_named_after_what_made_it(tmp_path):
    made = small_runs.config(changes={"seed": 7})
    assert run_folder(made, tmp_path).path == tmp_path / f"mosi-pre-fusion-light-{made.key()}-seed7"
    own = RunConfig(head="median", corpus="mosi", preset="some/own.yaml")
    assert run_folder(own, tmp_path).path.name == f"mosi-median-own-{own.key()}-seed1"
