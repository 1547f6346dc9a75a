"""Plans a build: names every output before anything runs.

A name carries a short hash (the key) of exactly the inputs and settings that determine the bytes of the output, so an output that
exists is up to date. `pipeline.outputs` finds out which outputs exist, the tasks of `pipeline.tasks` make the missing ones, and
`pipeline.explain` gives the reasons. Nothing here decodes, encodes or imports torch or luigi; `pipeline.encoding.inspection` tries
encoders that it has not seen in a process of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.cache import INDEX, CachedCorpus
from data.corpora import read_corpus
from data.corpora.base import Corpus
from data.errors import InputError
from data.feature_sets import modality_of
from data.fingerprint import FileDigests, digest
from data.labels import EMOTIONS
from data.media import DECODER
from data.tuning import ADAPTED
from pipeline.adaptation import Recipe
from pipeline.adaptation import recipe as recipes
from pipeline.adaptation.checkpoint import RECORD
from pipeline.encoding.checkpoints import Source, expect_whole, files, identity, locate
from pipeline.encoding.context import expect_whole_recordings, expect_whole_videos, is_segment, most_clips, preceding
from pipeline.encoding.inspection import Candidate, inspect
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

    @cached_property
    def source_of_row(self) -> Mapping[int, str]:
        """Row of the manifest → digest in `sources`."""
        return dict(zip(self.rows, self.sources, strict=True))


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
        return Source(self.folder.name, self.folder, "", self.base.trained, ADAPTED + self.taught_by)

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


def make_plan(settings: Settings, progress: Callable[[str, int, int], None] = lambda what, done, total: None) -> Plan:
    """Reads the corpora's tables, fingerprints their media and the encoders, and names every output.

    Args:
        settings: What to build.
        progress: Is called with (name of the step, files done, files in all).

    Raises:
        InputError: A corpus, an encoder or a setting cannot be used.
    """
    digests = FileDigests(settings.cache / "fingerprints.json")
    corpora = {corpus.name: _plan_corpus(settings, corpus, digests, progress) for corpus in settings.corpora}
    _refuse_soundless(settings, corpora.values())
    sets = [*settings.feature_sets, *(["sentence"] if settings.targets else [])]
    encoders = {name: _plan_encoder(settings, name, digests) for name in sets}
    _refuse_twins(encoders)
    candidates = [Candidate(modality_of(name), source, settings.encoder(name), parts) for name, (source, parts) in encoders.items()]
    inspect(candidates, settings.cache / "encoders.json")

    def features_by(sets: Iterable[str]) -> dict[tuple[str, str], FeaturePlan]:
        return {
            (name, feature_set): _plan_features(settings, corpus, feature_set, *encoders[feature_set])
            for name, corpus in corpora.items()
            for feature_set in sets
            if _has(settings, corpus, modality_of(feature_set))
        }

    sentences = features_by(["sentence"] if "sentence" in encoders else [])
    ledgers = {name: _plan_ledger(settings, corpora, sentences, name) for name in settings.targets}
    adaptations: dict[str, AdaptationPlan] = {}
    for feature_set, encoder in encoders.items():
        if settings.adapt.corpora and modality_of(feature_set) in settings.adapt.modalities:
            made = _plan_adaptation(settings, feature_set, encoder, corpora, ledgers)
            # sets that differ only in what is kept of the output share an encoder
            adaptations[feature_set] = next((one for one in adaptations.values() if one.folder == made.folder), made)
    for feature_set, adaptation in adaptations.items():
        encoders[feature_set] = adaptation.source, _adapted_identity(encoders[feature_set][1], adaptation)
    features = features_by(encoders)
    outputs = [corpus.key for corpus in corpora.values()] + [f.key for f in features.values()] + [p.key for p in ledgers.values()]
    report = settings.cache / "reports" / f"report-{digest([REVISION, outputs])}.html"
    return Plan(settings, corpora, features, ledgers, report, adaptations)


def cut_shards(video_ids: Sequence[str], limit: int) -> dict[str, list[int]]:
    """Groups rows into shards of whole videos, at most `limit` rows each unless one video has more.

    The shards are the leaves of a binary trie over the videos' hashes: a leaf that grows past the limit splits by the next bit. A new
    video therefore changes one shard and leaves the others alone, and the number of shards follows the size of the corpus.

    Returns:
        Leading hash bits ("" for a corpus that fits into one shard) → rows in order.
    """
    bits = {video: f"{int(hashlib.sha256(video.encode()).hexdigest(), 16):0256b}" for video in dict.fromkeys(video_ids)}
    leaves: dict[str, list[int]] = {}

    def split(prefix: str, rows: list[int]) -> None:
        if len(rows) <= limit or len({video_ids[row] for row in rows}) == 1:
            leaves[prefix] = rows
            return
        for bit in "01":
            if inside := [row for row in rows if bits[video_ids[row]][len(prefix)] == bit]:
                split(prefix + bit, inside)

    if len(video_ids):
        split("", list(range(len(video_ids))))
    return leaves


def _refuse_soundless(settings: Settings, corpora: Iterable[CorpusPlan]) -> None:
    """Raise InputError for a corpus that should get audio features, but whose media match no utterance or are its only modality."""
    chosen = [one.corpus for one in corpora if not settings.features or one.settings.name in settings.features]
    modalities = {modality_of(name) for name in settings.feature_sets}
    if "audio" not in modalities:
        return
    for corpus in chosen:
        if corpus.no_match:
            raise InputError(f'{corpus.root}: {corpus.no_match.message}, or set modalities = ["text"] in luigi.cfg, section [corpora].')
    soundless = [corpus for corpus in chosen if not corpus.has_media]
    if modalities == {"audio"} and (soundless if settings.features else len(soundless) == len(chosen)):
        raise InputError(
            f'{soundless[0].root}: no media file, but modalities = ["audio"] in luigi.cfg, section [corpora]. Add the media of'
            f' {soundless[0].name}, or use modalities = ["text"].'
        )


def _refuse_twins(encoders: Mapping[str, tuple[Source, Mapping[str, Any]]]) -> None:
    """Raise InputError if two sets would have the same features, which would be one file under two names."""
    names: dict[str, str] = {}
    for name, (_, parts) in encoders.items():
        first = names.setdefault(digest(parts), name)
        if first != name:
            raise InputError(
                f"luigi.cfg: sections [{first}] and [{name}] give the same features. Change one of them, or remove [{name}]."
            )


def _has(settings: Settings, corpus: CorpusPlan, modality: str) -> bool:
    name = corpus.settings.name
    if modality == "sentence":
        return name in settings.targets or name in settings.donors
    if settings.features and name not in settings.features:
        return False
    return modality == "text" or corpus.corpus.has_media


def _plan_corpus(
    settings: Settings, corpus_settings: CorpusSettings, digests: FileDigests, progress: Callable[[str, int, int], None]
) -> CorpusPlan:
    corpus = read_corpus(corpus_settings.reader, corpus_settings.root, corpus_settings.name)
    media = [name for name in dict.fromkeys(corpus.utterances["media"]) if name]
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(f"{corpus.name}: fingerprints of media", done, len(media))

    hashes = digests.digests([corpus.root / name for name in media], progress=advance)
    digest_of = dict(zip(media, hashes, strict=True)) | {"": ""}
    media_digests = tuple(digest_of[name] for name in corpus.utterances["media"])
    parts = {
        "revision": REVISION,
        "table": hashlib.sha256(corpus.utterances.to_csv(index=False).encode()).hexdigest(),
        "layout": corpus.layout,
        "findings": digest([[f.kind, f.where, f.message] for f in corpus.findings]),
        "media": digest(media_digests),
        "decoder": DECODER,
        "on_bad_media": settings.on_bad_media,
    }
    path = settings.cache / "manifests" / f"{corpus.name}-{digest(parts)}.parquet"
    return CorpusPlan(corpus_settings, corpus, media_digests, parts, path)


def _plan_encoder(settings: Settings, feature_set: str, digests: FileDigests) -> tuple[Source, dict[str, Any]]:
    encoder, modality = settings.encoder(feature_set), modality_of(feature_set)
    source = locate(modality, encoder)
    paths = files(modality, source)
    expect_whole(paths)
    hashes = {path.name: value for path, value in zip(paths, digests.digests(paths), strict=True)}
    return source, identity(modality, encoder, source, hashes, settings.dtype, settings.precision)


def _plan_adaptation(
    settings: Settings,
    feature_set: str,
    encoder: tuple[Source, Mapping[str, Any]],
    corpora: Mapping[str, CorpusPlan],
    ledgers: Mapping[str, LedgerPlan],
) -> AdaptationPlan:
    modality = modality_of(feature_set)
    (base, base_identity), recipe = encoder, Recipe.of(settings.adapt, modality)
    teachers = [corpora[name] for name in dict.fromkeys(settings.adapt.corpora)]
    pseudo = {one.settings.name: ledgers[one.settings.name] for one in teachers if _teaches_pseudo(settings, recipe, one, ledgers)}
    rows = {(one.settings.name, split): _taught(one, modality, split) for one in teachers for split in ("train", "valid")}
    sources = {one.settings.name: dict(zip(*_rows_and_sources(settings, one, feature_set), strict=True)) for one in teachers}
    parts = {
        "revision": [REVISION, recipes.REVISION],
        "modality": modality,
        "base": _inputs_of(base_identity),
        "corpora": [one.settings.name for one in teachers],
        "recipe": recipe.parts(),
        "pseudo labels": {name: [ledger.key, settings.adapt.minimum_similarity] for name, ledger in pseudo.items()},
    }
    for split in ("train", "valid"):
        if not any(rows[one.settings.name, split] for one in teachers):
            raise InputError(
                f"[adapt] corpora {', '.join(settings.adapt.corpora)}: no utterance with {modality} in the {split} split. An encoder"
                " learns on train and chooses the epoch by valid: name a corpus that has both."
            )
        taught = [(one, rows[one.settings.name, split], sources[one.settings.name]) for one in teachers]
        parts[split] = digest([[one.settings.name, *_content(one, chosen, read, recipe, pseudo)] for one, chosen, read in taught])
    folder = settings.cache / "encoders" / f"{_slug(base.name)}-adapted-{digest(parts)}"
    return AdaptationPlan(feature_set, base, recipe, tuple(teachers), rows, pseudo, parts, folder)


_OF_OUTPUT = ("layer", "layers", "mean_of_layers", "frame_rate_hz", "frames_averaged", "dtype", "precision", "padding")
"""Parts of an encoder's identity that say what is kept of its output: they do not change what it learns."""


