"""MMSA pickles: an export is what MMSA's loader expects, and comes back as the same corpus; variants of other tools are understood."""

import pickle
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from caches import make_cache
from feature_files import features as noise
from feature_files import position_of_values, write
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from manifests import manifest

from data.cache import CachedCorpus, add_corpus, open_corpus, read_cache
from data.errors import InputError
from data.feature_store import PROVENANCE, FeatureStore
from data.interchange.commands import EXPORTS
from data.interchange.imported import write_corpus
from data.interchange.mmsa import export_mmsa, read_mmsa
from data.manifest import read_manifest, write_manifest
from data.targets import load_targets

SPLITS = ("train", "valid", "test")


@pytest.fixture
def cache(tmp_path):
    return make_cache(tmp_path / "cache", utterances=24)


def export(cache, out, **limits):
    notes = export_mmsa(open_corpus(cache, "mosi"), out, limits)
    return pickle.loads(out.read_bytes()), notes


def change(cache, corpus="mosi", **columns):
    path = open_corpus(cache, corpus).manifest
    write_manifest(path, read_manifest(path).assign(**columns), {})


def everything(cache, name):
    """Manifest and features by id of a cached corpus."""
    corpus = open_corpus(cache, name)
    table = read_manifest(corpus.manifest).set_index("utterance_id")
    stores = {modality: FeatureStore.open(path) for modality, path in corpus.features.items()}
    return table, {modality: {one: store[one].astype(np.float32) for one in store.ids} for modality, store in stores.items()}


def test_an_export_holds_what_the_loader_of_mmsa_reads(cache, tmp_path):
    content, notes = export(cache, tmp_path / "mosi.pkl")
    table, features = everything(cache, "mosi")
    assert list(content) == list(SPLITS)
    longest = {modality: max(map(len, values.values())) for modality, values in features.items()}
    for split, part in content.items():
        rows = table[table["split"] == split]
        assert part["id"].tolist() == [f"{row.video_id}$_${row.clip_id}" for row in rows.itertuples()]
        assert part["raw_text"].tolist() == rows["text"].tolist()
        np.testing.assert_array_equal(part["regression_labels"], rows["sentiment"].astype("float32"))
        assert part["classification_labels"].tolist() == [1 + int(np.sign(value)) for value in rows["sentiment"]]
        assert part["annotations"].tolist() == [("Negative", "Neutral", "Positive")[one] for one in part["classification_labels"]]
        assert part["vision"].shape == (len(rows), 1, 1)
        assert not part["vision"].any()
        assert part["vision_lengths"].tolist() == [1] * len(rows)
        for modality, dim in (("text", 8), ("audio", 6)):
            assert part[modality].shape == (len(rows), longest[modality], dim)
            assert part[modality].dtype == part["regression_labels"].dtype == np.float32
            for padded, length, name in zip(part[modality], part[f"{modality}_lengths"], rows.index, strict=True):
                assert length == len(features[modality][name])
                assert not padded[:-length].any()
                np.testing.assert_array_equal(padded[-length:], features[modality][name])
    assert notes == [
        "24 of 24 utterances of mosi: 11 train, 9 valid, 4 test",
        "left out: emotions, which this format does not have",
        f"padded at the front: text to {longest['text']} rows, audio to {longest['audio']} rows",
        "one step of zeros: vision",
    ]


def test_what_a_cache_has_of_emotions_and_the_format_has_not_is_said(tmp_path):
    made = make_cache(tmp_path / "cache", emotions=False, ledger=True)
    _, notes = export(made, tmp_path / "mosi.pkl")
    assert "left out: the pseudo-labels" in notes
    assert not any("emotions" in note for note in notes)


def test_a_limit_keeps_the_first_rows_and_says_how_many_it_cuts(cache, tmp_path):
    content, notes = export(cache, tmp_path / "mosi.pkl", text=4, audio=1000)
    _, features = everything(cache, "mosi")
    part = content["train"]
    assert part["text"].shape[1:] == (4, 8)
    assert part["audio"].shape[1] == max(map(len, features["audio"].values()))
    np.testing.assert_array_equal(part["text"][0][-part["text_lengths"][0] :], features["text"]["mosi0[1]"][:4])
    longer = sum(len(values) > 4 for values in features["text"].values())
    assert f"text: {longer} utterances cut to their first 4 rows" in notes
    assert "audio: 0 utterances cut to their first 1,000 rows" in notes


