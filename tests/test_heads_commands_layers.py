"""`python -m heads layers`: the best layer of a cache, against an independent ridge."""

import csv
import xml.etree.ElementTree as etree
from pathlib import Path

import numpy as np
import pytest
from caches import make_cache
from command_line import call
from sklearn.linear_model import Ridge

from data.cache import open_corpus
from data.feature_store import FeatureStore
from data.manifest import read_manifest, write_manifest
from data.targets import load_targets
from heads.models.simple import SIMPLE_BASELINES


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = make_cache(tmp_path_factory.mktemp("cache"), utterances=60, layers={"text": (6, 9, 12)})
    return make_cache(folder, corpus="plain", utterances=24)


def ridge_errors(cache) -> dict[str, float]:
    """Layer → the smallest mean absolute error on valid, by scikit-learn's ridge on means over at most 96 tokens."""
    corpus = open_corpus(cache, "mosi")
    targets = load_targets(corpus)
    with FeatureStore.open(corpus.features["text"]) as store:
        means = np.array([store[name].astype(np.float32).mean(0) for name in targets.ids])
    train, valid = (targets.split == split for split in ("train", "valid"))
    blocks = {"6": means[:, :8], "9": means[:, 8:16], "12": means[:, 16:]}
    blocks["mean"] = sum(blocks.values()) / 3
    errors = {}
    for layer, block in blocks.items():
        scaled = (block - block[train].mean(0)) / block[train].std(0)
        models = [Ridge(**setting).fit(scaled[train], targets.sentiment[train]) for setting in SIMPLE_BASELINES["ridge"].grid]
        errors[layer] = min(np.abs(model.predict(scaled[valid]) - targets.sentiment[valid]).mean() for model in models)
    return errors


def test_each_layer_is_measured_and_the_best_is_named(capsys, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, "layers", "--cache", cache, "--corpus", "mosi")
    assert (status, err) == (0, "")
    expected = ridge_errors(cache)
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["modality", "layer", "mae", "corr", "acc2_non0", "acc7", "mean_ap", "mean_wf1"]
    assert {line[1]: float(line[2]) for line in lines[1:5]} == pytest.approx(expected, abs=6e-4)
    best = min((layer for layer in expected if layer != "mean"), key=expected.get)
    assert out.splitlines()[5] == f"best single layer of text by mae: {best} ({expected[best]:.3f})"
    assert best == "9"
    with Path("layers/mosi.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["modality"], row["layer"]) for row in rows] == [("text", layer) for layer in expected]
    assert [float(row["mae"]) for row in rows] == pytest.approx(list(expected.values()), abs=1e-4)
    words = " ".join(etree.parse("layers/mosi.svg").getroot().itertext())
    drawn = (
        "Ridge on each layer of mosi, validation split",
        "text, mean of all",
        "mae (lower is better)",
        "mean_ap (higher is better)",
    )
    assert [text for text in drawn if text not in words] == []


def test_labels_of_the_test_split_change_nothing(capsys, cache, tmp_path):
    """The rows of test are not even read: without labels there the table is the same."""
    args = ("layers", "--corpus", "mosi", "--task", "msa", "--out", tmp_path / "out")
    before = call(capsys, *args, "--cache", cache)[1]
    other = make_cache(tmp_path / "other", utterances=60, layers={"text": (6, 9, 12)})
    path = open_corpus(other, "mosi").manifest
    table = read_manifest(path)
    table.loc[table["split"] == "test", "sentiment"] = np.nan
    write_manifest(path, table, {"corpus": "mosi"})
    assert call(capsys, *args, "--cache", other)[1] == before


def test_one_layer_is_nothing_to_compare(capsys, cache, tmp_path):
    status, out, err = call(capsys, "layers", "--cache", cache, "--corpus", "plain", "--out", tmp_path / "out")
    assert (status, out) == (2, "")
    assert err.startswith("error: The text and audio features hold one layer each, so there is nothing to compare. Set layers = all in")
    assert not (tmp_path / "out").exists()


def test_one_task_and_one_modality(capsys, cache, tmp_path):
    arguments = ("--corpus", "mosi", "--task", "mer", "--modalities", "text", "--out", tmp_path)
    status, out, _ = call(capsys, "layers", "--cache", cache, *arguments)
    assert status == 0
    assert out.splitlines()[0].split() == ["modality", "layer", "mean_ap", "mean_wf1"]
    assert [line.split()[:2] for line in out.splitlines()[1:5]] == [["text", layer] for layer in ("6", "9", "12", "mean")]
