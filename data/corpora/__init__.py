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
from data.lookup import lookup

__all__ = ["CORPORA", "Corpus", "Reader", "read_corpus", "recognise"]

CORPORA: Mapping[str, Reader] = {
    "mosi": Reader(mosi.read_mosi, mosi.has_own_files, mosi.has_shared_files),
    "mosei": Reader(mosei.read_mosei, mosei.has_own_files),
    "meld": Reader(meld.read_meld, meld.has_own_files),
    "iemocap": Reader(iemocap.read_iemocap, iemocap.has_own_files),
    "folder": Reader(folder.read_folder, has_shared_files=folder.has_shared_files),
}
"""Name of a layout → its reader."""


def read_corpus(reader: str, root: Path, name: str | None = None) -> Corpus:
    """Read a corpus from disk: its tables and the names of its media, without opening any medium.

    Args:
        reader: A key of `CORPORA`.
        root: The folder of the corpus.
        name: The corpus name for the manifest; None means the name of the reader.

    Raises:
        InputError: There is no such reader or folder, or the folder does not hold the files that the reader expects.
    """
    read = lookup(CORPORA, reader, "corpus").read
    _expect_folder(root, f"the folder of a {reader} corpus")
    return read(reader if name is None else name, root)


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
