"""Features of another tool, joined to a corpus of a cache as a modality of any name: one array (T, D) for each utterance.

The readers of the formats give the features by the names of the other tool; here they find their utterances. The features are stored
unchanged, in float32, with the checksums of every feature file. The corpus keeps its manifest and its other features.
`data.interchange.imported` imports whole corpora.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data.atomic import temporary_folder
from data.cache import CachedCorpus, add_features, expect_no_features, open_corpus
from data.errors import InputError, shown
from data.feature_sets import expect_own_name
from data.feature_store import FeatureWriter
from data.fingerprint import digest
from data.interchange.imported import Features, expect_finite, provenance
from data.manifest import read_manifest
from data.schema import MODALITIES

REVISION = 1
"""Version of this join. It is raised when the same files lead to other bytes."""

MISSING = ("refuse", "exclude")
"""What happens if utterances have no features: nothing is imported, or runs that read these features leave the utterances out."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SHOWN = 12
"""Most names that a message lists."""


@dataclass(frozen=True)
class _Part:
    """The features of one utterance: rows of what the file holds under a name."""

    name: str
    rows: np.ndarray  # (T,) int64, ascending
    source: str  # digest of the file and of what was cut out of it


def join(
    folder: Path,
    corpus_name: str,
    feature_set: str,
    features: Features,
    where: Path,
    missing: str = "refuse",
    encoders: str | None = None,
) -> list[str]:
    """Write features into the cache `folder` and add them to the index; if that fails, the cache stays as it was.

    Args:
        folder: The cache.
        corpus_name: A corpus of the cache.
        feature_set: The name that the features get: a modality such as "vision", or a set of text or audio such as "text.glove".
        features: The features by the names of the other tool, which are found among those of `utterance_names`. If they have times and
            the name of a video, its utterances are cut out of it: each gets the rows whose middle lies between its start and its end.
        where: The file or folder of the features, for messages.
        missing: One of `MISSING`.
        encoders: A name for the tool that made the features; see `data.interchange.imported.write_corpus`.

    Returns:
        Sentences for the user: what was imported, what belongs to no utterance, and what is left out.

    Raises:
        InputError: The name cannot be used or is taken; there is no such corpus; no utterance has features, some have none and
            `missing` is "refuse", or one has two; a value is not finite.
    """
    expect_feature_set(feature_set)
    corpus = open_corpus(folder, corpus_name)
    expect_no_features(folder, corpus, feature_set)
    table = read_manifest(corpus.manifest)
    parts, unmatched = _match(table, features, where)
    ids = [utterance for utterance in table["utterance_id"] if utterance in parts]
    usable = table.loc[table["excluded"] == "", "utterance_id"]
    absent = [utterance for utterance in usable if utterance not in parts]
    _expect_features(corpus, feature_set, where, len(usable), absent, unmatched, missing)
    sources = [parts[utterance].source for utterance in ids]
    key = digest([REVISION, corpus.name, feature_set, ids, sources, absent])
    path = folder / "features" / f"{corpus.name}-{feature_set}-joined-{key}.h5"
    made = {"imported": "joined features", "revision": REVISION}
    attributes = provenance(corpus.name, feature_set, made, features, key, encoders) | {"missing": absent, "unmatched": unmatched}
    lengths = [len(parts[utterance].rows) for utterance in ids]
    with temporary_folder(folder / f"{corpus.name}-{feature_set}") as staging:
        staged = staging / path.relative_to(folder)
        with FeatureWriter(staged, ids, lengths, features.dim, "float32", attributes, sources) as writer:
            for index, utterance in enumerate(ids):
                values = features.read(parts[utterance].name)[parts[utterance].rows]
                expect_finite(values, f"{where}: {feature_set} features of {utterance!r}")
                writer.write(index, values)
        add_features(folder, corpus.name, feature_set, path, staging)
    told = [f"{feature_set}: {len(ids):,} of {len(table):,} utterances of {corpus.name}, {sum(lengths):,} rows, {features.dim:,} wide"]
    if absent:
        told.append(f"left out of runs that read {feature_set}: {_listed(absent)}")
    if unmatched:
        told.append(f"of no utterance of {corpus.name}, and not imported: {_listed(unmatched)} (all: python -m data info {path})")
    return told


