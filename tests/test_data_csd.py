"""Computational sequences: files written here and by the SDK are read; every kind of broken download has its own message."""

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.csd import Entry, read_csd, write_csd
from data.errors import InputError


def entry(count: int = 2, width: int = 7) -> Entry:
    times = np.arange(count * 2, dtype="float64").reshape(count, 2)
    return Entry(np.full((count, width), 0.5, dtype="float32"), times)


ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(
    counts=st.dictionaries(ids.filter(lambda name: name not in (".", "..")), st.integers(0, 4), max_size=4),
    width=st.integers(1, 8),
    floats=st.sampled_from(["float32", "float64"]),
    data=st.data(),
)
def test_what_is_written_is_read_back(tmp_path_factory, counts, width, floats, data):
    path = tmp_path_factory.mktemp("csd") / "labels.csd"
    numbers = st.floats(-1e6, 1e6, width=32)
    written = {
        name: Entry(
            data.draw(hnp.arrays(floats, (count, width), elements=numbers)),
            data.draw(hnp.arrays("float64", (count, 2), elements=numbers)),
        )
        for name, count in counts.items()
    }
    write_csd(path, "All Labels", written.items(), {"dimension names": ["a", "b"], "version": 1.5})
    read = read_csd(path)
    assert read.name == "All Labels"
    assert read.metadata == {"dimension names": ["a", "b"], "version": 1.5, "root name": "All Labels"}
    assert sorted(read.entries) == sorted(written)
    for name in written:
        np.testing.assert_array_equal(read.entries[name].features, written[name].features)
        np.testing.assert_array_equal(read.entries[name].intervals, written[name].intervals)
        assert read.entries[name].features.dtype == floats


def test_the_file_has_the_groups_of_the_sdk(tmp_path):
    write_csd(tmp_path / "x.csd", "All Labels", [("-3g", entry())], {"dimension names": ["sentiment"]})
    with h5py.File(tmp_path / "x.csd") as file:
        assert list(file) == ["All Labels"]
        assert file["All Labels/data/-3g/features"].shape == (2, 7)
        assert file["All Labels/data/-3g/intervals"].shape == (2, 2)
        assert file["All Labels/metadata/root name"][()].tolist() == [b'"All Labels"']


@pytest.mark.parametrize("value", [b'{"k": 1}', [b'{"k": 1}']], ids=["scalar", "array"])
def test_metadata_is_read_as_a_scalar_and_as_an_array(tmp_path, value):
    write_csd(tmp_path / "x.csd", "root", [("v", entry())])
    with h5py.File(tmp_path / "x.csd", "a") as file:
        file.create_dataset("root/metadata/extra", data=value, dtype=h5py.string_dtype())
        file.create_dataset("root/metadata/no json", data="plain words", dtype=h5py.string_dtype())
    assert read_csd(tmp_path / "x.csd").metadata == {"root name": "root", "extra": {"k": 1}, "no json": "plain words"}


def test_truncated_file_is_called_truncated(tmp_path):
    path = tmp_path / "x.csd"
    write_csd(path, "root", [("v", entry(4000))])
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"x\.csd: truncated: shorter on disk than its header says\. Download it again"):
        read_csd(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git-lfs pointer.*git lfs pull"),
        (b"\n <!DOCTYPE html>\n<html><body>Sign in</body></html>", "an HTML page, not the file itself"),
        (b"<HTML>404</HTML>", "an HTML page"),
        (b"", "the file is empty"),
        (b"PK\x03\x04 something zipped", r"not a \.csd \(HDF5\) file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(4000), r"damaged \("),
    ],
    ids=["lfs", "html", "html upper case", "empty", "zip", "only the signature"],
)
def test_what_is_no_csd_gets_its_own_message(tmp_path, content, message):
    (tmp_path / "x.csd").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_csd(tmp_path / "x.csd")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.csd: cannot be read \(No such file or directory\)"):
        read_csd(tmp_path / "none.csd")


def put(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name.replace("__", "/")] = value


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"a__data__v__x": 1, "b__data__v__x": 1}, "expected one root group, found \\['a', 'b'\\]"),
        ({"a": 1}, "expected one root group"),
        ({"a__values": 1}, "expected a group 'data' in 'a', found \\['values'\\]"),
        ({"a__data__v__features": [[1.0]]}, "'v': expected datasets 'features' and 'intervals'"),
        ({"a__data__v": [1.0]}, "'v': expected datasets"),
        ({"a__data__v__features": [[1.0]], "a__data__v__intervals": [[1.0, 2.0], [3.0, 4.0]]}, "intervals float64 \\(2, 2\\)"),
        ({"a__data__v__features": [["x"]], "a__data__v__intervals": [[1.0, 2.0]]}, "features object"),
    ],
)
def test_other_hdf5_is_refused_with_what_was_found(tmp_path, datasets, message):
    put(tmp_path / "x.csd", **datasets)
    with pytest.raises(InputError, match=message):
        read_csd(tmp_path / "x.csd")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("v", entry()), ("v", entry())], "'v' is given twice"),
        ([("a/b", entry())], "'a/b' cannot be the id"),
        ([("v", Entry(np.zeros((2, 3)), np.zeros((3, 2))))], r"features float64 \(2, 3\), intervals float64 \(3, 2\)"),
    ],
)
def test_writing_nonsense_leaves_no_file(tmp_path, entries, message):
    with pytest.raises(InputError, match=message):
        write_csd(tmp_path / "x.csd", "root", entries)
    assert list(tmp_path.iterdir()) == []


def test_metadata_that_no_parser_can_hold_stays_text(tmp_path):
    write_csd(tmp_path / "x.csd", "root", [("v", entry())])
    deep, long = "[" * 100_000, "1" * 5000
    with h5py.File(tmp_path / "x.csd", "a") as file:
        file["root/metadata/deep"], file["root/metadata/long"] = deep, long
    assert read_csd(tmp_path / "x.csd").metadata == {"root name": "root", "deep": deep, "long": long}


def test_metadata_whose_value_is_gone_is_damage(tmp_path):
    write_csd(tmp_path / "x.csd", "root", [("v", entry())])
    with h5py.File(tmp_path / "x.csd", "a") as file:
        file["root/metadata/gone"] = h5py.SoftLink("/nowhere")
    with pytest.raises(InputError, match=r"x\.csd: damaged \(KeyError: .*\)\. Download it again"):
        read_csd(tmp_path / "x.csd")


def test_a_shape_that_is_larger_than_the_file_is_refused_before_memory_is_allocated(tmp_path):
    with h5py.File(tmp_path / "x.csd", "w") as file:
        file.create_dataset("root/data/v/features", (10**12, 7), "f8", chunks=(1000, 7))  # nothing is stored: zeros
        file["root/data/v/intervals"] = [[0.0, 1.0]]
    with pytest.raises(InputError, match=r"x\.csd: damaged \(RuntimeError: .a shape of \(1000000000000, 7\), for which the file has 0"):
        read_csd(tmp_path / "x.csd")


def test_what_compresses_well_is_read(tmp_path):
    zeros = np.zeros((100_000, 7))
    with h5py.File(tmp_path / "x.csd", "w") as file:
        file.create_dataset("root/data/v/features", data=zeros, compression="gzip", compression_opts=9, chunks=(100_000, 7))
        file["root/data/v/intervals"] = zeros[:, :2]
    assert read_csd(tmp_path / "x.csd").entries["v"].features.shape == (100_000, 7)
