"""Plans encoders that learn the task before they make features: who teaches, and what their weights depend on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.feature_sets import modality_of
from data.fingerprint import digest
from data.tuning import adapted_on
from pipeline.adaptation import Recipe, checkpoint
from pipeline.adaptation import recipe as recipes
from pipeline.encoding.checkpoints import ENCODERS, Source, identity
from pipeline.plan.features import slug
from pipeline.plan.records import REVISION, AdaptationPlan, CorpusPlan, LedgerPlan
from pipeline.plan.sources import rows_and_sources
from pipeline.settings import EncoderSettings, Settings

_SHA256 = re.compile(r"[0-9a-f]{64}")


def plan_adaptation(
    settings: Settings,
    feature_set: str,
    encoder: tuple[Source, Mapping[str, Any]],
    corpora: Mapping[str, CorpusPlan],
    ledgers: Mapping[str, LedgerPlan],
) -> AdaptationPlan:
    """Plans the encoder that learns for a feature set.

    Args:
        settings: What to build.
        feature_set: "text", "audio.NAME", ...
        encoder: The base and its identity.
        corpora: By name.
        ledgers: Target → its pseudo-labels.

    Raises:
        InputError: No corpus has both splits, corpora have different labels, or there are no pseudo-labels to learn from.
    """
    modality = modality_of(feature_set)
    (base, base_identity), recipe = encoder, Recipe.of(settings.adapt, modality)
    teachers = [corpora[name] for name in dict.fromkeys(settings.adapt.corpora)]
    _refuse_mixed_labels(recipe, teachers)
    pseudo = {one.settings.name: ledgers[one.settings.name] for one in teachers if _teaches_pseudo(settings, recipe, one, ledgers)}
    rows = {(one.settings.name, split): _taught(one, modality, split) for one in teachers for split in ("train", "valid")}
    sources = {one.settings.name: dict(zip(*rows_and_sources(settings, one, feature_set), strict=True)) for one in teachers}
    parts = {
        "revision": [REVISION, recipes.REVISION],
        "modality": modality,
        "base": _inputs_of(base_identity),
        "corpora": [one.settings.name for one in teachers],
        "recipe": recipe.parts(),
        **teachers[0].corpus.labels.noted(),
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
    folder = settings.cache / "encoders" / f"{slug(base.name)}-adapted-{digest(parts)}"
    return AdaptationPlan(feature_set, base, recipe, tuple(teachers), rows, pseudo, parts, folder)


_OF_OUTPUT = ("layer", "layers", "mean_of_layers", "frame_rate_hz", "frames_averaged", "dtype", "precision", "padding")
"""Parts of an encoder's identity that say what is kept of its output: they do not change what it learns."""


def _inputs_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parts of an encoder's identity that an adaptation depends on: the files of the base, and what it reads."""
    kept = {name: value for name, value in identity.items() if name not in (*_OF_OUTPUT, "files", "modality")}
    return {**identity["files"], **kept}


def adapted_identity(base_identity: Mapping[str, Any], adaptation: AdaptationPlan) -> dict[str, Any]:
    """Returns the identity of an adapted encoder: that of its base, and what it has learned from."""
    return _with_lessons(base_identity, adaptation.parts, adaptation.recipe.parts())


def finished_adaptation(encoder: EncoderSettings, modality: str, dtype: str, precision: str) -> tuple[Source, dict[str, Any]]:
    """Returns an encoder that an earlier build has adapted, with the identity that it has in that build.

    Args:
        encoder: Its `model` is the folder of the adapted encoder.
        modality: "text" or "audio".
        dtype: Type of the stored values.
        precision: Arithmetic of the encoder.

    Raises:
        InputError: The folder is none of an adapted encoder, is damaged, or the encoder has learned with other inputs.
    """
    folder = Path(encoder.model).expanduser()
    if not (folder / checkpoint.RECORD).is_file():
        wanted = f"has no {checkpoint.RECORD}; the folder of an adapted encoder is expected"
        raise InputError(f"[{modality}] adapted is true, but {folder} {wanted}.")
    record = checkpoint.read_record(folder)
    if not checkpoint.is_whole(folder):
        raise InputError(f"{folder}: a file is missing or has changed since the encoder learned. Copy it again.")
    parts, base = record["parts"], record["base"]
    if parts["modality"] != modality:
        raise InputError(f"{folder}: an encoder of {parts['modality']}, expected one of {modality}.")
    is_trained = base["name"] not in ENCODERS or ENCODERS[base["name"]].trained
    source = Source(folder.name, folder, "", is_trained, adapted_on("+".join(record["corpora"]), base["tuning"]))
    files = {name: value for name, value in parts["base"].items() if isinstance(value, str) and _SHA256.fullmatch(value)}
    base_identity = identity(modality, encoder, source, files, dtype, precision)
    found, learned = _inputs_of(base_identity), parts["base"]
    if changed := [name for name in found | learned if found.get(name) != learned.get(name)]:
        name = changed[0]
        raise InputError(f"{folder}: learned with {name} = {learned.get(name)!r}, but [{modality}] has {found.get(name)!r}. Set it so.")
    return source, _with_lessons(base_identity, parts, parts["recipe"])


def _with_lessons(base_identity: Mapping[str, Any], parts: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    learned = {name: value for name, value in parts.items() if name not in ("base", "modality", "recipe")}
    return {**base_identity, "adapted": learned | dict(recipe)}


def _refuse_mixed_labels(recipe: Recipe, teachers: Sequence[CorpusPlan]) -> None:
    """Raise InputError if the labels that an encoder learns mean something else in one corpus than in another."""
    first, *others = teachers
    for one in others:
        ours, theirs = first.corpus.labels, one.corpus.labels
        is_other = ("mer" in recipe.tasks and not ours.same_emotions(theirs)) or ("msa" in recipe.tasks and ours.scale != theirs.scale)
        if is_other:
            raise InputError(
                f"[adapt] corpora: {first.settings.name} has the labels {ours}, {one.settings.name} {theirs}. An encoder learns from"
                " corpora with the same labels: name one of them, or change labels in section [corpora]."
            )


def _teaches_pseudo(settings: Settings, recipe: Recipe, corpus: CorpusPlan, ledgers: Mapping[str, LedgerPlan]) -> bool:
    """Tells whether a corpus teaches emotions by pseudo-labels: if asked for, or if it has none of its own."""
    name, source = corpus.settings.name, settings.adapt.emotions
    if "mer" not in recipe.tasks or source == "annotated":
        return False
    table = corpus.corpus.utterances
    has_own = bool(table.loc[table["split"] == "train", list(corpus.corpus.labels.emotions)].notna().any(axis=None))
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
    return tuple(row for row in corpus.readable_rows(modality) if fitting[row])


def _content(
    corpus: CorpusPlan, rows: Sequence[int], source_of_row: Mapping[int, str], recipe: Recipe, pseudo: Mapping[str, LedgerPlan]
) -> list[Sequence[Any]]:
    """Returns ids, inputs and labels of the rows: what the weights depend on besides base and recipe."""
    table = corpus.corpus.utterances.iloc[list(rows)]
    columns = [*(["sentiment"] if "msa" in recipe.tasks else [])]
    columns += corpus.corpus.labels.emotions if "mer" in recipe.tasks and corpus.settings.name not in pseudo else ()
    labels = table[columns].to_numpy(float).tolist()
    return [table["utterance_id"].tolist(), [source_of_row[row] for row in rows], labels]
