"""Columns that hold labels under names, or in forms, that no reader reads. They are refused, because the labels would be lost.

A column is recognised by its name (`emotion`, `valence`, `calm`) or by its values (`happy`, `negative`). Labels that are read are
described in `data.corpora.folder` and `data.corpora.mmsa`; their scale is checked in `data.csv_tables`.
"""

import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from data.errors import InputError, shown
from data.labels import CATEGORIES, EMOTIONS, POLARITIES

_FEELINGS = {
    *EMOTIONS, *(category for category in CATEGORIES if category not in ("neutral", "neu", "oth", "xxx", "dis")),
    "admiration", "afraid", "amused", "amusement", "anger", "angry", "annoyed", "anticipation", "anxiety", "anxious", "awe", "bored",
    "boredom", "calm", "calmness", "concerned", "confused", "confusion", "contempt", "disappointed", "disappointment", "disgusted",
    "embarrassment", "excited", "excitement", "fearful",
    "frustrated", "frustration", "guilt", "happy", "hate", "hatred", "joyful", "love", "pride", "proud", "relaxed", "relief", "sad",
    "scared", "shame", "sleepiness", "surprised", "trust", "worried",
}  # fmt: skip
_POLARITIES = {*POLARITIES, "pos", "neg", "neu"}
_NEUTRAL = {"neutral", "neu", "none", "other", "oth", "xxx"}
_EMOTION_NAMES = {"emotion", "emotions", "emo", "mood", "affect", "feeling", "feelings", "arousal", "dominance", "情绪"}
_SENTIMENT_NAMES = {"sentiment", "sentiments", "senti", "opinion", "polarity", "valence", "情感"}
_LABEL_NAMES = {
    "annotation", "annotations", "category", "categories", "class", "classes", "gold", "gt", "label", "labels", "rating", "ratings",
    "score", "scores", "stars", "target", "targets", "truth", "y", "标签",
}  # fmt: skip


def refuse_unread_labels(rows: pd.DataFrame, others: Collection[str], path: Path, has_sentiment: bool, has_emotions: bool) -> None:
    """Raise InputError for the first column with labels that would be lost.

    Args:
        rows: A table of text, with any columns.
        others: The columns that are not read.
        path: The file, for the message.
        has_sentiment: True if sentiment is read from another column or file.
        has_emotions: True if emotions are.
    """
    for column in others:
        what = _labels_in(column, rows[column])
        lost = {
            "an emotion": True,
            "emotions": not has_emotions,
            "sentiment": not has_sentiment,
            "labels": not has_sentiment and not has_emotions,
        }
        if what and lost[what]:
            raise InputError(
                f"{path}:1: column {shown(column)} seems to hold {what}, which would be lost. Sentiment is read from 'label' or"
                f" 'sentiment' (-3 to 3), emotions from the columns {', '.join(EMOTIONS)} (0: absent). Convert the column, or remove"
                " it."
            )


def _labels_in(column: str, values: pd.Series) -> str:
    """Return the kind of labels in a column: "an emotion" (its intensity), "emotions", "sentiment", "labels", or "" for none."""
    cells = values.str.strip().str.casefold()
    cells = cells[cells != ""]
    if cells.empty:
        return ""
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).casefold())
    kinds = {"emotions": _EMOTION_NAMES, "sentiment": _SENTIMENT_NAMES, "labels": _LABEL_NAMES}
    if len(words) == 1 and words[0] in _FEELINGS:
        return "an emotion" if pd.to_numeric(cells, errors="coerce").ne(0).any() else ""
    if len(words) == 1 and words[0] in _NEUTRAL & {"neutral", "neu"}:
        return "emotions"
    by_name = next((kind for kind, names in kinds.items() if not names.isdisjoint(words)), "")
    return _labels_among(cells) or by_name


def _labels_among(cells: pd.Series) -> str:
    """Return "emotions" or "sentiment" if at least half of the cells name emotions or polarities, else ""."""
    words = [set(re.findall(r"[^\W\d_]+", cell)) for cell in cells]
    feelings = sum(bool(found & _FEELINGS) and found <= _FEELINGS | _NEUTRAL for found in words)
    neutral = sum(bool(found) and found <= _NEUTRAL for found in words)
    polarities = sum(bool(found) and found <= _POLARITIES for found in words)
    if feelings and feelings + neutral >= len(words) / 2:
        return "emotions"
    return "sentiment" if polarities >= len(words) / 2 else ""
