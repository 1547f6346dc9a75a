"""The `label.csv` that MMSA uses for MOSI and MOSEI, and the places of the clips beside it.

Columns, in any order: `video_id, clip_id, text, label, mode`, others are ignored; or the reduced form `id, text, label, mode`
with `id` = `<video_id>_<clip_id>`. Clips: `wav/<video_id>/<clip_id>.wav` or `Raw/<video_id>/<clip_id>.mp4`, both also with the name
`<clip_id>-edited`. Emotions are read in `data.corpora.mosei`, and CMU's own files in `data.corpora.cmu`.

Source: https://github.com/thuiar/MMSA (label.csv) and https://github.com/thuiar/MMSA-FET (edited clips are preferred).
"""

from pathlib import Path

import pandas as pd

from data.corpora.label_columns import refuse_unread_labels
from data.corpora.media_files import Place, has_any_media
from data.csv_tables import (
    expect_wide_scale,
    numbers,
    onto_scale,
    read_table,
    require_columns,
    splits,
    unique,
    whole_numbers,
)
from data.errors import InputError, shown
from data.findings import Finding
from data.labels import EMOTIONS, SENTIMENT_RANGE

LABEL_FILE = "label.csv"

_READ = ("id", "video_id", "clip_id", "text", "label", "mode")
_OF_FOLDERS = {*EMOTIONS, "sentiment", "split", "start_s", "end_s", "speaker", "media"}
"""Columns that only `data.corpora.folder` reads."""

PLACES = (
    Place("wav/{video_id}/{clip_id}-edited", ".wav"),
    Place("wav/{video_id}/{clip_id}", ".wav"),
    Place("Raw/{video_id}/{clip_id}-edited", ".mp4"),
    Place("Raw/{video_id}/{clip_id}", ".mp4"),
)
"""Places of the clips: extracted audio before video, and an edited clip before its original."""


def read_labels(root: Path, has_emotions: bool = False) -> tuple[pd.DataFrame, str, list[Finding]]:
    """Read `root/label.csv`.

    Args:
        root: The corpus root.
        has_emotions: True if the emotions are in another file. If not, a column of emotions is an error, because they would be lost.

    Returns:
        A table of `utterance_id` (`<video_id>[<clip_id>]`), `video_id`, `clip_id`, `order`, `text`, `sentiment`, `split` and
        `label_source`, indexed by line; the layout in words; findings about labels outside their scale.

    Raises:
        InputError: A column is missing, or a cell is invalid. The message names the line.
    """
    path = root / LABEL_FILE
    rows = read_table(path, ("text", "label", "mode"))
    refuse_unread_labels(rows, [str(column) for column in rows if column not in _READ], path, True, has_emotions)
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
    expect_wide_scale(values, path)
    table["sentiment"], findings = onto_scale(values, SENTIMENT_RANGE, path, table["utterance_id"].tolist())
    return table, layout, findings


def is_layout(root: Path) -> bool:
    """Return True if `root` has a `label.csv` with MMSA's columns and ids, and media in MMSA's folders or none at all.

    Raises:
        InputError: `label.csv` cannot be read.
    """
    if not (root / LABEL_FILE).exists():
        return False
    rows = read_table(root / LABEL_FILE, ())
    columns = set(rows)
    has_clips = {"video_id", "clip_id"} <= columns or ("id" in columns and bool(rows["id"].str.contains(r"._.").any()))
    has_columns = {"text", "label", "mode"} <= columns and has_clips and columns.isdisjoint(_OF_FOLDERS)
    in_place = any((root / folder).is_dir() for folder in ("Raw", "wav"))
    return has_columns and (in_place or not has_any_media(root))


def clip_ids(table: pd.DataFrame) -> pd.Series:
    """Return `<video_id>[<clip_id>]` for every row, the SDK's name of a segment."""
    return (table["video_id"] + "[" + table["clip_id"] + "]").rename("utterance_id")


def _split_ids(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Split ids at the last underscore, because a video id may contain underscores and begin with one."""
    parts = [value.rpartition("_") for value in rows["id"]]
    for line, value, (video, _, clip) in zip(rows.index, rows["id"], parts, strict=True):
        if not video or not clip:
            raise InputError(f"{path}:{line}: id is {shown(value)}, expected '<video_id>_<clip_id>'.")
    return rows.assign(video_id=[video for video, _, _ in parts], clip_id=[clip for _, _, clip in parts])
