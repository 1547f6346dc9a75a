"""The utterances of an export: chosen by what the other tool needs, cut to limits, counted, and compared with their checksums."""

import numpy as np
import pandas as pd
import pytest
from caches import make_cache
from feature_files import position_of_values

from data.cache import CachedCorpus, open_corpus
from data.errors import InputError
from data.feature_store import DamagedFileError, FeatureStore
from data.interchange.cached import expect_new, select, told_splits
from data.manifest import read_manifest, write_manifest


@pytest.fixture
def corpus(tmp_path):
    return open_corpus(make_cache(tmp_path / "cache", utterances=12), "mosi")


def change(corpus, **columns):
    write_manifest(corpus.manifest, read_manifest(corpus.manifest).assign(**columns), {})


def test_features_are_those_of_the_cache_in_float32_cut_to_their_limit(corpus):
    chosen = select(corpus, {"audio": 4}, is_labelled=True)
    assert chosen.table["utterance_id"].tolist() == read_manifest(corpus.manifest)["utterance_id"].tolist()
    for modality, limit in (("text", None), ("audio", 4)):
        with FeatureStore.open(corpus.features[modality]) as store:
            expected = [store[name].astype(np.float32)[:limit] for name in store.ids]
        assert chosen.lengths(modality).tolist() == [len(values) for values in expected]
        for name, values in zip(chosen.table["utterance_id"], expected, strict=True):
            np.testing.assert_array_equal(chosen.features(modality, name), values, strict=True)
        assert chosen.encoder(modality) == "made up"
    with FeatureStore.open(corpus.features["audio"]) as store:
        cut = int((store.lengths > 4).sum())
    assert chosen.notes == (
        "12 of 12 utterances of mosi: 3 train, 5 valid, 4 test",
        f"audio: {cut} utterances cut to their first 4 rows",
    )


def test_utterances_are_left_out_by_reason_and_only_where_labels_are_needed(corpus):
    change(
        corpus,
        excluded=["silent", *[""] * 11],
        split=["", "", *["train"] * 10],
        sentiment=[np.nan, np.nan, np.nan, *np.zeros(9)],
    )
    labelled, unlabelled = (select(corpus, {}, is_labelled) for is_labelled in (True, False))
    assert labelled.notes == (
        "9 of 12 utterances of mosi: 9 train",
        "left out: 1 excluded, 2 without a sentiment",
    )
    assert unlabelled.notes == ("11 of 12 utterances of mosi: 10 train, 1 no split", "left out: 1 excluded")
    assert labelled.table.index.tolist() == list(range(9))
    change(corpus, split="")
    with pytest.raises(InputError, match=r"none of 12 .* can be exported: 1 excluded, 2 without a sentiment, 9 without a split\."):
        select(corpus, {}, is_labelled=True)


def test_what_cannot_be_exported_is_refused(corpus):
    with pytest.raises(InputError, match=r"^The limit of text is 0 rows, expected 1 or more\.$"):
        select(corpus, {"text": 0}, is_labelled=False)
    with pytest.raises(InputError, match=r"mosi has no text and no audio features\. Run BuildFeatures with an encoder\.$"):
        select(CachedCorpus("mosi", corpus.manifest, {}, None), {}, is_labelled=False)


def test_an_utterance_without_features_is_named(corpus):
    table = read_manifest(corpus.manifest)
    strange = table.iloc[[0]].assign(utterance_id="new[1]", clip_id="new")
    write_manifest(corpus.manifest, pd.concat([table, strange]), {})
    with pytest.raises(InputError, match=r"text\.h5: 1 utterances are not in it, first 'new\[1\]'\. Run BuildFeatures again\.$"):
        select(corpus, {}, is_labelled=False).lengths("text")


def test_damaged_values_are_refused_by_utterance(corpus):
    path = corpus.features["text"]
    position, _ = position_of_values(path)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    chosen = select(corpus, {}, is_labelled=False)
    first, second = chosen.table["utterance_id"][:2]
    with pytest.raises(DamagedFileError, match=r"the values of 'mosi0\[1\]' are damaged"):
        chosen.features("text", first)
    assert chosen.features("text", second).dtype == np.float32


def test_splits_are_counted_in_their_order():
    assert told_splits(pd.DataFrame({"split": ["test", "", "train", *["valid"] * 1200]})) == "1 train, 1,200 valid, 1 test, 1 no split"


def test_an_export_replaces_nothing(tmp_path):
    expect_new(tmp_path / "new")
    with pytest.raises(InputError, match=r": exists already, and an export replaces nothing\. Remove it or choose another --out\.$"):
        expect_new(tmp_path)
