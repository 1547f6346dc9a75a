"""A corpus as shards of WebDataset: what `tarfile` and, where it is installed, that library read is what the cache has."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from exports import SIMILAR, expected_features, expected_labels, make_corpus

from data.errors import InputError
from data.interchange.cached import Choice
from data.interchange.webdataset import export_webdataset
from data.labels import EMOTIONS
from data.manifest import read_manifest, write_manifest

LABELS = ("sentiment", *EMOTIONS)


@pytest.fixture
def corpus(tmp_path):
    return make_corpus(tmp_path)


def samples(shard: Path) -> Iterator[dict[str, bytes]]:
    """The files of a shard by what follows the first dot of their names; those of one key must follow each other."""
    with tarfile.open(shard) as archive:
        names = archive.getnames()
        keys = list(dict.fromkeys(name.partition(".")[0] for name in names))
        assert [name.partition(".")[0] for name in names] == [key for key in keys for _ in range(3)]
        for key in keys:
            own = [name for name in names if name.partition(".")[0] == key]
            yield {name.partition(".")[2]: archive.extractfile(name).read() for name in own}


@pytest.mark.parametrize("emotions", ["annotated", "pseudo"])
def test_tar_files_have_what_the_cache_has(corpus, tmp_path, monkeypatch, emotions):
    monkeypatch.setattr("data.interchange.webdataset._SHARD_BYTES", 6_000)
    out = tmp_path / "mosi"
    export_webdataset(corpus, out, {"audio": 4}, Choice(emotions=emotions, minimum_similarity=SIMILAR))
    labels, features = expected_labels(corpus, emotions, SIMILAR), expected_features(corpus, {"audio": 4})
    about = json.loads((out / "about.json").read_text())
    assert sorted(about["shards"]) == sorted(path.name for path in out.glob("*.tar"))
    assert {"train-000000.tar", "valid-000000.tar", "valid-000001.tar", "test-000000.tar", "unsplit-000000.tar"} <= set(about["shards"])
    seen = 0
    for split in ("train", "valid", "test", ""):
        shards = sorted(out.glob(f"{split or 'unsplit'}-*.tar"))
        found = [sample for shard in shards for sample in samples(shard)]
        assert sum(about["shards"][shard.name] for shard in shards) == len(found)
        for sample, (_, wanted) in zip(found, labels[labels["split"] == split].iterrows(), strict=True):
            told = json.loads(sample["json"])
            assert (told["utterance_id"], told["text"]) == (wanted["utterance_id"], wanted["text"])
            assert [told[name] is None for name in LABELS] == [bool(np.isnan(wanted[name])) for name in LABELS]
            found_labels = np.array([told[name] for name in LABELS], np.float32)  # None becomes NaN
            np.testing.assert_array_equal(found_labels, wanted[list(LABELS)].to_numpy(np.float32))
            for modality in ("text", "audio"):
                values = np.load(io.BytesIO(sample[f"{modality}.npy"]), allow_pickle=False)
                np.testing.assert_array_equal(values, features[modality][wanted["utterance_id"]], strict=True)
            seen += 1
    assert seen == len(labels)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library leaves its file open
def test_the_library_reads_the_shards(corpus, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    export_webdataset(corpus, tmp_path / "mosi", {})
    features = expected_features(corpus)
    found = list(webdataset.WebDataset(str(tmp_path / "mosi" / "valid-000000.tar"), shardshuffle=False).decode())
    assert len(found) == 5
    for sample in found:
        np.testing.assert_array_equal(sample["audio.npy"], features["audio"][sample["json"]["utterance_id"]], strict=True)


def test_the_same_corpus_gives_the_same_bytes_and_ids_that_make_one_key_are_refused(corpus, tmp_path):
    for name in ("a", "b"):
        export_webdataset(corpus, tmp_path / name, {})
    assert (tmp_path / "a" / "train-000000.tar").read_bytes() == (tmp_path / "b" / "train-000000.tar").read_bytes()
    table = read_manifest(corpus.manifest)
    table.loc[3:4, "utterance_id"] = ["a.b", "a/b"]
    write_manifest(corpus.manifest, table, {})
    with pytest.raises(InputError, match=r"two utterances would have the key 'a_b'\.$"):
        export_webdataset(corpus, tmp_path / "c", {})
