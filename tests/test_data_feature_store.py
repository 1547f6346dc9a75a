"""The feature store: what is written is read, whatever the shapes; damage is found and named; no half-written file appears."""

import json
import multiprocessing
import os
import pickle
import time
import zlib
from pathlib import Path

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import feature_index, feature_store
from data.errors import InputError
from data.feature_store import Damage, DamagedFileError, FeatureStore, FeatureWriter, is_intact

ATTRIBUTES = {"corpus": "mosi", "identity": {"layer": 12, "max_tokens": None}, "when": "2024-01-01T00:00:00Z"}
IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


def features(lengths, dim=4, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((length, dim)).astype(np.float32) for length in lengths]


def write(path, values, ids=None, dtype="float16", attributes=ATTRIBUTES, order=None, dim=None):
    ids = [f"video_{i}" for i in range(len(values))] if ids is None else ids
    lengths = [len(v) for v in values]
    with FeatureWriter(
        path, ids, lengths, dim or values[0].shape[1], dtype, attributes, [f"{i:012x}" for i in range(len(ids))]
    ) as writer:
        for index in range(len(ids)) if order is None else order:
            writer.write(index, values[index])
    return path


def position_of_values(path):
    with h5py.File(path) as file:
        return file["values"].id.get_offset(), file["values"].nbytes


def specified_index_checksum(file):
    """`index_checksum` as the specification words it, from the file alone."""
    facts = {n: t for n, t in file.attrs.items() if n not in ("format", "version", "index_checksum", "when")}
    texts = [part for name in sorted(facts) for part in (name.encode(), facts[name])]
    joined = b"\0".join([*texts, *file["utterance_id"][()].tolist(), *file["source"][()].tolist()])
    return zlib.crc32(joined + file["offsets"][()].astype("<i8").tobytes() + file["checksum"][()].astype("<u4").tobytes())


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


def test_a_file_is_as_specified_for_any_other_reader(path):
    values = features([3, 1, 5])
    with h5py.File(path) as file:
        assert set(file) == {"values", "offsets", "utterance_id", "checksum", "source"}
        assert file["values"].dtype == "<f2"
        assert file["values"].chunks is None
        assert file["offsets"].dtype == "<i8"
        assert file["checksum"].dtype == "<u4"
        assert file["offsets"][()].tolist() == [0, 3, 4, 9]
        assert file["utterance_id"].asstr()[()].tolist() == ["video_0", "video_1", "video_2"]
        assert file["source"][()].tolist() == [b"000000000000", b"000000000001", b"000000000002"]
        np.testing.assert_array_equal(file["values"][3:4], values[1].astype(np.float16))
        assert file.attrs["format"] == b"mmolre-features"
        assert file.attrs["version"] == 1
        assert {name: json.loads(file.attrs[name]) for name in ATTRIBUTES} == ATTRIBUTES
        assert file.attrs["index_checksum"] == specified_index_checksum(file)


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


def test_attributes_may_be_long_and_many(tmp_path):
    attributes = {"truncated": [f"utterance {i}" for i in range(10_000)]} | {f"fact {i}": i for i in range(50)}
    with FeatureStore.open(write(tmp_path / "x.h5", features([1]), attributes=attributes)) as store:
        assert store.attrs == attributes


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


def test_damage_outside_of_the_values_is_found_or_without_effect(path, tmp_path):
    content = path.read_bytes()
    start, size = position_of_values(path)
    with FeatureStore.open(path) as store:
        expected = (store.ids, store.attrs, store.sources, store.read_all().tobytes())
    damaged = tmp_path / "damaged.h5"
    found = 0
    for at in [*range(0, start, 3), *range(start + size, len(content), 3)]:
        damaged.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        if not is_intact(damaged):
            found += 1
            continue
        with FeatureStore.open(damaged) as store:
            assert store.verify() == []
            assert (store.ids, store.attrs, store.sources, store.read_all().tobytes()) == expected
    assert found > 400  # what is left is unused space between HDF5's structures


def test_a_file_cut_at_any_byte_is_not_intact(path, tmp_path):
    content = path.read_bytes()
    cut = tmp_path / "cut.h5"
    for size in [*range(0, len(content), 11), *range(len(content) - 8, len(content))]:
        cut.write_bytes(content[:size])
        assert not is_intact(cut)
        with pytest.raises(InputError, match=r"cut\.h5: "):
            FeatureStore.open(cut)
    assert is_intact(path)


