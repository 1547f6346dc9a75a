"""A cached corpus as computational sequences of the CMU multimodal SDK (`.csd`), features by utterance and labels; features of such a
file for import.

`data.csd` reads and writes a single `.csd`; `data.corpora.cmu` reads the label files of MOSI and MOSEI; `data.interchange.joined` joins
imported features to a corpus.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from data.atomic import atomic_folder
from data.cache import CachedCorpus
from data.csd import Entry, read_csd, write_csd
from data.errors import InputError, shown
from data.fingerprint import KEY_LENGTH, file_digest
from data.interchange.cached import USUAL, Choice, Selection, expect_new, select
from data.interchange.imported import Features
from data.schema import SPLITS


def export_csd(corpus: CachedCorpus, out: Path, limits: Mapping[str, int], choice: Choice = USUAL) -> list[str]:
    """Write the features of a corpus as `<modality>.csd` and its labels as `labels.csd`, one entry per utterance.

    The rows of an utterance divide its time evenly. Entries have the names of utterance ids, with '_' for '/'. `labels.csd` has the
    structure of CMU-MOSEI's labels: root "All Labels", sentiment and the emotions, NaN where unlabelled. The format has no splits.

    Args:
        corpus: A corpus of a cache.
        out: The folder, which appears complete or not at all.
        limits: Modality → number of rows to keep of each utterance, from the first.
        choice: Features and source of emotions.

    Returns:
        Sentences for the user: what was written and what was left out.

    Raises:
        InputError: `out` exists, the corpus cannot be exported, or an utterance has no known duration.
    """
    expect_new(out)
    selection = select(corpus, limits, is_labelled=False, choice=choice)
    spans = _spans(selection.table, corpus.manifest)
    with atomic_folder(out) as folder:
        _write_sequences(folder, selection, spans)
    return [
        *selection.notes,
        f"files: {', '.join(f'{one}.csd' for one in (*selection.stores, 'labels'))}; splits are not in this format",
    ]


def read_csd_features(path: Path, feature_set: str) -> Features:
    """Read the features of a `.csd`, by utterance or by video, with their times.

    Args:
        path: The file.
        feature_set: The name that the features will have.

    Raises:
        InputError: The file is no `.csd`, it has no entry, or an entry is not (n, D) numbers of one width.
    """
    entries = read_csd(path).entries
    if not entries:
        raise InputError(f"{path}: no entry in it, expected features by utterance or by video.")
    values = {name: entry.features[:, None] if entry.features.ndim == 1 else entry.features for name, entry in entries.items()}
    for name, features in values.items():
        if features.ndim != 2 or not features.shape[1] or features.dtype.kind not in "iuf":
            raise InputError(
                f"{path}: {shown(name)}: {features.dtype.name} {features.shape}, expected numbers of shape (steps, width)."
            )
    widths = {features.shape[1]: name for name, features in values.items()}
    if len(widths) > 1:
        raise InputError(
            f"{path}: {' and '.join(f'{shown(one)} is {width} wide' for width, one in widths.items())}; expected one width."
        )
    origin = file_digest(path)[:KEY_LENGTH]
    return Features(
        encoder=f"{feature_set} of {path.name}",
        origin=origin,
        dim=next(iter(widths)),
        lengths={name: len(features) for name, features in values.items()},
        sources=dict.fromkeys(values, origin),
        read=lambda name: values[name],
        intervals=lambda name: entries[name].intervals,
    )


def _write_sequences(folder: Path, selection: Selection, spans: np.ndarray) -> None:
    ids = selection.table["utterance_id"].str.replace("/", "_").tolist()
    for modality in selection.stores:
        described = {
            "computational sequence description": f"{modality} features of {selection.corpus} by {selection.encoder(modality)}"
        }
        write_csd(folder / f"{modality}.csd", f"{selection.corpus} {modality}", _entries(selection, modality, ids, spans), described)
    names = ["sentiment", *selection.labels.emotions]
    labels = selection.table[names].to_numpy(np.float32)
    entries = ((name, Entry(labels[[row]], spans[[row]])) for row, name in enumerate(ids))
    write_csd(folder / "labels.csd", "All Labels", entries, {"dimension names": names})


def _spans(table: pd.DataFrame, where: Path) -> np.ndarray:
    """Return start and end of each utterance in seconds, (N, 2): its segment of a recording, or its whole medium from 0."""
    is_cut = table["end_s"].notna()
    spans = np.column_stack([table["start_s"].where(is_cut, 0.0), table["end_s"].where(is_cut, table["duration_s"])])
    unknown = table.loc[np.logical_not(np.all(np.isfinite(spans), axis=1)), "utterance_id"]
    if len(unknown):
        raise InputError(
            f"{where}: {len(unknown):,} of {len(table):,} utterances have no known duration, first {shown(unknown.iloc[0])}; "
            f"a .csd gives every row its time. Build the corpus with its media, which have durations{_other_formats(table)}."
        )
    return spans


def _other_formats(table: pd.DataFrame) -> str:
    """Name the formats without times that the corpus can be exported to. They need a sentiment and a split."""
    splits = set(table.loc[table["sentiment"].notna(), "split"]) & set(SPLITS)
    formats = [name for name, is_possible in (("mmsa", splits == set(SPLITS)), ("merbench", bool(splits))) if is_possible]
    return f", or export as {' or '.join(formats)}, which needs none" if formats else ""


def _entries(selection: Selection, modality: str, names: list[str], spans: np.ndarray) -> Iterator[tuple[str, Entry]]:
    length_of = dict(zip(selection.stores[modality].ids, selection.stores[modality].lengths.tolist(), strict=True))
    for name, utterance, (start_s, end_s) in zip(names, selection.table["utterance_id"], spans, strict=True):
        features = selection.features(modality, utterance)
        edges = np.linspace(start_s, end_s, length_of[utterance] + 1)[: len(features) + 1]
        yield name, Entry(features, np.column_stack([edges[:-1], edges[1:]]))
