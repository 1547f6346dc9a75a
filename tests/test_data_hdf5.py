"""New HDF5 files: no part of a file that cannot be written is left behind, whenever the disk fills up."""

import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from data.hdf5 import new_hdf5


@pytest.fixture
def small_disk():
    """No file can grow beyond 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write(path, count, rows):
    with new_hdf5(path) as made:
        for index in range(count):
            with made.change() as file:
                file.create_dataset(f"data/{index}/features", data=np.full((rows, 4), index, np.float32))


def test_what_is_written_is_there(tmp_path):
    write(tmp_path / "new" / "x.h5", 3, 5)
    with h5py.File(tmp_path / "new" / "x.h5") as file:
        assert file["data/2/features"][()].tolist() == [[2.0] * 4] * 5
    assert os.listdir(tmp_path / "new") == ["x.h5"]


@pytest.mark.parametrize(("count", "rows"), [(2, 10_000), (20, 400), (500, 1)], ids=["one dataset", "later", "structures"])
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, small_disk, count, rows):
    with pytest.raises(OSError, match=rf"^\[Errno 27\] File too large: '{tmp_path}/x\.h5'$"):
        write(tmp_path / "x.h5", count, rows)
    assert os.listdir(tmp_path) == []
    write(tmp_path / "x.h5", 2, 5)


def test_an_interruption_leaves_nothing(tmp_path):
    def fail():
        with new_hdf5(tmp_path / "x.h5") as made:
            with made.change() as file:
                file["a"] = np.ones(1000)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert os.listdir(tmp_path) == []


@pytest.fixture
def interruptible():
    """Whatever started the tests, which may have told them to ignore interruptions."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interruption_waits_for_the_end_of_a_change(tmp_path):
    reached = []

    def fail():
        with new_hdf5(tmp_path / "x.h5") as made:
            with made.change() as file:
                signal.raise_signal(signal.SIGINT)
                file["a"] = np.ones(1000)
                reached.append("end of the change")
            reached.append("behind it")

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert reached == ["end of the change"]
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_failure_shows_in_the_change_that_it_befalls(tmp_path, small_disk):
    written = []

    def fail():
        with new_hdf5(tmp_path / "x.h5") as made:
            for index in range(20):
                with made.change() as file:
                    file[str(index)] = np.ones(5_000)
                written.append(index)

    with pytest.raises(OSError, match="File too large"):
        fail()
    assert written == [0, 1]


def test_bytes_can_be_placed_past_hdf5(tmp_path):
    values = np.arange(40_000, dtype=np.float32).reshape(10_000, 4)
    with new_hdf5(tmp_path / "x.h5") as made:
        with made.change() as file:
            file["before"] = values
            position = made.place(file.create_dataset("values", values.shape, np.float32))
        for first in (6_000, 0, 3_000):
            made.write_at(position + first * 16, values[first : first + 4_000].data)
        with made.change() as file:
            file["behind"] = values
    with h5py.File(tmp_path / "x.h5") as file:
        for name in ("before", "values", "behind"):
            np.testing.assert_array_equal(file[name][()], values)


def test_a_disk_that_fills_up_past_hdf5_is_one_error_and_leaves_nothing(tmp_path, request):
    values = np.ones((10_000, 4), np.float32)
    written = []

    def fail():
        with new_hdf5(tmp_path / "x.h5") as made:
            with made.change() as file:
                position = made.place(file.create_dataset("values", values.shape, np.float32))
            request.getfixturevalue("small_disk")
            for first in range(0, 10_000, 1_000):
                made.write_at(position + first * 16, values[:1_000].data)
                written.append(first)

    with pytest.raises(OSError, match=rf"^\[Errno 27\] File too large: '{tmp_path}/x\.h5'$"):
        fail()
    assert written == [0, 1_000, 2_000, 3_000, 4_000, 5_000]
    assert os.listdir(tmp_path) == []


def test_a_file_is_written_in_a_thread_too(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(write, tmp_path / "x.h5", 3, 5).result()
    assert os.listdir(tmp_path) == ["x.h5"]
