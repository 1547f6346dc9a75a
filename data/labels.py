"""Sentiment and emotion labels: names, order, ranges, and the table that maps the categories of MELD and IEMOCAP.

The label files of corpora are read in `data.corpora`; the label columns of a manifest are in `data.schema`.
"""

import math
from collections.abc import Mapping

from data.lookup import lookup

EMOTIONS = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")
"""The six emotions of CMU-MOSEI, in the order that all files and arrays use. An intensity above 0 means "present"."""

SENTIMENT_RANGE = (-3.0, 3.0)

CATEGORIES: Mapping[str, str | None] = {
    "neutral": "neutral",
    "neu": "neutral",
    "joy": "happiness",
    "happiness": "happiness",
    "hap": "happiness",
    "exc": "happiness",
    "sadness": "sadness",
    "sad": "sadness",
    "anger": "anger",
    "ang": "anger",
    "surprise": "surprise",
    "sur": "surprise",
    "disgust": "disgust",
    "dis": "disgust",
    "fear": "fear",
    "fea": "fear",
    "fru": None,
    "oth": None,
    "xxx": None,
}
"""Category of MELD or IEMOCAP → emotion. "neutral" sets all six emotions to zero. None: no counterpart, so no emotion labels."""

POLARITIES = ("negative", "neutral", "positive")

CATEGORY_POLARITY: Mapping[str, str | None] = {
    "neutral": "neutral",
    "happiness": "positive",
    "sadness": "negative",
    "anger": "negative",
    "disgust": "negative",
    "fear": "negative",
    "surprise": None,
}
"""Emotion → polarity, for corpora without sentiment (IEMOCAP). Surprise can be positive or negative and has None: a surprised
utterance is not a donor of pseudo-labels unless a setting gives surprise a polarity."""


def emotions_of_category(category: str, extra: Mapping[str, str] | None = None) -> dict[str, float]:
    """Return the six intensities (0 or 1) of a category; all NaN if it has no counterpart.

    Args:
        category: A key of `CATEGORIES`.
        extra: Entries that replace those of `CATEGORIES`, e.g. `{"fru": "anger"}`.

    Raises:
        InputError: The category is unknown, or an override names no emotion.
    """
    known = lookup(CATEGORIES, category, "emotion category")
    emotion = (extra or {}).get(category, known)
    if emotion is None:
        return dict.fromkeys(EMOTIONS, math.nan)
    lookup(CATEGORY_POLARITY, emotion, "emotion")
    return {name: float(name == emotion) for name in EMOTIONS}


def polarity_of_sentiment(sentiment: float) -> str:
    """Return "negative", "neutral" (exactly 0) or "positive"; empty for NaN."""
    if math.isnan(sentiment):
        return ""
    return POLARITIES[int(sentiment > 0) - int(sentiment < 0) + 1]
