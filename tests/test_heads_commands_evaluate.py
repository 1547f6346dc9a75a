"""`python -m heads evaluate` of run folders: what it prints and writes."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_runs
from caches import make_cache
from command_line import call, emotion_rows, interval_row, printed, sentiment_row

from data.cache import open_corpus
from data.manifest import read_manifest
from heads.runs.folder import RunFolder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Corpora: mosi, with emotions and a ledger; clips, with no label."""
    folder = make_cache(tmp_path_factory.mktemp("cache"), utterances=24, ledger=True)
    return make_cache(folder, corpus="clips", utterances=9, seed=4, labelled=False)


@pytest.fixture(scope="module")
def complete(cache, tmp_path_factory) -> Path:
    """A run of pre-fusion. Not to be changed."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs")).path


@pytest.fixture
def own(complete, tmp_path) -> Path:
    """The same run, to be changed."""
    return shutil.copytree(complete, tmp_path / "own" / complete.name)


@pytest.mark.parametrize("head", ["pre-fusion", "ridge", "median"])
def test_evaluate_opens_a_split_and_writes_it_down(capsys, cache, tmp_path, head):
    folder = small_runs.run(cache, tmp_path, head).path
    before = RunFolder(folder).metrics()
    status, out, err = call(capsys, "evaluate", folder, "--split", "test", "--device", "cpu")
    assert (status, err) == (0, "")
    found = RunFolder(folder).metrics()
    assert found.keys() - before.keys() == {"test", "test_interval"}
    assert found | before == found
    rows = {folder.name: sentiment_row(found["test"]), "95 % interval": interval_row(found["test_interval"])}
    assert printed(out, "sentiment, test") == rows
    assert printed(out, f"emotions, test: {folder.name}") == emotion_rows(found["test"])
    manifest = read_manifest(open_corpus(cache, "mosi").manifest)
    table = pd.read_parquet(folder / "predictions-test.parquet")
    assert table["utterance_id"].tolist() == manifest.loc[manifest["split"] == "test", "utterance_id"].tolist()
    assert np.abs(table["sentiment"] - table["sentiment_true"]).mean() == pytest.approx(found["test"]["mae"], rel=1e-6)
    assert call(capsys, "evaluate", folder, "--split", "test")[0] == 0
    opened = pd.read_csv(folder / "opened.csv")
    assert opened[["split", "checkpoint"]].to_numpy().tolist() == [["test", "checkpoint"]] * 2


def test_evaluate_shows_other_checkpoints_and_several_runs(capsys, cache, tmp_path, own):
    other = small_runs.run(cache, tmp_path / "runs", "post-fusion").path
    status, out, _ = call(capsys, "evaluate", own, other, "--checkpoint", "best-mae")
    assert status == 0
    expected = {folder.name: sentiment_row(RunFolder(folder).metrics()["valid-best-mae"]) for folder in (own, other)}
    assert printed(out, "sentiment, valid-best-mae") == expected
    assert pd.read_csv(own / "opened.csv")[["split", "checkpoint"]].to_numpy().tolist() == [["valid", "best-mae"]]


def test_evaluate_shows_runs_of_one_name_by_their_paths(capsys, own, tmp_path):
    """A folder that is given twice is one run; folders without a seed in their names are no seeds of one configuration."""
    other, renamed = (shutil.copytree(own, tmp_path / "other" / name) for name in (own.name, "renamed"))
    status, out, _ = call(capsys, "evaluate", own, other, renamed, renamed, "--device", "cpu")
    assert status == 0
    runs = {str(own): own, str(other): other, "renamed": renamed}
    expected = {name: sentiment_row(RunFolder(folder).metrics()["valid"]) for name, folder in runs.items()}
    assert printed(out, "sentiment, valid") == expected
    for name in runs:
        assert f"emotions, valid: {name}\n" in re.sub(" {2,}.*", "", out)
    assert len(pd.read_csv(renamed / "opened.csv")) == 1
    again = shutil.copytree(renamed, tmp_path / "again" / "renamed")
    out = call(capsys, "evaluate", renamed, again)[1]
    assert list(printed(out, "sentiment, valid")) == [str(renamed), str(again)]


def test_evaluate_names_a_run_that_is_the_current_folder(capsys, own, monkeypatch):
    monkeypatch.chdir(own)
    out = call(capsys, "evaluate", ".")[1]
    assert list(printed(out, "sentiment, valid")) == [own.name, "95 % interval"]


def test_evaluate_finds_a_cache_that_was_moved_where_it_is_told(capsys, tmp_path):
    cache = make_cache(tmp_path / "cache")
    folder = small_runs.run(cache, tmp_path / "runs").path
    moved = cache.rename(tmp_path / "moved")
    status, _, err = call(capsys, "evaluate", folder)
    assert status == 2
    assert err.startswith(f"error: {cache}: no such folder, expected a cache. ")
    before = RunFolder(folder).metrics()["valid"]
    assert call(capsys, "evaluate", folder, "--cache", moved, "--device", "cpu")[0] == 0
    assert RunFolder(folder).metrics()["valid"] == pytest.approx(before, rel=1e-6)
