"""Imported corpora: the content of another tool's files, written into a cache as manifest, feature files and an index entry.

The modules of the formats read such files; `data.interchange.cached` starts an export. The features of other tools are stored
unchanged, in float32.
"""

import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.atomic import temporary_folder
from data.cache import CachedCorpus, add_corpus, expect_no_corpus
from data.corpora.assemble import exclude
from data.corpora.base import Corpus
from data.errors import InputError, shown
from data.feature_sets import modality_of
from data.feature_store import FeatureWriter
from data.findings import Finding
from data.fingerprint import digest
from data.interchange.cached import told_splits
from data.manifest import write_manifest
from data.packages import installed_version

REVISION = 2
"""Version of this import. It is raised when the same files lead to other bytes."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Features:
    """The features of one modality from another tool, by utterance id; there may be more utterances than in the corpus.

    Features that are joined to a corpus (`data.interchange.joined`) have the names of the other tool instead.
    """

    encoder: str  # name of the encoder, as far as it is known; shown, but not compared
    origin: str  # digest of the file or files of the features, which distinguishes them from features of another encoder
    dim: int
    lengths: Mapping[str, int]  # number of rows of each utterance, 0 or more
    sources: Mapping[str, str]  # digest of the file, or of the part of it, that contains each utterance's features
    read: Callable[[str], np.ndarray]  # utterance id → (T, D)
    intervals: Callable[[str], np.ndarray] | None = None  # utterance id → (T, 2) seconds in its recording; None if unknown


@dataclass(frozen=True)
class Import:
    """A corpus of another tool; everything but the values of its features has been read."""

    corpus: Corpus  # made by `data.corpora.assemble`
    labels: str  # digest of the file that contains the labels
    features: Mapping[str, Features]  # modality → features
    notes: tuple[str, ...]  # sentences for the user: what was left out, and why


def write_corpus(folder: Path, imported: Import, encoders: str | None = None) -> list[str]:
    """Write a corpus into the cache `folder`, which is created if it is missing.

    An utterance that has no row in one of the modalities is excluded by name. If the corpus cannot be written, no file is left behind.

    Args:
        folder: The cache.
        imported: The corpus to write.
        encoders: A name for the encoders of the features. A head trained on one import can be used on any import of the same name;
            without a name, only on imports of the same files.

    Returns:
        Sentences for the user: what was imported and what was left out.

    Raises:
        InputError: The name of the corpus is invalid or taken, no utterance has features, or a value is not finite.
    """
    corpus = imported.corpus
    if not _NAME.fullmatch(corpus.name):
        raise InputError(f"A corpus cannot be named {shown(corpus.name)}: expected letters, digits, '.', '_' and '-'.")
    expect_no_corpus(folder, corpus.name)
    table = exclude(corpus.utterances, _without_rows(corpus.utterances["utterance_id"], imported.features))
    usable = table.loc[table["excluded"] == "", "utterance_id"].tolist()
    if not usable:
        raise InputError(
            f"{corpus.root}: none of {len(table):,} utterances can be used, the first because of {shown(table['excluded'][0])}."
        )
    with temporary_folder(folder / corpus.name) as staging:
        paths = {name: _write_features(staging, corpus, name, one, usable, encoders) for name, one in imported.features.items()}
        manifest = _write_manifest(staging, corpus, table, imported.labels)
        made = CachedCorpus(corpus.name, folder / manifest, {name: folder / path for name, path in paths.items()}, None)
        add_corpus(folder, made, staging)
    return [
        f"{len(table):,} utterances as {corpus.name}: {told_splits(table)}",
        *imported.notes,
        *_told(corpus.findings),
        *_excluded(table),
    ]


def _without_rows(ids: pd.Series, features: Mapping[str, Features]) -> pd.Series:
    """Return the reason why each utterance cannot be used; empty if it can."""
    lacking = (", ".join(name for name, one in features.items() if one.lengths[utterance] == 0) for utterance in ids)
    return pd.Series([f"no row of {names} features" if names else "" for names in lacking], index=ids.index, dtype=object)


def _write_manifest(folder: Path, corpus: Corpus, table: pd.DataFrame, labels: str) -> Path:
    """Write the manifest and return its path below `folder`."""
    key = digest([REVISION, corpus.name, corpus.layout, labels, table["excluded"].tolist(), *corpus.labels.noted().values()])
    path = Path("manifests", f"{corpus.name}-{key}.parquet")
    write_manifest(folder / path, table, {"corpus": corpus.name, "layout": corpus.layout, "key": key, "labels": labels}, corpus.labels)
    return path


def _write_features(folder: Path, corpus: Corpus, modality: str, features: Features, ids: Sequence[str], encoders: str | None) -> Path:
    """Write the features of one modality and return their path below `folder`."""
    sources = [features.sources[utterance] for utterance in ids]
    key = digest([REVISION, corpus.name, corpus.layout, modality, list(ids), sources])
    path = Path("features", f"{corpus.name}-{modality}-imported-{key}.h5")
    lengths = [features.lengths[utterance] for utterance in ids]
    made = {"imported": corpus.layout, "revision": REVISION}
    attributes = provenance(corpus.name, modality, made, features, key, encoders)
    with FeatureWriter(folder / path, ids, lengths, features.dim, "float32", attributes, sources) as writer:
        for index, utterance in enumerate(ids):
            values = features.read(utterance)
            expect_finite(values, f"{corpus.root}: {modality} features of {shown(utterance)}")
            writer.write(index, values)
    return path


def expect_finite(values: np.ndarray, name: str) -> None:
    """Raise InputError if a value is not finite in float32; `name` is what the values are, for the message."""
    with np.errstate(over="ignore"):  # values too large for float32 are refused, too
        is_bad = ~np.isfinite(values.astype(np.float32))
    if is_bad.any():
        raise InputError(
            f"{name}: {int(is_bad.sum()):,} of {values.size:,} values are not finite in float32, the first {values[is_bad][0]}. "
            "An import repairs nothing: correct these values in the file and import it again."
        )


def provenance(
    corpus: str, feature_set: str, made: Mapping[str, Any], features: Features, key: str, encoders: str | None
) -> dict[str, Any]:
    """Return the attributes of `data.feature_store.PROVENANCE`, as far as the files or the user tell them.

    Args:
        corpus: Name of the corpus.
        feature_set: Name of the features, such as "text" or "text.roberta".
        made: The kind of import and its revision, for the identity.
        features: The features.
        key: The key of their file.
        encoders: What the user calls the encoders; None: as the files say.
    """
    name, source = (features.encoder, {"origin": features.origin}) if encoders is None else (f"{feature_set} of {encoders}", {})
    return {
        "corpus": corpus,
        "modality": modality_of(feature_set),
        "encoder": {"name": name, "revision": None, "trained": None},
        "identity": {**made, **source},
        "key": key,
        "packages": {"python": platform.python_version(), "numpy": installed_version("numpy")},
        "device": None,
        "truncated": [],
        "excluded": {},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _told(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield one sentence per kind of finding, with its first example."""
    findings = list(findings)
    first = {finding.kind: finding for finding in reversed(findings)}
    for kind, count in Counter(finding.kind for finding in findings).items():
        yield f"{kind}: {count:,}, first {first[kind].where}: {first[kind].message}"


def _excluded(table: pd.DataFrame) -> Iterator[str]:
    for reason, rows in table[table["excluded"] != ""].groupby("excluded", sort=False):
        yield f"excluded: {len(rows):,}, first {rows['utterance_id'].iloc[0]}: {reason} (the manifest names each)"
