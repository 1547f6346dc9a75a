"""The corpora that can be read, one module a reader: the only place that knows how a corpus lies on disk.

What a reader returns is in `data.corpora.base`. A new corpus is a function and a line in `CORPORA`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from data.corpora.base import Corpus
from data.corpora.folder import read_folder
from data.corpora.iemocap import read_iemocap
from data.corpora.meld import read_meld
from data.corpora.mosei import read_mosei
from data.corpora.mosi import read_mosi
from data.errors import InputError
from data.lookup import lookup

CORPORA: Mapping[str, Callable[[str, Path], Corpus]] = {
    "mosi": read_mosi,
    "mosei": read_mosei,
    "meld": read_meld,
    "iemocap": read_iemocap,
    "folder": read_folder,
}
"""Reader by name: (corpus name, root) → corpus."""


def read_corpus(reader: str, root: Path, name: str | None = None) -> Corpus:
    """Reads a corpus from disk, its tables and the names of its media, without opening any medium.

    Args:
        reader: A key of `CORPORA`.
        root: The folder of the corpus.
        name: The corpus name for the manifest; the reader's if None.

    Raises:
        InputError: There is no such reader or folder, or the folder does not hold what the reader expects.
    """
    read = lookup(CORPORA, reader, "corpus")
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"{root}: {state}; expected the folder of a {reader} corpus.")
    return read(reader if name is None else name, root)
