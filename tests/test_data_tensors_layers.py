"""Batches of some of the cached layers, and of features that are means of frames."""

import numpy as np
import pytest
import torch
from caches import make_cache

from data.cache import open_corpus
from data.errors import InputError
from data.feature_store import FeatureStore, FeatureWriter
from data.targets import load_targets
from data.tensors import CorpusTensors

LAYERS = {"text": (6, 9, 12)}
ROWS = np.array([4, 0, 7])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return open_corpus(make_cache(tmp_path_factory.mktemp("cache"), layers=LAYERS, averaged=4), "mosi")


def load(corpus, **options):
    return CorpusTensors.load(corpus, load_targets(corpus), device="cpu", **options)


def test_without_a_choice_all_layers_lie_side_by_side(corpus):
    tensors = load(corpus)
    assert (tensors.dims, tensors.layers, tensors.averaged) == (
        {"text": 24, "audio": 6},
        {"text": (6, 9, 12), "audio": ()},
        {"text": 1, "audio": 4},
    )


@pytest.mark.parametrize("memory", [None, 0], ids=["resident", "streamed"])
@pytest.mark.parametrize("picked", [(9,), (12, 6)])
def test_picked_layers_are_their_columns_in_the_order_of_the_choice(corpus, picked, memory):
    tensors = load(corpus, layers={"text": picked}, memory_bytes=memory)
    assert (tensors.dims["text"], tensors.layers["text"], tensors.is_streamed) == (8 * len(picked), picked, memory == 0)
    batch = tensors.batch(ROWS)
    with FeatureStore.open(corpus.features["text"]) as store:
        for place, row in enumerate(ROWS):
            values = store[tensors.targets.ids[row]].astype(np.float32)
            expected = np.concatenate([values[:, 8 * LAYERS["text"].index(layer) :][:, :8] for layer in picked], axis=1)
            np.testing.assert_array_equal(batch.features["text"][place][batch.masks["text"][place]].numpy(), expected)


def test_a_limit_counts_frames_of_the_encoder(corpus):
    """Nine frames are two means of four and a part of a third, which is used as it is stored."""
    whole, limited = load(corpus), load(corpus, limits={"text": 3, "audio": 9})
    np.testing.assert_array_equal(limited.lengths["audio"], np.minimum(whole.lengths["audio"], 3))
    np.testing.assert_array_equal(limited.lengths["text"], np.minimum(whole.lengths["text"], 3))
    assert torch.equal(limited.batch(ROWS).features["audio"], whole.batch(ROWS).features["audio"][:, :3])


def test_layers_that_are_not_cached_are_refused(corpus):
    with pytest.raises(InputError, match=r"data.layers.text is \[7\], but .*mosi-text.h5 holds layers 6, 9, 12, not layer 7"):
        load(corpus, layers={"text": (7,)})
    with pytest.raises(InputError, match=r"data.layers.audio is \[1\], but .*mosi-audio.h5 holds one layer of unknown number"):
        load(corpus, layers={"audio": (1,)})


def test_a_width_that_is_no_multiple_of_the_layers_is_refused(tmp_path):
    made = open_corpus(make_cache(tmp_path, text_dim=3, layers={"text": (1, 2)}), "mosi")
    path = made.features["text"]
    with FeatureStore.open(path) as store:
        ids, lengths, sources, facts = store.ids, store.lengths.tolist(), store.sources, dict(store.attrs)
    with FeatureWriter(path, ids, lengths, 5, "float16", facts, sources) as writer:
        for index, length in enumerate(lengths):
            writer.write(index, np.zeros((length, 5)))
    with pytest.raises(InputError, match="5 columns are not 2 layers of one width"):
        load(made)
