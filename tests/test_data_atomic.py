"""Files appear complete or not at all, and files of a killed process are distinguished from those of a running one."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.atomic import atomic_folder, atomic_path, remove_strays

_WRITER = """
import os, sys, time
from pathlib import Path
from data.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def write(path, text):
    with atomic_path(path) as temporary:
        temporary.write_text(text)


@pytest.fixture
def writer(tmp_path):
    """Another process, in the middle of writing x.h5."""
    process = subprocess.Popen([sys.executable, "-c", _WRITER, tmp_path / "x.h5"], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_a_file_appears_with_its_folder_when_it_is_complete(tmp_path):
    target = tmp_path / "cache" / "features" / "x.h5"
    with atomic_path(target) as temporary:
        temporary.write_text("all")
        assert not target.exists()
        assert temporary.parent == target.parent  # a rename is atomic on one file system only
        assert temporary.name.startswith(".x.h5.tmp~")
    assert target.read_text() == "all"
    assert os.listdir(target.parent) == ["x.h5"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path):
    write(tmp_path / "x.h5", "old")
    with atomic_path(tmp_path / "x.h5") as temporary:
        temporary.write_text("new, half")
        assert (tmp_path / "x.h5").read_text() == "old"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    write(tmp_path / "x.h5", "old")

    def fail():
        with atomic_path(tmp_path / "x.h5") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert os.listdir(tmp_path) == ["x.h5"]
    assert (tmp_path / "x.h5").read_text() == "old"


def test_a_folder_appears_when_all_that_is_in_it_is_written(tmp_path):
    target = tmp_path / "exports" / "mosi"
    with atomic_folder(target) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "x.npy").write_text("all")
        assert not target.exists()
        assert temporary.parent == target.parent
    assert (target / "deep" / "x.npy").read_text() == "all"
    assert os.listdir(target.parent) == ["mosi"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_folder_that_fails_leaves_nothing(tmp_path, error):
    def fail():
        with atomic_folder(tmp_path / "mosi") as temporary:
            (temporary / "x.npy").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert os.listdir(tmp_path) == []


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path):
    write(tmp_path / "mosi" / "x.npy", "mine")
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "mosi") as temporary:
        (temporary / "y.npy").write_text("other")
    assert os.listdir(tmp_path) == ["mosi"]
    assert os.listdir(tmp_path / "mosi") == ["x.npy"]


def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path):
    def fail():
        with atomic_path(tmp_path / "x.pkl"):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/x\.pkl'$"):
        fail()


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x.h5"):
        pass
    assert os.listdir(tmp_path) == []


def test_file_and_folder_are_flushed_around_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def seen_fsync(descriptor):
        events.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))[:5])
        fsync(descriptor)

    def seen_replace(source, target):
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "replace", seen_replace)
    write(tmp_path / "x.h5", "all")
    assert events == [".x.h5", "rename", tmp_path.name[:5]]


def test_the_file_of_a_killed_process_is_a_stray(tmp_path, writer):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    left = list(tmp_path.iterdir())
    assert [path.name for path in left] == [f".x.h5.tmp~{socket.gethostname()}~{writer.pid}"]
    assert remove_strays(tmp_path) == left
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_process_that_nobody_has_waited_for_is_a_stray(tmp_path, writer):
    writer.send_signal(signal.SIGKILL)
    while Path(f"/proc/{writer.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert len(remove_strays(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_process_is_a_stray(tmp_path):
    stray = tmp_path / f".mosi.tmp~{socket.gethostname()}~{10**30}"
    write(stray / "x.npy", "half")
    assert remove_strays(tmp_path) == [stray]
    assert os.listdir(tmp_path) == []


def test_the_file_of_a_living_process_is_left_alone(tmp_path, writer):
    assert remove_strays(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1


def test_the_file_of_another_machine_is_a_stray_after_a_day_without_a_write(tmp_path):
    fresh, old = tmp_path / ".a.h5.tmp~elsewhere~1", tmp_path / "deep" / ".b.h5.tmp~elsewhere~1"
    old.parent.mkdir()
    for path, hours in ((fresh, 23), (old, 25)):
        path.write_text("half")
        os.utime(path, (0, time.time() - hours * 3600))
    assert remove_strays(tmp_path) == [old]
    assert fresh.exists()


@pytest.mark.parametrize(
    "name", ["x.h5", "x.h5.tmp~host~1", ".x.h5", ".x.h5.tmp~host", ".x.h5.tmp~host~pid", ".tmp~host~1", "notes.tmp~"]
)
def test_other_files_are_never_strays(tmp_path, name):
    (tmp_path / name).write_text("mine")
    os.utime(tmp_path / name, (0, 0))
    assert remove_strays(tmp_path) == []
    assert (tmp_path / name).read_text() == "mine"


def test_a_number_that_no_process_can_have_is_a_stray(tmp_path):
    stray = tmp_path / f".x.h5.tmp~{socket.gethostname()}~{10**30}"
    stray.write_text("half")
    assert remove_strays(tmp_path) == [stray]


def test_a_folder_that_is_not_there_has_no_strays(tmp_path):
    assert remove_strays(tmp_path / "cache") == []
