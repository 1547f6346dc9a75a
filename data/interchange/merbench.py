"""MERBench's feature folders, exported and imported.

    <encoder>-FRA/<video>_<clip>.npy   (T, D) float32, one file per clip, with '_' for '/' in a video id; <video>.npy without a clip id
    label.npz                          train_corpus, val_corpus, test_corpus: each a pickled dict
                                       {"<video>_<clip>": {"emo": 0, "val": sentiment}}

MERBench reads these files. They contain neither texts nor emotions, nor the modality of a folder, so an export also contains

    label.csv       id, video_id, clip_id, text, split, sentiment and emotions, in the layout of `data.corpora.folder`, with cells
                    that begin like a formula escaped (`data.spreadsheets`); an import takes the apostrophes away
    features.json   {"text": "<encoder>-FRA", "audio": "<encoder>-FRA"}

`data.interchange.imported` writes an import into a cache.

Source: https://github.com/zeroQiaoba/MERTools (MERBench/toolkit/utils/read_data.py, dataloader/cmudata.py, preprocess/cmumosi.py)
"""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.atomic import atomic_folder
from data.cache import CachedCorpus
from data.corpora.folder import read_folder
from data.corpora.mmsa import LABEL_FILE
from data.errors import InputError, reason, shown
from data.files import read_head
from data.fingerprint import KEY_LENGTH, file_digest
from data.interchange.cached import USUAL, Choice, Selection, expect_modalities, expect_new, select
from data.interchange.imported import Features, Import
from data.interchange.npy import features_of
from data.label_sets import OPEN, Statement, label_columns
from data.schema import MODALITIES
from data.spreadsheets import escape_cells

FEATURES_FILE = "features.json"
NPZ_FILE = "label.npz"

_SUFFIX = "-FRA"
_LONGEST_BYTES = 255
"""Longest file name on all common file systems, in bytes."""

_THEIR_SPLITS = {"train": "train_corpus", "valid": "val_corpus", "test": "test_corpus"}


def export_merbench(corpus: CachedCorpus, out: Path, limits: Mapping[str, int], choice: Choice = USUAL) -> list[str]:
    """Write a corpus as folders of `.npy` files with its labels beside them.

    Args:
        corpus: A corpus of a cache.
        out: The folder, which appears complete or not at all.
        limits: Modality → number of rows to keep of each utterance, from the first.
        choice: Features and source of emotions.

    Returns:
        Sentences for the user: what was written and what was left out.

    Raises:
        InputError: `out` exists, the corpus cannot be exported, or two clips would have the same file name.
    """
    expect_new(out)
    expect_modalities(choice, MODALITIES, "merbench")
    selection = select(corpus, limits, is_labelled=True, choice=choice)
    names = _names(selection.table, corpus.manifest)
    if names.duplicated().any():
        raise InputError(
            f"{corpus.manifest}: two clips would both be named {shown(names[names.duplicated()].iloc[0])}; MERBench needs unique names."
        )
    folders = _folders(selection)
    with atomic_folder(out) as made:
        for modality, folder in folders.items():
            _write_features(made / folder, selection, modality, names)
        _write_labels(made, selection, names)
        (made / FEATURES_FILE).write_text(json.dumps(folders, indent=2) + "\n", encoding="utf-8")
    return [*selection.notes, *(f"{modality}: {folder}" for modality, folder in folders.items()), f"labels: {NPZ_FILE}, {LABEL_FILE}"]


