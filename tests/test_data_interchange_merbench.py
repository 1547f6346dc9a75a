"""MERBench folders: an export has all files that MERBench reads, and an import brings back all data of the cache."""

import json

import numpy as np
import pandas as pd
import pytest
from caches import make_cache
from feature_files import features as noise
from feature_files import write
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from manifests import manifest

from data.cache import CachedCorpus, add_corpus, open_corpus
from data.errors import InputError
from data.feature_store import FeatureStore
from data.interchange.imported import write_corpus
from data.interchange.merbench import export_merbench, read_merbench
from data.labels import EMOTIONS
from data.manifest import read_manifest, write_manifest

SAME = ["video_id", "clip_id", "position", "speaker", "split", "text", "sentiment", *EMOTIONS]


@pytest.fixture
def cache(tmp_path):
    return make_cache(tmp_path / "cache", utterances=12)


@pytest.fixture
def exported(cache, tmp_path):
    export_merbench(open_corpus(cache, "mosi"), tmp_path / "mer", {})
    return tmp_path / "mer"


def everything(cache, name):
    corpus = open_corpus(cache, name)
    table = read_manifest(corpus.manifest).set_index("utterance_id")
    stores = {modality: FeatureStore.open(path) for modality, path in corpus.features.items()}
    return table, {modality: {one: store[one].astype(np.float32) for one in store.ids} for modality, store in stores.items()}


def test_an_export_holds_what_merbench_reads(cache, exported):
    table, features = everything(cache, "mosi")
    for modality, folder in (("text", "made-up-text-FRA"), ("audio", "made-up-audio-FRA")):
        assert len(list((exported / folder).iterdir())) == 12
        for name, values in features[modality].items():
            stored = np.load(exported / folder / f"{table.at[name, 'video_id']}_{table.at[name, 'clip_id']}.npy")
            assert stored.dtype == np.float32
            np.testing.assert_array_equal(stored, values)
    assert json.loads((exported / "features.json").read_text()) == {"text": "made-up-text-FRA", "audio": "made-up-audio-FRA"}
    with np.load(exported / "label.npz", allow_pickle=True) as labels:
        for theirs, ours in (("train_corpus", "train"), ("val_corpus", "valid"), ("test_corpus", "test")):
            rows = table[table["split"] == ours]
            expected = {f"{row.video_id}_{row.clip_id}": {"emo": 0, "val": row.sentiment} for row in rows.itertuples()}
            assert labels[theirs].tolist() == expected


def test_folders_are_named_by_encoder_and_by_modality_only_where_they_must(tmp_path):
    folder = tmp_path
    write_manifest(folder / "m.parquet", manifest("any", [{"video_id": "v", "clip_id": "1", "sentiment": 1.0}]), {})
    encoders = {"text": {"name": "roberta-base"}, "audio": {"name": "facebook/data2vec audio"}}
    paths = {
        modality: write(folder / f"{modality}.h5", noise([2]), ["a"], attributes={"encoder": encoder})
        for modality, encoder in encoders.items()
    }
    add_corpus(folder, CachedCorpus("any", folder / "m.parquet", paths, None))
    notes = export_merbench(open_corpus(folder, "any"), folder / "mer", {"audio": 1})
    assert sorted(path.name for path in (folder / "mer").glob("*-FRA")) == ["facebook-data2vec-audio-FRA", "roberta-base-FRA"]
    assert notes == [
        "1 of 1 utterances of any: 1 train",
        "audio: 1 utterances cut to their first 1 rows",
        "text: roberta-base-FRA",
        "audio: facebook-data2vec-audio-FRA",
        "labels: label.npz, label.csv",
    ]


def test_cells_like_formulas_are_escaped_in_the_table_and_come_back(tmp_path):
    folder = tmp_path / "cache"
    rows = [{"video_id": "-v", "clip_id": "1", "text": "=1+1", "speaker": "@bo", "sentiment": -1.0}]
    write_manifest(folder / "m.parquet", manifest("any", rows), {})
    path = write(folder / "text.h5", noise([2]), ["a"], attributes={"encoder": {"name": "roberta-base"}})
    add_corpus(folder, CachedCorpus("any", folder / "m.parquet", {"text": path}, None))
    export_merbench(open_corpus(folder, "any"), folder / "mer", {})
    table = pd.read_csv(folder / "mer" / "label.csv", dtype=str)
    assert table.loc[0, ["video_id", "text", "speaker", "sentiment"]].tolist() == ["'-v", "'=1+1", "'@bo", "-1.0"]
    back = read_merbench(folder / "mer", "again").corpus.utterances
    assert back.loc[0, ["video_id", "text", "speaker", "sentiment"]].tolist() == ["-v", "=1+1", "@bo", -1.0]


