"""A corpus as one `.npz`: what NumPy reads is what the cache has."""

import json

import numpy as np
import pytest
from exports import SIMILAR, expected_features, expected_labels, make_corpus

from data.errors import InputError
from data.interchange.cached import Choice
from data.interchange.npz import export_npz
from data.labels import EMOTIONS


@pytest.fixture
def corpus(tmp_path):
    return make_corpus(tmp_path)


@pytest.mark.parametrize("emotions", ["annotated", "pseudo"])
def test_numpy_reads_what_the_cache_has(corpus, tmp_path, emotions):
    choice = Choice(emotions=emotions, minimum_similarity=SIMILAR)
    notes = export_npz(corpus, tmp_path / "mosi.npz", {"audio": 4}, choice)
    expected = expected_labels(corpus, emotions, SIMILAR)
    assert (emotions == "pseudo") == bool(expected["fear"].isna().any())
    with np.load(tmp_path / "mosi.npz", allow_pickle=False) as found:
        for name in ("utterance_id", "video_id", "clip_id", "speaker", "split", "text", "position", "duration_s"):
            assert found[name].tolist() == expected[name].tolist()
        np.testing.assert_array_equal(found["sentiment"], expected["sentiment"])
        np.testing.assert_array_equal(found["emotions"], expected[list(EMOTIONS)].to_numpy(np.float32), strict=True)
        assert found["emotion_names"].tolist() == list(EMOTIONS)
        about = json.loads(str(found["about"]))
        assert (about["corpus"], about["emotions"], about["features"]["text"]["dim"]) == ("mosi", emotions, 8)
        for modality, features in expected_features(corpus, {"audio": 4}).items():
            parts = np.split(found[f"{modality}_features"], np.cumsum(found[f"{modality}_lengths"])[:-1])
            for name, values in zip(expected["utterance_id"], parts, strict=True):
                np.testing.assert_array_equal(values, features[name], strict=True)
    assert any(note.startswith("emotions: pseudo-labels, which no person has annotated") for note in notes) == (emotions == "pseudo")


def test_the_same_corpus_gives_the_same_bytes_and_nothing_is_replaced(corpus, tmp_path):
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    for path in (first, second):
        export_npz(corpus, path, {})
    assert first.read_bytes() == second.read_bytes()
    for path, message in ((first, "exists already"), (tmp_path / "c.pkl", r"expected a name that ends in \.npz\.$")):
        with pytest.raises(InputError, match=message):
            export_npz(corpus, path, {})
