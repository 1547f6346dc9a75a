"""Exports to `.csd`: rows take their share of the clip's time, limits move no row, clips of unknown duration are refused."""

import numpy as np
import pytest
from caches import make_cache
from feature_files import write
from manifests import manifest

from data.cache import CachedCorpus, add_corpus, open_corpus
from data.csd import read_csd
from data.errors import InputError
from data.feature_store import FeatureStore
from data.interchange import export_csd
from data.labels import EMOTIONS
from data.manifest import read_manifest, write_manifest


@pytest.fixture
def cache(tmp_path):
    """A cache whose first clip is a cut of a recording, and whose others are 1.5 s long."""
    folder = make_cache(tmp_path / "cache", utterances=12)
    path = open_corpus(folder, "mosi").manifest
    table = read_manifest(path).assign(duration_s=1.5)
    table.loc[0, ["start_s", "end_s", "duration_s"]] = 10.0, 12.0, 2.0
    write_manifest(path, table, {})
    return folder


def test_a_corpus_is_exported_with_rows_evenly_over_the_time_of_their_clip(cache, tmp_path):
    corpus = open_corpus(cache, "mosi")
    notes = export_csd(corpus, tmp_path / "csd", {})
    table = read_manifest(corpus.manifest).set_index("utterance_id")
    for modality in ("text", "audio"):
        sequence = read_csd(tmp_path / "csd" / f"{modality}.csd")
        assert sequence.name == sequence.metadata["root name"] == f"mosi {modality}"
        assert sequence.metadata["computational sequence description"] == f"{modality} features of mosi by made up"
        with FeatureStore.open(corpus.features[modality]) as store:
            assert sorted(sequence.entries) == sorted(store.ids)
            for name, (features, intervals) in sequence.entries.items():
                assert features.dtype == np.float32
                np.testing.assert_array_equal(features, store[name].astype(np.float32))
                first, step = (10.0, 2.0 / len(features)) if name == "mosi0[1]" else (0.0, 1.5 / len(features))
                starts = first + step * np.arange(len(features))
                np.testing.assert_allclose(intervals, np.column_stack([starts, starts + step]), atol=1e-12)
    labels = read_csd(tmp_path / "csd" / "labels.csd")
    assert labels.name == "All Labels"
    assert labels.metadata["dimension names"][:3] == ["sentiment", "happiness", "sadness"]
    assert labels.entries["mosi0[1]"].intervals.tolist() == [[10.0, 12.0]]
    expected = table.loc["mosi0[2]", ["sentiment", *EMOTIONS]].to_numpy(np.float32)
    np.testing.assert_array_equal(labels.entries["mosi0[2]"].features, expected[None])
    assert notes == [
        "12 of 12 utterances of mosi: 3 train, 5 valid, 4 test",
        "files: text.csd, audio.csd, labels.csd; splits are not in this format",
    ]


def test_a_limit_cuts_rows_but_moves_none(cache, tmp_path):
    corpus = open_corpus(cache, "mosi")
    export_csd(corpus, tmp_path / "all", {})
    export_csd(corpus, tmp_path / "cut", {"audio": 2})
    whole, cut = (read_csd(tmp_path / name / "audio.csd").entries for name in ("all", "cut"))
    for name in whole:
        np.testing.assert_array_equal(cut[name].features, whole[name].features[:2])
        np.testing.assert_array_equal(cut[name].intervals, whole[name].intervals[:2])


def test_clips_of_unknown_duration_are_refused_and_named(tmp_path):
    corpus = open_corpus(make_cache(tmp_path / "cache", utterances=12), "mosi")
    with pytest.raises(InputError, match=r"12 of 12 utterances have no known duration, first 'mosi0\[1\]'; a \.csd gives every row"):
        export_csd(corpus, tmp_path / "csd", {})
    assert not (tmp_path / "csd").exists()


@pytest.mark.parametrize(
    ("columns", "advice"),
    [
        ({}, "media, which have durations, or export as mmsa or merbench, which needs none."),
        ({"split": "train"}, "media, which have durations, or export as merbench, which needs none."),
        ({"split": ""}, "media, which have durations."),
        ({"sentiment": np.nan}, "media, which have durations."),
    ],
)
def test_only_a_format_that_the_corpus_can_have_is_advised(tmp_path, columns, advice):
    corpus = open_corpus(make_cache(tmp_path / "cache", utterances=12), "mosi")
    write_manifest(corpus.manifest, read_manifest(corpus.manifest).assign(**columns), {})
    with pytest.raises(InputError) as error:
        export_csd(corpus, tmp_path / "csd", {})
    assert str(error.value).endswith(advice)


def test_a_slash_in_an_id_is_an_underscore_in_the_file(tmp_path):
    write_manifest(tmp_path / "m.parquet", manifest("meld", [{"utterance_id": "train/dia0_utt0", "duration_s": 1.0}]), {})
    path = write(tmp_path / "text.h5", [np.ones((2, 3))], ["train/dia0_utt0"])
    add_corpus(tmp_path, CachedCorpus("meld", tmp_path / "m.parquet", {"text": path}, None))
    export_csd(open_corpus(tmp_path, "meld"), tmp_path / "csd", {})
    assert list(read_csd(tmp_path / "csd" / "text.csd").entries) == ["train_dia0_utt0"]
