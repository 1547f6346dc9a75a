"""Features of other tools are joined to the utterances of a corpus by their names, and stored as they are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from caches import make_cache
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data.__main__ import main
from data.cache import CachedCorpus, merge_corpora, open_corpus, read_cache
from data.csd import Entry, write_csd
from data.errors import InputError
from data.feature_store import PROVENANCE, FeatureStore
from data.interchange import safe_pickle
from data.interchange.csd import read_csd_features
from data.interchange.imported import Features
from data.interchange.joined import join, utterance_names
from data.interchange.mmsa import read_mmsa_features
from data.manifest import read_manifest, write_manifest


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("made"), utterances=12)


@pytest.fixture
def cache(made, tmp_path):
    return shutil.copytree(made, tmp_path / "cache")


def utterances(cache, corpus="mosi"):
    return read_manifest(open_corpus(cache, corpus).manifest)


def features(values, intervals=None):
    """Features with these values, name → (T, D)."""
    lengths = {name: len(rows) for name, rows in values.items()}
    dim = next(iter(values.values())).shape[1]
    sources = {name: f"of {name}" for name in values}
    found = None if intervals is None else lambda name: intervals[name]
    return Features("vision of openface", "0123456789ab", dim, lengths, sources, lambda name: values[name], found)


def stored(cache, name="vision", corpus="mosi"):
    with FeatureStore.open(open_corpus(cache, corpus).features[name]) as store:
        assert store.verify() == []
        return {one: store[one] for one in store.ids}, store.attrs


def noise(names, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((int(rng.integers(1, 9)), dim)).astype(np.float32) for name in names}


def test_features_enter_as_they_are_with_checksums_and_provenance(cache):
    ids = utterances(cache)["utterance_id"].tolist()
    values = noise(ids[::-1])
    before = open_corpus(cache, "mosi")
    told = join(cache, "mosi", "vision", features(values), Path("openface"))
    assert told == [f"vision: 12 of 12 utterances of mosi, {sum(map(len, values.values()))} rows, 3 wide"]
    found, attributes = stored(cache)
    assert list(found) == ids
    for name, rows in found.items():
        np.testing.assert_array_equal(rows, values[name], strict=True)
    assert {*PROVENANCE} <= {*attributes}
    assert (attributes["modality"], attributes["encoder"]["name"]) == ("vision", "vision of openface")
    assert attributes["identity"] == {"imported": "joined features", "revision": 1, "origin": "0123456789ab"}
    after = open_corpus(cache, "mosi")
    assert after.joined == ("vision",)
    assert list(after.features) == ["text", "audio", "vision"]
    assert (after.manifest, after.features["text"]) == (before.manifest, before.features["text"])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_the_other_tool_has_each_utterance_gets_its_own_rows_or_is_named(made, tmp_path_factory, data):
    """A join against a plain reference: names in any form and order, some utterances missing, some without rows, some strangers."""
    cache = shutil.copytree(made, tmp_path_factory.mktemp("join") / "cache")
    table = utterances(cache)
    dim = data.draw(st.integers(1, 4))
    forms = {
        "id": "{utterance_id}",
        "mmsa": "{video_id}$_${clip_id}",
        "merbench": "{video_id}_{clip_id}",
        "sdk": "{video_id}[{clip_id}]",
    }
    shape = st.tuples(st.integers(0, 5), st.just(dim))
    numbers = st.floats(-(2.0**99), 2.0**99, width=32)
    expected, values = {}, {}
    for row in data.draw(st.permutations(table.to_dict("records"))):
        if data.draw(st.booleans()):
            rows = data.draw(arrays.arrays(np.float32, shape, elements=numbers))
            values[forms[data.draw(st.sampled_from(sorted(forms)))].format(**row)] = rows
            expected |= {row["utterance_id"]: rows} if len(rows) else {}
    strangers = data.draw(st.lists(st.sampled_from(["odd", "mosi0", "mosi0[99]", "…"]), unique=True))
    values |= {name: np.ones((2, dim), np.float32) for name in strangers}
    absent = [one for one in table["utterance_id"] if one not in expected]
    way = data.draw(st.sampled_from(["refuse", "exclude"]))
    if not values:
        return
    if not expected or (absent and way == "refuse"):
        index = (cache / "index.json").read_bytes()
        with pytest.raises(InputError, match=r"^there: no vision features for ") as error:
            join(cache, "mosi", "vision", features(values), Path("there"), way)
        assert all(repr(name) in str(error.value) for name in absent)
        assert (cache / "index.json").read_bytes() == index
        assert {path.name for path in (cache / "features").iterdir()} == {"mosi-text.h5", "mosi-audio.h5"}
        return
    told = join(cache, "mosi", "vision", features(values), Path("there"), way)
    found, attributes = stored(cache)
    assert list(found) == [one for one in table["utterance_id"] if one in expected]
    for name, rows in found.items():
        np.testing.assert_array_equal(rows, expected[name], strict=True)
    assert (attributes["missing"], attributes["unmatched"]) == (absent, strangers)
    assert all(any(repr(name) in line for line in told) for name in [*absent, *strangers])


def test_names_that_several_utterances_have_are_no_names():
    table = pd.DataFrame({"utterance_id": ["a_1_2", "x/y"], "video_id": ["a", "a_1"], "clip_id": ["1_2", "2"]})
    names = utterance_names(table)
    assert names["a_1_2"] == "a_1_2", "its id, although x/y would be called so too"
    assert (names["x/y"], names["x_y"], names["a_1$_$2"], names["a[1_2]"]) == ("x/y", "x/y", "x/y", "a_1_2")
    twice = table.assign(utterance_id=["p", "q"])
    assert "a_1_2" not in utterance_names(twice)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", r"cache: mosi already has text features\. Choose another name\.$"),
        ("sentence", r"^--modality is 'sentence', expected small letters"),
        (
            "Vision",
            r"^--modality is 'Vision', expected small letters, digits and '_', such as vision, or a further set of text or audio",
        ),
        ("vision.openface", r"^--modality is 'vision\.openface', expected"),
        ("text.default", r"^--modality text\.default: 'default' is the set without a name of its own"),
        ("text.a_b", r"^--modality text\.a_b: 'a_b' cannot name a set of features"),
    ],
)
def test_a_name_that_is_taken_or_cannot_be_is_refused(cache, name, message):
    with pytest.raises(InputError, match=message):
        join(cache, "mosi", name, features(noise(["mosi0[1]"])), Path("there"), "exclude")


def test_a_further_set_of_text_and_named_encoders(cache):
    values = noise(utterances(cache)["utterance_id"])
    join(cache, "mosi", "text.glove", features(values), Path("there"), encoders="glove.6B")
    _, attributes = stored(cache, "text.glove")
    assert (attributes["modality"], attributes["encoder"]["name"]) == ("text", "text.glove of glove.6B")
    assert attributes["identity"] == {"imported": "joined features", "revision": 1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"mosi0[1]": np.ones((1, 2)), "mosi0_1": np.ones((1, 2))},
            r"^there: 'mosi0\[1\]' and 'mosi0_1' are both features of 'mosi0\[1\]'\.$",
        ),
        (
            {"mosi0[1]": np.array([[1.0, -np.inf]])},
            r"^there: vision features of 'mosi0\[1\]': 1 of 2 values are not finite in float32, the first -inf\. An import repairs",
        ),
        (
            {"odd": np.ones((1, 2))},
            r"^there: no vision features for any utterance of mosi\. Names there: 'odd'; names of utterances: 'mosi0",
        ),
    ],
)
def test_what_cannot_be_joined_leaves_the_cache_as_it_was(cache, values, message):
    before = sorted(path for path in cache.rglob("*") if not path.name.startswith("."))
    with pytest.raises(InputError, match=message):
        join(cache, "mosi", "vision", features(values), Path("there"), "exclude")
    assert sorted(path for path in cache.rglob("*") if not path.name.startswith(".")) == before
    assert open_corpus(cache, "mosi").joined == ()


def test_utterances_are_cut_out_of_features_of_whole_videos_by_their_times(cache):
    corpus = open_corpus(cache, "mosi")
    table = read_manifest(corpus.manifest)
    starts = table["position"].astype(float)  # of one second each
    write_manifest(corpus.manifest, table.assign(media="m.wav", start_s=starts, end_s=starts + 1.0), {"corpus": "mosi"})
    path, values, clips = cache.parent / "facet.csd", {}, table.groupby("video_id")["position"].size()
    for video, count in clips.items():
        begins = np.arange(0, count, 0.25)
        values[video] = Entry(np.column_stack([begins, begins]), np.column_stack([begins, begins + 0.25]))
    write_csd(path, "FACET", values.items())
    join(cache, "mosi", "vision", read_csd_features(path, "vision"), path)
    found, _ = stored(cache)
    for name, position in zip(table["utterance_id"], table["position"], strict=True):
        np.testing.assert_array_equal(found[name][:, 0], position + np.arange(0, 1, 0.25))


def test_a_csd_by_utterance_needs_no_times(cache):
    values = noise(utterances(cache)["utterance_id"])
    path = cache.parent / "x.csd"
    times = {name: np.arange(2 * len(rows), dtype=float).reshape(-1, 2) for name, rows in values.items()}
    write_csd(path, "X", ((name, Entry(rows, times[name])) for name, rows in values.items()))
    join(cache, "mosi", "openface", read_csd_features(path, "openface"), path)
    found, attributes = stored(cache, "openface")
    assert all((found[name] == values[name]).all() for name in values)
    assert attributes["encoder"]["name"] == "openface of x.csd"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, r"no entry in it, expected features by utterance or by video\.$"),
        ({"a": np.ones((2, 3)), "b": np.ones((2, 4))}, r"'a' is 3 wide and 'b' is 4 wide; expected one width\.$"),
        ({"a": np.ones((2, 3, 4))}, r"'a': float64 \(2, 3, 4\), expected numbers of shape \(steps, width\)\.$"),
    ],
)
def test_a_csd_of_other_shapes_is_refused(tmp_path, entries, message):
    path = tmp_path / "x.csd"
    write_csd(path, "X", ((name, Entry(values, np.zeros((len(values), 2)))) for name, values in entries.items()))
    with pytest.raises(InputError, match=message):
        read_csd_features(path, "vision")


def pickled(path, table, **changed):
    rows = table[table["split"] != ""]
    parts = {}
    for split, part in rows.groupby("split"):
        ids = (part["video_id"] + "$_$" + part["clip_id"]).to_numpy(object)
        values = np.arange(len(ids) * 4 * 2, dtype=np.float32).reshape(len(ids), 4, 2) + 1
        parts[split] = {"id": ids, "vision": values, "vision_lengths": np.full(len(ids), 4), **changed}
    with path.open("wb") as file:
        safe_pickle.dump(parts, file)
    return parts


def test_one_array_of_a_pickle_is_enough(cache, tmp_path):
    path, table = tmp_path / "mosi.pkl", utterances(cache)
    parts = pickled(path, table)
    join(cache, "mosi", "vision", read_mmsa_features(path, "vision"), path)
    found, attributes = stored(cache)
    assert attributes["encoder"]["name"] == "vision of mosi.pkl"
    for part in parts.values():
        for name, rows in zip(part["id"], part["vision"], strict=True):
            np.testing.assert_array_equal(found[name.replace("$_$", "[") + "]"], rows)


@pytest.mark.parametrize(
    ("changed", "name", "message"),
    [
        ({}, "openface", r"no openface features in it, expected an array of this name; arrays: 'vision'\.$"),
        ({"vision": np.zeros((1, 1, 1), np.float32)}, "vision", r"no vision features in it"),
        ({"id": np.array(["v$_$1"] * 9, object)}, "vision", r": id 'v\$_\$1' occurs twice, expected unique ids\.$"),
        ({"id": np.array([3], object)}, "vision", r": id holds 3, expected text\.$"),
    ],
)
def test_a_pickle_without_such_an_array_is_refused(cache, tmp_path, changed, name, message):
    pickled(tmp_path / "x.pkl", utterances(cache), **changed)
    with pytest.raises(InputError, match=message):
        read_mmsa_features(tmp_path / "x.pkl", name)


def test_a_later_build_keeps_joined_features_and_does_not_replace_them(cache):
    join(cache, "mosi", "vision", features(noise(utterances(cache)["utterance_id"])), Path("there"))
    known = open_corpus(cache, "mosi")
    built = CachedCorpus("mosi", known.manifest, {"text": known.features["text"]}, None)
    merge_corpora(cache, [built], cache / "report.html")
    assert open_corpus(cache, "mosi").features == {"text": known.features["text"], "vision": known.features["vision"]}
    assert open_corpus(cache, "mosi").joined == ("vision",)
    taken = CachedCorpus("mosi", known.manifest, {"vision": known.features["text"]}, None)
    with pytest.raises(
        InputError, match=r"cache: mosi has imported vision features, which a build does not replace\. .* --modality vision$"
    ):
        merge_corpora(cache, [taken], cache / "report.html")


def test_joined_features_can_be_forgotten_and_joined_again(cache, capsys):
    values = features(noise(utterances(cache)["utterance_id"]))
    before = json.loads((cache / "index.json").read_text())["corpora"]["mosi"]
    join(cache, "mosi", "vision", values, Path("there"))
    path = open_corpus(cache, "mosi").features["vision"]
    with pytest.raises(
        InputError, match=r"already has vision features\. .* or run: python -m data forget \S+ mosi --modality vision\.$"
    ):
        join(cache, "mosi", "vision", values, Path("there"))
    assert main(["forget", str(cache), "mosi", "--modality", "vision"]) == 0
    assert (
        capsys.readouterr().out.rstrip().endswith(f"the vision features of mosi are no longer in the index. Their file stays: {path}")
    )
    assert json.loads((cache / "index.json").read_text())["corpora"]["mosi"] == before
    assert path.is_file()
    assert main(["forget", str(cache), "mosi", "--modality", "text"]) == 2
    assert capsys.readouterr().err == f"error: {cache}: no 'text' features were joined to mosi (joined: none).\n"
    join(cache, "mosi", "vision", values, Path("there"))
    assert open_corpus(cache, "mosi").joined == ("vision",)


@pytest.mark.parametrize("joined", [["gaze"], "text", [["text"]], 3])
def test_an_index_that_names_joined_features_without_a_file_is_damaged(cache, joined):
    index = json.loads((cache / "index.json").read_text())
    index["corpora"]["mosi"]["joined"] = joined
    (cache / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"index\.json: damaged \("):
        read_cache(cache)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "npy"], "--format npy brings no labels: give --modality NAME, or choose one of mmsa, merbench."),
        (
            ["--format", "merbench", "--modality", "vision"],
            "--format merbench holds a whole corpus: leave out --modality, or choose one of npy, csd, mmsa.",
        ),
        (["--format", "mmsa", "--missing", "exclude"], "--missing is about the features of --modality NAME, which is not given."),
    ],
)
def test_flags_that_do_not_go_together_are_refused(cache, capsys, arguments, message):
    assert main(["import", "nowhere", "--cache", str(cache), "--corpus", "mosi", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
