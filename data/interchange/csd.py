"""Computational sequences of the CMU multimodal SDK (`.csd`): the labels of MOSI and MOSEI, and features by video or by segment.

A `.csd` is HDF5: one root group (named by the sequence), in it `data/<id>/features` (n, ...), `data/<id>/intervals` (n, 2) in
seconds, and `metadata/<key>`, one JSON string each. The SDK's reader requires only the metadata "root name".
What the columns of a label file mean is in `data.corpora`.

Source: https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK (mmsdk/mmdatasdk/computational_sequence).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd

from data.atomic import atomic_folder
from data.cache import CachedCorpus
from data.errors import InputError
from data.files import read_head
from data.hdf5 import new_hdf5
from data.interchange.cached import Selection, expect_new, select
from data.labels import EMOTIONS
from data.schema import SPLITS

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Entry(NamedTuple):
    """What a sequence holds for one id."""

    features: np.ndarray  # (n, ...)
    intervals: np.ndarray  # (n, 2), seconds


@dataclass(frozen=True)
class Sequence:
    """A whole computational sequence, in memory."""

    name: str
    entries: Mapping[str, Entry]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_csd(path: Path) -> Sequence:
    """Reads a `.csd`, ids in the order of the file.

    Raises:
        InputError: The file is missing, is a git-lfs pointer or an HTML page, is not HDF5, is truncated or damaged, or its groups
            and shapes are not those of a computational sequence.
    """
    if not read_head(path).startswith(_SIGNATURE):
        raise InputError(f"{path}: not a .csd (HDF5) file. Download it again.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: {_damage(error)}") from error
    with file:
        try:
            return _read_root(file, path)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: {_damage(error)}") from error


def write_csd(path: Path, name: str, entries: Iterable[tuple[str, Entry]], metadata: Mapping[str, Any] | None = None) -> None:
    """Writes a `.csd` that the SDK reads, one entry at a time, so that memory holds one of them.

    Args:
        path: Where to; appears complete or not at all.
        name: The root group, and the metadata "root name".
        entries: (id, features and intervals) pairs.
        metadata: Further JSON-able facts, e.g. "dimension names".

    Raises:
        InputError: An id is repeated or cannot name an HDF5 group, or the shapes of an entry do not fit.
    """
    if not _is_group_name(name):
        raise InputError(f"{path}: a sequence cannot be named {name!r}: expected a name without '/'.")
    with new_hdf5(path) as made:
        with made.change() as file:
            data = file.create_group(f"{name}/data")
        for entry_id, entry in entries:
            with made.change():
                _check_id(path, data, entry_id)
                _check_shapes(path, entry_id, entry)
                data.create_dataset(f"{entry_id}/features", data=entry.features)
                data.create_dataset(f"{entry_id}/intervals", data=entry.intervals)
        with made.change() as file:
            for key, value in {**(metadata or {}), "root name": name}.items():
                file.create_dataset(f"{name}/metadata/{key}", data=[json.dumps(value)], dtype=h5py.string_dtype())


def export_csd(corpus: CachedCorpus, out: Path, limits: Mapping[str, int]) -> list[str]:
    """Writes a corpus as `<modality>.csd`, and its labels as `labels.csd`, one entry an utterance.

    The rows of an utterance share its time evenly. Entries are named by utterance id, '/' as '_'. `labels.csd` is laid out as
    CMU-MOSEI's: root "All Labels", sentiment and six emotions, NaN where unlabelled. The format has no splits.

    Args:
        corpus: Of a cache.
        out: The folder; appears complete or not at all.
        limits: Modality → rows to keep of an utterance, from its first.

    Returns:
        What was written and what was left out, in sentences for the user.

    Raises:
        InputError: `out` exists, the corpus cannot be exported, or an utterance has no known duration.
    """
    expect_new(out)
    selection = select(corpus, limits, is_labelled=False)
    spans = _spans(selection.table, corpus.manifest)
    with atomic_folder(out) as folder:
        _write_sequences(folder, selection, spans)
    return [
        *selection.notes,
        f"files: {', '.join(f'{one}.csd' for one in (*selection.stores, 'labels'))}; splits are not in this format",
    ]


def _write_sequences(folder: Path, selection: Selection, spans: np.ndarray) -> None:
    names = selection.table["utterance_id"].str.replace("/", "_").tolist()
    for modality in selection.stores:
        described = {
            "computational sequence description": f"{modality} features of {selection.corpus} by {selection.encoder(modality)}"
        }
        write_csd(folder / f"{modality}.csd", f"{selection.corpus} {modality}", _entries(selection, modality, names, spans), described)
    labels = selection.table[["sentiment", *EMOTIONS]].to_numpy(np.float32)
    entries = ((name, Entry(labels[[row]], spans[[row]])) for row, name in enumerate(names))
    write_csd(folder / "labels.csd", "All Labels", entries, {"dimension names": ["sentiment", *EMOTIONS]})


def _spans(table: pd.DataFrame, where: Path) -> np.ndarray:
    """(N, 2) seconds in which each utterance lies: its cut of a recording, or its own medium from 0."""
    is_cut = table["end_s"].notna()
    spans = np.column_stack([table["start_s"].where(is_cut, 0.0), table["end_s"].where(is_cut, table["duration_s"])])
    unknown = table.loc[~np.isfinite(spans).all(axis=1), "utterance_id"]
    if len(unknown):
        raise InputError(
            f"{where}: {len(unknown):,} of {len(table):,} utterances have no known duration, first {unknown.iloc[0]!r}; "
            f"a .csd gives every row its time. Build the corpus with its media, which have durations{_other_formats(table)}."
        )
    return spans


def _other_formats(table: pd.DataFrame) -> str:
    """The formats without times that a corpus can have, as advice: they need a sentiment and a split."""
    splits = set(table.loc[table["sentiment"].notna(), "split"]) & set(SPLITS)
    formats = [name for name, is_possible in (("mmsa", splits == set(SPLITS)), ("merbench", bool(splits))) if is_possible]
    return f", or export as {' or '.join(formats)}, which needs none" if formats else ""


def _entries(selection: Selection, modality: str, names: list[str], spans: np.ndarray) -> Iterator[tuple[str, Entry]]:
    length_of = dict(zip(selection.stores[modality].ids, selection.stores[modality].lengths.tolist(), strict=True))
    for name, utterance, (start_s, end_s) in zip(names, selection.table["utterance_id"], spans, strict=True):
        features = selection.features(modality, utterance)
        edges = np.linspace(start_s, end_s, length_of[utterance] + 1)[: len(features) + 1]
        yield name, Entry(features, np.column_stack([edges[:-1], edges[1:]]))


def _damage(error: Exception) -> str:
    if "truncated" in str(error):
        return "truncated: shorter on disk than its header says. Download it again."
    return f"damaged ({error}). Download it again."


def _read_root(file: h5py.File, path: Path) -> Sequence:
    names = list(file)
    if len(names) != 1 or not isinstance(file[names[0]], h5py.Group):
        raise InputError(f"{path}: not a computational sequence: expected one root group, found {names}.")
    root = file[names[0]]
    data = root.get("data")
    if not isinstance(data, h5py.Group):
        raise InputError(f"{path}: not a computational sequence: expected a group 'data' in {names[0]!r}, found {list(root)}.")
    entries = {entry_id: _read_entry(data, entry_id, path) for entry_id in data}
    return Sequence(names[0], entries, _read_metadata(root))


def _read_entry(data: h5py.Group, entry_id: str, path: Path) -> Entry:
    try:
        entry = Entry(data[f"{entry_id}/features"][()], data[f"{entry_id}/intervals"][()])
    except (KeyError, AttributeError) as error:
        raise InputError(f"{path}: {entry_id!r}: expected datasets 'features' and 'intervals'.") from error
    _check_shapes(path, entry_id, entry)
    return entry


def _read_metadata(root: h5py.Group) -> dict[str, Any]:
    group = root.get("metadata", {})
    return {key: _parse(group[key][()]) for key in group}


def _parse(stored: Any) -> Any:
    """The JSON value of a metadata dataset, scalar or of shape (1,); the raw text where other tools wrote no JSON."""
    value = np.ravel(np.asarray(stored, dtype=object))[0] if np.size(stored) else ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _is_group_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _check_id(path: Path, data: h5py.Group, entry_id: str) -> None:
    if not _is_group_name(entry_id):
        raise InputError(f"{path}: {entry_id!r} cannot be the id of an entry: expected a name without '/'.")
    if entry_id in data:
        raise InputError(f"{path}: id {entry_id!r} is given twice; expected unique ids.")


def _check_shapes(path: Path, entry_id: str, entry: Entry) -> None:
    features, intervals = entry
    numeric = np.issubdtype(features.dtype, np.number) and np.issubdtype(intervals.dtype, np.number)
    if not numeric or features.ndim < 1 or intervals.shape != (len(features), 2):
        raise InputError(
            f"{path}: {entry_id!r}: features {features.dtype} {features.shape}, "
            f"intervals {intervals.dtype} {intervals.shape}; expected numbers of shapes (n, ...) and (n, 2)."
        )