def _inputs_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parts of an encoder's identity that an adaptation depends on: the files of the base, and what it reads."""
    kept = {name: value for name, value in identity.items() if name not in (*_OF_OUTPUT, "files", "modality")}
    return {**identity["files"], **kept}


def _adapted_identity(base_identity: Mapping[str, Any], adaptation: AdaptationPlan) -> dict[str, Any]:
    """Returns the identity of an adapted encoder: that of its base, and what it has learned from."""
    learned = {name: value for name, value in adaptation.parts.items() if name not in ("base", "modality", "recipe")}
    return {**base_identity, "adapted": learned | adaptation.recipe.parts()}


def _teaches_pseudo(settings: Settings, recipe: Recipe, corpus: CorpusPlan, ledgers: Mapping[str, LedgerPlan]) -> bool:
    """Tells whether a corpus teaches emotions by pseudo-labels: if asked for, or if it has none of its own."""
    name, source = corpus.settings.name, settings.adapt.emotions
    if "mer" not in recipe.tasks or source == "annotated":
        return False
    table = corpus.corpus.utterances
    has_own = bool(table.loc[table["split"] == "train", list(EMOTIONS)].notna().any(axis=None))
    if name not in ledgers and source == "pseudo":
        raise InputError(
            f"[adapt] emotions = pseudo, but {name} gets no pseudo-labels. Name it in luigi.cfg, section [pseudo_labels], targets,"
            " or use annotated emotions."
        )
    return name in ledgers and (source == "pseudo" or not has_own)


