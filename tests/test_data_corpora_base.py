"""A corpus tells if it has media, and files are found in the root and in its immediate folders."""

from pathlib import Path

import pandas as pd
import pytest

from data.corpora.base import Corpus, Reader, holds


@pytest.mark.parametrize(("media", "expected"), [(["", "a.wav"], True), (["", ""], False), ([], False)])
def test_a_corpus_has_media_if_any_utterance_has(media, expected):
    corpus = Corpus("mosi", Path(), "words", pd.DataFrame({"media": pd.Series(media, dtype=object)}), ())
    assert corpus.has_media is expected


def test_a_file_is_found_in_the_root_and_in_its_folders_but_no_deeper(tmp_path):
    for path in ("a.csv", "x/b.csv", "x/y/c.csv"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert [holds(tmp_path, name) for name in ("a.csv", "b.csv", "c.csv")] == [True, True, False]


def test_a_reader_recognises_nothing_unless_told_how(tmp_path):
    reader = Reader(lambda name, root: pytest.fail("is not to be read"))
    assert not reader.has_own_files(tmp_path)
    assert not reader.has_shared_files(tmp_path)
