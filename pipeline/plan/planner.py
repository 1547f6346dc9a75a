"""Makes the plan of a build: corpora, encoders and pseudo-labels, and which of them make which features."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from data.corpora import read_corpus
from data.errors import InputError
from data.feature_sets import modality_of
from data.fingerprint import FileDigests, digest, table_digest
from data.labels import MOSEI_LABELS
from data.media import DECODER
from data.reporting.audio import LINK
from pipeline.encoding.checkpoints import Source, expect_whole, files, identity, locate
from pipeline.encoding.inspection import Candidate, inspect
from pipeline.plan.adaptations import adapted_identity, finished_adaptation, plan_adaptation
from pipeline.plan.features import plan_features
from pipeline.plan.records import REVISION, AdaptationPlan, CorpusPlan, FeaturePlan, LedgerPlan, Plan
from pipeline.settings import CorpusSettings, Settings


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
            (name, feature_set): plan_features(settings, corpus, feature_set, *encoders[feature_set])
            for name, corpus in corpora.items()
            for feature_set in sets
            if _has(settings, corpus, modality_of(feature_set))
        }

    sentences = features_by(["sentence"] if "sentence" in encoders else [])
    ledgers = {name: _plan_ledger(settings, corpora, sentences, name) for name in settings.targets}
    adaptations: dict[str, AdaptationPlan] = {}
    for feature_set, encoder in encoders.items():
        if settings.adapt.corpora and modality_of(feature_set) in settings.adapt.modalities:
            made = plan_adaptation(settings, feature_set, encoder, corpora, ledgers)
            # sets that differ only in what is kept of the output share an encoder
            adaptations[feature_set] = next((one for one in adaptations.values() if one.folder == made.folder), made)
    for feature_set, adaptation in adaptations.items():
        encoders[feature_set] = adaptation.source, adapted_identity(encoders[feature_set][1], adaptation)
    features = features_by(encoders)
    outputs = [corpus.key for corpus in corpora.values()] + [f.key for f in features.values()] + [p.key for p in ledgers.values()]
    sounds = [] if settings.players == LINK else [settings.players]
    report = settings.cache / "reports" / f"report-{digest([REVISION, outputs, *sounds])}.html"
    return Plan(settings, corpora, features, ledgers, report, adaptations)


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
    one = corpus_settings
    corpus = read_corpus(one.reader, one.root, one.name, one.labels, one.test_session)
    media_names = corpus.utterances["media"].tolist()
    media = [name for name in dict.fromkeys(media_names) if name]
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(f"{corpus.name}: fingerprints of media", done, len(media))

    hashes = digests.digests([os.path.join(corpus.root, name) for name in media], progress=advance)
    digest_of = dict(zip(media, hashes, strict=True)) | {"": ""}
    media_digests = tuple(digest_of[name] for name in media_names)
    parts = {
        "revision": REVISION,
        "table": table_digest(corpus.utterances),
        "layout": corpus.layout,
        "findings": digest([[f.kind, f.where, f.message] for f in corpus.findings]),
        "media": digest(media_digests),
        "decoder": DECODER,
        "on_bad_media": settings.on_bad_media,
        **corpus.labels.noted(),
    }
    path = settings.cache / "manifests" / f"{corpus.name}-{digest(parts)}.parquet"
    return CorpusPlan(corpus_settings, corpus, media_digests, parts, path)


def _plan_encoder(settings: Settings, feature_set: str, digests: FileDigests) -> tuple[Source, dict[str, Any]]:
    encoder, modality = settings.encoder(feature_set), modality_of(feature_set)
    if encoder.adapted:
        return finished_adaptation(encoder, modality, settings.dtype, settings.precision)
    source = locate(modality, encoder)
    paths = files(modality, source)
    expect_whole(paths)
    hashes = {path.name: value for path, value in zip(paths, digests.digests(paths), strict=True)}
    return source, identity(modality, encoder, source, hashes, settings.dtype, settings.precision)


def _plan_ledger(
    settings: Settings, corpora: Mapping[str, CorpusPlan], features: Mapping[tuple[str, str], FeaturePlan], target: str
) -> LedgerPlan:
    donors = [name for name in settings.donors if name != target]
    if not donors:
        raise InputError(
            f"[pseudo_labels] donors are {list(settings.donors)}, expected a corpus that gives {target} emotion labels. Name one, or"
            " set targets = []."
        )
    _refuse_other_emotions(corpora, target, donors)
    parts = {
        "revision": REVISION,
        "rule": settings.rule.to_dict(),
        "labels": {name: corpora[name].parts["table"] for name in [target, *donors]},
        "embeddings": {name: features[name, "sentence"].key for name in [target, *donors]},
    }
    path = settings.cache / "pseudo_labels" / f"{target}-{digest(parts)}.parquet"
    return LedgerPlan(corpora[target], tuple(corpora[name] for name in donors), parts, path)


def _refuse_other_emotions(corpora: Mapping[str, CorpusPlan], target: str, donors: Iterable[str]) -> None:
    """Raise InputError if a target or a donor of pseudo-labels has other labels than the six emotions, which are those copied."""
    for role, name in (("target", target), *(("donor", donor) for donor in donors)):
        labels = corpora[name].corpus.labels
        if not labels.same_emotions(MOSEI_LABELS):
            raise InputError(
                f"[pseudo_labels] the {role} {name} has the labels {labels}, but pseudo-labels are {', '.join(MOSEI_LABELS.emotions)}."
                f" Take {name} out of {role}s, or out of labels in section [corpora]."
            )
