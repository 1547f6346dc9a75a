"""The feature pickles of MMSA and Self-MM, exported and imported.

    {"train" | "valid" | "test": {
        "raw_text" (N,) str, "id" (N,) "<video_id>$_$<clip_id>",
        "text" (N, Tt, D), "audio" (N, Ta, D), "vision" (N, Tv, D) float32, padded with zeros,
        "audio_lengths", "vision_lengths" (N,) int if unaligned,
        "regression_labels" (N,) float32, "classification_labels" (N,) 0 | 1 | 2,
        "annotations" (N,) "Negative" | "Neutral" | "Positive",
        "text_bert" (N, 3, Tt) ids, mask, segments of BERT's tokens (not in every file)}}

`docs/interchange.md` describes how MMSA itself uses such a file and how it is run. `data.interchange.safe_pickle` reads and writes
pickles, `data.interchange.padding` pads, and `data.interchange.imported` writes an import into a cache.

Source: https://github.com/thuiar/MMSA (src/MMSA/data_loader.py)
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.atomic import atomic_path
from data.cache import CachedCorpus
from data.corpora.assemble import assemble
from data.corpora.mmsa import clip_ids
from data.csv_tables import SPLIT_NAMES, expect_wide_scale, onto_scale
from data.errors import InputError, shown
from data.feature_index import is_unicode
from data.feature_sets import modality_of
from data.fingerprint import KEY_LENGTH, file_digest
from data.interchange import safe_pickle
from data.interchange.cached import ANNOTATED, USUAL, Choice, Selection, expect_modalities, expect_new, select
from data.interchange.imported import Features, Import
from data.interchange.padding import extents_by_length, extents_by_zeros, pad_front
from data.label_sets import OPEN, Statement
from data.labels import MOSEI_LABELS, POLARITIES, polarity_of_sentiment
from data.schema import MODALITIES, SPLITS

SEPARATOR = "$_$"
"""Separator of the video id and the clip id in MMSA's ids."""

_SHOWN_KEYS = 12
"""Most keys of a dict of the file that a message lists."""

_REQUIRED = ("raw_text", "id", "regression_labels")
_READ = (*_REQUIRED, *MODALITIES, *(f"{modality}_lengths" for modality in MODALITIES))
_DERIVED = ("annotations", "classification_labels", "text_bert", "vision", "vision_lengths")
"""Keys that are derived from others or reported separately. Only the mask of `text_bert` is used, for lengths."""


def export_mmsa(corpus: CachedCorpus, out: Path, limits: Mapping[str, int], choice: Choice = USUAL) -> list[str]:
    """Write a corpus as one unaligned pickle, padded at the front to the longest utterance.

    A modality that the corpus does not have is written as one step of zeros. The file takes N × (Tt × Dt + Ta × Da) × 4 bytes; the
    memory needed is this size plus the size of the largest array.

    Args:
        corpus: A corpus of a cache.
        out: The file, which appears complete or not at all.
        limits: Modality → number of rows to keep of each utterance, from the first.
        choice: Features and source of emotions.

    Returns:
        Sentences for the user: what was written and what was left out.

    Raises:
        InputError: `out` exists, the corpus cannot be exported, a split is empty, or two clips have the same id.
    """
    expect_new(out)
    expect_modalities(choice, (*MODALITIES, "vision"), "mmsa")
    if choice.emotions != ANNOTATED:
        raise InputError(f"--emotions is {choice.emotions}, but the format mmsa has no emotions. Leave it out.")
    selection = select(corpus, limits, is_labelled=True, choice=choice)
    empty = [split for split in SPLITS if split not in set(selection.table["split"])]
    if empty:
        raise InputError(f"{corpus.manifest}: no utterance in {', '.join(empty)}; MMSA needs {', '.join(SPLITS)}.")
    selection.table["id"] = _ids(selection.table, corpus.manifest)
    steps = {modality: int(selection.lengths(modality).max()) for modality in selection.stores}
    content = {split: _split(selection, split, steps) for split in SPLITS}
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        safe_pickle.dump(content, file)
    padded = ", ".join(f"{modality} to {count:,} rows" for modality, count in steps.items())
    zeros = ", ".join(modality for modality in (*MODALITIES, "vision") if modality not in steps)
    has_emotions = selection.table[list(selection.labels.emotions)].notna().any(axis=None)
    emotions = ["left out: emotions, which this format does not have"] if has_emotions else []
    zeros = [f"one step of zeros: {zeros}"] if zeros else []
    return [*selection.notes, *emotions, f"padded at the front: {padded}", *zeros]