def _taught(corpus: CorpusPlan, modality: str, split: str) -> tuple[int, ...]:
    """Returns the rows of a split that an encoder of this modality can learn from."""
    table = corpus.corpus.utterances
    fitting = ((table["split"] == split) & (table["excluded"] == "")).to_numpy()
    return tuple(row for row in _rows(table, modality) if fitting[row])


def _content(
    corpus: CorpusPlan, rows: Sequence[int], source_of_row: Mapping[int, str], recipe: Recipe, pseudo: Mapping[str, LedgerPlan]
) -> list[Sequence[Any]]:
    """Returns ids, inputs and labels of the rows: what the weights depend on besides base and recipe."""
    table = corpus.corpus.utterances.iloc[list(rows)]
    columns = [*(["sentiment"] if "msa" in recipe.tasks else [])]
    columns += EMOTIONS if "mer" in recipe.tasks and corpus.settings.name not in pseudo else ()
    labels = table[columns].to_numpy(float).tolist()
    return [table["utterance_id"].tolist(), [source_of_row[row] for row in rows], labels]


def _plan_features(
    settings: Settings, corpus: CorpusPlan, feature_set: str, encoder: Source, encoder_identity: Mapping[str, Any]
) -> FeaturePlan:
    table, modality = corpus.corpus.utterances, modality_of(feature_set)
    name = corpus.settings.name
    rows, sources = _rows_and_sources(settings, corpus, feature_set)
    ids = table["utterance_id"].to_numpy()
    encoder_key = digest([REVISION, encoder_identity])
    folder = settings.cache / "shards" / name / f"{modality}-{encoder_key}"
    shards = []
    for bits, members in cut_shards(table["video_id"].to_numpy()[list(rows)], settings.shard_clips).items():
        key = digest([encoder_key, [[ids[rows[i]], sources[i]] for i in members]])
        shards.append(ShardPlan(bits, tuple(rows[i] for i in members), folder / f"{bits or 'all'}-{key}.h5", key))
    key = digest([encoder_key, [[ids[row], source] for row, source in zip(rows, sources, strict=True)]])
    path = settings.cache / "features" / f"{name}-{modality}-{_slug(encoder.name)}-{key}.h5"
    return FeaturePlan(corpus, feature_set, modality, encoder, encoder_identity, rows, sources, tuple(shards), path, key)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._" else "-" for c in name.rsplit("/", 1)[-1]).strip("-.")


