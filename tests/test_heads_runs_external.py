"""Predictions of other tools from a CSV file: which files are read, and what is refused."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from caches import make_cache
from predictions import made_up, written

from data.cache import open_corpus
from data.errors import InputError
from data.interchange import safe_pickle
from data.interchange.mmsa import export_mmsa
from data.labels import EMOTIONS
from data.manifest import read_manifest, write_manifest
from heads.runs.config import make_config
from heads.runs.external import read_predictions
from heads.runs.run_data import open_run_data


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=24)


@pytest.fixture(scope="module")
def table(cache):
    """The manifest of the corpus."""
    return read_manifest(open_corpus(cache, "mosi").manifest)


def opened(cache, task="both"):
    return open_run_data(make_config("median", "mosi", changes={"task": task}), cache, torch.device("cpu"), 0)


@pytest.mark.parametrize("ids", ["utterance_id", "mmsa"])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_predictions_are_those_of_the_file_in_the_order_of_the_corpus(cache, table, tmp_path, ids, split):
    frame = made_up(table, ids=ids)
    found = read_predictions(written(tmp_path / "a.csv", frame)).predictions(opened(cache), split)
    rows = np.flatnonzero(table["split"] == split)
    wanted = frame.sort_index().iloc[rows]
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.sentiment, wanted["sentiment"].to_numpy(np.float32))
    np.testing.assert_allclose(found.emotion_probability, wanted[list(EMOTIONS)], rtol=1e-6)
    assert found.routing == {}


def test_only_what_the_task_asks_for_is_read(cache, table, tmp_path):
    frame = made_up(table).assign(fear="high")
    file = read_predictions(written(tmp_path / "a.csv", frame))
    assert file.task == "both"
    found = file.predictions(opened(cache, "msa"), "test")
    assert found.emotion_logits is None
    assert len(found.sentiment) == (table["split"] == "test").sum()
    assert read_predictions(written(tmp_path / "b.csv", frame[["id", "sentiment"]])).task == "msa"
    assert read_predictions(written(tmp_path / "c.csv", frame.drop(columns="sentiment"))).task == "mer"


def test_certain_probabilities_stay_what_they_are(cache, table, tmp_path):
    frame = made_up(table).assign(anger=0, fear=1, sadness=0.5)
    found = read_predictions(written(tmp_path / "a.csv", frame)).predictions(opened(cache), "test").emotion_probability
    assert {name: set(found[:, EMOTIONS.index(name)]) for name in ("anger", "fear", "sadness")} == {
        "anger": {0.0},
        "fear": {1.0},
        "sadness": {0.5},
    }


def test_utterances_without_labels_or_of_other_splits_may_be_there_or_not(table, tmp_path):
    """One test clip loses its labels, and one is excluded."""
    own = make_cache(tmp_path / "cache")
    unlabelled, excluded = np.flatnonzero(table["split"] == "test")[:2]
    changed = table.copy()
    changed.loc[unlabelled, ["sentiment", *EMOTIONS]] = np.nan
    changed.loc[excluded, "excluded"] = "silent"
    write_manifest(open_corpus(own, "mosi").manifest, changed, {})
    frame, run_data = made_up(table).sort_index(), opened(own)
    few = frame[table["split"] == "test"].drop(index=[unlabelled, excluded])
    names = [run_data.tensors.targets.ids[row] for row in read_both(tmp_path, (frame, few), run_data)]
    assert names == few["id"].tolist()


def read_both(folder, frames, run_data):
    """The rows that are predicted, which are the same for both frames, as their predictions are."""
    one, other = (read_predictions(written(folder / "a.csv", frame)).predictions(run_data, "test") for frame in frames)
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.sentiment, other.sentiment)
    return one.rows


def test_the_ids_of_an_exported_pickle_are_known(cache, table, tmp_path):
    export_mmsa(open_corpus(cache, "mosi"), tmp_path / "mosi.pkl", {})
    part = safe_pickle.load(tmp_path / "mosi.pkl")["test"]
    frame = pd.DataFrame({"id": part["id"], "sentiment": part["regression_labels"]})
    found = read_predictions(written(tmp_path / "a.csv", frame)).predictions(opened(cache, "msa"), "test")
    np.testing.assert_array_equal(found.sentiment, table.loc[found.rows, "sentiment"].to_numpy(np.float32))
    assert len(found.rows) == (table["split"] == "test").sum()


REFUSED = {
    "an id of no utterance": (
        {"id": "mosi9$_$1"},
        r"a\.csv:4: id is 'mosi9\$_\$1', which names no utterance, or several, of mosi; expected",
    ),
    "an id twice": ({"id": "mosi0[1]"}, r"a\.csv:4: id 'mosi0\[1\]' is already on line 2; expected unique ids"),
    "an id in both forms": ({"id": "mosi0$_$1"}, r"a\.csv:4: id 'mosi0\[1\]' is already on line 2; expected unique ids"),
    "no number": ({"sentiment": "high"}, r"a\.csv:\d+: sentiment is 'high', expected a number"),
    "an infinite number": ({"sentiment": "inf"}, r"a\.csv:\d+: sentiment is 'inf', expected a number"),
    "no value": ({"sentiment": ""}, r"a\.csv:\d+: sentiment is '', expected a number"),
    "a number beyond 32 bits": ({"sentiment": "1e300"}, r"a\.csv:\d+: sentiment is '1e300', expected a number that fits into 32 bits"),
    "no probability": ({"fear": "1.01"}, r"a\.csv:\d+: fear is '1.01', expected a probability from 0 to 1"),
    "a negative probability": ({"anger": "-0.1"}, r"a\.csv:\d+: anger is '-0.1', expected a probability from 0 to 1"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_row_that_cannot_be_is_refused_by_file_and_line(cache, table, tmp_path, change, message):
    frame = made_up(table).sort_index().astype(str)
    (column,) = change
    place = 2 if column == "id" else np.flatnonzero(table["split"] == "test")[1]
    frame.loc[place, column] = change[column]
    file = read_predictions(written(tmp_path / "a.csv", frame))
    with pytest.raises(InputError, match=message):
        file.predictions(opened(cache), "test")


def test_a_file_that_lacks_utterances_names_the_first(cache, table, tmp_path):
    frame = made_up(table)
    tested = table.index[table["split"] == "test"]
    file = read_predictions(written(tmp_path / "a.csv", frame.drop(index=tested[[1, 2]])))
    first = re.escape(repr(table.loc[tested[1], "utterance_id"]))
    with pytest.raises(InputError, match=rf"2 of {len(tested)} labelled utterances of mosi, test, are not in it, first {first}"):
        file.predictions(opened(cache), "test")
    assert len(file.predictions(opened(cache), "valid").rows) == (table["split"] == "valid").sum()


def test_mmsa_ids_that_name_several_utterances_are_refused_and_ours_taken(table, tmp_path):
    own = make_cache(tmp_path / "cache")
    write_manifest(open_corpus(own, "mosi").manifest, table.assign(clip_id="1"), {})
    file = read_predictions(written(tmp_path / "a.csv", made_up(table.assign(clip_id="1"), ids="mmsa").sort_index()))
    with pytest.raises(InputError, match=r"a\.csv:2: id is 'mosi0\$_\$1', which names no utterance, or several, of mosi \(23 more"):
        file.predictions(opened(own), "test")
    file = read_predictions(written(tmp_path / "b.csv", made_up(table)))
    assert len(file.predictions(opened(own), "test").rows) == (table["split"] == "test").sum()


COLUMNS = {
    "no id": ({"id": "utterance"}, r"no column 'id'"),
    "nothing that is predicted": ({"sentiment": "sentimant", **{name: f"p_{name}" for name in EMOTIONS}}, "Did you mean 'sentimant'"),
    "five emotions": ({"fear": "Fear"}, r":1: no column fear\. Give the probabilities of all six emotions, or of none\.$"),
}


@pytest.mark.parametrize(("names", "message"), COLUMNS.values(), ids=COLUMNS)
def test_columns_that_are_missing_are_named(table, tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        read_predictions(written(tmp_path / "a.csv", made_up(table).rename(columns=names)))


def test_a_file_with_nothing_in_it_is_said_to_be_empty(tmp_path):
    path = tmp_path / "a.csv"
    path.touch()
    with pytest.raises(InputError, match=r"a\.csv: the file is empty, expected a header line and one row an utterance\.$"):
        read_predictions(path)
