"""`data.load_corpus`: a corpus of a cache as a dataset of torch."""

import numpy as np
import pytest
import torch
from caches import make_cache
from torch.utils.data import DataLoader

from data import load_corpus
from data.cache import open_corpus
from data.errors import InputError
from data.feature_store import FeatureStore
from data.targets import load_targets
from data.tensors import CorpusTensors


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30, ledger=True, layers={"text": (3, 6, 9)})


def test_an_item_holds_what_the_feature_file_and_the_manifest_hold(cache):
    corpus = open_corpus(cache, "mosi")
    targets = load_targets(corpus)
    dataset = load_corpus(cache, "mosi")
    assert len(dataset) == len(targets) == 30
    with FeatureStore.open(corpus.features["audio"]) as store:
        for index in (0, 7, 29):
            item = dataset[index]
            assert (item.id, item.text, item.index) == (targets.ids[index], targets.text[index], index)
            assert np.array_equal(item.features["audio"].numpy(), store[item.id].astype(np.float32))
            assert float(item.sentiment) == targets.sentiment[index]
            assert np.array_equal(item.emotions.numpy(), (targets.emotions[index] > 0).astype(np.float32))
    assert dataset.dims == {"text": 24, "audio": 6}
    assert dataset.layers == {"text": (3, 6, 9), "audio": ()}


def test_a_loader_gives_the_batches_of_the_trainer(cache):
    dataset = load_corpus(cache, "mosi", split="train")
    corpus = open_corpus(cache, "mosi")
    tensors = CorpusTensors.load(corpus, load_targets(corpus), device="cpu")
    seen = []
    for batch in DataLoader(dataset, batch_size=4, collate_fn=dataset.collate, num_workers=1):
        expected = tensors.batch(batch.index.numpy())
        for modality in ("text", "audio"):
            assert torch.equal(batch.features[modality], expected.features[modality])
            assert torch.equal(batch.masks[modality], expected.masks[modality])
        assert torch.equal(batch.sentiment, expected.sentiment)
        assert torch.equal(batch.emotions, expected.emotions)
        seen += batch.index.tolist()
    assert seen == tensors.targets.rows("train").tolist()


def test_splits_are_disjoint_and_share_the_features(cache):
    dataset = load_corpus(cache, "mosi")
    parts = [dataset.split(name) for name in ("train", "valid", "test")]
    assert sorted(row for part in parts for row in part.rows.tolist()) == list(range(30))
    assert all(set(part.targets.split[part.rows]) == {name} for part, name in zip(parts, ("train", "valid", "test"), strict=True))
    with pytest.raises(InputError, match=r"Unknown split 'tset'. Did you mean 'test'\?"):
        dataset.split("tset")
    with pytest.raises(InputError, match="Unknown split 'valid'"):
        parts[0].split("valid")


def test_pseudo_labels_come_from_the_ledger_and_distant_donors_count_as_missing(cache):
    corpus = open_corpus(cache, "mosi")
    for minimum in (-1.0, 0.3):
        wanted = load_targets(corpus, "pseudo", minimum).emotions
        found = torch.stack([item.emotions for item in load_corpus(cache, "mosi", emotions="pseudo", minimum_similarity=minimum)])
        assert np.array_equal(np.isnan(wanted), found.isnan().numpy())
        assert np.array_equal(found.nan_to_num(9).numpy(), np.where(np.isnan(wanted), 9, wanted > 0))
    assert found.isnan().any()


def test_layers_limits_and_modalities_are_chosen(cache):
    whole = load_corpus(cache, "mosi", modalities=["text"])
    part = load_corpus(cache, "mosi", modalities=["text"], layers={"text": [9, 3]}, limits={"text": 2})
    assert list(part[4].features) == ["text"]
    rows = whole[4].features["text"][:2].reshape(-1, 3, 8)
    assert torch.equal(part[4].features["text"], rows[:, [2, 0]].flatten(1))
    assert part.dims == {"text": 16}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"modalities": ()}, r"modalities is \(\), expected at least one of text, audio\."),
        ({"modalities": ("vision",)}, "Unknown modality of mosi 'vision'"),
        ({"emotions": "guessed"}, "Unknown source of emotions 'guessed'"),
        ({"layers": {"text": [4]}}, "data.layers.text"),
    ],
)
def test_what_is_not_there_is_named(cache, changed, message):
    with pytest.raises(InputError, match=message):
        load_corpus(cache, "mosi", **changed)


def test_utterances_that_an_import_left_out_are_not_in_it(cache, tmp_path):
    from data.__main__ import main

    folder = tmp_path / "features"
    folder.mkdir()
    for item in list(load_corpus(cache, "mosi"))[:-2]:
        np.save(folder / f"{item.id}.npy", np.ones((3, 5), np.float32))
    made = make_cache(tmp_path / "cache", utterances=30)
    arguments = ["--format", "npy", "--modality", "vision", "--cache", str(made), "--corpus", "mosi", "--missing", "exclude"]
    assert main(["import", str(folder), *arguments]) == 0
    assert len(load_corpus(made, "mosi")) == 30
    assert len(load_corpus(made, "mosi", modalities=["text", "vision"])) == 28
