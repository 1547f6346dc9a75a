"""The index of a cache: the manifest, the feature files and the pseudo-labels of each corpus.

The index is a JSON file. Its paths are relative to the cache, so that a cache can be moved or copied:

    {"version": 1,
     "corpora": {"mosi": {"manifest": "…", "features": {"text": "…", "text.roberta": "…", "audio": "…", "vision": "…"},
                          "joined": ["vision"] (if there are any), "pseudo_labels": "…" (if there are any),
                          "origin": "build" or "import", "when": "…" (ISO 8601, UTC)}},
     "report": "…" (of the last build, if there was one)}

It knows every corpus of the cache, whoever added it. A build adds and replaces the corpora that it builds, an import adds one, and a
corpus leaves by `forget_corpus` only. Features of other tools that were joined to a corpus (`joined`) stay when a build replaces it,
and leave by `forget_features`. All of them change the index under one lock, so several processes may do so at the same time. The names
of features are those of sets, see `data.feature_sets`.

The files themselves are read by `data.manifest`, `data.feature_store` and `data.targets`.
"""

import contextlib
import datetime
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from data.atomic import atomic_path
from data.errors import InputError, reason, shown
from data.files import unreadable
from data.lookup import nearest

INDEX = "index.json"
VERSION = 1

_LOCK = ".index.lock"
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class CachedCorpus:
    """The files of one corpus."""

    name: str
    manifest: Path
    features: Mapping[str, Path]  # modality, or a further feature set of one → feature file
    pseudo_labels: Path | None  # the ledger: a table of pseudo-labels with their donors; None if the corpus has none
    origin: str = field(default="", compare=False)  # "build" or "import"; "" if the index is older than this entry
    when: str = field(default="", compare=False)  # ISO 8601, UTC
    joined: tuple[str, ...] = ()  # those of `features` that an import joined to the corpus

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
        InputError: The folder or its index is missing, or the index is damaged, names files elsewhere, or is of a newer version.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected a cache. Run BuildFeatures, or give the folder that it wrote to.")
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder}: not a cache: it has no {INDEX}. Run BuildFeatures, which writes this file at the end of a build.")
    return {name: _corpus(folder, name, entry) for name, entry in _read(folder)["corpora"].items()}


def last_report(folder: Path) -> Path | None:
    """Return the report of the last build of a cache; None if there was no build. Errors are those of `read_cache`."""
    report = _read(folder).get("report")
    return folder / report if isinstance(report, str) else None


def open_corpus(folder: Path, name: str) -> CachedCorpus:
    """Find one corpus in a cache. The files of other corpora may be missing, because a part of a cache can be copied.

    Raises:
        InputError: The index cannot be read (see `read_cache`), it has no such corpus, or a file of the corpus is missing.
    """
    corpus = _known(read_cache(folder), name)
    for kind, path in corpus.files():
        if not path.is_file():
            raise InputError(
                f"{path}: no such file, but {folder / INDEX} names it as the {kind} of {name}. Copy it too, or run BuildFeatures again."
            )
    return corpus


def merge_corpora(folder: Path, corpora: Iterable[CachedCorpus], report: Path) -> None:
    """Add the corpora of a build to the index of a cache, and replace those that it built before; others stay.

    A build that makes only sentence embeddings of a corpus leaves its other features and its ledger, if its manifest is the same. A
    damaged index is kept as `index.damaged.json` and begun again.

    Raises:
        InputError: The index is of a newer version, or a corpus was imported under the name of a built one, or features under that of
            built ones.
    """
    corpora = list(corpora)
    with _changed(folder, keep_damaged=True) as index:
        for corpus in corpora:
            _expect_not_imported(folder, index, corpus.name)
            _expect_not_joined(folder, index, corpus.name, corpus.features)
            index["corpora"][corpus.name] = _merged(index, folder, corpus) | {"origin": "build", "when": _now()}
        index["report"] = report.relative_to(folder).as_posix()


def is_indexed(folder: Path, corpora: Iterable[CachedCorpus], report: Path) -> bool:
    """Return True if the index of a cache names these corpora with their files, and this report as the last one."""
    try:
        index = _read(folder)
    except InputError:
        return False
    is_known = all(_without_origin(index["corpora"].get(one.name)) == _merged(index, folder, one) for one in corpora)
    return is_known and index.get("report") == report.relative_to(folder).as_posix()


def expect_not_imported(folder: Path, names: Iterable[str]) -> None:
    """Raise InputError if the cache has an imported corpus of one of these names, which a build must not replace."""
    if (folder / INDEX).is_file():
        with contextlib.suppress(DamagedIndexError):
            index = _read(folder)
            for name in names:
                _expect_not_imported(folder, index, name)