def read_mmsa(path: Path, name: str, statement: Statement = OPEN) -> Import:
    """Read a pickle, aligned or unaligned, padded at either end.

    Args:
        path: The file.
        name: The corpus name for the manifest.
        statement: What a flag says about the labels: the scale of the sentiment.

    Raises:
        InputError: The file is not such a pickle, a part of it is missing or not as described above, or emotions are stated.
    """
    labels = statement.label_set()
    if not labels.same_emotions(MOSEI_LABELS):
        raise InputError(f"{path}: emotions are stated, {labels}, but this format has none. State the scale of the sentiment alone.")
    content = safe_pickle.load(path)
    parts = _parts(content, path)
    tables = {key: _utterances(part, f"{path}: {key}", SPLIT_NAMES[key]) for key, part in parts.items()}
    table = pd.concat(tables.values(), ignore_index=True)
    if table.empty:
        raise InputError(f"{path}: no utterance in {', '.join(parts)}.")
    if table["utterance_id"].duplicated().any():
        twice = table.loc[table["utterance_id"].duplicated(), "id"].iloc[0]
        raise InputError(f"{path}: id {shown(twice)} occurs twice, expected unique ids.")
    if labels == MOSEI_LABELS:
        expect_wide_scale(table["sentiment"], path)
    sentiment, findings = onto_scale(table["sentiment"], labels.scale, path, table["id"].tolist(), labels.tolerance)
    origin = file_digest(path)[:KEY_LENGTH]
    ids = {key: rows["utterance_id"].tolist() for key, rows in tables.items() if len(rows)}
    features = {modality: _features(modality, parts, ids, path, origin) for modality in MODALITIES if _has(parts, modality)}
    if not features:
        raise InputError(f"{path}: neither text nor audio features in it.")
    table = table.assign(
        sentiment=sentiment, order=_order(table["clip_id"]), media="", whole=False, expected="", label_source=path.name
    )
    return Import(
        assemble(name, path, "MMSA pickle", table, [path], findings, labels=labels), origin, features, tuple(_left(content, parts))
    )


def read_mmsa_features(path: Path, feature_set: str) -> Features:
    """Read one array of a pickle, by MMSA's ids: that of the modality of `feature_set`.

    Args:
        path: The file. Of each split, only "id", the array, its lengths and the mask of `text_bert` are used.
        feature_set: The name that the features will have.

    Raises:
        InputError: The file is not such a pickle, has no such array, or an id occurs twice.
    """
    parts, modality = _parts(safe_pickle.load(path), path), modality_of(feature_set)
    ids = {key: _names(part, f"{path}: {key}") for key, part in parts.items()}
    ids = {key: names for key, names in ids.items() if names}
    if not _has(parts, modality):
        arrays = sorted(
            {shown(key) for part in parts.values() for key, one in part.items() if isinstance(one, np.ndarray) and one.ndim == 3}
        )
        raise InputError(
            f"{path}: no {modality} features in it, expected an array of this name; arrays: {', '.join(arrays) or 'none'}."
        )
    seen: set[str] = set()
    for name in (name for names in ids.values() for name in names):
        if name in seen:
            raise InputError(f"{path}: id {shown(name)} occurs twice, expected unique ids.")
        seen.add(name)
    return _features(modality, parts, ids, path, file_digest(path)[:KEY_LENGTH])


def _names(part: Any, where: str) -> list[str]:
    if not isinstance(part, dict) or "id" not in part:
        raise InputError(f"{where}: expected a dict with id, found {_shown(part)}.")
    names = _column(part, "id", where).tolist()
    if strange := [name for name in names if not isinstance(name, str) or not is_unicode(name)]:
        raise InputError(f"{where}: id holds {shown(strange[0])}, expected text.")
    return names


def _ids(table: pd.DataFrame, where: Path) -> pd.Series:
    ids = table["video_id"] + SEPARATOR + table["clip_id"]
    if ids.duplicated().any():
        twice = ids[ids.duplicated()]
        raise InputError(f"{where}: {len(twice):,} clips have the video and clip id of another, first {shown(twice.iloc[0])}.")
    ambiguous = ids.str.rpartition(SEPARATOR)[2] != table["clip_id"]
    if ambiguous.any():
        raise InputError(
            f"{where}: clip id {shown(table.loc[ambiguous, 'clip_id'].iloc[0])} is not the part after the last {SEPARATOR!r} of"
            f" {shown(ids[ambiguous].iloc[0])}, where MMSA cuts its ids."
        )
    return ids


