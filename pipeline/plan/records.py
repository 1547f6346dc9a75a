"""What a plan is made of: the outputs of a build, each with its name and key."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data.cache import INDEX, CachedCorpus
from data.corpora.base import Corpus
from data.feature_sets import modality_of
from data.fingerprint import digest
from data.labels import LabelSet
from data.tuning import adapted_on
from pipeline.adaptation import Recipe
from pipeline.adaptation.checkpoint import RECORD
from pipeline.encoding.checkpoints import Source
from pipeline.settings import CorpusSettings, EncoderSettings, Settings

REVISION = 1
"""Revision of the computations, part of every key. Increase it when the code computes other bytes from the same input."""

CONTEXT_MARK = "+"
"""Separates, in the source of an utterance, the digest of the utterance itself from that of its context."""


@dataclass(frozen=True)
class Output:
    """One file of a build, as `pipeline.outputs`, `pipeline.explain` and the report see it."""

    kind: str  # "manifest", "encoder", "shard", "features", "pseudo labels", "report"
    name: str
    path: Path
    utterances: int
    parts: Mapping[str, Any] = field(default_factory=dict)  # the inputs and settings that its key is made of, if the file holds them
    part_of: Path | None = None  # for a shard: the feature file that is merged from it
    serves: tuple[Path, ...] = ()  # for an adapted encoder: the shards that it computes


@dataclass(frozen=True)
class CorpusPlan:
    """A corpus and its manifest."""

    settings: CorpusSettings
    corpus: Corpus
    media_digests: tuple[str, ...]  # (N,) sha256 of each utterance's medium; "" where there is none
    parts: Mapping[str, Any]  # the inputs and settings that the key is made of
    manifest: Path

    @property
    def key(self) -> str:
        return digest(self.parts)

    def readable_rows(self, modality: str) -> tuple[int, ...]:
        """Returns the rows of the manifest that have something to read for an encoder of this modality."""
        return self._rows_with_media if modality == "audio" else self._rows  # a text can be encoded even if its clip cannot be used

    def own_sources(self, modality: str) -> tuple[str, ...]:
        """Returns the digest of each of the `readable_rows`: of its text, or of its medium and times. Sets share them."""
        return self._media_sources if modality == "audio" else self._text_sources

    @cached_property
    def _rows(self) -> tuple[int, ...]:
        return tuple(range(len(self.corpus.utterances)))

    @cached_property
    def _rows_with_media(self) -> tuple[int, ...]:
        table = self.corpus.utterances
        return tuple(np.flatnonzero((table["media"] != "") & (table["excluded"] == "")).tolist())

    @cached_property
    def _text_sources(self) -> tuple[str, ...]:
        return tuple(map(digest, self.corpus.utterances["text"].tolist()))

    @cached_property
    def _media_sources(self) -> tuple[str, ...]:
        table = self.corpus.utterances
        starts, ends = (table[name].astype(object).where(table[name].notna(), None).tolist() for name in ("start_s", "end_s"))
        return tuple(digest([self.media_digests[row], starts[row], ends[row]]) for row in self._rows_with_media)


@dataclass(frozen=True)
class ShardPlan:
    """Some videos of a corpus in one modality: the unit of work, and the most that a killed process loses."""

    name: str  # the leading hash bits that its videos have in common
    rows: tuple[int, ...]  # rows of the manifest
    path: Path
    key: str


@dataclass(frozen=True)
class FeaturePlan:
    """One feature file and its shards."""

    corpus: CorpusPlan
    name: str  # of the feature set: "text", "text.roberta"; not part of the key
    modality: str
    encoder: Source
    identity: Mapping[str, Any]
    rows: tuple[int, ...]  # rows of the manifest; utterances whose medium turns out to be bad drop out later
    sources: tuple[str, ...]  # (len(rows),) digest of the text, or of medium and times, that each utterance's features come from;
    # behind a CONTEXT_MARK that of its context, if it has one
    shards: tuple[ShardPlan, ...]
    path: Path
    key: str

    def sources_of(self, rows: Iterable[int]) -> list[str]:
        """Returns the digests in `sources` of some rows of the manifest, found by halving: the plan's own `rows` ascend."""
        return [self.sources[bisect_left(self.rows, row)] for row in rows]

    @cached_property
    def shard_named(self) -> Mapping[str, ShardPlan]:
        """Name → shard."""
        return {shard.name: shard for shard in self.shards}


@dataclass(frozen=True)
class LedgerPlan:
    """The ledger of one corpus: the table of its pseudo-labels with their donors."""

    target: CorpusPlan
    donors: tuple[CorpusPlan, ...]
    parts: Mapping[str, Any]
    path: Path

    @property
    def key(self) -> str:
        return digest(self.parts)


