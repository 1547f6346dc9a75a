"""Label sets in words and by name, and what a named set makes of the categories of MELD and IEMOCAP."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.corpora import read_corpus
from data.errors import InputError
from data.label_sets import LABEL_SETS, OPEN, Statement, label_columns, parse
from data.labels import CATEGORIES, EMOTIONS, MOSEI_LABELS, LabelSet
from data.manifest import read_labelled, read_labels, write_manifest
from pipeline.settings import SAMPLE

names = st.lists(st.from_regex(r"[a-z]{3,8}x", fullmatch=True), min_size=2, max_size=5, unique=True).map(tuple)


@given(names, st.booleans(), st.sampled_from([0.5, 1, 3, 10]))
def test_a_set_in_words_is_read_as_it_was_written(emotions, is_exclusive, limit):
    labels = LabelSet(emotions, is_exclusive, (-limit, limit))
    assert parse(str(labels), "here").label_set() == labels
    assert LabelSet.of(labels.noted(), "a file") == labels


def test_what_a_statement_leaves_open_is_the_header_s_or_the_usual():
    header = LabelSet(("calm", "proud"), False, (-1.0, 1.0))
    assert parse("[-2, 2]", "here").label_set(header) == LabelSet(("calm", "proud"), False, (-2.0, 2.0))
    assert parse("one of a, b", "here").label_set(header) == LabelSet(("a", "b"), True, (-1.0, 1.0))
    assert parse("", "here") == OPEN
    assert OPEN.label_set() == MOSEI_LABELS == LABEL_SETS["mosei"].labels
    assert MOSEI_LABELS.noted() == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mel7",
            "here is 'mel7': unknown label set. Did you mean 'meld7'? Available: mosei, meld7, iemocap4, iemocap6; or list emotions.",
        ),
        ("meld7; [-1, 1]", "here is 'meld7; [-1, 1]': a set with a name stands alone, without ';'."),
        ("[-1, 2]", "here is '[-1, 2]': The scale of the sentiment is -1 to 2, expected one with 0 in its middle, such as"),
        ("[-1", "here is '[-1': '[-1' is no scale, expected one such as [-1, 1]."),
        ("[nan, nan]", "here is '[nan, nan]': '[nan, nan]' is no scale"),
        ("[-1, 1]; [-1, 1]", "here is '[-1, 1]; [-1, 1]': it states the same thing twice."),
        ("one of calm", "here is 'one of calm': 1 classes (['calm']), expected 2 to 100."),
        ("calm, Calm", "here is 'calm, Calm': Emotions calm, Calm: one is named twice, whatever the case of its letters."),
        ("calm, text", "here is 'calm, text': Emotion 'text' cannot have this name: expected a letter, then"),
        ("calm, 7", "here is 'calm, 7': Emotion '7' cannot have this name"),
    ],
)
def test_a_statement_that_cannot_be_meant_is_named(text, message):
    with pytest.raises(InputError) as refused:
        parse(text, "here")
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


MELD7 = {"neutral": 0, "surprise": 1, "fear": 2, "sadness": 3, "joy": 4, "disgust": 5, "anger": 6}
"""The numbers of the classes in MELD's own baselines."""
IEMOCAP4 = {"hap": 0, "exc": 0, "sad": 1, "neu": 2, "ang": 3}
IEMOCAP6 = {"hap": 0, "sad": 1, "neu": 2, "ang": 3, "exc": 4, "fru": 5}


@pytest.mark.parametrize(
    ("corpus", "name", "numbers"), [("meld", "meld7", MELD7), ("iemocap", "iemocap4", IEMOCAP4), ("iemocap", "iemocap6", IEMOCAP6)]
)
def test_named_sets_are_those_of_papers(corpus, name, numbers):
    found = read_corpus(corpus, SAMPLE / corpus, statement=parse(name, "here"))
    table, usual = found.utterances, read_corpus(corpus, SAMPLE / corpus).utterances
    assert found.labels == LABEL_SETS[name].labels
    expected = table["category"].map(numbers)
    values = table[list(found.labels.emotions)].to_numpy()
    assert expected.nunique() == len(found.labels.emotions)  # the sample has all classes
    np.testing.assert_array_equal(np.isnan(values).all(axis=1), expected.isna())
    np.testing.assert_array_equal(values[expected.notna()].argmax(axis=1), expected.dropna())
    np.testing.assert_array_equal(values[expected.notna()].sum(axis=1), 1)
    left = [name for name in usual if name not in EMOTIONS]
    pd.testing.assert_frame_equal(table[left], usual[left])