def _split(selection: Selection, split: str, steps: Mapping[str, int]) -> dict[str, np.ndarray]:
    rows = np.flatnonzero(selection.table["split"] == split)
    table = selection.table.iloc[rows]
    polarities = [polarity_of_sentiment(value) for value in table["sentiment"]]
    part = {
        "raw_text": table["text"].to_numpy(object),
        "id": table["id"].to_numpy(object),
        "regression_labels": table["sentiment"].to_numpy(np.float32),
        "classification_labels": np.array([POLARITIES.index(polarity) for polarity in polarities], np.int64),
        "annotations": np.array([polarity.capitalize() for polarity in polarities], object),
    }
    for modality in (*MODALITIES, "vision"):
        if modality in steps:
            sequences = (selection.features(modality, name) for name in table["utterance_id"])
            part[modality] = pad_front(sequences, len(rows), steps[modality], selection.stores[modality].dim)
            part[f"{modality}_lengths"] = selection.lengths(modality)[rows]
        else:
            part[modality] = np.zeros((len(rows), 1, 1), np.float32)
            part[f"{modality}_lengths"] = np.ones(len(rows), np.int64)
    return part


def _shown(value: Any) -> str:
    """Return the type of a value of the file, and the first keys of a dict."""
    if not isinstance(value, dict):
        return f"a {type(value).__name__}"
    more = ", …" if len(value) > _SHOWN_KEYS else ""
    return f"a dict of {', '.join(shown(key) for key in islice(value, _SHOWN_KEYS))}{more}"


def _parts(content: Any, path: Path) -> dict[str, Any]:
    """Return key of a split in the file → its content, in the order of `SPLIT_NAMES`."""
    parts = {key: content[key] for key in SPLIT_NAMES if key in content} if isinstance(content, dict) else {}
    if not parts:
        raise InputError(f"{path}: expected a dict of {', '.join(SPLITS)}, found {_shown(content)}.")
    if len({SPLIT_NAMES[key] for key in parts}) < len(parts):
        raise InputError(f"{path}: found {', '.join(parts)}, two of which are the same split; expected {', '.join(SPLITS)}.")
    return parts


def _utterances(part: Any, where: str, split: str) -> pd.DataFrame:
    if not isinstance(part, dict) or not set(_REQUIRED) <= part.keys():
        raise InputError(f"{where}: expected a dict with {', '.join(_REQUIRED)}, found {_shown(part)}.")
    ids, texts = (_column(part, key, where).tolist() for key in ("id", "raw_text"))
    labels = _column(part, "regression_labels", where)
    if not len(ids) == len(texts) == len(labels):
        raise InputError(f"{where}: {len(ids):,} ids, {len(texts):,} texts and {len(labels):,} labels; expected as many of each.")
    for key, values in (("id", ids), ("raw_text", texts)):
        if strange := [value for value in values if not isinstance(value, str)]:
            raise InputError(f"{where}: {key} holds {shown(strange[0])}, expected text.")
        if broken := [value for value in values if not is_unicode(value)]:
            raise InputError(f"{where}: {key} holds {shown(broken[0])}, which cannot be stored: it has lone surrogates.")
    clips = [name.rpartition(SEPARATOR) for name in ids]
    for name, (video, _, _) in zip(ids, clips, strict=True):
        if not video or "\0" in name:
            raise InputError(f"{where}: id is {shown(name)}, expected '<video_id>{SEPARATOR}<clip_id>' without NUL.")
    with np.errstate(over="ignore"):  # numbers too large for float64 are refused, too
        sentiment = labels.astype(np.float64) if labels.dtype.kind in "iuf" else np.array([np.nan])
    if not np.isfinite(sentiment).all():
        raise InputError(f"{where}: regression_labels are not all finite numbers ({labels.dtype.name}).")
    table = pd.DataFrame({"id": ids, "video_id": [c[0] for c in clips], "clip_id": [c[2] for c in clips], "text": texts}, dtype=object)
    return table.assign(split=split, sentiment=sentiment, utterance_id=_utterance_ids(table))


def _utterance_ids(table: pd.DataFrame) -> pd.Series:
    """Return the ids of clips; a video that is one utterance has an empty clip id and keeps its own name."""
    return clip_ids(table).where(table["clip_id"] != "", table["video_id"])


def _column(part: Mapping[str, Any], key: str, where: str) -> np.ndarray:
    """Return the values of a key, (N,), one for each utterance: numbers if all are, else objects.

    A list is not left to NumPy, which copies lists as often as they occur (2⁴⁰ numbers from a file of 400 bytes) and pads texts to the
    length of the longest.
    """
    values = part[key]
    if isinstance(values, list):
        cells = [_single(value) for value in values]
        if any(isinstance(cell, list | dict | np.ndarray) for cell in cells):
            raise InputError(f"{where}: {key}: found lists in a list, expected one value for each utterance.")
        return np.array(cells, None if all(isinstance(cell, int | float) for cell in cells) else object)
    if not isinstance(values, np.ndarray) or values.ndim == 0:
        raise InputError(f"{where}: {key}: found {_shown(values)}, expected one value for each utterance.")
    return values.reshape(-1)


