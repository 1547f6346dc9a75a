"""Batches of cached features: padded as by a loop over utterances, and equal whether they are in memory or streamed."""

import os
import threading
import zlib

import numpy as np
import pytest
import torch
from caches import make_cache
from feature_files import features as make_features
from feature_files import flip_bit, position_of_values
from feature_files import write as write_features
from feature_sets import add_set
from hypothesis import given, settings
from hypothesis import strategies as st

from data import tensors
from data.batching import dialogues, shuffled
from data.cache import open_corpus
from data.errors import InputError
from data.feature_store import DamagedFileError, FeatureStore
from data.targets import load_targets
from data.tensors import CorpusTensors

SPLIT_ROWS = st.lists(st.integers(0, 23), min_size=1, max_size=12)
STREAM = {"memory_bytes": 0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return open_corpus(make_cache(tmp_path_factory.mktemp("cache")), "mosi")


@pytest.fixture
def own_corpus(tmp_path):
    return open_corpus(make_cache(tmp_path), "mosi")


def load(corpus, **options):
    return CorpusTensors.load(corpus, load_targets(corpus), device="cpu", **options)


def padded(corpus, modality, rows, limit, dtype):
    """The features and mask of a batch, one utterance after the other."""
    ids = load_targets(corpus).ids
    with FeatureStore.open(corpus.features[modality]) as store:
        parts = [torch.from_numpy(store[ids[row]][:limit].astype(np.float32)).to(dtype) for row in rows]
    masks = [torch.ones(len(part), dtype=torch.bool) for part in parts]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(parts, batch_first=True), pad(masks, batch_first=True)


def assert_same(one, other):
    for name in one._fields:
        mine, theirs = getattr(one, name), getattr(other, name)
        pairs = [(mine[key], theirs[key]) for key in mine | theirs] if isinstance(mine, dict) else [(mine, theirs)]
        for left, right in pairs:
            if left is None or right is None:
                assert left is right
                continue
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left.float().numpy(), right.float().numpy())


def reading_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("features")]


@settings(max_examples=40, deadline=None)
@given(
    rows=SPLIT_ROWS,
    limits=st.fixed_dictionaries({}, optional={"text": st.integers(1, 12), "audio": st.integers(1, 40)}),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    streams=st.booleans(),
)
def test_a_batch_is_what_a_loop_over_utterances_pads(corpus, rows, limits, dtype, streams):
    loaded = load(corpus, limits=limits, dtype=dtype, memory_bytes=0 if streams else None)
    batch = loaded.batch(np.array(rows))
    assert loaded.is_streamed == streams
    for modality in ("text", "audio"):
        features, mask = padded(corpus, modality, rows, limits.get(modality), dtype)
        assert batch.features[modality].dtype == dtype
        np.testing.assert_array_equal(batch.features[modality].float().numpy(), features.float().numpy())
        np.testing.assert_array_equal(batch.masks[modality].numpy(), mask.numpy())
        np.testing.assert_array_equal(loaded.lengths[modality][rows], mask.sum(1).numpy())
    assert batch.index.tolist() == rows
    assert batch.dialogue is None


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=24), size=st.integers(1, 30), seed=st.integers(0, 9))
def test_streamed_batches_are_the_resident_ones_bit_for_bit(tmp_path_factory, lengths, size, seed):
    corpus = open_corpus(make_cache(tmp_path_factory.mktemp("cache"), utterances=len(lengths)), "mosi")
    write_features(corpus.features["text"], make_features(lengths, 5, seed), load_targets(corpus).ids)
    plan = shuffled(np.arange(len(lengths)), size, np.random.default_rng(seed))
    resident, streamed = load(corpus), load(corpus, **STREAM)
    batches = list(streamed.batches(plan))
    assert len(batches) == len(plan)
    for rows, one, other in zip(plan, resident.batches(plan), batches, strict=True):
        assert_same(one, other)
        assert_same(one, streamed.batch(rows))
        assert one.features["text"].shape == (len(rows), max(lengths[row] for row in rows), 5)


