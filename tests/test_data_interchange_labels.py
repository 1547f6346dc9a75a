"""Label sets in files of other tools: what is written is read again with the same labels."""

import numpy as np
import pytest
from caches import make_cache

from data.__main__ import main
from data.cache import open_corpus
from data.csd import read_csd
from data.errors import InputError
from data.interchange.mmsa import read_mmsa
from data.label_sets import parse
from data.labels import EMOTIONS, LabelSet
from data.manifest import read_labelled, read_manifest, write_manifest

CLASSES = LabelSet(("calm", "sad"), True, (-1.0, 1.0))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A corpus of two classes, with sentiment in [-1, 1]."""
    folder = make_cache(tmp_path_factory.mktemp("cache"), utterances=12)
    path = open_corpus(folder, "mosi").manifest
    table = read_manifest(path)
    calm = (table["happiness"] > 0).astype(float)
    table = table.drop(columns=list(EMOTIONS)).assign(sentiment=table["sentiment"] / 3, calm=calm, sad=1 - calm)
    write_manifest(path, table.assign(duration_s=1.0), {}, CLASSES)
    return folder


def labels_of(cache, name, columns=("sentiment",)):
    table, labels = read_labelled(open_corpus(cache, name).manifest)
    order = table.set_index("utterance_id").sort_index()
    return labels, order[list(columns)].to_numpy()


def test_folders_of_merbench_come_back_with_classes_and_scale(capsys, cache, tmp_path):
    assert main(["export", str(cache), "mosi", "--format", "merbench", "--out", str(tmp_path / "mer")]) == 0
    assert main(["import", str(tmp_path / "mer"), "--format", "merbench", "--cache", str(tmp_path / "new"), "--corpus", "mosi"]) == 0
    columns = ("sentiment", "calm", "sad")
    (before, values), (after, again) = labels_of(cache, "mosi", columns), labels_of(tmp_path / "new", "mosi", columns)
    assert after == before == CLASSES
    np.testing.assert_allclose(again, values, atol=1e-12)


def test_pickles_of_mmsa_are_read_on_the_scale_that_is_stated(capsys, cache, tmp_path):
    assert main(["export", str(cache), "mosi", "--format", "mmsa", "--out", str(tmp_path / "sims.pkl")]) == 0
    back = ["import", str(tmp_path / "sims.pkl"), "--format", "mmsa", "--corpus", "sims", "--cache", str(tmp_path / "new")]
    assert main(back) == 2
    assert "Multiply them by 3, or state the scale [-1, 1] (docs/labels.md)." in capsys.readouterr().err
    assert main([*back, "--labels", "[-1, 1]"]) == 0
    after, again = labels_of(tmp_path / "new", "sims")
    assert after == LabelSet(scale=(-1.0, 1.0))
    np.testing.assert_allclose(np.sort(again[:, 0]), np.sort(labels_of(cache, "mosi")[1][:, 0]), rtol=1e-6)
    with pytest.raises(InputError, match=r"emotions are stated, one of calm, sad; .*, but this format has none"):
        read_mmsa(tmp_path / "sims.pkl", "sims", parse("one of calm, sad", "here"))
    assert (
        main(["import", "x", "--format", "npy", "--corpus", "mosi", "--cache", str(cache), "--modality", "v", "--labels", "[-1, 1]"])
        == 2
    )


def test_the_labels_of_a_csd_have_the_names_of_the_emotions(capsys, cache, tmp_path):
    assert main(["export", str(cache), "mosi", "--format", "csd", "--out", str(tmp_path / "csd")]) == 0
    content = read_csd(tmp_path / "csd" / "labels.csd")
    assert content.metadata["dimension names"] == ["sentiment", "calm", "sad"]
