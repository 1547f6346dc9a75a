"""Corpus readers, one module per layout: the only place that knows how a public corpus is laid out on disk.

A new corpus needs a module with a function that returns a `Corpus`, and an entry in `CORPORA`. The readers share
`data.corpora.assemble` (order, times, media), `data.corpora.media_files` (the search for media), and for CMU's corpora
`data.corpora.mmsa`, `data.corpora.cmu` and `data.corpora.emotion_join`.

Not here: `data.csv_tables` and `data.csd` read the files that layouts consist of, `data.media` decodes media, `data.doctor` checks a
corpus, and `data.interchange` reads the feature files of other tools.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path

from data.corpora import folder, iemocap, meld, mosei, mosi
from data.corpora.base import Corpus, Reader
from data.errors import InputError
from data.label_sets import OPEN, Statement
from data.labels import MOSEI_LABELS
from data.lookup import lookup

__all__ = ["CORPORA", "Corpus", "Reader", "read_corpus", "recognise"]

CORPORA: Mapping[str, Reader] = {
    "mosi": Reader(mosi.read_mosi, mosi.has_own_files, mosi.has_shared_files),
    "mosei": Reader(mosei.read_mosei, mosei.has_own_files),
    "meld": Reader(meld.read_meld, meld.has_own_files, options=("statement",)),
    "iemocap": Reader(iemocap.read_iemocap, iemocap.has_own_files, options=("statement", "test_session")),
    "folder": Reader(folder.read_folder, has_shared_files=folder.has_shared_files, options=("statement",)),
}
"""Name of a layout → its reader."""


def read_corpus(
    reader: str, root: Path, name: str | None = None, statement: Statement = OPEN, test_session: int | None = None
) -> Corpus:
    """Read a corpus from disk: its tables and the names of its media, without opening any medium.

    Args:
        reader: A key of `CORPORA`.
        root: The folder of the corpus.
        name: The corpus name for the manifest; None means the name of the reader.
        statement: What a setting says about the labels.
        test_session: IEMOCAP only: the session that is the test split; None: 5.

    Raises:
        InputError: There is no such reader or folder, the folder does not hold the files that the reader expects, or the corpus cannot
            have the stated labels.
    """
    entry = lookup(CORPORA, reader, "corpus")
    _expect_folder(root, f"the folder of a {reader} corpus")
    given = {"statement": statement} if not statement.is_open else {}
    given |= {"test_session": test_session} if test_session is not None else {}
    if "statement" in given and "statement" not in entry.options:
        if statement.label_set() != MOSEI_LABELS:
            raise InputError(
                f"{root}: the labels of {reader} are {MOSEI_LABELS}, but {statement.label_set()} is stated. Remove the setting."
            )
        del given["statement"]
    if "test_session" in given and "test_session" not in entry.options:
        raise InputError(f"{root}: a test session is stated, but {reader} has no sessions. Remove the setting.")
    return entry.read(reader if name is None else name, root, **given)


def recognise(root: Path) -> str:
    """Return the key of `CORPORA` that fits the files in a folder.

    Files that only one corpus has decide first, then files that several corpora share. Later entries of `CORPORA` are tried first,
    because MOSEI's releases use MOSI's folders and more. A `label.csv` with MMSA's columns counts as MOSI's unless MOSEI's other files
    are there; with other columns, or with media in other folders than MMSA's, it counts as a folder of own clips.

    Raises:
        InputError: There is no such folder, or no reader fits.
    """
    _expect_folder(root, "the folder of a corpus")
    names = tuple(reversed(tuple(CORPORA)))
    own = (name for name in names if CORPORA[name].has_own_files(root))
    shared = (name for name in names if CORPORA[name].has_shared_files(root))
    found = next(itertools.chain(own, shared), None)
    if found is None:
        raise InputError(f"{root}: no corpus recognised in it. Name its layout with --corpus: {', '.join(CORPORA)}.")
    return found


def _expect_folder(root: Path, expected: str) -> None:
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"{root}: {state}; expected {expected}.")
