"""The work of each task: plain functions that write one file of a plan each, completely or not at all.

Luigi is not known here; the tasks that call these functions are in `pipeline.tasks`.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data.cache import is_indexed, merge_corpora
from data.errors import InputError
from data.feature_store import FeatureStore, FeatureWriter
from data.manifest import read_manifest, write_manifest, write_table
from data.media import SAMPLE_RATE_HZ
from data.packages import installed_version
from data.probe import media_notes, probe
from pipeline.encoding import context, encoders, extract
from pipeline.plan import CorpusPlan, FeaturePlan, LedgerPlan, Plan, ShardPlan
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


def make_shard(plan: Plan, features: FeaturePlan, shard: ShardPlan, device: str, threads: int, advance: Advance) -> None:
    """Encodes the utterances of one shard and writes them.

    Raises:
        InputError: An utterance cannot be encoded, or its features do not fit into the stored type.
    """
    import torch

    torch.set_num_threads(threads)
    settings = plan.settings.encoder(features.name)
    encoder = encoders.load(features.modality, settings, device, plan.settings.precision)
    table = _usable(features, shard.rows)
    ids = table["utterance_id"].tolist()

    def items() -> Iterator[tuple[int, encoders.Prepared]]:
        return extract.prepare(encoder, _inputs(features, table, settings), ids)

    context_cut = None
    if isinstance(encoder, encoders.AudioEncoder):
        prepared, truncated = items, []
        lengths = [encoder.rows(round(seconds * SAMPLE_RATE_HZ)) for seconds in table["duration_s"]]
    else:
        texts = list(items())
        prepared, truncated = texts.copy, [ids[index] for index, item in texts if item.truncated]
        if encoder.context:
            context_cut = [ids[index] for index, item in texts if item.context_cut]
        lengths = [item.length for _, item in texts]
    error = None
    if plan.settings.precision != "float32" and ids:
        reference = encoders.load(features.modality, settings, device, "float32")
        error = extract.precision_error(encoder, reference, prepared())
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
    sources = [features.source_of_row[row] for row in table.index]
    with FeatureWriter(shard.path, ids, lengths, encoder.dim, plan.settings.dtype, attributes, sources) as writer:
        extract.extract(encoder, prepared(), writer.write, advance)


def _usable(features: FeaturePlan, rows: Sequence[int]) -> pd.DataFrame:
    """Returns the utterances of a shard; for audio, with their durations and without those whose medium turned out to be bad."""
    if features.modality != "audio":
        return features.corpus.corpus.utterances.loc[list(rows)]
    manifest = read_manifest(features.corpus.manifest).loc[list(rows)]
    return manifest[manifest["excluded"] == ""]


def _excluded(features: FeaturePlan, shard: ShardPlan, usable: pd.DataFrame) -> dict[str, str]:
    """Returns utterance id → source of the rows that are not usable, so that `pipeline.explain` can tell them from new ones."""
    ids = features.corpus.corpus.utterances["utterance_id"]
    return {ids[row]: features.source_of_row[row] for row in shard.rows if row not in usable.index}


def _inputs(features: FeaturePlan, table: pd.DataFrame, settings: EncoderSettings) -> Iterator[tuple[Any, ...]]:
    """Yields (row, text or waveform) of each utterance of a shard, and with it its context where the encoder reads one."""
    root = features.corpus.corpus.root
    if features.modality == "audio":
        return extract.waveforms_in_context(root, table, limit) if (limit := settings.context_s) else extract.waveforms(root, table)
    if features.modality == "text" and settings.context:
        texts, before = table["text"].tolist(), context.preceding(table, settings.context)
        return ((row, text, [texts[place] for place in before[row]]) for row, text in enumerate(texts))
    return enumerate(table["text"])


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
        "truncated": [name for name in ids if any(name in attrs["truncated"] for attrs in made)],
        "excluded": {name: source for attrs in made for name, source in attrs["excluded"].items()},
    }
    if any("context_cut" in attrs for attrs in made):
        attributes["context_cut"] = [name for name in ids if any(name in attrs["context_cut"] for attrs in made)]
    place_of = {name: place for place, name in enumerate(ids)}
    with FeatureWriter(features.path, ids, lengths, dims[0], plan.settings.dtype, attributes, sources) as writer:
        for shard in features.shards:
            with FeatureStore.open(shard.path) as store:
                for name in store.ids:
                    if name in place_of:
                        writer.write(place_of[name], store[name])


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
    return {
        "corpus": features.corpus.settings.name,
        "modality": features.modality,
        "encoder": {"name": features.encoder.name, "revision": features.encoder.revision, "trained": features.encoder.trained},
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
