"""A corpus as a folder for Hugging Face's `datasets`: Arrow and, where it is installed, that library read what the cache has."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from exports import SIMILAR, expected_features, expected_labels, make_corpus

from data.errors import InputError
from data.interchange.cached import Choice
from data.interchange.parquet import export_parquet
from data.labels import EMOTIONS

SPLITS = {"train": "train", "validation": "valid", "test": "test", "unsplit": ""}


@pytest.fixture
def corpus(tmp_path):
    return make_corpus(tmp_path)


@pytest.mark.parametrize("emotions", ["annotated", "pseudo"])
def test_arrow_reads_what_the_cache_has(corpus, tmp_path, monkeypatch, emotions):
    monkeypatch.setattr("data.interchange.parquet._ROWS_AT_ONCE", 2)
    out = tmp_path / "mosi"
    export_parquet(corpus, out, {"audio": 4}, Choice(emotions=emotions, minimum_similarity=SIMILAR))
    labels, features = expected_labels(corpus, emotions, SIMILAR), expected_features(corpus, {"audio": 4})
    card = yaml.safe_load((out / "README.md").read_text().split("---")[1])
    (listed,) = card["configs"]
    assert [one["split"] for one in listed["data_files"]] == list(SPLITS)
    for one in listed["data_files"]:
        expected = labels[labels["split"] == SPLITS[one["split"]]]
        rows = pq.read_table(out / one["path"]).to_pylist()
        assert len(rows) == len(expected) > 0
        for row, (_, wanted) in zip(rows, expected.iterrows(), strict=True):
            assert {name: row[name] for name in ("utterance_id", "text", "split", "position")} == {
                name: wanted[name] for name in ("utterance_id", "text", "split", "position")
            }
            for name in ("sentiment", *EMOTIONS):
                assert row[name] is None if np.isnan(wanted[name]) else row[name] == np.float32(wanted[name])
            for modality in ("text", "audio"):
                found = np.array(row[f"{modality}_features"], np.float32)
                np.testing.assert_array_equal(found, features[modality][wanted["utterance_id"]], strict=True)
    assert json.loads((out / "about.json").read_text())["emotions"] == emotions
    with pytest.raises(InputError, match="exists already"):
        export_parquet(corpus, out, {})


def test_the_library_loads_the_folder_by_its_name(corpus, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    export_parquet(corpus, tmp_path / "mosi", {})
    datasets.disable_progress_bars()
    found = datasets.load_dataset(str(tmp_path / "mosi"), cache_dir=str(tmp_path / "hugging"))
    labels, features = expected_labels(corpus), expected_features(corpus)
    assert {name: len(part) for name, part in found.items()} == {
        name: int((labels["split"] == ours).sum()) for name, ours in SPLITS.items()
    }
    for row in found["test"].with_format("numpy"):
        np.testing.assert_array_equal(row["text_features"], features["text"][str(row["utterance_id"])], strict=True)