def test_what_cannot_be_exported_is_left_out_by_reason(cache, tmp_path):
    table = read_manifest(open_corpus(cache, "mosi").manifest)
    reasons = ["silent", *[""] * 23]
    change(cache, excluded=reasons, sentiment=[1, np.nan, *table["sentiment"][2:]], split=["train", "train", "", *table["split"][3:]])
    content, notes = export(cache, tmp_path / "mosi.pkl")
    assert sum(len(part["id"]) for part in content.values()) == 21
    assert notes[:2] == [
        "21 of 24 utterances of mosi: 8 train, 9 valid, 4 test",
        "left out: 1 excluded, 1 without a sentiment, 1 without a split",
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"split": "train"}, r"no utterance in valid, test; MMSA needs train, valid, test"),
        ({"sentiment": np.nan}, r"none of 24 utterances can be exported: 24 without a sentiment"),
        ({"clip_id": "1"}, r"18 clips have the video and clip id of another, first 'mosi0\$_\$1'"),
        (
            {"clip_id": [f"{i}$_$" for i in range(24)]},
            r"clip id '0\$_\$' is not the part after the last '\$_\$' of 'mosi0\$_\$0\$_\$'",
        ),
        ({"clip_id": [f"_${i}" for i in range(24)]}, r"clip id '_\$0' is not the part after the last '\$_\$' of 'mosi0\$_\$_\$0'"),
    ],
)
def test_what_mmsa_could_not_use_is_refused(cache, tmp_path, columns, message):
    change(cache, **columns)
    with pytest.raises(InputError, match=message):
        export(cache, tmp_path / "mosi.pkl")
    assert not (tmp_path / "mosi.pkl").exists()


def test_notes_of_limits_are_in_the_order_of_the_modalities(cache, tmp_path):
    _, notes = export(cache, tmp_path / "mosi.pkl", audio=2, text=2)
    assert [note.partition(":")[0] for note in notes if "cut to" in note] == ["text", "audio"]


@pytest.mark.parametrize("name", ["mmsa", "merbench"])
def test_damaged_values_are_not_exported(cache, tmp_path, name):
    path = open_corpus(cache, "mosi").features["audio"]
    content = bytearray(path.read_bytes())
    content[position_of_values(path)[0]] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        EXPORTS[name](open_corpus(cache, "mosi"), tmp_path / "out", {"audio": 1})
    assert f"{path}: the values of 'mosi0[1]' are damaged (checksum " in str(error.value)
    assert str(error.value).endswith(f" List all damaged utterances with: python -m data verify {path}")
    assert not (tmp_path / "out").exists()


def test_an_export_replaces_nothing_and_needs_a_real_limit(cache, tmp_path):
    (tmp_path / "mosi.pkl").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already"):
        export(cache, tmp_path / "mosi.pkl")
    with pytest.raises(InputError, match="limit of text is 0 rows, expected 1 or more"):
        export(cache, tmp_path / "new.pkl", text=0)


def test_an_export_comes_back_as_the_same_corpus(cache, tmp_path):
    export(cache, tmp_path / "mosi.pkl")
    notes = write_corpus(tmp_path / "back", read_mmsa(tmp_path / "mosi.pkl", "again"))
    (before, features), (after, found) = everything(cache, "mosi"), everything(tmp_path / "back", "again")
    same = ["video_id", "clip_id", "position", "split", "text"]
    pd.testing.assert_frame_equal(after[same].sort_index(), before[same].sort_index())
    np.testing.assert_array_equal(after["sentiment"].astype("float32"), before["sentiment"][after.index].astype("float32"))
    assert set(after["label_source"]) == {"mosi.pkl"}
    for modality in ("text", "audio"):
        assert found[modality].keys() == features[modality].keys()
        for name, values in features[modality].items():
            np.testing.assert_array_equal(found[modality][name], values)
    assert notes == ["24 utterances as again: 11 train, 9 valid, 4 test"]


