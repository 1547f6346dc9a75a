"""The index of a feature file is as specified, and damage to it is found before any value is read."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from feature_files import ATTRIBUTES, features, position_of_values, specified_index_checksum, write
from hypothesis import given
from hypothesis import strategies as st

from data import feature_index
from data.errors import InputError
from data.feature_store import DamagedFileError, FeatureStore, FeatureWriter, is_intact


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "text.h5", features([3, 1, 5]))


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


def test_attributes_may_be_long_and_many(tmp_path):
    attributes = {"truncated": [f"utterance {i}" for i in range(10_000)]} | {f"fact {i}": i for i in range(50)}
    with FeatureStore.open(write(tmp_path / "x.h5", features([1]), attributes=attributes)) as store:
        assert store.attrs == attributes


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


@given(bits=st.integers(0, 2**16 - 1))
def test_a_float16_is_finite_by_its_bits_when_numpy_says_so(bits):
    value = np.array([0, bits], np.uint16).view("<f2").reshape(1, 2)
    assert feature_index.is_finite(value) == np.isfinite(value).all()
