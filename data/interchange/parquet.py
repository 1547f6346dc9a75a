"""A cached corpus as a folder that `datasets.load_dataset(FOLDER)` of Hugging Face reads: Parquet files by split, and a card.

    README.md                               the card: names the files of each split
    about.json                              corpus, source of emotions, encoders
    data/<split>-00000-of-00001.parquet     train, validation, test; unsplit for utterances without a split

A row is an utterance: the columns of `data.interchange.rows`, missing numbers as null, and `<modality>_features`, T lists of D float32,
which `with_format("numpy")` returns as (T, D). Any reader of Parquet reads the files, and the library `datasets` is not needed to write
them.

Source: https://huggingface.co/docs/datasets/repository_structure
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import atomic_folder
from data.cache import CachedCorpus
from data.interchange.cached import USUAL, Choice, Selection, expect_new, select
from data.interchange.rows import TEXTS, described, numbers

_FOLDER_OF = {"train": "train", "valid": "validation", "test": "test", "": "unsplit"}
"""Split → its name in the folder, which are those that Hugging Face uses."""

_ROWS_AT_ONCE = 64
"""Utterances of a row group: those that are in memory at the same time."""


def export_parquet(corpus: CachedCorpus, out: Path, limits: Mapping[str, int], choice: Choice = USUAL) -> list[str]:
    """Write a corpus as a folder for `datasets.load_dataset`.

    Args:
        corpus: A corpus of a cache.
        out: The folder, which appears complete or not at all.
        limits: Modality → number of rows to keep of each utterance, from the first.
        choice: Features and source of emotions.

    Returns:
        Sentences for the user: what was written and what was left out.

    Raises:
        InputError: `out` exists, or the corpus cannot be exported.
    """
    expect_new(out)
    selection = select(corpus, limits, is_labelled=False, choice=choice)
    found = [split for split in _FOLDER_OF if (selection.table["split"] == split).any()]
    with atomic_folder(out) as folder:
        (folder / "data").mkdir()
        for split in found:
            _write_split(folder / _file_of(split), selection, selection.table[selection.table["split"] == split])
        (folder / "about.json").write_text(json.dumps(described(selection), indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_card(selection, found), encoding="utf-8")
    return [*selection.notes, f"files: {', '.join(map(_file_of, found))}; read them: datasets.load_dataset({str(out)!r})"]


def _file_of(split: str) -> str:
    return f"data/{_FOLDER_OF[split]}-00000-of-00001.parquet"


def _write_split(path: Path, selection: Selection, rows: pd.DataFrame) -> None:
    schema = _schema(selection)
    with pq.ParquetWriter(path, schema) as writer:
        for part in _parts(rows):
            names = [*TEXTS, "position", *numbers(selection.labels)]
            plain = pa.Table.from_pandas(part[names], preserve_index=False)
            columns = [plain.column(name).cast(schema.field(name).type) for name in names]
            columns += [_nested(selection, name, part["utterance_id"].tolist()) for name in selection.stores]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _parts(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows.iloc[start : start + _ROWS_AT_ONCE]


def _nested(selection: Selection, modality: str, ids: list[str]) -> pa.Array:
    """Return the features of some utterances as lists (T) of lists (D)."""
    features = [selection.features(modality, utterance) for utterance in ids]
    values = np.concatenate(features)
    steps = pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1]), values.ravel())
    return pa.ListArray.from_arrays(np.cumsum([0, *map(len, features)], dtype=np.int32), steps)


def _schema(selection: Selection) -> pa.Schema:
    types = {name: pa.float64() if name.endswith("_s") else pa.float32() for name in numbers(selection.labels)}
    plain = {**dict.fromkeys(TEXTS, pa.string()), "position": pa.int64(), **types}
    features = {f"{_column(name)}_features": pa.list_(pa.list_(pa.float32())) for name in selection.stores}
    return pa.schema([*plain.items(), *features.items()])


def _column(modality: str) -> str:
    return modality.replace(".", "_")


def _card(selection: Selection, splits: list[str]) -> str:
    """Return the card: which files are which split, and what the rows are."""
    files = "\n".join(f"  - split: {_FOLDER_OF[split]}\n    path: {_file_of(split)}" for split in splits)
    features = "\n".join(
        f"* `{_column(name)}_features`: {store.dim} wide, {selection.encoder(name)}" for name, store in selection.stores.items()
    )
    notes = "\n".join(f"* {note}" for note in selection.notes)
    low, high = selection.labels.scale
    kind = "classes (1, the others 0)" if selection.labels.is_exclusive else "intensities (present: above 0)"
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}\n---\n\n# {selection.corpus}\n\nA row is an utterance."
        f" Sentiment is from {low:g} to {high:g}, emotions are {kind}, null where unlabelled; emotions are"
        f" {selection.emotions}.\n\n{features}\n\n{notes}\n"
    )
