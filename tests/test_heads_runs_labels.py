"""Runs on sentiment in [-1, 1], and runs whose corpus has other labels now than those that they learned."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import small_runs
from caches import make_cache
from command_line import call, printed

from data.cache import open_corpus
from data.labels import EMOTIONS, MOSEI_LABELS, LabelSet
from data.manifest import read_manifest, write_manifest
from heads.runs.folder import RunFolder

SIMS = LabelSet(scale=(-1.0, 1.0))
METRICS = ["acc2", "f1", "acc3", "acc5", "mae", "corr"]


def relabel(cache, corpus, labels, **columns):
    """Writes the manifest of a cached corpus again, with other labels."""
    path = open_corpus(cache, corpus).manifest
    table = read_manifest(path)
    write_manifest(path, table.assign(**columns) if columns else table.assign(sentiment=table["sentiment"] / 3), {}, labels)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Corpora: sims, with sentiment in [-1, 1]; mosi, with the usual labels."""
    folder = make_cache(tmp_path_factory.mktemp("cache"), corpus="sims")
    relabel(folder, "sims", SIMS)
    return make_cache(folder)


@pytest.fixture(scope="module")
def sims(cache, tmp_path_factory) -> RunFolder:
    """A run of ridge on sims. Not to be changed."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs"), "ridge", {}, "sims")


def test_a_run_has_the_metrics_of_its_scale(capsys, cache, sims, tmp_path):
    metrics = sims.metrics()
    assert [name for name in metrics["valid"] if name in METRICS or name.startswith("acc")] == METRICS
    assert metrics["label_set"]["scale"] == [-1, 1]
    assert sims.labels() == SIMS
    table = sims.predictions()
    clipped, truth = table["sentiment"].clip(-1, 1), table["sentiment_true"]
    assert metrics["valid"]["mae"] == pytest.approx((clipped - truth).abs().mean(), rel=1e-6)
    assert metrics["valid"]["acc2"] == pytest.approx(((clipped > 0) == (truth > 0)).mean())
    status, out, _ = call(capsys, *small_runs.command(cache, tmp_path, "median", {"train.select": "acc3"}, "sims"))
    assert status == 0
    (row, _) = printed(out, "sentiment, valid").values()
    assert list(row) == METRICS


def test_the_same_clips_on_both_scales_give_the_same_ridge(cache, sims, tmp_path):
    mosi = small_runs.run(cache, tmp_path, "ridge").predictions()
    assert "label_set" not in RunFolder(next(tmp_path.iterdir())).metrics()
    np.testing.assert_allclose(mosi["sentiment"], 3 * sims.predictions()["sentiment"], rtol=1e-4, atol=1e-5)


def test_a_metric_of_another_scale_cannot_choose_the_epoch(refused, cache, tmp_path):
    message = refused(*small_runs.command(cache, tmp_path, changes={"train.select": "acc7"}, corpus="sims"))
    assert message.startswith("Unknown metric of the labels of sims (train.select) 'acc7'. Did you mean 'acc")


def test_runs_with_different_labels_are_not_compared(refused, cache, sims, tmp_path):
    mosi = small_runs.run(cache, tmp_path, "ridge")
    message = refused("compare", sims.path, mosi.path)
    assert message == f"{sims.path} and {mosi.path}: predict different labels, {SIMS} and {MOSEI_LABELS}, so they cannot be compared."


def test_labels_that_mean_something_else_are_left_out_of_predictions(capsys, cache, sims, tmp_path):
    """Features of mosi and sims are alike; the run knows [-1, 1] alone, and the six emotions of both are the same."""
    assert call(capsys, "predict", sims.path, "--corpus", "mosi", "--out", tmp_path / "mosi.csv")[0] == 0
    table = pd.read_csv(tmp_path / "mosi.csv")
    assert table["sentiment"].notna().all()
    assert table["sentiment_true"].isna().all()
    assert table["happiness_true"].notna().any()


def test_a_corpus_that_was_labelled_anew_is_refused(refused, cache, sims, tmp_path):
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    table = read_manifest(open_corpus(copy, "sims").manifest)
    classes = (table[list(EMOTIONS)].to_numpy().argmax(axis=1)[:, None] == np.arange(6)).astype(float)
    relabel(copy, "sims", LabelSet(EMOTIONS, True), **dict(zip(EMOTIONS, classes.T, strict=True)))
    message = refused("evaluate", sims.path, "--cache", copy, "--split", "valid", "--device", "cpu")
    assert message.startswith(f"{copy}/manifests/sims.parquet: labelled with one of happiness, sadness, ")
    assert f"but {sims.path} has learned {SIMS}. Build the corpus with the labels of the run" in message


def test_a_damaged_label_set_of_a_run_is_one_line(refused, cache, sims, tmp_path):
    copy = tmp_path / sims.path.name
    shutil.copytree(sims.path, copy)
    content = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(content | {"label_set": {"emotions": 3}}))
    message = refused("predict", copy, "--out", tmp_path / "x.csv")
    assert message == f"{copy}/config.json: its label set is {{'emotions': 3}}, which is none. Make the file again."