def test_an_imported_corpus_has_the_facts_of_any_other(cache, tmp_path):
    export(cache, tmp_path / "mosi.pkl")
    write_corpus(cache, read_mmsa(tmp_path / "mosi.pkl", "again"))
    assert list(read_cache(cache)) == ["mosi", "again"]
    corpus = open_corpus(cache, "again")
    assert len(load_targets(corpus)) == 24
    with FeatureStore.open(corpus.features["audio"]) as store:
        assert store.attrs.keys() >= set(PROVENANCE)
        assert store.attrs["encoder"]["name"] == "audio of mosi.pkl"
        assert store.dtype == np.float32
        assert store.verify() == []
    with pytest.raises(InputError, match="this cache already has a corpus 'again'"):
        write_corpus(cache, read_mmsa(tmp_path / "mosi.pkl", "again"))
    with pytest.raises(InputError, match=r"A corpus cannot be named '\.\./x'"):
        write_corpus(cache, read_mmsa(tmp_path / "mosi.pkl", "../x"))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
words = st.text("ab_-$1", min_size=1, max_size=4)
pairs = st.tuples(words, words).filter(lambda pair: "$_$".join(pair).rpartition("$_$")[2] == pair[1])


@settings(max_examples=10, deadline=None)
@given(
    clips=st.lists(st.tuples(pairs, texts, st.floats(-3, 3, width=32)), min_size=3, max_size=6, unique_by=lambda clip: clip[0]),
    lengths=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=6, max_size=6),
    seed=st.integers(0, 100),
)
def test_any_corpus_survives_export_and_import(tmp_path_factory, clips, lengths, seed):
    folder = tmp_path_factory.mktemp("any")
    rows = [
        {
            "utterance_id": f"{video}[{clip}]",
            "video_id": video,
            "clip_id": clip,
            "text": text,
            "sentiment": value,
            "split": SPLITS[i % 3],
        }
        for i, ((video, clip), text, value) in enumerate(clips)
    ]
    ids = [row["utterance_id"] for row in rows]
    assume(len(set(ids)) == len(ids))
    write_manifest(folder / "m.parquet", manifest("any", rows), {})
    paths = {}
    for place, modality in enumerate(("text", "audio")):
        values = noise([pair[place] for pair in lengths[: len(ids)]], dim=3 + place, seed=seed)
        values[0][:] = 0  # rows of zeros may be real: lengths tell
        paths[modality] = write(folder / f"{modality}.h5", values, ids)
    add_corpus(folder, CachedCorpus("any", folder / "m.parquet", paths, None))
    export_mmsa(open_corpus(folder, "any"), folder / "any.pkl", {})
    write_corpus(folder, read_mmsa(folder / "any.pkl", "back"))
    (before, features), (after, found) = everything(folder, "any"), everything(folder, "back")
    assert set(after.index) == set(before.index)
    same = ["video_id", "clip_id", "split", "text", "sentiment"]
    pd.testing.assert_frame_equal(after.loc[before.index, same], before[same])
    for modality, values in features.items():
        for name in ids:
            np.testing.assert_array_equal(found[modality][name], values[name])


def part(lengths=(2, 3), steps=4, front=False, dim=3, **changed):
    """A split as others write it: lists, padding at the end."""
    values = {"text": np.zeros((len(lengths), steps, dim), np.float32)}
    for row, length in enumerate(lengths):
        rows = slice(steps - length, None) if front else slice(length)
        values["text"][row, rows] = np.arange(1, length + 1)[:, None]
    ids = [f"v$_${row}" for row in range(len(lengths))]
    labels = {"raw_text": ["Yes."] * len(lengths), "id": ids, "regression_labels": [0.5] * len(lengths)}
    return {**labels, **values, "vision": np.zeros((len(lengths), 1, 1), np.float32)} | changed


def imported(tmp_path, content, name="x"):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    return write_corpus(tmp_path / "cache", read_mmsa(tmp_path / "x.pkl", name))


def rows_of(tmp_path, modality="text", name="x"):
    _, features = everything(tmp_path / "cache", name)
    return {utterance: values[:, 0].tolist() for utterance, values in features[modality].items()}


@pytest.mark.parametrize("front", [False, True], ids=["end", "front"])
@pytest.mark.parametrize("lengths", [None, [2, 3], np.array([2, 3])], ids=["zeros", "list", "array"])
def test_padding_is_removed_wherever_it_is(tmp_path, front, lengths):
    changed = {} if lengths is None else {"text_lengths": lengths}
    notes = imported(tmp_path, {"train": part(front=front, **changed)})
    assert rows_of(tmp_path) == {"v[0]": [1, 2], "v[1]": [1, 2, 3]}
    assert notes == ["2 utterances as x: 2 train", "audio: none in the file"]


