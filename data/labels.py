"""Sentiment and emotion labels: their names, order, ranges and the one table that maps other corpora's categories.

Nothing here reads a file.
"""

from collections.abc import Mapping

import numpy as np

from data.lookup import lookup

EMOTIONS = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")
"""The six emotions of CMU-MOSEI, in the order used everywhere. An intensity above 0 means "present"."""

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
"""Categories of MELD and IEMOCAP → our emotion. "neutral" is all six at zero; None has no counterpart and gives no labels."""

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
"""Polarity of an emotion category where a corpus (IEMOCAP) has no sentiment of its own. Surprise can be either: None, so that
such an utterance is no donor of pseudo labels unless a setting says what surprise is."""


def emotions_of_category(category: str, extra: Mapping[str, str] | None = None) -> dict[str, float]:
    """Six intensities (0 or 1) of a category; all NaN when it has no counterpart.

    Args:
        category: A key of `CATEGORIES`.
        extra: Overrides, e.g. `{"fru": "anger"}`.

    Raises:
        InputError: The category is unknown, or an override names no emotion.
    """
    known = lookup(CATEGORIES, category, "emotion category")
    emotion = (extra or {}).get(category, known)
    if emotion is None:
        return dict.fromkeys(EMOTIONS, np.nan)
    lookup(CATEGORY_POLARITY, emotion, "emotion")
    return {name: float(name == emotion) for name in EMOTIONS}


def polarity_of_sentiment(sentiment: float) -> str:
    """ "negative", "neutral" (exactly 0) or "positive"; empty for NaN."""
    if np.isnan(sentiment):
        return ""
    return POLARITIES[int(np.sign(sentiment)) + 1]
