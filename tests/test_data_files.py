"""A real file is told from the result of a failed download, and one that cannot be read now from one that is damaged."""

import contextlib
import errno
import json
import multiprocessing
import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feature_files import features, write

from data.csd import Entry, read_csd, write_csd
from data.errors import InputError, UnreadableError
from data.feature_store import FeatureStore
from data.files import read_head, unreadable
from data.interchange import npy, safe_pickle
from data.manifest import read_manifest, write_table

KEEP = "x: cannot be read ({}). It may be whole: keep it, and try again when the reason is gone."
LFS = "a git-lfs pointer, not the file itself. Run 'git lfs pull' where it was cloned."
HTML = "an HTML page, not the file itself (a login or error page was saved). Download it again."


@pytest.mark.parametrize("content", [b"x", b"a <html> page", b"\x89HDF", bytes(5000)], ids=["one byte", "html later", "binary", "long"])
def test_a_real_file_gives_its_first_bytes(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert read_head(tmp_path / "x") == content[:1024]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty. Download it again."),
        (b"version https://git-lfs.github.com/spec/v1\noid", LFS),
        (b"<HTML>", HTML),
        (b"\xef\xbb\xbf\r\n\t <!DocType HTML>", HTML),
    ],
    ids=["empty", "lfs", "html", "doctype behind a byte order mark"],
)
def test_what_a_failed_download_leaves_is_named(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_head(tmp_path / "x")
    assert str(error.value) == f"{tmp_path / 'x'}: {message}"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EMFILE, "as the library says it"), KEEP.format("Too many open files")),
        (OSError(errno.EIO, ""), KEEP.format("Input/output error")),
        (PermissionError(errno.EACCES, ""), KEEP.format("Permission denied")),
        (MemoryError("3 bytes"), KEEP.format("not enough memory")),
        (FileNotFoundError(errno.ENOENT, ""), "x: cannot be read (No such file or directory)."),
    ],
)
def test_what_says_nothing_about_the_content_is_not_called_damage(error, message):
    found = unreadable(Path("x"), error)
    assert str(found) == message
    assert isinstance(found, UnreadableError) == (message != "x: cannot be read (No such file or directory).")


@pytest.mark.parametrize("error", [OSError("truncated file: eof = 96"), OSError(errno.EINVAL, "seek to -3"), KeyError("x")])
def test_what_may_come_from_the_content_is_left_to_the_reader(error):
    assert unreadable(Path("x"), error) is None


def test_without_descriptors_no_reader_calls_a_file_damaged(tmp_path):
    """In a process that has 0 or 1 descriptors left: the file is opened, or HDF5 cannot open it again."""
    write(tmp_path / "a.h5", features([2]))
    write_table(tmp_path / "a.parquet", pd.DataFrame({"x": [1]}), {})
    write_csd(tmp_path / "a.csd", "a", [("v", Entry(np.zeros((1, 2)), np.zeros((1, 2))))])
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([1]))
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    process = multiprocessing.get_context("fork").Process(target=_read_without_descriptors, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    said = json.loads((tmp_path / "said").read_text())
    assert {text.partition(" (")[0] for text in said.values()} == {"cannot be read"}
    assert {name.split()[1] for name in said} == {"a.h5", "a.parquet", "a.csd", "a.pkl", "a.npy"}
    assert {"0 a.h5", "1 a.h5", "0 a.parquet"} <= said.keys()


def _read_without_descriptors(folder):
    readers = {"h5": FeatureStore.open, "parquet": read_manifest, "csd": read_csd, "pkl": safe_pickle.load, "npy": npy.open_array}
    paths = {folder / f"a.{suffix}": read for suffix, read in readers.items()}
    for path, read in paths.items():  # imports all that reading imports
        with contextlib.suppress(InputError):
            read(path)
    said, held = {}, [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
    with (folder / "said").open("w") as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 1, held[-1] + 1))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for left in (0, 1):
            for path, read in paths.items():
                try:
                    read(path)
                except InputError as error:
                    if "columns missing" not in str(error):
                        said[f"{left} {path.name}"] = str(error).removeprefix(f"{path}: ")
            os.close(held.pop())
        json.dump(said, file)
    os._exit(0)


def test_a_path_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(InputError, match=r"none: cannot be read \(No such file or directory\)\.$"):
        read_head(tmp_path / "none")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)\.$"):
        read_head(tmp_path)
