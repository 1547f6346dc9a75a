"""The first bytes distinguish a real file from the result of a failed download, with a message for each case."""

import pytest

from data.errors import InputError
from data.files import read_head

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


def test_a_path_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(InputError, match=r"none: cannot be read \(No such file or directory\)\.$"):
        read_head(tmp_path / "none")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)\.$"):
        read_head(tmp_path)
