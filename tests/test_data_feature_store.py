"""The feature store: written values of any shape are read back; damage is found and named; no incomplete file appears."""

import multiprocessing
import os
import pickle
import time
import zlib

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from feature_files import ATTRIBUTES, features, flip_bit, position_of_values, specified_index_checksum, write
from hypothesis import given, settings
from hypothesis import strategies as st

from data import feature_store
from data.errors import InputError
from data.feature_store import Damage, DamagedFileError, FeatureStore, FeatureWriter, is_intact

IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "text.h5", features([3, 1, 5]))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(["float16", "float32"]), dim=st.integers(1, 9))
def test_what_is_written_in_any_order_is_read(tmp_path_factory, data, dtype, dim):
    ids = data.draw(st.lists(IDS, max_size=6, unique=True))
    shape = st.tuples(st.integers(1, 7), st.just(dim))
    element = st.floats(-65504, 65504, width=16)
    values = [data.draw(hnp.arrays(np.float32, shape, elements=element)) for _ in ids]
    order = data.draw(st.permutations(range(len(ids))))
    path = write(tmp_path_factory.mktemp("store") / "x.h5", values, ids, dtype, order=order, dim=dim)

    with FeatureStore.open(path) as store:
        assert store.ids == tuple(ids)
        assert store.lengths.tolist() == [len(v) for v in values]
        assert store.dtype == np.dtype(dtype)
        assert store.attrs == ATTRIBUTES
        assert store.sources == tuple(f"{i:012x}" for i in range(len(ids)))
        for name, expected in zip(ids, values, strict=True):
            np.testing.assert_array_equal(store[name], expected.astype(dtype))
            assert name in store
        np.testing.assert_array_equal(store.read_all(), np.concatenate([np.empty((0, dim)), *values]))
        assert store.checksums.tolist() == [zlib.crc32(v.astype(dtype).tobytes()) for v in values]
        assert store.verify() == []


def test_a_stretch_of_utterances_is_read_at_once(path):
    values = np.concatenate(features([3, 1, 5])).astype(np.float16)
    with FeatureStore.open(path) as store:
        np.testing.assert_array_equal(store.read(1, 3), values[3:])
        assert store.read(2, 2).shape == (0, 4)
        with pytest.raises(IndexError, match="utterances 1 to 4 of 3"):
            store.read(1, 4)


def test_the_same_input_gives_the_same_bytes_in_any_order_at_any_time(tmp_path):
    values = features([3, 1, 5, 2])
    first = write(tmp_path / "a.h5", values, order=[0, 1, 2, 3]).read_bytes()
    time.sleep(1.1)  # HDF5's own times, where it keeps them, count seconds
    assert write(tmp_path / "b.h5", values, order=[3, 1, 0, 2]).read_bytes() == first


def test_two_builds_differ_in_when_only(tmp_path):
    values = features([3, 1])
    paths = [write(tmp_path / f"{day}.h5", values, attributes=ATTRIBUTES | {"when": day}) for day in ("monday", "friday")]
    with h5py.File(paths[0]) as one, h5py.File(paths[1]) as two:
        assert {name for name in one.attrs if one.attrs[name] != two.attrs[name]} == {"when"}
    start, size = position_of_values(paths[0])
    assert paths[0].read_bytes()[start : start + size] == paths[1].read_bytes()[start : start + size]


