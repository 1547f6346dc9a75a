"""Clips are the same in memory and on disk, and long ones are cut while an encoder learns."""

import numpy as np
import pytest

from data.targets import presence
from pipeline.adaptation.clips import Labels, in_memory, on_disk, shortened
from pipeline.encoding import encoders
from pipeline.encoding.checkpoints import locate
from pipeline.settings import EncoderSettings


@pytest.fixture(scope="module")
def speech():
    settings = EncoderSettings("tiny-data2vec")
    return encoders.make("audio", locate("audio", settings), settings)


def prepared(speech, *seconds: float) -> list:
    waves = [np.random.default_rng(number).normal(0, 0.1, round(16_000 * s)).astype(np.float32) for number, s in enumerate(seconds)]
    return [(number, speech.prepare(wave)) for number, wave in enumerate(waves)]


def test_waveforms_on_disk_are_those_in_memory_and_their_file_goes(speech, tmp_path):
    items = prepared(speech, 0.3, 0.5, 0.1)
    expected = in_memory(items)
    with on_disk(tmp_path / "train", iter(items)) as found:
        assert len(found) == 3
        assert (tmp_path / "train").stat().st_size == 4 * sum(len(item.values) for item in expected)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.values, other.values)
            assert (one.length, one.cost) == (other.length, other.cost)
        assert not (tmp_path / "train").samefile(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_long_waveforms_are_cut_to_their_first_seconds(speech):
    items = prepared(speech, 0.3, 0.9)
    short, cut = (item for _, item in shortened(speech, items, 0.5))
    assert short == items[0][1]
    np.testing.assert_array_equal(cut.values, items[1][1].values[:8_000])
    assert (cut.length, cut.cost, cut.truncated) == (speech.frames(8_000), 24, True)
    assert next(item for _, item in list(shortened(speech, items, np.inf))[1:]) == items[1][1]


def test_labels_are_present_absent_or_unknown():
    nan = np.nan
    emotions = presence(np.array([[0.0, 0.1, 3, 0, 0, 0], [nan] * 6, [0, 0, nan, 0, 0, 0]]))
    np.testing.assert_array_equal(emotions, [[0, 1, 1, 0, 0, 0], [nan] * 6, [0, 0, nan, 0, 0, 0]])
    labels = Labels(np.array([nan, 1.0, 0.0]), emotions)
    assert labels.labelled("msa").tolist() == [False, True, True]
    assert labels.labelled("mer").tolist() == [True, False, False]
    assert labels.taken(np.array([2])).sentiment.tolist() == [0.0]