def test_lengths_keep_rows_that_are_zero(tmp_path):
    values = part()["text"]
    values[0, 0] = 0
    imported(tmp_path, {"train": part(text=values, text_lengths=[2, 3])}, "a")
    imported(tmp_path, {"train": part(text=values)}, "b")
    assert rows_of(tmp_path, name="a")["v[0]"] == [0, 2]
    assert rows_of(tmp_path, name="b")["v[0]"] == [2]


def test_the_mask_of_bert_tells_lengths_of_aligned_features(tmp_path):
    tokens = np.zeros((2, 3, 4), np.float32)
    tokens[0, 1, :2] = tokens[1, 1, :3] = 1
    values = part()["text"] + 1  # BERT's output is not zero where its input is padding
    imported(tmp_path, {"train": part(text=values, audio=values * 2, text_bert=tokens)})
    assert rows_of(tmp_path) == {"v[0]": [2, 3], "v[1]": [2, 3, 4]}
    assert rows_of(tmp_path, "audio") == {"v[0]": [4, 6], "v[1]": [4, 6, 8]}


def test_a_clip_without_a_row_is_excluded_by_name(tmp_path):
    notes = imported(tmp_path, {"train": part((2, 0, 1))})
    assert "excluded: 1, first v[1]: no row of text features (the manifest names each)" in notes
    table, features = everything(tmp_path / "cache", "x")
    assert table["excluded"].tolist() == ["", "no row of text features", ""]
    assert list(features["text"]) == ["v[0]", "v[2]"]


def test_what_is_left_is_said(tmp_path):
    notes = imported(tmp_path, {"train": part(vision=np.ones((2, 5, 4)), glove=1, regression_labels=[3.2, 0]), "extra": 1})
    assert "ignored: 'extra', 'glove', which heads do not use" in notes
    assert "ignored: the vision features; import them afterwards with --modality vision" in notes
    assert any("sentiment is 3.2, its scale -3 to 3: taken as 3" in note for note in notes)


def test_vision_is_not_read_whatever_it_is(tmp_path):
    notes = imported(tmp_path, {"train": part(vision=[[[1.0]], [[1.0], [2.0]]])})
    assert "ignored: the vision features; import them afterwards with --modality vision" in notes


@pytest.mark.parametrize("name", ["dev", "val", "validation"])
def test_other_names_of_the_validation_split_are_read(tmp_path, name):
    notes = imported(tmp_path, {name: part(), "train": part((1, 1), id=["w$_$1", "w$_$2"])})
    assert notes == ["4 utterances as x: 2 train, 2 valid", "audio: none in the file"]
    table, _ = everything(tmp_path / "cache", "x")
    assert table["split"].to_dict() == {"w[1]": "train", "w[2]": "train", "v[0]": "valid", "v[1]": "valid"}


def test_utterances_without_a_clip_id_come_back(tmp_path):
    rows = [{"utterance_id": f"v{i}", "video_id": f"v{i}", "clip_id": "", "split": SPLITS[i], "sentiment": 1.0} for i in range(3)]
    write_manifest(tmp_path / "m.parquet", manifest("any", rows), {})
    path = write(tmp_path / "text.h5", noise([2, 3, 1]), ["v0", "v1", "v2"])
    add_corpus(tmp_path, CachedCorpus("any", tmp_path / "m.parquet", {"text": path}, None))
    export_mmsa(open_corpus(tmp_path, "any"), tmp_path / "any.pkl", {})
    write_corpus(tmp_path, read_mmsa(tmp_path / "any.pkl", "back"))
    (before, features), (after, found) = everything(tmp_path, "any"), everything(tmp_path, "back")
    assert after[["video_id", "clip_id", "split"]].equals(before[["video_id", "clip_id", "split"]])
    for name in ("v0", "v1", "v2"):
        np.testing.assert_array_equal(found["text"][name], features["text"][name])


def test_clips_are_ordered_by_number_inside_their_video(tmp_path):
    imported(tmp_path, {"train": part(id=["v$_$10", "v$_$9"])})
    table, _ = everything(tmp_path / "cache", "x")
    assert table["position"].to_dict() == {"v[9]": 0, "v[10]": 1}