@dataclass(frozen=True)
class AdaptationPlan:
    """An encoder that learns the task on the training splits of some corpora before it makes features.

    Its key is known before it has learned: it is made of what determines the weights, not of the weights.
    """

    feature_set: str  # the features that it makes, or the first of several sets
    base: Source
    recipe: Recipe
    corpora: tuple[CorpusPlan, ...]
    rows: Mapping[tuple[str, str], tuple[int, ...]]  # (corpus, "train" or "valid") → rows of the manifest
    ledgers: Mapping[str, LedgerPlan]  # corpora that teach emotions by their pseudo-labels
    parts: Mapping[str, Any]
    folder: Path

    @property
    def key(self) -> str:
        return digest(self.parts)

    @property
    def labels(self) -> LabelSet:
        """What the clips are labelled with, as far as the tasks are concerned the same in all corpora."""
        return self.corpora[0].corpus.labels

    @property
    def modality(self) -> str:
        return modality_of(self.feature_set)

    @property
    def name(self) -> str:
        """The corpora that teach and the features, in words."""
        return f"{self.taught_by} {self.feature_set}"

    @property
    def taught_by(self) -> str:
        return "+".join(corpus.settings.name for corpus in self.corpora)

    @property
    def record(self) -> Path:
        """The file that tells whether the folder is whole."""
        return self.folder / RECORD

    @property
    def source(self) -> Source:
        return Source(self.folder.name, self.folder, "", self.base.trained, adapted_on(self.taught_by, self.base.tuning))

    @property
    def clips(self) -> int:
        """Training clips that are read at most."""
        return self.recipe.settings.epochs * sum(len(rows) for (_, split), rows in self.rows.items() if split == "train")


@dataclass(frozen=True)
class Plan:
    """All outputs of a build."""

    settings: Settings
    corpora: Mapping[str, CorpusPlan]
    features: Mapping[tuple[str, str], FeaturePlan]  # (corpus, feature set)
    ledgers: Mapping[str, LedgerPlan]  # by target
    report: Path
    adaptations: Mapping[str, AdaptationPlan] = field(default_factory=dict)  # by feature set

    def encoder_settings(self, features: FeaturePlan) -> EncoderSettings:
        """Returns the settings of the encoder that computes some features: of the adapted one if there is one."""
        settings, adaptation = self.settings.encoder(features.name), self.adaptations.get(features.name)
        return settings if adaptation is None else replace(settings, model=str(adaptation.folder), revision="")

    def distinct_adaptations(self) -> list[AdaptationPlan]:
        """Returns the adapted encoders, each once."""
        return list({one.folder: one for one in self.adaptations.values()}.values())

    @property
    def report_key(self) -> str:
        return self.report.stem.rpartition("-")[2]

    @property
    def index(self) -> Path:
        """The file that lists the corpora of the cache and their files."""
        return self.settings.cache / INDEX

    def outputs(self) -> Iterator[Output]:
        """Yields all outputs in the order in which they are made; shards before their feature file."""
        for name, corpus in self.corpora.items():
            yield Output("manifest", name, corpus.manifest, len(corpus.corpus.utterances), corpus.parts)
        for adaptation in self.distinct_adaptations():
            served = (one for (_, name), one in self.features.items() if self.adaptations.get(name) is adaptation)
            shards = tuple(shard.path for one in served for shard in one.shards)
            yield Output("encoder", adaptation.name, adaptation.record, adaptation.clips, adaptation.parts, serves=shards)
        for (name, feature_set), one in self.features.items():
            for shard in one.shards:
                yield Output("shard", f"{name} {feature_set} {shard.name or 'all'}", shard.path, len(shard.rows), part_of=one.path)
            yield Output("features", f"{name} {feature_set}", one.path, len(one.rows))
        for name, ledger in self.ledgers.items():
            yield Output("pseudo labels", name, ledger.path, len(ledger.target.corpus.utterances), ledger.parts)
        yield Output("report", "report", self.report, 0)

    def cached(self) -> list[CachedCorpus]:
        """Returns the files of each corpus, for the index of the cache."""
        return [self._cached(name) for name in self.corpora]

    def _cached(self, name: str) -> CachedCorpus:
        features = {feature_set: one.path for (corpus, feature_set), one in self.features.items() if corpus == name}
        ledger = self.ledgers[name].path if name in self.ledgers else None
        return CachedCorpus(name, self.corpora[name].manifest, features, ledger)
