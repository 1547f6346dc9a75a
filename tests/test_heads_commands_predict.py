"""`python -m heads predict`: what it writes, and which caches and labels it needs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_runs
import torch
from caches import make_cache
from command_line import call

from data.cache import open_corpus, read_cache
from data.errors import InputError
from data.labels import EMOTIONS
from data.manifest import read_attributes, read_manifest, read_table
from heads.runs import evaluate
from heads.runs.config import from_mapping
from heads.runs.external import read_predictions
from heads.runs.run_data import LoadedCache, open_run_data


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Corpora: mosi, with emotions and a ledger; clips, with no label."""
    folder = make_cache(tmp_path_factory.mktemp("cache"), utterances=24, ledger=True)
    return make_cache(folder, corpus="clips", utterances=9, seed=4, labelled=False)


@pytest.fixture(scope="module")
def complete(cache, tmp_path_factory) -> Path:
    """A run of pre-fusion. Not to be changed."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs")).path


def test_predict_writes_a_row_for_each_utterance(capsys, cache, complete, tmp_path):
    out = tmp_path / "new" / "predictions.parquet"
    assert call(capsys, "predict", complete, "--out", out, "--device", "cpu") == (0, f"{out}: 24 utterances\n", "")
    table = pd.read_parquet(out)
    truth = [column for name in ("sentiment", *EMOTIONS) for column in (name, f"{name}_true")]
    assert set(table.columns) == {"utterance_id", *truth}
    assert table["utterance_id"].tolist() == read_manifest(open_corpus(cache, "mosi").manifest)["utterance_id"].tolist()
    valid = pd.read_parquet(complete / "predictions.parquet").set_index("utterance_id")
    pd.testing.assert_frame_equal(table.set_index("utterance_id").loc[valid.index, valid.columns], valid, atol=1e-5)


def test_the_ending_of_the_file_decides_its_format(capsys, complete, tmp_path):
    for name in ("a.csv", "a.PARQUET"):
        assert call(capsys, "predict", complete, "--out", tmp_path / name, "--device", "cpu")[0] == 0
    table = pd.read_parquet(tmp_path / "a.PARQUET")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), table, check_dtype=False, rtol=1e-6)
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").startswith("utterance_id,sentiment,")


def test_parquet_has_a_checksum_and_the_name_of_the_run(capsys, complete, tmp_path):
    out = tmp_path / "a.parquet"
    assert call(capsys, "predict", complete, "--out", out, "--device", "cpu")[0] == 0
    assert read_attributes(out) == {"run": complete.name}
    assert len(read_table(out)) == 24
    content = bytearray(out.read_bytes())
    content[len(content) // 3] ^= 1
    out.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_table(out)


def test_ids_that_a_spreadsheet_would_compute_are_escaped_in_csv_and_read_again_by_score(
    capsys, monkeypatch, cache, complete, tmp_path
):
    predict = evaluate.predict

    def formulas(run, *arguments):
        table = predict(run, *arguments)
        return table.assign(utterance_id="=" + table["utterance_id"])

    monkeypatch.setattr("heads.runs.evaluate.predict", formulas)
    out = tmp_path / "a.csv"
    assert call(capsys, "predict", complete, "--out", out, "--device", "cpu")[0] == 0
    written = pd.read_csv(out)
    assert written["utterance_id"].str.startswith("'=").all()
    written.rename(columns={"utterance_id": "id"}).to_csv(tmp_path / "b.csv", index=False)
    assert read_predictions(tmp_path / "b.csv").table["id"].str.startswith("=").all()


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.parquet.gz"])
def test_another_ending_is_refused_before_anything_is_read(capsys, tmp_path, name):
    status, _, error = call(capsys, "predict", tmp_path / "no run", "--out", tmp_path / name)
    assert (status, error) == (2, f"error: --out is {tmp_path / name}, expected a name that ends in .csv or .parquet.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_modality_is_called_missing(capsys, complete, tmp_path):
    cache = make_cache(tmp_path / "cache")
    index = json.loads((cache / "index.json").read_text())
    del index["corpora"]["mosi"]["features"]["audio"]
    (cache / "index.json").write_text(json.dumps(index))
    status, _, error = call(capsys, "predict", complete, "--cache", cache, "--out", tmp_path / "a.csv")
    assert status == 2
    assert error.startswith(f"error: {cache}: corpus mosi has no audio features (there are: text). A run that was trained with them ")


def test_a_corpus_without_a_modality_is_predicted_by_a_run_that_can_do_without(capsys, cache, tmp_path):
    folder = small_runs.run(cache, tmp_path / "runs", changes={"train.modality_dropout": 0.3})
    lacking = make_cache(tmp_path / "cache", utterances=24, ledger=True)
    index = json.loads((lacking / "index.json").read_text())
    del index["corpora"]["mosi"]["features"]["audio"]
    (lacking / "index.json").write_text(json.dumps(index))
    assert call(capsys, "predict", folder.path, "--cache", lacking, "--out", tmp_path / "a.parquet", "--device", "cpu")[0] == 0
    found = pd.read_parquet(tmp_path / "a.parquet")
    whole = open_run_data(from_mapping(folder.config()["config"], "config"), cache, torch.device("cpu"))
    gaps = LoadedCache(cache, torch.device("cpu")).open(whole.config, lacking={"audio": whole.tensors.targets.ids})
    expected = evaluate.predict_rows(gaps, folder, np.arange(24))
    np.testing.assert_allclose(found["sentiment"], expected.sentiment, atol=1e-5)
    assert not np.allclose(found["sentiment"], evaluate.predict_rows(whole, folder, np.arange(24)).sentiment, atol=1e-3)


@pytest.mark.parametrize("head", ["pre-fusion", "ridge", "median"])
def test_predict_needs_no_labels(capsys, cache, tmp_path, head):
    folder, out = small_runs.run(cache, tmp_path / "runs", head).path, tmp_path / "clips.parquet"
    assert call(capsys, "predict", folder, "--corpus", "clips", "--out", out)[0] == 0
    table = pd.read_parquet(out)
    assert table["utterance_id"].tolist() == read_manifest(open_corpus(cache, "clips").manifest)["utterance_id"].tolist()
    assert table[["sentiment", *EMOTIONS]].notna().all(axis=None)
    assert table.filter(like="_true").isna().all(axis=None)


def test_the_median_needs_labels_alone(capsys, tmp_path):
    cache = make_cache(tmp_path / "cache")
    index = json.loads((cache / "index.json").read_text())
    index["corpora"]["mosi"]["features"] = {}
    (cache / "index.json").write_text(json.dumps(index))
    status, out, _ = call(capsys, *small_runs.command(cache, tmp_path / "runs", "median"))
    assert (status, "annotated emotions, no features\n" in out) == (0, True)
    (run,) = (tmp_path / "runs").iterdir()
    assert call(capsys, "evaluate", run, "--split", "test")[0] == 0
    assert call(capsys, "predict", run, "--out", tmp_path / "out.parquet")[0] == 0
    labels = small_runs.run_data(cache, "median").tensors.targets
    median = np.median(labels.sentiment[labels.rows("train")])
    assert set(pd.read_parquet(tmp_path / "out.parquet")["sentiment"]) == {np.float32(median)}


def test_predict_reads_the_cache_that_is_given(capsys, complete, tmp_path):
    other = make_cache(tmp_path / "cache", corpus="news", utterances=10, seed=7)
    out = tmp_path / "news.parquet"
    assert call(capsys, "predict", complete, "--cache", other, "--corpus", "news", "--out", out)[0] == 0
    assert pd.read_parquet(out)["utterance_id"].str.startswith("news").tolist() == [True] * 10


@pytest.fixture
def simple(tmp_path) -> Path:
    """A median that was fitted on a cache of its own, tmp_path/cache, with the corpora mosi and clips."""
    cache = make_cache(make_cache(tmp_path / "cache"), corpus="clips", utterances=9, seed=4, labelled=False)
    return small_runs.run(cache, tmp_path / "runs", "median").path


@pytest.mark.parametrize("corpus", [[], ["--corpus", "clips"]])
def test_predict_finds_what_a_simple_baseline_learned_from_in_a_cache_that_was_moved(capsys, simple, tmp_path, corpus):
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    assert call(capsys, "predict", simple, *corpus, "--out", first)[0] == 0
    moved = (tmp_path / "cache").rename(tmp_path / "moved")
    assert call(capsys, "predict", simple, *corpus, "--cache", moved, "--out", second)[0] == 0
    pd.testing.assert_frame_equal(pd.read_parquet(second), pd.read_parquet(first))


def test_predict_prefers_what_a_simple_baseline_learned_from_where_it_was(capsys, simple, tmp_path):
    """Another cache may have a corpus of the same name, without labels or with others."""
    out = tmp_path / "out.parquet"
    other = make_cache(make_cache(tmp_path / "other", utterances=9, seed=3), corpus="news", utterances=10, seed=7)
    for corpus in ("mosi", "news"):
        assert call(capsys, "predict", simple, "--cache", other, "--corpus", corpus, "--out", out)[0] == 0
        labels = read_manifest(open_corpus(tmp_path / "cache", "mosi").manifest).query("split == 'train'")["sentiment"]
        assert set(pd.read_parquet(out)["sentiment"]) == {np.float32(labels.median())}


@pytest.mark.parametrize("holds", ["nothing of it", "no labels of it"])
def test_predict_says_where_what_a_simple_baseline_learned_from_has_to_be(capsys, simple, tmp_path, holds):
    out = tmp_path / "out.parquet"
    other = make_cache(tmp_path / "other", corpus="news", utterances=10, seed=7)
    reason = f"Unknown corpus 'mosi'. Available: news (built {read_cache(other)['news'].when})."
    if holds == "no labels of it":
        make_cache(other, utterances=9, labelled=False)
        reason = "mosi: none of 3 utterances of train has sentiment labels, which task 'both' needs. Tasks with labels there: none."
    (tmp_path / "cache").rename(tmp_path / "moved")
    status, _, err = call(capsys, "predict", simple, "--cache", other, "--corpus", "news", "--out", out)
    assert status == 2
    gone = f"{tmp_path}/cache: no such folder, expected a cache."
    assert err.startswith(f"error: {simple}: a simple baseline is fitted again on the corpus of its run, which cannot be read: {gone} ")
    assert err.endswith(f" {reason} Give a --cache that holds the run's corpus as well.\n")
    assert not out.exists()
