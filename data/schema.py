"""The columns of an utterance table and the rules of a valid one. `data.manifest` reads and writes the table on disk."""

from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from data.errors import InputError, shown
from data.labels import MOSEI_LABELS, POLARITIES, LabelSet

SPLITS = ("train", "valid", "test")

MODALITIES = ("text", "audio")
"""Modalities that have token features: one row per token (text) or frame (audio)."""

TEXT_COLUMNS = (
    "utterance_id",  # unique in the corpus; carries the split where the corpus needs it (MELD)
    "corpus",
    "video_id",
    "clip_id",
    "speaker",  # empty if unknown
    "split",  # one of SPLITS; empty if the corpus has none (`folder` without a mode column)
    "text",
    "media",  # POSIX path below the corpus root; empty for a text-only utterance
    "category",  # the corpus's own emotion category (MELD, IEMOCAP), as written there; else empty
    "polarity",  # the corpus's own polarity (MELD), one of POLARITIES; else empty
    "label_source",  # source of the labels, e.g. "label.csv", "label.csv + CMU_MOSEI_Labels.csd"; empty if unlabelled
    "excluded",  # why this utterance cannot be used; empty if it can
)
_OWN = ("utterance_id", "text")
"""Columns in which an utterance usually has a text that no other one has."""


def float_columns(labels: LabelSet = MOSEI_LABELS) -> tuple[str, ...]:
    """List the columns of numbers. `start_s` and `end_s` cut the utterance out of `media`; both are NaN if `media` holds just the
    utterance. `duration_s` is NaN until the medium is decoded. Sentiment and emotions are NaN where unlabelled."""
    return ("start_s", "end_s", "duration_s", "sentiment", *labels.emotions)


def columns(labels: LabelSet = MOSEI_LABELS) -> tuple[str, ...]:
    """List all columns in their order. `position` (int64) is the order inside the video, from 0."""
    return (
        "utterance_id", "corpus", "video_id", "clip_id", "position", "speaker", "split", "text", "media",
        "start_s", "end_s", "duration_s", "sentiment", *labels.emotions, "category", "polarity", "label_source", "excluded",
    )  # fmt: skip


def emotions_of(table: pd.DataFrame) -> list[str]:
    """List the emotions of a table with exactly `columns` in their order, as `validate` returns it."""
    names = [str(name) for name in table]
    return names[names.index("sentiment") + 1 : names.index("category")]


FLOAT_COLUMNS, COLUMNS = float_columns(), columns()
"""Those of a corpus with the usual labels."""


def validate(table: pd.DataFrame, where: str, labels: LabelSet = MOSEI_LABELS) -> pd.DataFrame:
    """Return the table with exactly `columns` in their order, text as str, numbers as float64, and a new index from 0.

    Args:
        table: A table with one row per utterance. The rows keep their order.
        where: The file or folder to name in a message.
        labels: What the utterances are labelled with.

    Raises:
        InputError: A column is missing or unknown; a value has the wrong type; an id is empty or repeated; a split, sentiment,
            emotion or time is out of its range. The message names `where`, the first such row, the value and the expected values.
    """
    expected, floats = columns(labels), float_columns(labels)
    found: set[Any] = set(table)
    missing, unknown = set(expected) - found, found - set(expected)
    if missing or unknown:
        raise InputError(f"{where}: columns missing {sorted(missing)}, unknown {sorted(unknown)}.")
    table = table.loc[:, list(expected)].reset_index(drop=True)
    numbers = {column: pd.to_numeric(table[column], errors="coerce") for column in (*floats, "position")}
    for column in floats:
        _expect(table, table[column].isna() | np.isfinite(numbers[column]), column, "a finite number", where)
    _expect(table, numbers["position"] % 1 == 0, "position", "a whole number", where)
    table = table.assign(**numbers, **{column: _texts(table[column]) for column in TEXT_COLUMNS})
    table = table.astype({**dict.fromkeys(floats, "float64"), "position": "int64"})
    for column in TEXT_COLUMNS:
        if infer_dtype(table[column], skipna=False) not in ("string", "empty"):
            _expect(table, table[column].map(lambda v: isinstance(v, str)), column, "text", where)
    _expect(table, table["utterance_id"] != "", "utterance_id", "not empty", where)
    _expect(table, ~table["utterance_id"].duplicated(), "utterance_id", "unique", where)
    _expect(table, table["split"].isin([*SPLITS, ""]), "split", f"one of {', '.join(SPLITS)}", where)
    _expect(table, table["polarity"].isin([*POLARITIES, ""]), "polarity", f"one of {', '.join(POLARITIES)}", where)
    low, high = labels.scale
    sentiment = table["sentiment"]
    _expect(table, sentiment.isna() | sentiment.between(low, high), "sentiment", f"between {low:g} and {high:g}", where)
    for emotion in labels.emotions:
        _expect(table, table[emotion].isna() | table[emotion].between(0, 1e9), emotion, "an intensity ≥ 0", where)
    if labels.is_exclusive:
        _expect_one_class(table, labels, where)
    timed = table["start_s"].notna() | table["end_s"].notna()
    _expect(table, ~timed | (table["end_s"] > table["start_s"]) | (table["excluded"] != ""), "end_s", "after start_s", where)
    return table


def _expect_one_class(table: pd.DataFrame, labels: LabelSet, where: str) -> None:
    """Raise InputError unless each utterance has a 1 for one class and zeros for the others, or NaN for all."""
    values = table[list(labels.emotions)]
    has_one = ((values == 1).sum(axis=1) == 1) & ((values == 0).sum(axis=1) == len(labels.emotions) - 1)
    _expect(table, has_one | values.isna().all(axis=1), labels.emotions[0], "1 for one class and 0 for all others", where)


def _texts(column: pd.Series) -> pd.Series:
    """Return a column as objects. Equal texts are one object in memory, because names of splits, speakers and videos recur."""
    if column.name in _OWN:
        return column.astype(object)
    known: dict[str, str] = {}
    shared = [known.setdefault(value, value) if isinstance(value, str) else value for value in column.tolist()]
    return pd.Series(shared, index=column.index, dtype=object)


def _expect(table: pd.DataFrame, good: pd.Series, column: str, expected: str, where: str) -> None:
    if good.all():
        return
    row = table.loc[~good].iloc[0]
    value = row[column].item() if isinstance(row[column], np.generic) else row[column]
    others = int((~good).sum()) - 1
    more = f" ({others} more rows like it)" if others else ""
    raise InputError(f"{where}: utterance {shown(row['utterance_id'])}: {column} is {shown(value)}, expected {expected}{more}.")