@pytest.mark.parametrize("streams", [{}, STREAM], ids=["resident", "streamed"])
def test_lengths_of_batches_are_rounded_up_to_a_multiple(corpus, streams):
    loaded, rows = load(corpus, **streams), [np.array([3, 7, 7]), np.array([12])]
    exact, found = [*loaded.batches(rows)], [*loaded.batches(rows, length_multiple=7)]
    for one, other, of_batch in zip(exact, found, rows, strict=True):
        assert_same(loaded.batch(of_batch, length_multiple=7), other)
        for modality, mask in one.masks.items():
            length = mask.shape[1]
            assert other.masks[modality].shape[1] == -(-length // 7) * 7 > length
            assert torch.equal(other.masks[modality][:, :length], mask)
            assert torch.equal(other.features[modality][:, :length], one.features[modality])
            assert not other.masks[modality][:, length:].any()
            assert not other.features[modality][:, length:].any()
        unpadded = {"features": {}, "masks": {}}
        assert_same(one._replace(**unpadded), other._replace(**unpadded))


def test_features_stream_when_they_are_larger_than_the_memory_given(corpus):
    stored = sum(FeatureStore.open(path).read_all().nbytes for path in corpus.features.values())
    rows_of_zeros = 2 * (8 + 6)
    assert load(corpus, memory_bytes=stored + rows_of_zeros).is_streamed is False
    assert load(corpus, memory_bytes=stored + rows_of_zeros - 1).is_streamed is True
    assert load(corpus, memory_bytes=stored, modalities=["text"]).is_streamed is False
    assert load(corpus).is_streamed is False


def test_by_default_four_fifths_of_the_free_memory_are_used(corpus, monkeypatch):
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert installed / 1000 < tensors.free_bytes(torch.device("cpu")) <= installed
    stored = sum(FeatureStore.open(path).read_all().nbytes for path in corpus.features.values()) + 2 * (8 + 6)
    monkeypatch.setattr(tensors, "free_bytes", lambda device: stored / 0.8 + 1)
    assert load(corpus).is_streamed is False
    monkeypatch.setattr(tensors, "free_bytes", lambda device: stored / 0.8 - 2)
    assert load(corpus).is_streamed is True


def test_labels_of_a_batch_are_presence_and_nan(own_corpus):
    targets = load_targets(own_corpus)
    targets.emotions[3] = np.nan
    targets.sentiment[4] = np.nan
    batch = CorpusTensors.load(own_corpus, targets, device="cpu").batch(np.array([5, 3, 4]))
    np.testing.assert_array_equal(batch.sentiment.numpy(), targets.sentiment[[5, 3, 4]])
    np.testing.assert_array_equal(batch.emotions[[0, 2]].numpy(), (targets.emotions[[5, 4]] > 0).astype(np.float32))
    assert torch.isnan(batch.emotions[1]).all()
    assert {batch.sentiment.dtype, batch.emotions.dtype} == {torch.float32}
    assert {0.0, 1.0} == set(batch.emotions[[0, 2]].flatten().tolist())
    assert np.nanmax(targets.emotions[[5, 4]]) > 1


@pytest.mark.parametrize("memory", [None, 0])
def test_utterances_are_found_by_their_id(own_corpus, memory):
    expected = load(own_corpus).batch(np.arange(24))
    with FeatureStore.open(own_corpus.features["audio"]) as store:
        order = np.random.default_rng(2).permutation(len(store))
        values, ids = [store.read(place, place + 1) for place in order], [store.ids[place] for place in order]
    write_features(own_corpus.features["audio"], [*values, values[0]], [*ids, "of nobody"])
    assert_same(load(own_corpus, memory_bytes=memory).batch(np.arange(24)), expected)


def test_an_utterance_without_features_is_named(own_corpus):
    path = write_features(own_corpus.features["audio"], make_features([3] * 22), list(load_targets(own_corpus).ids[2:]))
    with pytest.raises(InputError) as error:
        load(own_corpus)
    message = f"{path}: 2 of 24 utterances of {own_corpus.manifest} are not in it, first 'mosi0[1]'. Run BuildFeatures again."
    assert str(error.value) == message


def test_modalities_and_their_widths_are_those_asked_for(corpus):
    loaded = load(corpus, modalities=("audio",), limits={"text": 3})
    batch = loaded.batch(np.arange(3))
    assert loaded.dims == {"audio": 6}
    assert list(batch.features) == list(batch.masks) == list(loaded.lengths) == ["audio"]
    assert load(corpus).dims == {"text": 8, "audio": 6}


def test_features_stored_in_float32_keep_their_precision(own_corpus):
    values = make_features([2] * 24, 4)
    write_features(own_corpus.features["text"], values, load_targets(own_corpus).ids, dtype="float32")
    for memory in (None, 0):
        batch = load(own_corpus, memory_bytes=memory).batch(np.array([7]))
        np.testing.assert_array_equal(batch.features["text"][0].numpy(), values[7])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ("text", "vision")}, "Unknown modality of mosi 'vision'. Available: text, audio."),
        ({"limits": {"audio": 0}}, "The limit of audio is 0 rows, expected 1 or more."),
    ],
)
def test_settings_that_cannot_be_used_are_refused(corpus, options, message):
    with pytest.raises(InputError) as error:
        load(corpus, **options)
    assert str(error.value) == message


@pytest.mark.parametrize("memory", [None, 0])
def test_a_batch_of_dialogues_points_at_its_own_utterances(corpus, memory):
    loaded = load(corpus, memory_bytes=memory)
    targets = loaded.targets
    plan = dialogues(targets.video, targets.position, targets.rows("train"), 2)
    assert len(plan) == 2
    for wanted, batch in zip(plan, loaded.batches(plan), strict=True):
        assert batch.index.tolist() == wanted.rows.tolist()
        assert batch.dialogue.tolist() == wanted.layout.tolist()
        assert_same(batch, loaded.batch(wanted.rows, wanted.layout))
        for clips in batch.dialogue:
            rows = batch.index[clips[clips >= 0]].numpy()
            assert len(set(targets.video[rows])) == 1
            assert targets.position[rows].tolist() == sorted(targets.position[rows].tolist())


def endless(seen):
    for number in range(10_000):
        seen.append(number)
        yield np.array([number % 24])