def expect_not_joined(folder: Path, corpora: Iterable[CachedCorpus]) -> None:
    """Raise InputError if the cache has joined features under the name of features of a build, which must not replace them."""
    if (folder / INDEX).is_file():
        with contextlib.suppress(DamagedIndexError):
            index = _read(folder)
            for corpus in corpora:
                _expect_not_joined(folder, index, corpus.name, corpus.features)


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
    with _changed(folder) as index:
        expect_no_corpus(folder, corpus.name)
        index["corpora"][corpus.name] = _entry(folder, corpus) | {"origin": "import", "when": _now()}
        if staging is not None:
            _move(corpus, staging, folder)


def forget_corpus(folder: Path, name: str) -> CachedCorpus:
    """Remove a corpus from the index of a cache and return what the index said of it. Its files stay.

    Raises:
        InputError: The index cannot be read (see `read_cache`), or has no such corpus.
    """
    known = read_cache(folder)
    with _changed(folder) as index:
        corpus = _known(known, name)
        index["corpora"].pop(name, None)
    return corpus


def add_features(folder: Path, name: str, feature_set: str, path: Path, staging: Path) -> None:
    """Join features that were not made here to a corpus of a cache. Several processes may do so at the same time.

    Args:
        folder: The cache.
        name: Name of the corpus.
        feature_set: Name of the features in the index.
        path: Their file below `folder`.
        staging: A folder of the same file system that holds the file until now, at the same relative path.

    Raises:
        InputError: The index is damaged, it has no such corpus, or the corpus has features of this name.
    """
    with _changed(folder) as index:
        corpus = _known(read_cache(folder), name)
        expect_no_features(folder, corpus, feature_set)
        entry = index["corpora"][name]
        entry["features"][feature_set] = path.relative_to(folder).as_posix()
        entry["joined"] = [*entry.get("joined", []), feature_set]
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / path.relative_to(folder), path)


def expect_no_features(folder: Path, corpus: CachedCorpus, feature_set: str) -> None:
    """Raise InputError if a corpus of the cache `folder` has features of this name."""
    if feature_set in corpus.features:
        way = f"run: python -m data forget {folder} {corpus.name} --modality {feature_set}"
        hint = f", or {way}" if feature_set in corpus.joined else ""
        raise InputError(f"{folder}: {corpus.name} already has {feature_set} features. Choose another name{hint}.")


def forget_features(folder: Path, name: str, feature_set: str) -> Path:
    """Remove joined features of a corpus from the index of a cache and return their file, which stays.

    Raises:
        InputError: The index cannot be read, it has no such corpus, or no such features were joined to it.
    """
    with _changed(folder) as index:
        corpus = _known(read_cache(folder), name)
        if feature_set not in corpus.joined:
            there = ", ".join(corpus.joined) or "none"
            raise InputError(f"{folder}: no {shown(feature_set)} features were joined to {name} (joined: {there}).")
        entry = index["corpora"][name]
        entry["joined"].remove(feature_set)
        if not entry["joined"]:
            del entry["joined"]
        del entry["features"][feature_set]
    return corpus.features[feature_set]


def expect_no_corpus(folder: Path, name: str) -> None:
    """Raise InputError if the cache `folder`, which may not exist yet, has a corpus of this name or a damaged index."""
    if (folder / INDEX).is_file() and name in (known := read_cache(folder)):
        said = _told(known[name])
        raise InputError(f"{folder}: this cache already has a corpus {shown(name)}{said}. Choose another name or another cache.")


class DamagedIndexError(InputError):
    """The index of a cache cannot be understood."""


