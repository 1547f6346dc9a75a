"""`heads.fit`, `heads.sweep`, `heads.Run`: the same results as by the commands."""

import json

import numpy as np
import own_heads
import pandas as pd
import pytest
import torch
from caches import make_cache
from command_line import call

import heads
from data import load_corpus
from data.errors import InputError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=40)


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    return heads.fit(
        cache, "mosi", "mtl", options={"train.max_epochs": 2}, device="cpu", out=tmp_path_factory.mktemp("runs"), quiet=True
    )


def test_a_run_is_that_of_the_command(run, cache, tmp_path, capsys):
    status, *_ = call(
        capsys, "fit", "--cache", cache, "--corpus", "mosi", "--head", "mtl", "--set", "train.max_epochs=2", "--out", tmp_path
    )
    assert status == 0
    (other,) = tmp_path.iterdir()
    assert other.name == run.path.name
    assert heads.Run(other).metrics == run.metrics
    pd.testing.assert_frame_equal(heads.Run(other).predictions, run.predictions)
    assert run.config["train"]["max_epochs"] == 2
    assert repr(run) == f"Run({str(run.path)!r})"


def test_metrics_are_those_of_its_predictions(run):
    table = run.predictions
    assert run.metrics["mae"] == pytest.approx((table["sentiment"] - table["sentiment_true"]).abs().mean(), abs=1e-6)
    low, high = run.intervals["mae"]
    assert low < run.metrics["mae"] < high
    assert list(run.history["epoch"]) == [1, 2]
    assert run.history["valid_mae"].min() == pytest.approx(run.metrics["mae"], rel=0.2)


def test_a_run_predicts_and_records_what_it_opens(run, cache):
    everything = run.predict()
    assert len(everything) == 40
    valid = everything.set_index("utterance_id").loc[run.predictions["utterance_id"]]
    np.testing.assert_allclose(valid["sentiment"], run.predictions["sentiment"], atol=1e-6)
    test = load_corpus(cache, "mosi", split="test")
    assert set(everything.loc[everything["sentiment_true"].isna(), "utterance_id"]) == {item.id for item in test}

    assert not (run.path / "opened.csv").exists()
    found = run.evaluate("test")
    assert found == json.loads((run.path / "metrics.json").read_text())["test"]
    assert (run.path / "opened.csv").exists()


def test_seed_and_task_are_options_too(cache, tmp_path):
    run = heads.fit(cache, "mosi", "ridge", task="msa", seed=11, out=tmp_path, quiet=True)
    assert (run.config["seed"], run.config["task"]) == (11, "msa")
    assert run.history.empty


def test_a_grid_may_be_a_mapping_or_a_file(cache, tmp_path, capsys):
    grid = {
        "head": "mtl",
        "corpus": "mosi",
        "fixed": {"train.max_epochs": 1},
        "grid": {"train.lr": np.array([1e-4, 1e-3])},
        "seeds": (1, 2),
    }
    table = heads.sweep(grid, cache, tmp_path / "a", devices=["cpu"], quiet=True)
    assert len(table) == 2
    assert list(table["mean"]) == sorted(table["mean"])
    assert (tmp_path / "a" / "report.html").exists()

    path = tmp_path / "grid.yaml"
    path.write_text("head: mtl\nfixed: {train.max_epochs: 1}\ngrid: {train.lr: [1.0e-4, 1.0e-3]}\nseeds: [1, 2]\n")
    other = heads.sweep(path, cache, tmp_path / "b", corpus="mosi", devices=["cpu"])
    assert "4 trials" in capsys.readouterr().out
    pd.testing.assert_frame_equal(table.drop(columns="seconds"), other.drop(columns="seconds"))

    again = heads.sweep(grid, cache, tmp_path / "a", devices=["cpu"], quiet=True)
    pd.testing.assert_frame_equal(again, table)


def test_two_runs_are_compared_as_by_the_command(run, cache, tmp_path, capsys):
    ridge = heads.fit(cache, "mosi", "ridge", out=tmp_path, quiet=True)
    found = heads.compare(run, ridge.path, metrics=["mae", "mean_wf1"])
    status, out, _ = call(capsys, "compare", run.path, ridge.path, "--metric", "mae", "mean_wf1", "--json")
    assert status == 0
    for name, values in json.loads(out)["metrics"].items():
        assert found.loc[name].to_dict() == pytest.approx(
            {key: np.nan if one is None else one for key, one in values.items()}, nan_ok=True
        )
    assert found.loc["mae", "a"] == pytest.approx(run.metrics["mae"])
    assert found.loc["mae", "difference"] == pytest.approx(run.metrics["mae"] - ridge.metrics["mae"])


def test_a_run_writes_its_page(run, tmp_path):
    assert run.report() == run.path / "report.html"
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert f"{run.metrics['mae']:.4f}" in page
    assert run.report(tmp_path / "own.html").read_text(encoding="utf-8")[:15] == "<!DOCTYPE html>"


def test_a_head_of_ones_own_is_checked_and_trained(cache, tmp_path):
    head = own_heads.write(tmp_path)
    run = heads.fit(cache, "mosi", head, options={"train.max_epochs": 1}, device="cpu", out=tmp_path / "runs", quiet=True)
    assert (run.config["head"], run.config["preset"]) == (head, "native")  # that of its RECIPE, as by the command
    assert run.config["train"]["lr"] == 1e-3
    assert run.metrics["mae"] > 0

    mixed = "        mixed = self.dropout(gate * text + (1 - gate) * audio)\n"
    broken = own_heads.write(tmp_path, {mixed: f"{mixed}        mixed = mixed - mixed.mean(0)\n"}, "broken.py")
    with pytest.raises(InputError, match="python -m heads check"):
        heads.fit(cache, "mosi", broken, out=tmp_path / "runs", quiet=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "mmolr"}, "Unknown head 'mmolr'. Did you mean 'mmolre'?"),
        ({"options": {"train.rl": 1}}, "options: unknown option 'train.rl'"),
        ({"device": "cuda:9"}, "Device 'cuda:9' cannot be used"),
        ({"options": {"seed": 1}, "seed": 2}, "seed is given as an argument and in options. Give it once."),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(cache, tmp_path, arguments, message):
    if torch.cuda.is_available():
        pytest.skip("cuda:9 may exist")
    with pytest.raises(InputError) as refusal:
        heads.fit(cache, "mosi", out=tmp_path, **arguments)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        heads.Run(tmp_path)