def test_streaming_reads_a_few_batches_ahead_and_no_more(corpus):
    seen = []
    batches = load(corpus, **STREAM).batches(endless(seen))
    for count in range(1, 8):
        assert next(batches).index.tolist() == [count - 1]
        assert len(seen) == count + 4
    batches.close()


def test_one_thread_reads_and_ends_with_the_plan(corpus):
    before = reading_threads()
    batches = load(corpus, **STREAM).batches(endless([]))
    next(batches)
    assert len(reading_threads()) == len(before) + 1
    batches.close()
    assert reading_threads() == before
    assert len(list(load(corpus, **STREAM).batches([np.array([0])] * 9))) == 9
    assert reading_threads() == before


def test_no_thread_is_left_when_the_reader_of_batches_stops_early_or_fails(corpus):
    loaded = load(corpus, **STREAM)
    for _ in loaded.batches(endless([])):
        break
    assert reading_threads() == []
    with pytest.raises(ZeroDivisionError):
        [1 / 0 for _ in loaded.batches(endless([]))]
    assert reading_threads() == []


def test_an_error_while_reading_is_raised_at_its_batch(own_corpus):
    loaded = load(own_corpus, **STREAM)
    path = own_corpus.features["audio"]
    with FeatureStore.open(path) as store:
        rows_before = int(store.offsets[10])
    os.truncate(path, position_of_values(path)[0] + rows_before * 6 * 2)
    done = []
    with pytest.raises(DamagedFileError, match="ends at byte"):
        done.extend(batch.index.item() for batch in loaded.batches(np.array([row]) for row in range(24)))
    assert done == list(range(10))
    assert reading_threads() == []


@pytest.mark.parametrize("options", [{}, STREAM], ids=["resident", "streamed"])
@pytest.mark.parametrize("limits", [{}, {"audio": 1}], ids=["whole", "cut to one row"])
def test_damaged_values_are_refused_before_a_batch_has_them(own_corpus, options, limits):
    path = own_corpus.features["audio"]
    with FeatureStore.open(path) as store:
        end = int(store.offsets[11]) * 6 * 2
    flip_bit(path, end - 1, 6)  # an exponent in the last row of the utterance of row 10
    done = []
    with pytest.raises(DamagedFileError, match=r"audio\.h5: the values of 'mosi2\[3\]' are damaged \(checksum "):
        done.extend(
            batch.index.item() for batch in load(own_corpus, limits=limits, **options).batches(np.array([row]) for row in range(24))
        )
    assert done == (list(range(10)) if options else [])


def test_streamed_utterances_are_compared_the_first_time_only(own_corpus, monkeypatch):
    loaded, compared = load(own_corpus, modalities=["text"], **STREAM), []
    monkeypatch.setattr(zlib, "crc32", lambda *parts, crc32=zlib.crc32: compared.append(1) or crc32(*parts))
    for rows, expected in (([3, 4], 2), ([4, 5, 3, 4], 3), ([3, 4, 5], 3)):
        loaded.batch(np.array(rows))
        assert len(compared) == expected


def test_an_error_in_the_plan_is_raised(corpus):
    def plan():
        yield np.array([0])
        raise RuntimeError("the plan ends here")

    with pytest.raises(RuntimeError, match="the plan ends here"):
        list(load(corpus, **STREAM).batches(plan()))
    assert reading_threads() == []


def test_resident_features_need_no_file_any_more(own_corpus):
    loaded = load(own_corpus)
    expected = loaded.batch(np.arange(24))
    for path in own_corpus.features.values():
        path.unlink()
    assert_same(loaded.batch(np.arange(24)), expected)


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_sets_are_joined_by_width_under_any_name(own_corpus, dtype, memory):
    cache = own_corpus.manifest.parent.parent
    add_set(cache, "text.wide", dim=3, dtype=dtype, seed=1)
    corpus = open_corpus(cache, "mosi")
    chosen = {"text": ("text.wide", "text"), "heard": ("audio",)}
    loaded = load(corpus, modalities=chosen, limits={"text": 4}, memory_bytes=memory)
    assert (loaded.dims, loaded.is_streamed) == ({"text": 3 + 8, "heard": 6}, memory == 0)
    rows = np.array([5, 0, 23])
    batch = loaded.batch(rows)
    parts = [padded(corpus, name, rows, 4, torch.float32) for name in chosen["text"]]
    assert torch.equal(batch.features["text"], torch.cat([values for values, _ in parts], -1))
    assert torch.equal(batch.masks["text"], parts[0][1])
    assert torch.equal(batch.features["heard"], padded(corpus, "audio", rows, None, torch.float32)[0])


def test_sets_of_other_lengths_are_not_joined(own_corpus):
    cache = own_corpus.manifest.parent.parent
    path = add_set(cache, "text.longer", longer=1)
    corpus = open_corpus(cache, "mosi")
    with pytest.raises(InputError) as error:
        load(corpus, modalities={"text": ("text", "text.longer")})
    last = load_targets(corpus).ids[-1]
    assert str(error.value) == f"{path}: {last!r} has another number of rows than in {corpus.features['text']}."