@contextlib.contextmanager
def _changed(folder: Path, keep_damaged: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the content of the index, empty if there is none, and write it at the end. One process at a time.

    Args:
        folder: The cache.
        keep_damaged: Whether a damaged index is renamed instead of refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / INDEX
    with FileLock(folder / _LOCK):
        index: dict[str, Any] = {"version": VERSION, "corpora": {}}
        if path.is_file():
            try:
                index = _read(folder)
            except DamagedIndexError:
                if not keep_damaged:
                    raise
                os.replace(path, folder / "index.damaged.json")
        before = json.dumps(index)
        yield index
        if json.dumps(index) != before or not path.is_file():
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _read(folder: Path) -> dict[str, Any]:
    """Read and check the index of a cache."""
    path = folder / INDEX
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise unreadable(path, error) or InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise _damaged(path, "not UTF-8") from error
    try:
        index = json.loads(text)
        version = index["version"]
        if version <= VERSION:
            for name, entry in index["corpora"].items():
                _corpus(folder, name, entry)
            return index
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else f"{type(error).__name__}: {reason(error)}"
        raise _damaged(path, why) from error
    raise InputError(f"{path}: index of version {shown(version)}; this program reads up to {VERSION}. Install a newer one.")


def _damaged(path: Path, why: str) -> DamagedIndexError:
    return DamagedIndexError(f"{path}: damaged ({why}). Run BuildFeatures again: it rewrites the index and keeps all other files.")


def _known(known: Mapping[str, CachedCorpus], name: str) -> CachedCorpus:
    if name in known:
        return known[name]
    near = nearest(name, known)
    hint = f" Did you mean {shown(near)}?" if near else ""
    available = ", ".join(f"{one}{_told(corpus)}" for one, corpus in known.items()) or "none"
    raise InputError(f"Unknown corpus {shown(name)}.{hint} Available: {available}.")


def _told(corpus: CachedCorpus) -> str:
    word = {"build": "built", "import": "imported"}.get(corpus.origin)
    return f" ({word} {corpus.when})" if word else ""


def _expect_not_imported(folder: Path, index: Mapping[str, Any], name: str) -> None:
    entry = index["corpora"].get(name, {})
    if entry.get("origin") == "import":
        raise InputError(
            f"{folder}: this cache has an imported corpus {shown(name)} (of {shown(entry.get('when'))}), which a build does not"
            f" replace. Choose another name or cache, or run: python -m data forget {folder} {name}"
        )


def _expect_not_joined(folder: Path, index: Mapping[str, Any], name: str, features: Iterable[str]) -> None:
    joined = index["corpora"].get(name, {}).get("joined", [])
    if taken := [feature_set for feature_set in features if feature_set in joined]:
        raise InputError(
            f"{folder}: {name} has imported {taken[0]} features, which a build does not replace. Choose another name or cache, or run:"
            f" python -m data forget {folder} {name} --modality {taken[0]}"
        )


def _merged(index: Mapping[str, Any], folder: Path, corpus: CachedCorpus) -> dict[str, Any]:
    """Return the entry of a built corpus, with joined features that the index has of it, and with what else it has beyond sentence
    embeddings if those are all that was made."""
    entry, known = _entry(folder, corpus), index["corpora"].get(corpus.name)
    if known is not None and (joined := known.get("joined")):
        entry["features"] |= {name: known["features"][name] for name in joined}
        entry["joined"] = list(joined)
    if known is None or set(corpus.features) - {"sentence"} or known["manifest"] != entry["manifest"]:
        return entry
    return _without_origin(known) | entry | {"features": known["features"] | entry["features"]}


def _without_origin(entry: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (entry or {}).items() if key not in ("origin", "when")}


def _move(corpus: CachedCorpus, staging: Path, folder: Path) -> None:
    for _, path in corpus.files():
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / path.relative_to(folder), path)


def _entry(folder: Path, corpus: CachedCorpus) -> dict[str, Any]:
    def relative(path: Path) -> str:
        return path.relative_to(folder).as_posix()

    features = {modality: relative(path) for modality, path in corpus.features.items()}
    entry: dict[str, Any] = {"manifest": relative(corpus.manifest), "features": features}
    entry |= {"joined": list(corpus.joined)} if corpus.joined else {}
    return entry if corpus.pseudo_labels is None else entry | {"pseudo_labels": relative(corpus.pseudo_labels)}


def _corpus(folder: Path, name: str, entry: Mapping[str, Any]) -> CachedCorpus:
    if not _NAME.fullmatch(name):
        raise InputError(f"{folder / INDEX}: the corpus {shown(name)} has a name that no command gives. Remove its entry.")

    def below(path: Any) -> Path:
        parts = PurePosixPath(path)
        if not isinstance(path, str) or not path.isprintable() or parts.is_absolute() or ".." in parts.parts or not parts.parts:
            raise InputError(
                f"{folder / INDEX}: {name} has the file {shown(path)}, expected a path below the cache. Correct its entry."
            )
        return folder / parts

    features = {modality: below(path) for modality, path in entry["features"].items()}
    ledger = below(entry["pseudo_labels"]) if "pseudo_labels" in entry else None
    origin, when, joined = str(entry.get("origin", "")), str(entry.get("when", ""))[:40], tuple(entry.get("joined", ()))
    if unknown := [one for one in joined if one not in features]:
        raise KeyError(f"joined features {shown(unknown[0])}")
    return CachedCorpus(name, below(entry["manifest"]), features, ledger, origin, when, joined)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
