"""The index of a cache: the manifest, the feature files and the pseudo-labels of each corpus.

The index is a JSON file. Its paths are relative to the cache, so that a cache can be moved or copied:

    {"version": 1,
     "corpora": {"mosi": {"manifest": "…", "features": {"text": "…", "audio": "…"}, "pseudo_labels": "…" (if there are any)}},
     "report": "…" (if a build made one)}

The files themselves are read by `data.manifest`, `data.feature_store` and `data.targets`. `pipeline` writes the index of a build.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from data.atomic import atomic_path
from data.errors import InputError
from data.files import unreadable
from data.lookup import lookup

INDEX = "index.json"
VERSION = 1

_LOCK = ".index.lock"


@dataclass(frozen=True)
class CachedCorpus:
    """The files of one corpus."""

    name: str
    manifest: Path
    features: Mapping[str, Path]  # modality → feature file
    pseudo_labels: Path | None  # the ledger: a table of pseudo-labels with their donors; None if the corpus has none

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield a description and the path of each file."""
        yield "manifest", self.manifest
        yield from ((f"{modality} features", path) for modality, path in self.features.items())
        if self.pseudo_labels is not None:
            yield "pseudo labels", self.pseudo_labels


def read_cache(folder: Path) -> dict[str, CachedCorpus]:
    """Read the index of a cache. The files that it names are not opened.

    Returns:
        Name of a corpus → its files, in the order of the index.

    Raises:
        InputError: The folder or its index is missing, or the index is damaged or of a newer version.
    """
    path = folder / INDEX
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected a cache. Run BuildFeatures, or give the folder that it wrote to.")
    if not path.is_file():
        raise InputError(f"{folder}: not a cache: it has no {INDEX}. Run BuildFeatures, which writes this file at the end of a build.")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        version = index["version"]
        if version <= VERSION:
            return {name: _corpus(folder, name, entry) for name, entry in index["corpora"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise unreadable(path, error) or InputError(
            f"{path}: damaged ({reason}). Run BuildFeatures again: it rewrites the index and keeps all other files."
        ) from error
    raise InputError(f"{path}: index of version {version}; this program reads up to {VERSION}. Install a newer one.")


def open_corpus(folder: Path, name: str) -> CachedCorpus:
    """Find one corpus in a cache. The files of other corpora may be missing, because a part of a cache can be copied.

    Raises:
        InputError: The index cannot be read (see `read_cache`), it has no such corpus, or a file of the corpus is missing.
    """
    corpus = lookup(read_cache(folder), name, "corpus")
    for kind, path in corpus.files():
        if not path.is_file():
            raise InputError(
                f"{path}: no such file, but {folder / INDEX} names it as the {kind} of {name}. Copy it too, or run BuildFeatures again."
            )
    return corpus


def index_content(folder: Path, corpora: Iterable[CachedCorpus], report: Path) -> dict[str, Any]:
    """Return the content of the index of the cache `folder` for these corpora."""
    entries = {corpus.name: _entry(folder, corpus) for corpus in corpora}
    return {"version": VERSION, "corpora": entries, "report": report.relative_to(folder).as_posix()}


def add_corpus(folder: Path, corpus: CachedCorpus, staging: Path | None = None) -> None:
    """Add a corpus that was not built here to the index of a cache, which is created if it is missing.

    Several processes may add corpora at the same time.

    Args:
        folder: The cache.
        corpus: A corpus whose paths lie below `folder`.
        staging: A folder of the same file system that holds the files until now, at the same relative paths; they are moved into
            `folder`. None if they are there already.

    Raises:
        InputError: The cache has a corpus of this name, or its index is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / _LOCK):
        expect_no_corpus(folder, corpus.name)
        path = folder / INDEX
        index = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"version": VERSION, "corpora": {}}
        index["corpora"][corpus.name] = _entry(folder, corpus)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
            if staging is not None:
                _move(corpus, staging, folder)


def expect_no_corpus(folder: Path, name: str) -> None:
    """Raise InputError if the cache `folder`, which may not exist yet, has a corpus of this name or a damaged index."""
    if (folder / INDEX).is_file() and name in read_cache(folder):
        raise InputError(f"{folder}: this cache already has a corpus {name!r}. Choose another name or another cache.")


def _move(corpus: CachedCorpus, staging: Path, folder: Path) -> None:
    for _, path in corpus.files():
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / path.relative_to(folder), path)


def _entry(folder: Path, corpus: CachedCorpus) -> dict[str, Any]:
    def relative(path: Path) -> str:
        return path.relative_to(folder).as_posix()

    features = {modality: relative(path) for modality, path in corpus.features.items()}
    entry: dict[str, Any] = {"manifest": relative(corpus.manifest), "features": features}
    return entry if corpus.pseudo_labels is None else entry | {"pseudo_labels": relative(corpus.pseudo_labels)}


def _corpus(folder: Path, name: str, entry: Mapping[str, Any]) -> CachedCorpus:
    features = {modality: folder / path for modality, path in entry["features"].items()}
    ledger = folder / entry["pseudo_labels"] if "pseudo_labels" in entry else None
    return CachedCorpus(name, folder / entry["manifest"], features, ledger)