def expect_feature_set(feature_set: str) -> None:
    """Raise InputError if features cannot have this name in a cache."""
    modality, dot, own_name = feature_set.partition(".")
    if dot and modality in MODALITIES:
        expect_own_name(own_name, f"--modality {feature_set}")
    elif not _NAME.fullmatch(feature_set) or modality == "sentence":
        raise InputError(
            f"--modality is {shown(feature_set)}, expected small letters, digits and '_', such as vision, or a further set of"
            f" {' or '.join(MODALITIES)}, such as text.glove; 'sentence' is taken by the embeddings for pseudo-labels."
        )


def utterance_names(table: pd.DataFrame) -> dict[str, str]:
    """Return the names by which other tools know utterances → utterance id, without names that several utterances have.

    Beside its id, an utterance has the names <video>$_$<clip> (MMSA), <video>_<clip> (MERBench) and <video>[<clip>] (CMU SDK), each
    also with '_' for '/', as in file names. An id is never taken for another utterance's name.
    """
    found: dict[str, set[str]] = {}
    for utterance, video, clip in zip(table["utterance_id"], table["video_id"], table["clip_id"], strict=True):
        for name in (utterance, f"{video}$_${clip}", f"{video}_{clip}" if clip else video, f"{video}[{clip}]"):
            found.setdefault(name, set()).add(utterance)
            found.setdefault(name.replace("/", "_"), set()).add(utterance)
    return {name: next(iter(ids)) for name, ids in found.items() if len(ids) == 1} | {one: one for one in table["utterance_id"]}


def _match(table: pd.DataFrame, features: Features, where: Path) -> tuple[dict[str, _Part], list[str]]:
    """Return utterance id → its features, where there is at least one row, and the names that belong to no utterance."""
    names, unmatched = utterance_names(table), []
    parts: dict[str, _Part] = {}
    for name, length in features.lengths.items():
        own = _cut(table, features, name) if name not in names else {names[name]: _whole(features, name, length)}
        if not own:
            unmatched.append(name)
        for utterance, part in own.items():
            if utterance in parts:
                raise InputError(f"{where}: {shown(parts[utterance].name)} and {shown(name)} are both features of {utterance!r}.")
            parts[utterance] = part
    return {utterance: part for utterance, part in parts.items() if len(part.rows)}, unmatched


def _whole(features: Features, name: str, length: int) -> _Part:
    return _Part(name, np.arange(length), features.sources[name])


def _cut(table: pd.DataFrame, features: Features, video: str) -> dict[str, _Part]:
    """Cut the utterances of a video out of its features: each has the rows whose middle lies between its start and its end."""
    inside = table[(table["video_id"] == video) & table["start_s"].notna() & table["end_s"].notna()]
    if features.intervals is None or inside.empty:
        return {}
    middle = features.intervals(video).mean(axis=1)
    found = {}
    for utterance, start_s, end_s in zip(inside["utterance_id"], inside["start_s"], inside["end_s"], strict=True):
        rows = np.flatnonzero((middle >= start_s) & (middle < end_s))
        found[utterance] = _Part(video, rows, digest([features.sources[video], start_s, end_s]))
    return found


def _expect_features(
    corpus: CachedCorpus, feature_set: str, where: Path, usable: int, absent: Sequence[str], unmatched: Sequence[str], missing: str
) -> None:
    if len(absent) == usable:
        raise InputError(
            f"{where}: no {feature_set} features for any utterance of {corpus.name}. Names there: {_listed(unmatched)};"
            f" names of utterances: {_listed(absent)}."
        )
    if absent and missing == "refuse":
        others = f" Of no utterance: {_listed(unmatched)}." if unmatched else ""
        raise InputError(
            f"{where}: no {feature_set} features for {len(absent):,} of {usable:,} utterances of {corpus.name}: {_listed(absent)}."
            f"{others} Add them, or leave these utterances out of all runs that read {feature_set}: --missing exclude."
        )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f", … ({len(names):,} in all)" if len(names) > _SHOWN else ""
    return ", ".join(shown(name) for name in names[:_SHOWN]) + more if names else "none"
