"""A file of settings that Luigi could not read is named with its line, section and key before Luigi is imported."""

import pytest

from data.errors import InputError
from pipeline.config_file import expect_readable_files


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The current folder, without settings from outside."""
    for name in ("LUIGI_CONFIG_PATH", "LUIGI_CONFIG_PARSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_files_and_with_a_good_one_nothing_is_said(here):
    expect_readable_files()
    (here / "luigi.cfg").write_text("[build]\r\ncache = /data/50%off\r\n\r\n[corpora]\r\nfolders = {\r\n  }\r\n", encoding="utf-8")
    expect_readable_files()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cache = a\n", "luigi.cfg, line 1: 'cache = a' stands before the first [section]. Put it below its section."),
        (
            b"[text]\ncase = keep\n[build]\ncache = a\ndevice\n",
            "luigi.cfg, line 5, section [build]: 'device' is neither a [section] nor 'key = value'. Correct or remove it.",
        ),
        (
            b"[text\ncase = keep\n",
            "luigi.cfg, line 1: '[text' stands before the first [section]. Put it below its section.",
        ),
        (b"[text]\ncase = keep\n[text]\n", "luigi.cfg, line 3: section [text] a second time. Join the two sections."),
        (b"[text]\ncase = keep\ncase = lower\n", "luigi.cfg, line 3, section [text]: 'case' a second time. Remove one of the two."),
        (b"[text]\n\nmodel = caf\xe9\n", "luigi.cfg, line 3: b'model = caf\\xe9' is not UTF-8. Save the file as UTF-8."),
        ("[text]\n".encode("utf-16"), "luigi.cfg: begins with a byte order mark."),
        ("\ufeff[text]\n".encode(), "luigi.cfg: begins with a byte order mark."),
        (b"[text]\nmodel = a\0b\n", "luigi.cfg, line 2: a control character, '\\x00'. Remove it."),
        (b"[text]\nmodel = a" + b" " * 1_000_000 + b"b", "luigi.cfg, line 2: 'model = a "),
        (b"[text]\n" + b"x" * 500, "luigi.cfg, line 2, section [text]: 'xxx"),
    ],
    ids=range(11),
)
def test_a_line_that_is_no_setting_is_named(here, content, message):
    (here / "luigi.cfg").write_bytes(content)
    with pytest.raises(InputError) as caught:
        expect_readable_files()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_file_that_luigi_would_pass_over_is_named(here, monkeypatch):
    (here / "luigi.cfg").mkdir()
    with pytest.raises(InputError, match=r"^luigi\.cfg: cannot be read \(Is a directory\)"):
        expect_readable_files()
    (here / "luigi.cfg").rmdir()
    monkeypatch.setenv("LUIGI_CONFIG_PATH", "elsewhere.cfg")
    with pytest.raises(InputError, match=r"^LUIGI_CONFIG_PATH is 'elsewhere\.cfg', but there is no such file\."):
        expect_readable_files()
    (here / "elsewhere.cfg").write_text("x")
    with pytest.raises(InputError, match=r"^elsewhere\.cfg, line 1: 'x' stands before the first \[section\]"):
        expect_readable_files()
    monkeypatch.setenv("LUIGI_CONFIG_PARSER", "toml")
    with pytest.raises(InputError, match=r"^LUIGI_CONFIG_PARSER is 'toml', but the settings are read from luigi\.cfg only\."):
        expect_readable_files()