def test_an_export_comes_back_with_all_labels(cache, exported, tmp_path):
    notes = write_corpus(tmp_path / "back", read_merbench(exported, "again"))
    (before, features), (after, found) = everything(cache, "mosi"), everything(tmp_path / "back", "again")
    pd.testing.assert_frame_equal(after[SAME], before[SAME])
    for modality in ("text", "audio"):
        assert list(found[modality]) == list(features[modality])
        for name, values in features[modality].items():
            np.testing.assert_array_equal(found[modality][name], values)
    assert notes == ["12 utterances as again: 3 train, 5 valid, 4 test"]


names = st.text("ab_-/1", min_size=1, max_size=4)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n,"'), max_size=8)


@settings(max_examples=10, deadline=None)
@given(
    clips=st.lists(st.tuples(names, names, texts, st.floats(-3, 3)), min_size=1, max_size=5, unique_by=lambda clip: clip[:2]),
    lengths=st.lists(st.integers(1, 4), min_size=5, max_size=5),
)
def test_any_corpus_survives_export_and_import(tmp_path_factory, clips, lengths):
    files = {f"{video}_{clip}".replace("/", "_") for video, clip, _, _ in clips}
    assume(len(files) == len(clips))
    folder = tmp_path_factory.mktemp("any")
    rows = [{"video_id": video, "clip_id": clip, "text": text, "sentiment": value} for video, clip, text, value in clips]
    write_manifest(folder / "m.parquet", manifest("any", rows), {})
    values = noise(lengths[: len(rows)])
    path = write(folder / "text.h5", values, [chr(97 + i) for i in range(len(rows))])
    add_corpus(folder, CachedCorpus("any", folder / "m.parquet", {"text": path}, None))
    export_merbench(open_corpus(folder, "any"), folder / "mer", {})
    write_corpus(folder, read_merbench(folder / "mer", "back"))
    (before, features), (after, found) = everything(folder, "any"), everything(folder, "back")
    same = ["video_id", "clip_id", "text", "sentiment", *EMOTIONS]
    pd.testing.assert_frame_equal(after.loc[before.index, same], before[same])
    for name, expected in features["text"].items():
        np.testing.assert_array_equal(found["text"][name], expected)


def test_names_that_merbench_cannot_tell_apart_are_refused(cache, tmp_path):
    path = open_corpus(cache, "mosi").manifest
    table = read_manifest(path)
    clips = table["clip_id"].tolist()
    write_manifest(path, table.assign(video_id=["a/b", "a_b", *table["video_id"][2:]], clip_id=["1", "1", *clips[2:]]), {})
    with pytest.raises(InputError, match="two clips would both be named 'a_b_1'; MERBench needs unique names"):
        export_merbench(open_corpus(cache, "mosi"), tmp_path / "mer", {})


def test_a_name_too_long_for_a_file_is_refused_on_both_ways(cache, exported, tmp_path):
    said = r"a clip would be named 'vvvv.*'… in its feature folder; expected a file name of at most 255 bytes, without NUL\. Shorten"
    labels = exported / "label.csv"
    labels.write_text(labels.read_text().replace("mosi0,2,", f"{'v' * 250},2,"))
    with pytest.raises(InputError, match=rf"label\.csv: {said}"):
        read_merbench(exported, "again")
    path = open_corpus(cache, "mosi").manifest
    table = read_manifest(path)
    write_manifest(path, table.assign(video_id=["v" * 250, *table["video_id"][1:]]), {})
    with pytest.raises(InputError, match=rf"mosi\.parquet: {said}"):
        export_merbench(open_corpus(cache, "mosi"), tmp_path / "new", {})
    assert not (tmp_path / "new").exists()


def test_a_corpus_without_clip_ids_has_files_called_by_its_ids(tmp_path):
    rows = [{"utterance_id": f"v_{i}", "video_id": f"v_{i}", "clip_id": "", "sentiment": 1.0} for i in range(2)]
    write_manifest(tmp_path / "m.parquet", manifest("any", rows), {})
    path = write(tmp_path / "text.h5", noise([2, 3]), ["v_0", "v_1"], attributes={"encoder": "made up"})
    add_corpus(tmp_path, CachedCorpus("any", tmp_path / "m.parquet", {"text": path}, None))
    export_merbench(open_corpus(tmp_path, "any"), tmp_path / "mer", {})
    assert sorted(file.name for file in (tmp_path / "mer" / "made-up-FRA").iterdir()) == ["v_0.npy", "v_1.npy"]
    (tmp_path / "mer" / "label.csv").write_text("id,text,split,sentiment\nv_0,Yes.,train,1\nv_1,No.,test,-1\n")
    write_corpus(tmp_path, read_merbench(tmp_path / "mer", "back"))
    table, found = everything(tmp_path, "back")
    assert table["video_id"].to_dict() == {"v_0": "v_0", "v_1": "v_1"}
    np.testing.assert_array_equal(found["text"]["v_1"], everything(tmp_path, "any")[1]["text"]["v_1"])