def _single(value: Any) -> Any:
    """Return the value of a list or an array of one value."""
    if isinstance(value, np.ndarray) and value.size == 1:
        return value.item()
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _order(clips: pd.Series) -> pd.Series:
    """Return the clip numbers if all clip ids are numbers, else the order of the file."""
    return clips.astype("int64") if clips.str.fullmatch(r"[0-9]{1,18}").all() else pd.Series(clips.index, index=clips.index)


def _has(parts: Mapping[str, Mapping[str, Any]], modality: str) -> bool:
    """Return True if there are features of a modality. One step of zeros stands for no features."""
    return any(modality in part and not _is_nothing(part[modality]) for part in parts.values())


def _is_nothing(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "biuf" and values.shape[1:] == (1, 1) and not values.any()


def _features(modality: str, parts: Mapping[str, Mapping[str, Any]], ids: Mapping[str, list[str]], path: Path, origin: str) -> Features:
    place_of: dict[str, tuple[str, int, slice]] = {}
    for split, names in ids.items():
        where = f"{path}: {split}: {modality}"
        values = _values(parts[split], modality, len(names), where)
        for row, (first, stop) in enumerate(_extents(parts[split], modality, names, where).tolist()):
            place_of[names[row]] = split, row, slice(first, stop)
    widths = {split: parts[split][modality].shape[2] for split in ids}
    if len(set(widths.values())) > 1:
        raise InputError(f"{path}: {modality} is {widths} wide, expected one width.")

    def read(name: str) -> np.ndarray:
        split, row, rows = place_of[name]
        return parts[split][modality][row, rows]

    lengths = {name: rows.stop - rows.start for name, (_, _, rows) in place_of.items()}
    return Features(f"{modality} of {path.name}", origin, values.shape[2], lengths, dict.fromkeys(lengths, origin), read)


def _values(part: Mapping[str, Any], modality: str, count: int, where: str) -> np.ndarray:
    """Check and return the array of a modality, (N, T, D)."""
    values = part.get(modality)
    if (
        not isinstance(values, np.ndarray)
        or values.dtype.kind not in "iuf"
        or values.ndim != 3
        or len(values) != count
        or 0 in values.shape
    ):
        found = f"{values.dtype.name} {values.shape}" if isinstance(values, np.ndarray) else _shown(values)
        raise InputError(f"{where}: found {found}, expected numbers of shape ({count}, steps, width).")
    return values


def _extents(part: Mapping[str, Any], modality: str, names: list[str], where: str) -> np.ndarray:
    """Return the first row of each sequence and the row after its last, (N, 2).

    They are taken from the lengths if the file has them, else from the mask of BERT's tokens if the sequences are aligned with these,
    else from the zeros of the padding.
    """
    values = part[modality]
    if f"{modality}_lengths" in part:
        lengths = _column(part, f"{modality}_lengths", where.removesuffix(f": {modality}"))
        if lengths.dtype.kind not in "iu" or len(lengths) != len(names):
            raise InputError(f"{where}_lengths: {lengths.dtype.name} {lengths.shape}, expected {len(names)} whole numbers.")
        return extents_by_length(values, lengths, names, where)
    tokens = part.get("text_bert")
    if isinstance(tokens, np.ndarray) and tokens.dtype.kind in "biuf" and tokens.shape == (len(names), 3, values.shape[1]):
        return extents_by_zeros(tokens[:, 1, :, None])
    return extents_by_zeros(values)


def _left(content: Mapping[Any, Any], parts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield sentences about the parts of the file that are not read."""
    keys = {key for part in parts.values() for key in part}
    unknown = [shown(key) for key in content if key not in parts] + sorted(shown(key) for key in keys - {*_READ, *_DERIVED})
    if unknown:
        more = f" and {len(unknown) - _SHOWN_KEYS:,} more" if len(unknown) > _SHOWN_KEYS else ""
        yield f"ignored: {', '.join(unknown[:_SHOWN_KEYS])}{more}, which heads do not use"
    if _has(parts, "vision"):
        yield "ignored: the vision features; import them afterwards with --modality vision"
    for modality in MODALITIES:
        if not _has(parts, modality):
            yield f"{modality}: none in the file"