def _rows(table: pd.DataFrame, modality: str) -> tuple[int, ...]:
    if modality != "audio":  # a text can be encoded even if its clip cannot be used
        return tuple(range(len(table)))
    return tuple(np.flatnonzero((table["media"] != "") & (table["excluded"] == "")).tolist())


def _rows_and_sources(settings: Settings, corpus: CorpusPlan, feature_set: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Returns the rows of the manifest that an encoder can read, and of each the digest of what it reads, context included."""
    table, modality = corpus.corpus.utterances, modality_of(feature_set)
    rows = _rows(table, modality)
    chosen = table.iloc[list(rows)]
    sources = _sources(chosen, [corpus.media_digests[row] for row in rows], modality)
    if before := _contexts(settings, corpus.settings.name, chosen, feature_set):
        sources = _with_context(sources, before)
    return rows, sources


def _sources(table: pd.DataFrame, media_digests: Sequence[str], modality: str) -> tuple[str, ...]:
    if modality != "audio":
        return tuple(digest(text) for text in table["text"])
    times = zip(media_digests, table["start_s"], table["end_s"], strict=True)
    return tuple(digest([medium, None if np.isnan(start) else start, None if np.isnan(end) else end]) for medium, start, end in times)


def _contexts(settings: Settings, name: str, table: pd.DataFrame, feature_set: str) -> list[tuple[int, ...]]:
    """Returns for each utterance the places of those whose digests identify its context; empty if the encoder reads no context.

    How long previous clips are is not known here, so all that the seconds of context may reach into count. Of a segment, the digest of
    its recording and its start say what is before it.
    """
    encoder, modality = settings.encoder(feature_set), modality_of(feature_set)
    if modality == "text" and encoder.context:
        expect_whole_videos(table, name, "context")
        return preceding(table, encoder.context)
    if modality == "audio" and encoder.context_s:
        expect_whole_videos(table, name, "context_s")
        expect_whole_recordings(table, name, "context_s")
        times = zip(table["start_s"], table["end_s"], strict=True)
        before = zip(times, preceding(table, most_clips(encoder.context_s)), strict=True)
        return [() if is_segment(*cut) else places for cut, places in before]
    return []


def _with_context(sources: Sequence[str], before: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Adds to the digest of each utterance that of the utterances before it that are its context, if there are any."""
    contexts = ([sources[place] for place in places] for places in before)
    return tuple(own + CONTEXT_MARK + digest(read) if read else own for own, read in zip(sources, contexts, strict=True))


def _plan_ledger(
    settings: Settings, corpora: Mapping[str, CorpusPlan], features: Mapping[tuple[str, str], FeaturePlan], target: str
) -> LedgerPlan:
    donors = [name for name in settings.donors if name != target]
    if not donors:
        raise InputError(
            f"[pseudo_labels] donors are {list(settings.donors)}, expected a corpus that gives {target} emotion labels. Name one, or"
            " set targets = []."
        )
    parts = {
        "revision": REVISION,
        "rule": settings.rule.to_dict(),
        "labels": {name: corpora[name].parts["table"] for name in [target, *donors]},
        "embeddings": {name: features[name, "sentence"].key for name in [target, *donors]},
    }
    path = settings.cache / "pseudo_labels" / f"{target}-{digest(parts)}.parquet"
    return LedgerPlan(corpora[target], tuple(corpora[name] for name in donors), parts, path)