def test_a_file_is_at_most_one_percent_larger_than_its_values(tmp_path):
    values = features([20] * 50, dim=768)
    path = write(tmp_path / "x.h5", values, ids=[f"2iD-tVS8NPw_{i}" for i in range(50)])
    assert path.stat().st_size < 1.01 * 50 * 20 * 768 * 2


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_anywhere_in_the_values_names_the_utterance(tmp_path_factory, data):
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    path = write(tmp_path_factory.mktemp("store") / "x.h5", features(lengths))
    start, size = position_of_values(path)
    at, flip = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, 255))
    content = bytearray(path.read_bytes())
    content[start + at] ^= flip
    path.write_bytes(content)

    hit = int(np.searchsorted(np.cumsum(lengths), at // 8, side="right"))  # a row is 4 float16
    with FeatureStore.open(path) as store:
        damage = store.verify()
    assert {d.utterance_id for d in damage} == {f"video_{hit}"}
    assert damage[0].problem.startswith("checksum ")
    assert is_intact(path)  # the structure is, and no values are read for it


def test_values_that_differ_from_those_written_are_never_returned(path):
    last = features([3, 1, 5])[2].astype(np.float16)
    flip_bit(path, position_of_values(path)[1] - 1)
    with FeatureStore.open(path) as store:
        for read in (lambda: store["video_2"], lambda: store.read(1, 3), store.read_all):
            with pytest.raises(DamagedFileError) as error:
                read()
            written, found = zlib.crc32(last.tobytes()), store.verify()[0].problem.split()[1]
            assert str(error.value) == (
                f"{path}: the values of 'video_2' are damaged (checksum {found} of the values, {written:08x} when they were written)."
                f" Delete it and run BuildFeatures again. List all damaged utterances with: python -m data verify {path}"
            )
        np.testing.assert_array_equal(store.read(0, 2), np.concatenate(features([3, 1, 5])[:2]).astype(np.float16))


def test_an_utterance_is_compared_once_by_a_store_and_again_by_the_next(path, monkeypatch):
    compared = []
    monkeypatch.setattr(feature_store.zlib, "crc32", lambda *parts, crc32=zlib.crc32: compared.append(1) or crc32(*parts))
    with FeatureStore.open(path) as store:
        compared.clear()  # opening compares the index
        for reads, read in ((1, lambda: store["video_1"]), (2, store.read_all), (0, store.read_all), (0, lambda: store["video_1"])):
            read()
            assert len(compared) == reads
            compared.clear()
        again = pickle.loads(pickle.dumps(store))
    compared.clear()
    again.read_all()
    assert len(compared) == 3


def test_a_file_cut_while_it_is_open_is_damaged(path):
    with FeatureStore.open(path) as store:
        end = position_of_values(path)[0] + 10
        os.truncate(path, end)
        with pytest.raises(DamagedFileError, match=rf"text\.h5: ends at byte {end:,}, inside its values"):
            store.verify()


def test_values_that_are_not_finite_are_damage_even_with_their_checksum(path):
    values = features([3, 1, 5])[1].astype(np.float16)
    values[0, 2] = np.nan
    with h5py.File(path, "r+") as file:
        file["values"][3:4] = values
        file["checksum"][1] = zlib.crc32(values.tobytes())
        file.attrs["index_checksum"] = np.uint32(specified_index_checksum(file))
    with FeatureStore.open(path) as store:
        assert store.verify() == [Damage("video_1", "values that are not finite")]
        with pytest.raises(DamagedFileError, match=r"the values of 'video_1' are damaged \(values that are not finite\)\. Delete it"):
            store.read_all()


def reads_of(store, monkeypatch):
    """The numbers of rows that the store reads at a time, blocks being 8 rows of 4 float16."""
    counts, fill = [], store._fill
    monkeypatch.setattr(feature_store, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(store, "_fill", lambda rows, first: (counts.append(len(rows)), fill(rows, first)))
    return counts


def test_a_long_utterance_is_verified_in_blocks(tmp_path, monkeypatch):
    path = write(tmp_path / "x.h5", features([100, 100]))
    with FeatureStore.open(path) as store:
        counts = reads_of(store, monkeypatch)
        assert store.verify() == []
    assert max(counts) == 8


@pytest.mark.parametrize("is_damaged", [False, True])
def test_many_utterances_are_read_in_blocks_of_whole_ones(tmp_path, monkeypatch, is_damaged):
    lengths = [3, 4, 2, 1, 30, 1, 1]
    values = np.concatenate(features(lengths)).astype(np.float16)
    path = write(tmp_path / "x.h5", features(lengths))
    with FeatureStore.open(path) as store:
        counts = reads_of(store, monkeypatch)
        if is_damaged:
            flip_bit(path, (sum(lengths) - 1) * 8)
            with pytest.raises(DamagedFileError, match="the values of 'video_6' are damaged"):
                store.read(1, 7)
        else:
            np.testing.assert_array_equal(store.read(1, 7), values[3:])
    assert counts == [7, 30, 2]


def test_the_values_are_placed_and_written_as_hdf5_itself_would_do_it(tmp_path):
    values = features([3, 70, 1, 900], dim=64)
    path = write(tmp_path / "ours.h5", values, order=[2, 3, 0, 1])
    layout = {"libver": ("v108", "v108"), "locking": False, "alignment_threshold": 4096, "alignment_interval": 4096}
    output = (tmp_path / "hdf5.h5").open("w+b")
    with output, h5py.File(path) as made, h5py.File(output, "w", **layout) as file:
        written = file.create_dataset("values", made["values"].shape, "<f2", fill_time="never")
        written[...] = np.concatenate(values)
        for name in ("offsets", "utterance_id", "checksum", "source"):
            file.create_dataset(name, data=made[name][()], dtype=made[name].dtype)
        for name in ("format", "version", "index_checksum", *sorted(ATTRIBUTES)):
            file.attrs[name] = made.attrs[name]
    assert path.read_bytes() == (tmp_path / "hdf5.h5").read_bytes()


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [("video2", "no utterance 'video2' among 3. Did you mean 'video_2'?"), ("?", "among 3. The first is 'video_0'.")],
)
def test_an_unknown_id_names_the_nearest(path, wanted, hint):
    with FeatureStore.open(path) as store, pytest.raises(InputError) as error:
        store[wanted]
    assert hint in str(error.value)
    assert wanted not in store


def test_a_store_works_after_pickling_and_in_a_forked_process(path):
    expected = features([3, 1, 5])[2].astype(np.float16)
    with FeatureStore.open(path) as store:
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(store))["video_2"], expected)
        process = multiprocessing.get_context("fork").Process(target=lambda: os._exit(0 if (store["video_2"] == expected).all() else 1))
        process.start()
        process.join()
        assert process.exitcode == 0
        np.testing.assert_array_equal(store["video_2"], expected)