def test_a_file_cut_while_it_is_open_is_damaged(path):
    with FeatureStore.open(path) as store:
        os.truncate(path, position_of_values(path)[0] + 10)
        with pytest.raises(DamagedFileError, match=r"text\.h5: ends at byte 2,058, inside its values"):
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


def test_a_long_utterance_is_verified_in_blocks(tmp_path, monkeypatch):
    path = write(tmp_path / "x.h5", features([100, 100]))
    largest = 0
    with FeatureStore.open(path) as store:
        read = store._read_rows

        def measured(first, stop):
            nonlocal largest
            largest = max(largest, stop - first)
            return read(first, stop)

        monkeypatch.setattr(feature_store, "_BLOCK_BYTES", 64)
        monkeypatch.setattr(store, "_read_rows", measured)
        assert store.verify() == []
    assert largest == 8  # rows of 4 float16 in 64 bytes


def write_text(text):
    return lambda path: path.write_bytes(text)


def write_hdf5(change):
    def change_file(path):
        write(path, features([3, 1, 5]))
        with h5py.File(path, "r+") as file:
            change(file)
            if "offsets" in file and "source" in file:
                file.attrs["index_checksum"] = np.uint32(specified_index_checksum(file))

    return change_file


def replace(name, make):
    def change(file):
        data = file[name][()]
        del file[name]
        make(file, data)

    return change


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read (No such file or directory)"),
        (Path.mkdir, "cannot be read (Is a directory)"),
        (write_text(b""), "the file is empty"),
        (write_text(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), "a git-lfs pointer, not the file itself"),
        (write_text(b"<!DOCTYPE html><html>"), "an HTML page, not the file itself"),
        (write_text(b"video_id,text\n"), "not an HDF5 file"),
        (write_hdf5(lambda f: f.attrs.pop("format")), "not a feature file: its attribute 'format' is None"),
        (write_hdf5(lambda f: f.attrs.modify("version", 2)), "version 2; this program reads up to 1"),
        (write_hdf5(lambda f: f.__delitem__("offsets")), "truncated or damaged"),
        (write_hdf5(lambda f: f["offsets"].__setitem__(1, 0)), "3 ids and offsets that do not belong together"),
        (write_hdf5(lambda f: f["offsets"].__setitem__(0, 1)), "3 ids and offsets that do not belong together"),
        (write_hdf5(lambda f: f["offsets"].__setitem__(3, 12)), "the values are (9, 4) float16, expected 12 rows"),
        (write_hdf5(replace("source", lambda f, d: f.create_dataset("source", data=d[:2]))), "do not belong together"),
        (write_hdf5(replace("values", lambda f, d: f.create_dataset("values", data=d, chunks=(2, 4)))), "contiguous"),
        (write_hdf5(replace("values", lambda f, d: f.create_dataset("values", data=d.astype("i2")))), "(9, 4) int16, expected"),
    ],
)
def test_open_says_what_is_wrong_with_a_file(tmp_path, make, message):
    path = tmp_path / "x.h5"
    make(path)
    with pytest.raises(InputError) as error:
        FeatureStore.open(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert not is_intact(path)


def test_a_changed_id_is_damage(path):
    with h5py.File(path, "r+") as file:
        file["utterance_id"][1] = b"video_7"
    with pytest.raises(DamagedFileError, match="its ids, offsets, sources, checksums or attributes are damaged"):
        FeatureStore.open(path)


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
    ("ids", "lengths", "message"),
    [
        (["a", "a"], [1, 1], "utterance 'a' occurs twice, expected unique ids"),
        (["a", ""], [1, 1], "utterance '': expected an id of at least one character"),
        (["a", "b\0"], [1, 1], r"utterance 'b\x00': expected an id of at least one character, in Unicode, without NUL"),
        (["a", "\ud800"], [1, 1], "expected an id of at least one character, in Unicode"),
        (["a", "b"], [1, 0], "utterance 'b': 0 rows, expected 1 or more"),
    ],
)
def test_the_writer_refuses_utterances_that_cannot_be_stored(tmp_path, ids, lengths, message):
    with pytest.raises(InputError) as error:
        FeatureWriter(tmp_path / "x.h5", ids, lengths, 4, "float16", {}, ["", ""])
    assert message in str(error.value)


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


@given(bits=st.integers(0, 2**16 - 1))
def test_a_float16_is_finite_by_its_bits_when_numpy_says_so(bits):
    value = np.array([0, bits], np.uint16).view("<f2").reshape(1, 2)
    assert feature_index.is_finite(value) == np.isfinite(value).all()
