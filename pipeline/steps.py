"""The work of each task: plain functions that write one file of a plan each, completely or not at all.

Luigi is not known here; the tasks that call these functions are in `pipeline.tasks`.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.atomic import temporary_folder
from data.cache import is_indexed, merge_corpora
from data.errors import InputError
from data.feature_store import FeatureStore, FeatureWriter
from data.manifest import read_manifest, read_table, write_manifest, write_table
from data.media import SAMPLE_RATE_HZ
from data.packages import installed_version
from data.probe import media_notes, probe
from data.targets import EMOTION_SOURCES, presence
from data.tuning import FROZEN
from pipeline.adaptation import clips
from pipeline.encoding import context, encoders, extract
from pipeline.encoding.audio_encoder import AudioEncoder
from pipeline.encoding.decoding import number_of_decoders
from pipeline.encoding.encoder import Prepared
from pipeline.plan import AdaptationPlan, CorpusPlan, FeaturePlan, LedgerPlan, Plan, ShardPlan
from pipeline.pseudo_labels import donor_pool, transfer
from pipeline.pseudo_labels.audit import audit
from pipeline.settings import EncoderSettings

_PACKAGES = ("torch", "transformers", "tokenizers", "av", "soxr", "h5py", "numpy")

Advance = Callable[[int], None]


def make_manifest(corpus: CorpusPlan, on_bad_media: str, workers: int, advance: Advance) -> None:
    """Opens every medium, fills in durations and writes the manifest.

    Raises:
        InputError: `on_bad_media` is "stop" and some media cannot be used; the message lists them.
    """
    table = corpus.corpus.utterances.copy()
    usable = (table["media"] != "") & (table["excluded"] == "")
    findings = [[finding.kind, finding.where, finding.message] for finding in corpus.corpus.findings]
    if usable.any():
        found = probe(corpus.corpus.root, table[usable], workers, advance)
        table.loc[usable, "duration_s"] = found["duration_s"].to_numpy()
        table.loc[usable, "excluded"] = found["message"].to_numpy()
        findings += found.loc[found["problem"] != "", ["problem", "utterance_id", "message"]].to_numpy().tolist()
        findings += [[note.kind, note.where, note.message] for note in media_notes(found)]
    unusable = table[(table["excluded"] != "") & (corpus.corpus.has_media)]
    if on_bad_media == "stop" and len(unusable):
        raise InputError(_bad_media_message(corpus, unusable))
    attributes = {
        "corpus": corpus.settings.name,
        "layout": corpus.corpus.layout,
        "key": corpus.key,
        "parts": dict(corpus.parts),
        "findings": findings,
        "root": str(corpus.corpus.root.resolve()),  # for players of reports; not part of the key, a corpus may move
        "when": _now(),
    }
    write_manifest(corpus.manifest, table, attributes)


def _bad_media_message(corpus: CorpusPlan, unusable: pd.DataFrame) -> str:
    rows = zip(unusable["utterance_id"], unusable["excluded"], strict=True)
    lines = [f"  {utterance}: {problem}" for utterance, problem in rows]
    return (
        f"{corpus.corpus.root}: {len(unusable)} of {len(corpus.corpus.utterances)} utterances cannot be used:\n"
        + "\n".join(lines)
        + "\nRepair them, or set on_bad_media = exclude in luigi.cfg, section [build], to exclude them by name."
    )


def make_adapted_encoder(
    plan: Plan, adaptation: AdaptationPlan, device: str, threads: int, advance: Advance, say: Callable[[str], None]
) -> None:
    """Lets an encoder learn from the training splits of its corpora, and writes the checkpoint.

    Raises:
        InputError: A clip cannot be encoded, labels are missing, or the loss is not finite.
    """
    import torch

    from pipeline.adaptation import training

    torch.set_num_threads(threads)
    modality = adaptation.modality
    settings = _learning(plan, adaptation.feature_set)
    encoders.drop()  # that of shards made before
    encoder = encoders.make(modality, adaptation.base, settings, device, trainable=True)
    packages = {"python": platform.python_version()} | {name: installed_version(name) or "absent" for name in (*_PACKAGES, "peft")}
    record = {
        "key": adaptation.key,
        "parts": dict(adaptation.parts),
        "base": {"name": adaptation.base.name, "revision": adaptation.base.revision, "tuning": adaptation.base.tuning},
        "corpora": [corpus.settings.name for corpus in adaptation.corpora],
        "made": {"packages": packages, "device": _device_name(device), "threads": threads, "when": _now()},
    }
    job = training.Job(adaptation.name, adaptation.key, adaptation.recipe, adaptation.base, adaptation.folder, record)
    scratch = adaptation.folder.with_name(f"{adaptation.folder.name}.clips")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(scratch)) if modality == "audio" else scratch
        decoders = number_of_decoders(plan.settings.decoders, device, threads)
        train, valid = (_clips(plan, adaptation, split, encoder, folder, stack, decoders) for split in ("train", "valid"))
        training.adapt(job, encoder, train, valid, advance, say)


def _learning(plan: Plan, feature_set: str) -> EncoderSettings:
    """Returns the settings of an encoder that learns: what it reads, but not which of its layers and frames are stored afterwards."""
    return replace(plan.settings.encoder(feature_set), layers="-1", frame_rate_hz=0.0)


def _clips(
    plan: Plan, adaptation: AdaptationPlan, split: str, encoder: Any, scratch: Path, stack: contextlib.ExitStack, decoders: int
) -> clips.Clips:
    """Returns the clips of a split, ready for the encoder; waveforms are in a file that goes with the stack."""
    modality, corpora = adaptation.modality, adaptation.corpora
    tables = [_taught(adaptation, corpus, split) for corpus in corpora]
    pairs = list(zip(corpora, tables, strict=True))
    ids = [f"{corpus.settings.name}/{name}" for corpus, table in pairs for name in table["utterance_id"]]

    def items() -> Iterator[tuple[int, Prepared]]:
        for corpus, table in pairs:
            inputs = _inputs(corpus, modality, table, encoder.settings, decoders)
            yield from extract.prepare(encoder, inputs, table["utterance_id"].tolist())

    if modality == "text":
        prepared: Sequence[Prepared] = clips.in_memory(items())
    else:
        limit = adaptation.recipe.settings.max_seconds if split == "train" else math.inf
        prepared = stack.enter_context(clips.on_disk(scratch / split, clips.shortened(encoder, items(), limit)))
    labels = [_labels(plan, adaptation, corpus, table) for corpus, table in pairs]
    joined = clips.Labels(np.concatenate([one.sentiment for one in labels]), np.concatenate([one.emotions for one in labels]))
    return clips.Clips(tuple(ids), prepared, joined, tuple(item.cost for item in prepared))


def _taught(adaptation: AdaptationPlan, corpus: CorpusPlan, split: str) -> pd.DataFrame:
    """Returns the utterances of a corpus that an adaptation reads; for audio, without those whose medium turned out to be bad."""
    return _usable_rows(corpus, adaptation.modality, adaptation.rows[corpus.settings.name, split])


def _labels(plan: Plan, adaptation: AdaptationPlan, corpus: CorpusPlan, table: pd.DataFrame) -> clips.Labels:
    name, tasks = corpus.settings.name, adaptation.recipe.tasks
    source = "pseudo" if name in adaptation.ledgers else "annotated"
    cached = next(one for one in plan.cached() if one.name == name)
    intensities = EMOTION_SOURCES[source](cached, table, adaptation.recipe.settings.minimum_similarity)
    nothing = np.float32(np.nan)
    return clips.Labels(
        np.where("msa" in tasks, table["sentiment"].to_numpy(np.float32), nothing),
        np.where("mer" in tasks, presence(intensities), nothing),
    )


def make_shard(plan: Plan, features: FeaturePlan, shard: ShardPlan, device: str, threads: int, advance: Advance) -> None:
    """Encodes the utterances of one shard and writes them.

    Raises:
        InputError: An utterance cannot be encoded, or its features do not fit into the stored type.
    """
    import torch

    torch.set_num_threads(threads)
    settings = plan.encoder_settings(features)
    encoder = encoders.load(features.modality, settings, device, plan.settings.precision)
    table = _usable(features, shard.rows)
    ids = table["utterance_id"].tolist()

    def items(decoders: int = 1) -> Iterator[tuple[int, Prepared]]:
        return extract.prepare(encoder, _inputs(features.corpus, features.modality, table, settings, decoders), ids)

    context_cut = None
    if isinstance(encoder, AudioEncoder):
        sample, prepared, truncated = items, partial(items, number_of_decoders(plan.settings.decoders, device, threads)), []
        lengths = [encoder.rows(round(seconds * SAMPLE_RATE_HZ)) for seconds in table["duration_s"]]
    else:
        texts = list(items())
        sample = prepared = texts.copy
        truncated = [ids[index] for index, item in texts if item.truncated]
        if encoder.context:
            context_cut = [ids[index] for index, item in texts if item.context_cut]
        lengths = [item.length for _, item in texts]
    error = None
    if plan.settings.precision != "float32" and ids:
        reference = encoders.load(features.modality, settings, device, "float32")
        error = extract.precision_error(encoder, reference, sample())
    attributes = provenance(plan, features) | {
        "shard": shard.name,
        "device": _device_name(device),
        "products": encoder.products,
        "precision_error": error,
        "truncated": truncated,
        "excluded": _excluded(features, shard, table),
    }
    if context_cut is not None:
        attributes["context_cut"] = context_cut
    sources = features.sources_of(table.index)
    with FeatureWriter(shard.path, ids, lengths, encoder.dim, plan.settings.dtype, attributes, sources) as writer:
        extract.extract(encoder, prepared(), writer.write, advance)


def _usable(features: FeaturePlan, rows: Sequence[int]) -> pd.DataFrame:
    """Returns the utterances of a shard; for audio, with their durations and without those whose medium turned out to be bad."""
    return _usable_rows(features.corpus, features.modality, rows)


def _usable_rows(corpus: CorpusPlan, modality: str, rows: Sequence[int]) -> pd.DataFrame:
    table = corpus.corpus.utterances.loc[list(rows)]
    if modality != "audio":
        return table
    decoded = read_table(corpus.manifest, ("duration_s", "excluded")).loc[list(rows)]  # the rest of a manifest is the planned table
    return table.assign(duration_s=decoded["duration_s"], excluded=decoded["excluded"])[decoded["excluded"] == ""]


def _excluded(features: FeaturePlan, shard: ShardPlan, usable: pd.DataFrame) -> dict[str, str]:
    """Returns utterance id → source of the rows that are not usable, so that `pipeline.explain` can tell them from new ones."""
    rows = [row for row in shard.rows if row not in usable.index]
    ids = features.corpus.corpus.utterances["utterance_id"].loc[rows]
    return dict(zip(ids, features.sources_of(rows), strict=True))


def _inputs(
    corpus: CorpusPlan, modality: str, table: pd.DataFrame, settings: EncoderSettings, decoders: int
) -> Iterator[tuple[Any, ...]]:
    """Yields (row, text or waveform) of each utterance, and with it its context where the encoder reads one.

    For features and for learning alike: an encoder learns from exactly the inputs of which it then makes features.

    Args:
        table: Utterances of the corpus: of audio, whole videos but for clips that cannot be used; of text, any.
        settings: Of the encoder.
        decoders: Number of recordings that are decoded at the same time.
    """
    root = corpus.corpus.root
    if modality == "audio" and settings.context_s:
        return extract.waveforms_in_context(root, table, settings.context_s, decoders)
    if modality == "audio":
        return extract.waveforms(root, table, decoders)
    if modality == "text" and settings.context:
        return _texts_in_context(corpus, table, settings.context)
    return enumerate(table["text"])


def _texts_in_context(corpus: CorpusPlan, table: pd.DataFrame, limit: int) -> Iterator[tuple[int, str, list[str]]]:
    """Yields (row, text, up to `limit` texts before it in its video, whether these are in the table or not)."""
    whole = corpus.corpus.utterances
    whole = whole[whole["video_id"].isin(table["video_id"])]
    texts = whole["text"].tolist()
    before = dict(zip(whole.index, context.preceding(whole, limit), strict=True))
    named = zip(table.index, table["text"], strict=True)
    return ((row, text, [texts[place] for place in before[name]]) for row, (name, text) in enumerate(named))


def merge_shards(plan: Plan, features: FeaturePlan) -> None:
    """Joins the shards into the feature file, rows in the order of the manifest.

    One shard is open at a time, because a corpus may have more of them than a process may open files.

    Raises:
        InputError: A shard is damaged (the message names it and the utterance; the next run rebuilds it) or cannot be read now.
    """
    length_of: dict[str, int] = {}
    source_of: dict[str, str] = {}
    made, dims = [], []
    for shard in features.shards:
        with FeatureStore.open(shard.path) as store:
            length_of |= zip(store.ids, store.lengths.tolist(), strict=True)
            source_of |= zip(store.ids, store.sources, strict=True)
            made.append(store.attrs)
            dims.append(store.dim)
    planned = features.corpus.corpus.utterances["utterance_id"].loc[list(features.rows)]
    ids = [name for name in planned if name in length_of]
    lengths, sources = [length_of[name] for name in ids], [source_of[name] for name in ids]
    attributes = provenance(plan, features) | {
        "device": sorted({attrs["device"] for attrs in made}),
        "products": sorted({attrs["products"] for attrs in made}),
        "precision_error": _worst([attrs["precision_error"] for attrs in made]),
        "truncated": _named_by(made, "truncated", ids),
        "excluded": {name: source for attrs in made for name, source in attrs["excluded"].items()},
    }
    if any("context_cut" in attrs for attrs in made):
        attributes["context_cut"] = _named_by(made, "context_cut", ids)
    place_of = {name: place for place, name in enumerate(ids)}
    with FeatureWriter(features.path, ids, lengths, dims[0], plan.settings.dtype, attributes, sources) as writer:
        for shard in features.shards:
            with FeatureStore.open(shard.path) as store:
                for name in store.ids:
                    if name in place_of:
                        writer.write(place_of[name], store[name])


def _named_by(made: Sequence[Mapping[str, Any]], attribute: str, ids: Sequence[str]) -> list[str]:
    """Returns those of the ids that a list among the attributes of any shard names, in their order."""
    named = {name for attrs in made for name in attrs[attribute]}
    return [name for name in ids if name in named]


def _worst(errors: Sequence[Mapping[str, float] | None]) -> dict[str, float] | None:
    measured = [error for error in errors if error]
    if not measured:
        return None
    worst = {name: max(error[name] for error in measured) for name in ("max_abs", "relative_l2")}
    return worst | {"utterances": sum(error["utterances"] for error in measured)}


def make_ledger(plan: Plan, ledger: LedgerPlan, device: str) -> None:
    """Transfers pseudo-labels to the target, audits the rule on the labelled donors, and writes the ledger."""
    rule = plan.settings.rule
    target, donors = _embedded(plan, ledger.target), [_embedded(plan, donor) for donor in ledger.donors]
    pool = donor_pool(donors, rule)
    table = transfer(*target, pool, rule, device)
    audits = {
        donor.settings.name: audit(*embedded, pool, rule, device=device) for donor, embedded in zip(ledger.donors, donors, strict=True)
    }
    attributes = {
        "key": ledger.key,
        "parts": dict(ledger.parts),
        "target": ledger.target.settings.name,
        "audit": audits,
        "when": _now(),
    }
    write_table(ledger.path, table, attributes)


def _embedded(plan: Plan, corpus: CorpusPlan) -> tuple[pd.DataFrame, np.ndarray]:
    with FeatureStore.open(plan.features[corpus.settings.name, "sentence"].path) as store:
        return read_manifest(corpus.manifest), store.read_all().astype(np.float32)


def write_index(plan: Plan) -> None:
    """Adds the corpora of this build to the index of the cache; those of other builds and imports stay."""
    merge_corpora(plan.settings.cache, plan.cached(), plan.report)


def index_is_current(plan: Plan) -> bool:
    """Tells whether the index names the outputs of this plan, and its report as the last one."""
    return is_indexed(plan.settings.cache, plan.cached(), plan.report)


def provenance(plan: Plan, features: FeaturePlan) -> dict[str, Any]:
    """Returns the properties that determined the bytes of a feature file, and the software that made it."""
    encoder = features.encoder
    tuning = {} if encoder.tuning == FROZEN else {"tuning": encoder.tuning}  # frozen features have always been without this word
    return {
        "corpus": features.corpus.settings.name,
        "modality": features.modality,
        "encoder": {"name": encoder.name, "revision": encoder.revision, "trained": encoder.trained} | tuning,
        "identity": dict(features.identity),
        "key": features.key,
        "packages": {"python": platform.python_version()} | {name: installed_version(name) or "absent" for name in _PACKAGES},
        "when": _now(),
    }


def _device_name(device: str) -> str:
    if device == "cpu":
        return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
    import torch

    return torch.cuda.get_device_name(device)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