bad = part()["text"].copy()
bad[1, 1, 2] = np.nan
full = np.ones((2, 4, 3), np.float32)
padded_with_nan = part()["text"].copy()
padded_with_nan[0, 3] = np.nan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "expected a dict of train, valid, test, found a list"),
        ({"fold1": {}}, "found a dict of 'fold1'"),
        ({"dev": {}}, "dev: expected a dict with raw_text, id, regression_labels, found a dict of "),
        ({"dev": part(), "valid": part()}, "found valid, dev, two of which are the same split; expected train, valid, test"),
        ({"train": part((), text=np.zeros((0, 4, 3))), "test": part(())}, r"x\.pkl: no utterance in train, test\."),
        ({"train": part(id=None)}, "train: id: found a NoneType, expected one value for each utterance"),
        (
            {"train": part(id=["v$_$0", "v$_$\ud800"])},
            r"train: id holds 'v\$_\$\\ud800', which cannot be stored: it has lone surrogates",
        ),
        (
            {"train": part(raw_text=["a", "b\udfff"])},
            r"train: raw_text holds 'b\\udfff', which cannot be stored: it has lone surrogates",
        ),
        ({"train": part(id=["v$_$0", "v\0$_$1"])}, r"train: id is 'v\\x00\$_\$1', expected '<video_id>\$_\$<clip_id>' without NUL"),
        ({"train": part(regression_labels=[[0.5], [1, 2]])}, "train: regression_labels: found lists in a list, expected one value for"),
        ({"train": part(text=[[[1.0]], [[1.0], [2.0]]])}, r"train: text: found a list, expected numbers of shape \(2, steps, width\)"),
        (
            {"train": part(text_lengths=[[2], [3, 3]])},
            "train: text_lengths: found lists in a list, expected one value for each utterance",
        ),
        ({"train": part(text_lengths=3)}, "train: text_lengths: found a int, expected one value for each utterance"),
        ({"train": part(text=padded_with_nan, text_lengths=[2, 3])}, r"train: text: the padding of 'v\[0\]' holds nan, expected zeros"),
        ({"train": {"id": []}}, "train: expected a dict with raw_text, id, regression_labels, found a dict of 'id'"),
        ({"train": part(id=["v$_$0"])}, "1 ids, 2 texts and 2 labels"),
        ({"train": part(id=["v$_$0", "v$_$0"])}, r"id 'v\$_\$0' occurs twice"),
        ({"train": part(id=["v$_$0", "v_1"])}, r"id is 'v_1', expected '<video_id>\$_\$<clip_id>'"),
        ({"train": part(raw_text=["a", 1])}, "raw_text holds 1, expected text"),
        ({"train": part(regression_labels=[0.5, np.nan])}, "regression_labels are not all finite"),
        ({"train": part(regression_labels=[0.5, 9.0])}, r"v\$_\$1: sentiment is 9, its scale -3 to 3\. Is the label on another scale"),
        ({"train": part(text=bad)}, r"text features of 'v\[1\]': 1 of 9 values are not finite in float32, the first nan"),
        ({"train": part(text=bad[0])}, r"train: text: found float32 \(4, 3\), expected numbers of shape \(2, steps, width\)"),
        ({"train": part(text=[1, 2])}, "train: text: found a list, expected numbers"),
        ({"train": part(text_lengths=[2, 5])}, r"train: text: 'v\[1\]' has a length of 5, expected 0 to 4 rows"),
        ({"train": part(text=full, text_lengths=[4, 2])}, r"'v\[1\]' is 2 rows long by its length, but the rest of its 4 rows"),
        ({"train": part(text_lengths=[2.0, 3.0])}, r"train: text_lengths: float64 \(2,\), expected 2 whole numbers"),
        ({"train": part((0, 0))}, r"none of 2 utterances can be used, the first because of 'no row of text features'"),
        ({"train": {key: value for key, value in part().items() if key != "text"}}, "neither text nor audio features"),
        (
            {"train": part(), "test": part(dim=5, id=["w$_$1", "w$_$2"])},
            r"text is \{'train': 3, 'test': 5\} wide, expected one width",
        ),
        (
            {"train": part(), "test": {k: v for k, v in part(id=["w$_$1", "w$_$2"]).items() if k != "text"}},
            "test: text: found a NoneType, expected numbers",
        ),
    ],
)
def test_what_is_no_mmsa_pickle_is_refused_with_what_was_found(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        imported(tmp_path, content)
    assert not (tmp_path / "cache" / "index.json").exists()


shared: list = ["a"]
for _ in range(40):  # 2 ** 40 texts, if each list is copied as often as it occurs
    shared = [shared, shared]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": part(id=shared)}, "train: id: found lists in a list"),
        (
            {"train": part(regression_labels=["x" * 2_000_000] + ["a"] * 10_000)},  # 80 GB if each is as long as the longest
            "2 ids, 2 texts and 10,001 labels",
        ),
        ({"train": part(regression_labels=[2**70, 1])}, r"regression_labels are not all finite numbers \(object\)"),
        ({"train": part(regression_labels=np.array([1, np.finfo(np.longdouble).max]))}, "regression_labels are not all finite numbers"),
        ({"train": part(raw_text=["a", b"x" * 5000])}, r"raw_text holds b'x{77}…, expected text"),
        ({"train": part(id=["v$_$0", "x" * 5000])}, r"train: id is 'x{78}…, expected"),
        ({f"fold{number}": 1 for number in range(5000)}, r"found a dict of 'fold0', .*'fold11', …\."),
    ],
    ids=["lists", "texts", "integer", "longdouble", "text", "id", "keys"],
)
def test_what_would_exhaust_memory_or_fill_the_screen_is_refused_in_one_short_line(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as error:
        imported(tmp_path, content)
    assert len(str(error.value).replace(str(tmp_path), "")) < 400


def test_lengths_may_be_narrow_integers(tmp_path):
    long = np.zeros((2, 300, 3), np.float32)
    long[:, -3:] = 1
    imported(tmp_path, {"train": part(text=long, text_lengths=np.array([3, 3], np.int8))})
    assert everything(tmp_path / "cache", "x")[1]["text"]["v[1]"].shape == (3, 3)


def test_unknown_parts_are_named_up_to_a_dozen(tmp_path):
    notes = imported(tmp_path, {"train": part(), **{f"fold{number}": 1 for number in range(5000)}})
    assert any(note.endswith("'fold11' and 4,988 more, which heads do not use") for note in notes)


def test_numbers_too_large_for_float32_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"not finite in float32, the first 1e\+300"):
        imported(tmp_path, {"train": part(text=np.full((2, 4, 3), 1e300))})