def read_merbench(path: Path, name: str, statement: Statement = OPEN) -> Import:
    """Read folders of `.npy` files with `label.csv` and `features.json` beside them.

    Args:
        path: The folder that contains these folders and files.
        name: The corpus name for the manifest.
        statement: What a flag says about the labels; the header of `label.csv` may say it, too.

    Raises:
        InputError: A file is missing or not as described above, or an utterance of `label.csv` has no features.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder, expected one with {LABEL_FILE}, {FEATURES_FILE} and feature folders.")
    folders = _read_folders(path)
    corpus = read_folder(name, path, has_media=False, is_escaped=True, statement=statement)
    names = _names(corpus.utterances, path / LABEL_FILE)
    if names.duplicated().any():
        raise InputError(f"{path / LABEL_FILE}: two clips have their features in {names[names.duplicated()].iloc[0]}.npy.")
    features, notes = {}, []
    for modality, folder in folders.items():
        features[modality] = _features(path / folder, names, corpus.utterances["utterance_id"])
        unused = sum(file.stem not in set(names) for file in (path / folder).glob("[!.]*.npy"))
        notes += [f"ignored: {unused:,} files in {folder} that belong to no row of {LABEL_FILE}"] if unused else []
    return Import(corpus, file_digest(path / LABEL_FILE)[:KEY_LENGTH], features, tuple(notes))


def _names(table: pd.DataFrame, where: Path) -> pd.Series:
    """Return the name of each clip's files, without suffix; the name of the video if the clip has no id."""
    names = (table["video_id"] + "_" + table["clip_id"]).where(table["clip_id"] != "", table["video_id"]).str.replace("/", "_")
    for name in names:
        if "\0" in name or len(f"{name}.npy".encode()) > _LONGEST_BYTES:
            raise InputError(
                f"{where}: a clip would be named {name[:60]!r}… in its feature folder; expected a file name of at most "
                f"{_LONGEST_BYTES} bytes, without NUL. Shorten its video_id and clip_id."
            )
    return names


def _folders(selection: Selection) -> dict[str, str]:
    """Return modality → name of its folder."""
    encoders = {
        modality: re.sub(r"[^A-Za-z0-9._-]+", "-", selection.encoder(modality)).strip("-.") or modality for modality in selection.stores
    }
    is_ambiguous = len(set(encoders.values())) < len(encoders)
    return {modality: f"{encoder}-{modality}{_SUFFIX}" if is_ambiguous else encoder + _SUFFIX for modality, encoder in encoders.items()}


def _write_features(folder: Path, selection: Selection, modality: str, names: pd.Series) -> None:
    folder.mkdir()
    for name, utterance in zip(names, selection.table["utterance_id"], strict=True):
        content = io.BytesIO()  # np.save into a file does not report a full disk
        np.save(content, selection.features(modality, utterance))
        (folder / f"{name}.npy").write_bytes(content.getbuffer())


def _write_labels(out: Path, selection: Selection, names: pd.Series) -> None:
    table = selection.table
    columns = ["video_id", "clip_id", "text", "speaker", "split"]
    labelled = table[columns].assign(**label_columns(table, selection.labels), id=table["utterance_id"])
    shown = escape_cells(labelled)
    shown.to_csv(out / LABEL_FILE, index=False, lineterminator="\n")
    labels = {name: {"emo": 0, "val": value} for name, value in zip(names, table["sentiment"].tolist(), strict=True)}
    corpora: dict[str, Any] = {
        theirs: {name: labels[name] for name in names[table["split"] == ours]} for ours, theirs in _THEIR_SPLITS.items()
    }
    np.savez_compressed(out / NPZ_FILE, **corpora)


def _read_folders(path: Path) -> dict[str, str]:
    """Read `features.json`: modality → name of its folder."""
    source = path / FEATURES_FILE
    found = sorted(folder.name for folder in path.glob(f"*{_SUFFIX}") if folder.is_dir())
    expected = (
        f'expected {{"text": "<folder>", "audio": "<folder>"}} or one of them; feature folders here: {", ".join(found) or "none"}'
    )
    if not source.is_file():
        raise InputError(f"{source}: no such file; it names the feature folder of each modality. Write it: {expected}.")
    read_head(source)
    try:
        folders = json.loads(source.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not JSON ({reason(error)}); {expected}.") from error
    is_table = isinstance(folders, dict) and bool(folders) and folders.keys() <= set(MODALITIES)
    if not is_table or not all(folder in found for folder in folders.values()):
        raise InputError(f"{source}: holds {shown(folders)}; {expected}.")
    return folders


def _features(folder: Path, names: pd.Series, utterances: pd.Series) -> Features:
    files = {utterance: folder / f"{name}.npy" for utterance, name in zip(utterances, names, strict=True)}
    if missing := [file.name for file in files.values() if not file.is_file()]:
        raise InputError(f"{folder}: {len(missing):,} of {len(files):,} clips of {LABEL_FILE} have no file here, first {missing[0]}.")
    return features_of(files, folder, folder.name.removesuffix(_SUFFIX))