def test_emotions_that_are_stated_are_those_of_the_categories_with_zeros_for_others():
    table = read_corpus("meld", SAMPLE / "meld", statement=parse("anger, joy", "here")).utterances
    for name in ("anger", "joy"):
        assert table[name].tolist() == (table["category"] == name).astype(float).tolist()
    classes = read_corpus("meld", SAMPLE / "meld", statement=parse("one of happiness, neutral", "here")).utterances
    assert classes["happiness"].isna().tolist() == (~classes["category"].isin(["joy", "neutral"])).tolist()


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        ("mosi", "meld7", "the labels of mosi are happiness, sadness, anger, surprise, disgust, fear; [-3, 3], but one of neutral"),
        ("meld", "[-1, 1]", "a scale is stated, [-1.0, 1.0], but this corpus has no sentiment. Remove it."),
        ("iemocap", "one of calm, proud", "none of its categories ("),
    ],
)
def test_labels_that_a_corpus_cannot_have_are_refused(reader, text, message):
    with pytest.raises(InputError) as refused:
        read_corpus(reader, SAMPLE / reader, statement=parse(text, "here"))
    assert str(refused.value).startswith(f"{SAMPLE / reader}: {message}")
    assert read_corpus("mosi", SAMPLE / "mosi", statement=parse("mosei", "here")).labels == MOSEI_LABELS


@pytest.mark.parametrize(("test", "valid"), [(5, 4), (1, 5), (3, 2)])
def test_each_session_of_iemocap_can_be_the_test_split(test, valid):
    table = read_corpus("iemocap", SAMPLE / "iemocap", test_session=test).utterances
    session = table["utterance_id"].str[4].astype(int)
    assert table["split"].tolist() == session.map(lambda one: {test: "test", valid: "valid"}.get(one, "train")).tolist()


def test_there_are_five_sessions_and_only_in_iemocap():
    with pytest.raises(InputError, match="IEMOCAP: the test session is 6, expected one of 1, 2, 3, 4, 5"):
        read_corpus("iemocap", SAMPLE / "iemocap", test_session=6)
    with pytest.raises(InputError, match="a test session is stated, but meld has no sessions"):
        read_corpus("meld", SAMPLE / "meld", test_session=5)


def test_a_manifest_says_what_its_utterances_are_labelled_with(tmp_path):
    corpus = read_corpus("meld", SAMPLE / "meld", statement=parse("meld7", "here"))
    write_manifest(tmp_path / "m.parquet", corpus.utterances, {"corpus": "meld"}, corpus.labels)
    table, labels = read_labelled(tmp_path / "m.parquet")
    assert labels == read_labels(tmp_path / "m.parquet") == corpus.labels
    pd.testing.assert_frame_equal(table, corpus.utterances)
    two = corpus.utterances.assign(joy=1.0)
    with pytest.raises(InputError, match=r"neutral is .*, expected 1 for one class and 0 for all others"):
        write_manifest(tmp_path / "m.parquet", two, {}, corpus.labels)


@pytest.mark.parametrize(
    "found",
    [
        3,
        {"emotions": ["a", "b"]},
        {"emotions": ["a", 1], "exclusive": True, "scale": [-3, 3]},
        {"emotions": ["a"], "exclusive": True, "scale": [-3, 3]},
    ],
)
def test_a_damaged_label_set_is_one_line(found):
    with pytest.raises(InputError, match=r"^m\.parquet: its label set is .*, which is none.* Make the file again\.$"):
        LabelSet.of({"label_set": found}, "m.parquet")


@pytest.mark.parametrize("attributes", [b"null", b"[1]", b"{"])
def test_damaged_attributes_of_a_manifest_are_one_line(tmp_path, attributes):
    corpus = read_corpus("meld", SAMPLE / "meld")
    frame = pa.Table.from_pandas(corpus.utterances, preserve_index=False).replace_schema_metadata({b"mmolre": attributes})
    pq.write_table(frame, tmp_path / "m.parquet")
    for read in (read_labelled, read_labels):
        with pytest.raises(InputError, match=r"m\.parquet: truncated or damaged \([^\n]+$"):
            read(tmp_path / "m.parquet")


@pytest.mark.parametrize("name", ["meld7", "mosei"])
def test_labels_as_columns_of_a_table_are_read_again(tmp_path, name):
    corpus = read_corpus("meld", SAMPLE / "meld", statement=parse(name, "here"))
    columns = label_columns(corpus.utterances, corpus.labels)
    table = corpus.utterances[["text"]].assign(id=[str(row) for row in range(len(corpus.utterances))], **columns)
    table.to_csv(tmp_path / "label.csv", index=False)
    again = read_corpus("folder", tmp_path)
    assert set(again.labels.emotions) == set(corpus.labels.emotions)
    assert again.labels.is_exclusive == corpus.labels.is_exclusive
    for emotion in corpus.labels.emotions:
        np.testing.assert_array_equal(again.utterances[emotion], corpus.utterances[emotion])


def test_every_category_has_a_class_where_papers_give_it_one():
    assert {category for category, emotion in CATEGORIES.items() if emotion} == set(LABEL_SETS["meld7"].classes)
    assert Statement(name="meld7", emotions=LABEL_SETS["meld7"].labels.emotions, is_exclusive=True) == parse("meld7", "here")
