"""An imported corpus: manifest, features and index entry, written together; the facts that identify its features."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.cache import open_corpus
from data.corpora.assemble import assemble
from data.errors import InputError
from data.feature_store import PROVENANCE, FeatureStore
from data.findings import Finding
from data.interchange.imported import Features, Import, write_corpus
from data.manifest import read_attributes, read_manifest

VALUES = {"v[1]": np.arange(6.0).reshape(3, 2), "v[2]": np.full((1, 2), 0.1), "w[1]": np.zeros((0, 2)), "stranger": np.ones((1, 2))}


def imported(name="mine", values=VALUES, findings=(), origin="0123456789ab", notes=()):
    ids = ["v[1]", "v[2]", "w[1]"]
    table = pd.DataFrame({"utterance_id": ids, "video_id": ["v", "v", "w"], "clip_id": ["1", "2", "1"], "text": "words"})
    table = table.assign(order=range(3), sentiment=1.0, split=["train", "valid", "test"], media="", whole=False, expected="")
    corpus = assemble(name, Path("out.pkl"), "a format", table, [], findings)
    lengths = {one: len(rows) for one, rows in values.items()}
    features = Features("text of out.pkl", origin, 2, lengths, dict.fromkeys(values, "s"), lambda one: values[one])
    return Import(corpus, "labels", {"text": features}, notes)


def test_a_corpus_is_written_whole_and_what_it_lacks_is_said(tmp_path):
    findings = [Finding("empty-text", f"v[{n}]", "no word in its text") for n in (1, 2)]
    notes = write_corpus(tmp_path / "cache", imported(findings=findings, notes=("audio: none in the file",)))
    assert notes == [
        "3 utterances as mine: 1 train, 1 valid, 1 test",
        "audio: none in the file",
        "empty-text: 2, first v[1]: no word in its text",
        "excluded: 1, first w[1]: no row of text features (the manifest names each)",
    ]
    corpus = open_corpus(tmp_path / "cache", "mine")
    assert read_manifest(corpus.manifest)["excluded"].tolist() == ["", "", "no row of text features"]
    assert read_attributes(corpus.manifest)["labels"] == "labels"
    with FeatureStore.open(corpus.features["text"]) as store:
        assert store.ids == ("v[1]", "v[2]")
        assert store.verify() == []
        np.testing.assert_array_equal(
            store.read_all(), np.concatenate([VALUES["v[1]"], VALUES["v[2]"]]).astype(np.float32), strict=True
        )
    assert sorted(path.name for path in (tmp_path / "cache").iterdir() if not path.name.startswith(".")) == [
        "features", "index.json", "manifests",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("encoders", "encoder", "identity"),
    [
        (None, "text of out.pkl", {"imported": "a format", "revision": 2, "origin": "0123456789ab"}),
        ("roberta", "text of roberta", {"imported": "a format", "revision": 2}),
    ],
)
def test_features_are_identified_by_their_files_or_by_the_encoders_that_the_user_names(tmp_path, encoders, encoder, identity):
    write_corpus(tmp_path, imported(), encoders)
    with FeatureStore.open(open_corpus(tmp_path, "mine").features["text"]) as store:
        assert set(PROVENANCE) <= set(store.attrs)
        assert store.attrs["encoder"] == {"name": encoder, "revision": None, "trained": None}
        assert store.attrs["identity"] == identity
        assert (store.attrs["corpus"], store.attrs["modality"], store.attrs["device"]) == ("mine", "text", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, r"^A corpus cannot be named 'a/b': expected letters, digits, '\.', '_' and '-'\.$"),
        ({"name": "taken"}, "this cache already has a corpus 'taken'"),
        (
            {"values": dict.fromkeys(VALUES, np.zeros((0, 2)))},
            r"none of 3 utterances can be used, the first because of 'no row ",
        ),
        (
            {"values": VALUES | {"v[2]": np.array([[1.0, np.nan]])}},
            r"out\.pkl: text features of 'v\[2\]': 1 of 2 values are not f",
        ),
        (
            {"values": VALUES | {"v[2]": np.array([[1.0, 1e39]])}},
            r"1 of 2 values are not finite in float32, the first 1e\+39\. An im",
        ),
    ],
)
def test_what_cannot_be_written_leaves_the_cache_as_it_was(tmp_path, change, message):
    write_corpus(tmp_path, imported("taken"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=message):
        write_corpus(tmp_path, imported(**change))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