@pytest.fixture(scope="module")
def mmsa(tmp_path_factory):
    """An environment with MMSA on top of the torch that runs these tests, and the script of the documentation."""
    folder = tmp_path_factory.mktemp("mmsa")
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    packages = ["MMSA==2.2.1", "easydict>=1.9", "nvidia-ml-py>=11"]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", *packages], check=True)
    place = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(place, check=True, capture_output=True, text=True).stdout.strip())
    (site / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    page = Path(__file__).parents[1] / "docs" / "interchange.md"
    script = re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[1]
    (folder / "run_mmsa.py").write_text(script)
    return [str(python), str(folder / "run_mmsa.py")]


SELF_MM = ["text_out=8", "update_epochs=1", "learning_rate_other=0.01", "early_stop=8"]
"""It gathers four batches for a step, and an epoch has three here."""


@pytest.mark.mmsa
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("model", "options"),
    [("lf_dnn", []), ("mfn", []), ("tfn", []), ("lmf", ["learning_rate=0.01"]), ("graph_mfn", []), ("self_mm", SELF_MM)],
)
def test_mmsa_trains_on_an_exported_file(mmsa, tmp_path, model, options):
    cache = make_cache(tmp_path / "cache", utterances=96)
    content, _ = export(cache, tmp_path / "mosi.pkl")
    out = tmp_path / "out"
    command = [*mmsa, model, tmp_path / "mosi.pkl", out, "batch_size=16", "early_stop=4", *options]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    predictions = pd.read_csv(out / "predictions.csv", index_col="id")["sentiment"]
    truth = pd.Series(content["test"]["regression_labels"], content["test"]["id"])
    mae = (predictions - truth).abs().mean()
    reported = pd.read_csv(out / "normal" / "mosi.csv").set_index("Model").at[model, "MAE"]
    assert float(re.search(r"[\d.]{2,}\d", reported.replace("float64", ""))[0]) / 100 == pytest.approx(mae, abs=2e-4)
    assert mae < 0.8 * (truth - np.median(content["train"]["regression_labels"])).abs().mean()
