"""The `label.csv` in which MMSA and its users pass on MOSI and MOSEI, and where the clips lie beside it.

Columns, in any order: `video_id, clip_id, text, label, mode`, others are ignored; or the reduced form `id, text, label, mode`
with `id` = `<video_id>_<clip_id>`. Clips: `wav/<video_id>/<clip_id>.wav`, `Raw/<video_id>/<clip_id>.mp4`, either also
`<clip_id>-edited`. Emotions and CMU's own files are not here: `data.corpora.mosei`, `data.corpora.cmu`.

Source: https://github.com/thuiar/MMSA (label.csv) and https://github.com/thuiar/MMSA-FET (edited clips are preferred).
"""

from pathlib import Path

import pandas as pd

from data.corpora.base import Finding
from data.corpora.media_files import Place
from data.csv_tables import numbers, onto_scale, read_table, require_columns, splits, unique, whole_numbers
from data.errors import InputError
from data.labels import SENTIMENT_RANGE

LABEL_FILE = "label.csv"

PLACES = (
    Place("wav/{video_id}/{clip_id}-edited", ".wav"),
    Place("wav/{video_id}/{clip_id}", ".wav"),
    Place("Raw/{video_id}/{clip_id}-edited", ".mp4"),
    Place("Raw/{video_id}/{clip_id}", ".mp4"),
)
"""Extracted audio before video; an edited clip before its original."""


def read_labels(root: Path) -> tuple[pd.DataFrame, str, list[Finding]]:
    """Reads `root/label.csv`.

    Returns:
        `utterance_id` (`<video_id>[<clip_id>]`), `video_id`, `clip_id`, `order`, `text`, `sentiment`, `split`, `label_source`,
        indexed by line; the layout in words; labels that were outside their scale.

    Raises:
        InputError: A column is missing, or a cell does not hold what it should; with its line.
    """
    path = root / LABEL_FILE
    rows = read_table(path, ("text", "label", "mode"))
    layout = "MMSA label.csv"
    if "video_id" not in rows and "id" in rows:
        rows, layout = _split_ids(rows, path), "reduced label.csv (id, text, label, mode)"
    require_columns(rows, ("video_id", "clip_id"), path)
    table = rows[["video_id", "clip_id", "text"]].assign(
        utterance_id=unique(clip_ids(rows), path),
        order=whole_numbers(rows["clip_id"], path),
        split=splits(rows["mode"], path),
        label_source=LABEL_FILE,
    )
    values = numbers(rows["label"], path).rename("sentiment")
    table["sentiment"], findings = onto_scale(values, SENTIMENT_RANGE, path, table["utterance_id"].tolist())
    return table, layout, findings


def clip_ids(table: pd.DataFrame) -> pd.Series:
    """`<video_id>[<clip_id>]` for every row, the SDK's way to name a segment."""
    return (table["video_id"] + "[" + table["clip_id"] + "]").rename("utterance_id")


def _split_ids(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Splits at the last underscore: a video id may hold underscores and begin with one."""
    parts = [value.rpartition("_") for value in rows["id"]]
    for line, value, (video, _, clip) in zip(rows.index, rows["id"], parts, strict=True):
        if not video or not clip:
            raise InputError(f"{path}:{line}: id is {value!r}, expected '<video_id>_<clip_id>'.")
    return rows.assign(video_id=[video for video, _, _ in parts], clip_id=[clip for _, _, clip in parts])