def test_a_store_reads_the_file_that_it_opened_though_another_takes_its_place(path):
    with FeatureStore.open(path) as store:
        write(path, features([3, 1, 5], seed=1))
        np.testing.assert_array_equal(store["video_1"], features([3, 1, 5])[1].astype(np.float16))
    with pytest.raises(ValueError, match="the store is closed"):
        store["video_1"]


def test_what_is_read_may_be_changed_without_changing_the_file(path):
    with FeatureStore.open(path) as store:
        store["video_0"][:] = 0
        assert store["video_0"].any()


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.nan, "float16", "largest value nan, expected finite ones up to 65504 (float16)"),
        (-np.inf, "float32", "largest value inf, expected finite ones up to 3.40282e+38 (float32)"),
        (-65520.0, "float16", "largest value 65520.0, expected finite ones up to 65504 (float16)"),
    ],
)
def test_the_writer_refuses_values_that_the_type_cannot_hold(tmp_path, value, dtype, message):
    values = features([2, 3])
    values[1][2, 1] = value
    with pytest.raises(InputError) as error:
        write(tmp_path / "x.h5", values, dtype=dtype)
    assert str(error.value).startswith(f"{tmp_path / 'x.h5'}: utterance 'video_1': {message}")
    assert list(tmp_path.iterdir()) == []


def test_what_rounds_to_the_largest_float16_is_stored(tmp_path):
    with FeatureStore.open(write(tmp_path / "x.h5", [np.array([[65504.0, -65519.0]])])) as store:
        assert store["video_0"].tolist() == [[65504.0, -65504.0]]


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([(0, (2, 4))], "1 of 2 utterances not written, first 'b'"),
        ([(0, (2, 4)), (0, (2, 4))], "utterance 'a' is written twice"),
        ([(1, (2, 4))], r"utterance 'b': values \(2, 4\), expected \(3, 4\)"),
        ([(0, (2, 5))], r"utterance 'a': values \(2, 5\), expected \(2, 4\)"),
    ],
)
def test_a_file_that_is_not_written_as_promised_does_not_appear(tmp_path, calls, message):
    def attempt():
        with FeatureWriter(tmp_path / "x.h5", ["a", "b"], [2, 3], 4, "float16", {}, ["", ""]) as writer:
            for index, shape in calls:
                writer.write(index, np.zeros(shape))

    with pytest.raises(ValueError, match=message):
        attempt()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_build_leaves_the_old_file_as_it_was(path):
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="out of memory"), FeatureWriter(path, ["a"], [2], 4, "float16", {}, ["s"]):
        raise RuntimeError("out of memory")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": []}, "1 ids, 1 lengths, 0 sources"),
        ({"dtype": "bfloat16"}, "dtype 'bfloat16' one of float16, float32"),
        ({"dim": 0}, "dim 0 must be ≥ 1"),
        ({"attributes": {"version": 3}}, r"the attributes \['version'\] are the format's own"),
    ],
)
def test_the_writer_refuses_arguments_that_do_not_fit(tmp_path, change, message):
    arguments = {"ids": ["a"], "lengths": [1], "dim": 4, "dtype": "float16", "attributes": {}, "sources": ["s"]}
    with pytest.raises(ValueError, match=message):
        FeatureWriter(tmp_path / "x.h5", **(arguments | change))