def test_media_beside_the_features_exclude_nothing(exported, tmp_path):
    (exported / "mosi0_1.wav").write_bytes(b"RIFF")
    notes = write_corpus(tmp_path / "back", read_merbench(exported, "again"))
    assert notes == ["12 utterances as again: 3 train, 5 valid, 4 test"]
    table, _ = everything(tmp_path / "back", "again")
    assert set(table["excluded"]) == set(table["media"]) == {""}


def test_an_export_goes_into_a_new_folder(cache, exported):
    with pytest.raises(InputError, match="exists already, and an export replaces nothing"):
        export_merbench(open_corpus(cache, "mosi"), exported, {})


def test_a_file_of_one_step_and_files_of_nobody(exported, tmp_path):
    folder = exported / "made-up-text-FRA"
    np.save(folder / "mosi0_1.npy", np.arange(8.0))
    np.save(folder / "stranger_1.npy", np.ones((2, 8)))
    np.save(folder / "mosi0_2.npy", np.ones((0, 8)))
    notes = write_corpus(tmp_path / "back", read_merbench(exported, "again"))
    assert "ignored: 1 files in made-up-text-FRA that belong to no row of label.csv" in notes
    assert "excluded: 1, first mosi0[2]: no row of text features (the manifest names each)" in notes
    _, features = everything(tmp_path / "back", "again")
    assert features["text"]["mosi0[1]"].tolist() == [list(range(8))]
    assert "mosi0[2]" not in features["audio"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("mosi0_1.npy", None, r"made-up-text-FRA: 1 of 12 clips of label\.csv have no file here, first mosi0_1\.npy"),
        ("mosi0_1.npy", b"", r"mosi0_1\.npy: the file is empty"),
        ("mosi0_1.npy", b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        ("mosi0_1.npy", b"<html>", "an HTML page"),
        ("mosi0_1.npy", b"\x80\x04N.", r"not a \.npy file"),
        (
            "mosi0_1.npy",
            b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4( \n",
            r"mosi0_1\.npy: truncated, damaged, or not an array of numbers \(",
        ),
        ("mosi0_1.npy", np.ones((90, 8), np.float32), r"truncated, damaged, or not an array of numbers"),
        ("mosi0_1.npy", np.array([[{}]], object), "not an array of numbers"),
        ("mosi0_1.npy", np.ones((2, 8, 1)), r"float64 \(2, 8, 1\), expected numbers of shape \(steps, width\)"),
        ("mosi0_1.npy", np.ones((2, 5)), r"is 5 wide and .* is 8 wide; expected one width"),
        ("mosi0_1.npy", np.full((2, 8), np.nan), r"text features of 'mosi0\[1\]': 16 of 16 values are not finite"),
        ("../features.json", None, "Write it: expected .* feature folders here: made-up-audio-FRA, made-up-text-FRA"),
        ("../features.json", b"{", r"features\.json: not JSON"),
        ("../features.json", b"[" * 100_000, r"features\.json: not JSON \(maximum recursion depth exceeded"),
        ("../features.json", b'{"video": "made-up-text-FRA"}', r"holds \{'video': 'made-up-text-FRA'\}; expected"),
        ("../features.json", b'{"text": "roberta-FRA"}', "feature folders here: made-up-audio-FRA, made-up-text-FRA"),
        ("../features.json", b'{"text": ["a"]}', "features.json: holds"),
        ("../label.csv", None, r"label\.csv: cannot be read"),
    ],
)
def test_a_broken_folder_is_refused_with_what_was_found(exported, tmp_path, file, content, message):
    path = exported / "made-up-text-FRA" / file
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
        if content.shape == (90, 8):
            path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=message):
        write_corpus(tmp_path / "back", read_merbench(exported, "again"))
    assert not (tmp_path / "back" / "index.json").exists()


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none: no such folder, expected one with label\.csv, features\.json"):
        read_merbench(tmp_path / "none", "x")
