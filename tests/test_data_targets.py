"""Labels of a corpus: annotated or pseudo, without excluded utterances, joined by id."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from caches import MINIMUM_SIMILARITY, make_cache

from data.cache import open_corpus
from data.errors import InputError
from data.labels import EMOTIONS
from data.manifest import read_manifest, write_manifest, write_table
from data.targets import load_targets


@pytest.fixture
def corpus(tmp_path):
    return open_corpus(make_cache(tmp_path, ledger=True), "mosi")


def change_manifest(corpus, **columns):
    write_manifest(corpus.manifest, read_manifest(corpus.manifest).assign(**columns), {})


def change_ledger(corpus, change):
    write_table(corpus.pseudo_labels, change(pd.read_parquet(corpus.pseudo_labels)), {})


def test_targets_are_the_columns_of_the_manifest(corpus):
    manifest, targets = read_manifest(corpus.manifest), load_targets(corpus)
    assert targets.ids == tuple(manifest["utterance_id"])
    assert targets.text == tuple(manifest["text"])
    assert targets.split.tolist() == manifest["split"].tolist()
    assert targets.video.tolist() == manifest["video_id"].tolist()
    assert targets.position.tolist() == manifest["position"].tolist()
    assert (targets.position.dtype, targets.sentiment.dtype, targets.emotions.dtype) == ("int64", "float32", "float32")
    np.testing.assert_array_equal(targets.sentiment, manifest["sentiment"].astype("float32"))
    np.testing.assert_array_equal(targets.emotions, manifest[list(EMOTIONS)].astype("float32"))
    assert len(targets) == 24


def test_rows_of_a_split_are_those_of_the_manifest(corpus):
    targets, split = load_targets(corpus), read_manifest(corpus.manifest)["split"]
    for name in ("train", "valid", "test"):
        assert targets.rows(name).tolist() == split.index[split == name].tolist() != []
    assert targets.rows("train").dtype == np.int64
    with pytest.raises(InputError, match=r"^Unknown split 'vaild'\. Did you mean 'valid'\? Available: train, valid, test\.$"):
        targets.rows("vaild")


def test_a_split_may_be_empty(corpus):
    change_manifest(corpus, split="")
    assert load_targets(corpus).rows("train").tolist() == []


def test_unlabelled_utterances_are_nan(tmp_path):
    targets = load_targets(open_corpus(make_cache(tmp_path, labelled=False), "mosi"))
    assert np.isnan(targets.sentiment).all()
    assert np.isnan(targets.emotions).all()


@pytest.mark.parametrize("emotions", ["annotated", "pseudo"])
def test_excluded_utterances_are_left_out(corpus, emotions):
    whole = load_targets(corpus, emotions, -1)
    change_manifest(corpus, excluded=["cannot be decoded" if i in (0, 5) else "" for i in range(24)])
    kept = [i for i in range(24) if i not in (0, 5)]
    targets = load_targets(corpus, emotions, -1)
    assert targets.ids == tuple(whole.ids[i] for i in kept)
    np.testing.assert_array_equal(targets.emotions, whole.emotions[kept])
    np.testing.assert_array_equal(targets.sentiment, whole.sentiment[kept])


def test_pseudo_emotions_are_joined_by_id_and_sentiment_stays(corpus):
    ledger = pd.read_parquet(corpus.pseudo_labels)
    change_ledger(corpus, lambda table: table.sample(frac=1, random_state=3))
    pseudo, annotated = load_targets(corpus, "pseudo", -1), load_targets(corpus)
    expected = ledger.set_index("utterance_id").loc[list(pseudo.ids), list(EMOTIONS)].astype("float32")
    np.testing.assert_array_equal(pseudo.emotions, expected)
    np.testing.assert_array_equal(pseudo.sentiment, annotated.sentiment)
    assert (pseudo.emotions != annotated.emotions)[~np.isnan(pseudo.emotions)].any()


def test_what_abstained_or_is_not_similar_enough_is_unlabelled(corpus):
    similarity = pd.read_parquet(corpus.pseudo_labels)["similarity"].to_numpy()
    assert (similarity < MINIMUM_SIMILARITY).any()
    for minimum in (-1.0, MINIMUM_SIMILARITY, 0.0, 0.5, 1.0):
        unlabelled = np.isnan(load_targets(corpus, "pseudo", minimum).emotions)
        np.testing.assert_array_equal(unlabelled, np.repeat((similarity < max(minimum, MINIMUM_SIMILARITY))[:, None], 6, axis=1))
    exactly = float(similarity.max())
    assert (~np.isnan(load_targets(corpus, "pseudo", exactly).emotions)).all(axis=1).sum() == 1


def test_the_default_leaves_out_donors_that_point_away(corpus):
    similarity = pd.read_parquet(corpus.pseudo_labels)["similarity"].to_numpy()
    np.testing.assert_array_equal(np.isnan(load_targets(corpus, "pseudo").emotions[:, 0]), similarity < 0)


def test_the_minimum_is_no_matter_of_annotated_emotions(corpus):
    np.testing.assert_array_equal(load_targets(corpus, "annotated", 1.0).emotions, load_targets(corpus).emotions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[[0, *range(24)]], "utterance 'mosi0[1]' occurs more than once, expected unique ids"),
        (lambda t: t.iloc[2:], "2 of 24 utterances of "),
        (lambda t: t.iloc[2:], "are not in it, first 'mosi0[1]'. Run BuildFeatures again."),
        (lambda t: t.drop(columns=["similarity", "fear"]), "no column fear, similarity in this table."),
        (lambda t: t.assign(similarity="near"), "its column similarity is of type "),
        (lambda t: t.assign(anger=[[1.0]] * len(t)), "its column anger is of type object, expected numbers. Run BuildFeatures again."),
        (lambda t: t.assign(fear=pd.Timestamp(0)), "its column fear is of type datetime64"),
        (lambda t: t.assign(utterance_id=range(len(t))), "its column utterance_id is of type int64, expected text. Run BuildFeatures"),
    ],
)
def test_a_ledger_that_does_not_fit_is_refused(corpus, change, message):
    change_ledger(corpus, change)
    with pytest.raises(InputError) as error:
        load_targets(corpus, "pseudo")
    assert str(error.value).startswith(f"{corpus.pseudo_labels}: ")
    assert message in str(error.value)


def test_damage_anywhere_in_a_ledger_is_found(corpus):
    content = corpus.pseudo_labels.read_bytes()
    whole = load_targets(corpus, "pseudo").emotions
    refused = 0
    for at in range(0, len(content), 67):
        corpus.pseudo_labels.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            np.testing.assert_array_equal(load_targets(corpus, "pseudo").emotions, whole)
        except InputError:
            refused += 1
    assert refused > 20


def test_pseudo_emotions_need_a_ledger(corpus):
    with pytest.raises(InputError, match=r"^mosi: the cache has no pseudo-labels for it\. Name mosi in luigi\.cfg, section \[pseudo_"):
        load_targets(dataclasses.replace(corpus, pseudo_labels=None), "pseudo")


def test_settings_out_of_range_are_refused(corpus):
    with pytest.raises(
        InputError, match=r"^Unknown source of emotions 'psuedo'\. Did you mean 'pseudo'\? Available: annotated, pseudo"
    ):
        load_targets(corpus, "psuedo")
    for minimum in (1.5, float("nan")):
        with pytest.raises(InputError, match=rf"the minimum similarity is {minimum}, expected a cosine from -1 to 1\."):
            load_targets(corpus, "pseudo", minimum)
