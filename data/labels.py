"""Sentiment and emotion labels: what a corpus is labelled with, and the table that maps the categories of MELD and IEMOCAP.

The label files of corpora are read in `data.corpora`; the label columns of a manifest are in `data.schema`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from data.errors import InputError, shown
from data.lookup import lookup

EMOTIONS = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")
"""The six emotions of CMU-MOSEI, in the order that all files and arrays use. An intensity above 0 means "present"."""

SENTIMENT_RANGE = (-3.0, 3.0)

MOST_EMOTIONS = 100
"""The most emotions or classes of a label set. More names are texts of another kind."""

_NAME = re.compile(r"[^\W\d_][\w-]*")
_TAKEN = {
    "clip_id", "corpus", "duration_s", "end_s", "excluded", "label_source", "loss", "macro", "mean", "media", "polarity", "position",
    "sentiment", "speaker", "split", "start_s", "text", "utterance_id", "video_id", "category",
}  # fmt: skip
"""Names that mean something else in manifests, in predictions, or as the beginning of a metric's name."""


@dataclass(frozen=True)
class LabelSet:
    """What the utterances of a corpus are labelled with. A manifest without a label set has `MOSEI_LABELS`."""

    emotions: tuple[str, ...] = EMOTIONS  # in the order of files and arrays
    is_exclusive: bool = False  # True: classes, of which a labelled utterance has exactly one (1, the others 0)
    scale: tuple[float, float] = SENTIMENT_RANGE  # lowest and highest sentiment, as far from 0 as each other

    def __post_init__(self) -> None:
        """Raise InputError if a name cannot be one, there are too few or too many, or the scale is none."""
        for name in self.emotions:
            if not is_name(name):
                raise InputError(
                    f"Emotion {shown(name)} cannot have this name: expected a letter, then letters, digits, '_' and '-', and no name"
                    " of another column of a manifest, such as text or sentiment."
                )
        if len({name.casefold() for name in self.emotions}) < len(self.emotions):
            raise InputError(f"Emotions {', '.join(self.emotions)}: one is named twice, whatever the case of its letters.")
        least = 2 if self.is_exclusive else 1
        if not least <= len(self.emotions) <= MOST_EMOTIONS:
            what = "classes" if self.is_exclusive else "emotions"
            raise InputError(f"{len(self.emotions):,} {what} ({shown(list(self.emotions))}), expected {least} to {MOST_EMOTIONS}.")
        low, high = self.scale
        if not (0 < high < math.inf and low == -high):
            raise InputError(
                f"The scale of the sentiment is {low:g} to {high:g}, expected one with 0 in its middle, such as [-3, 3] or [-1, 1]."
                " Subtract the middle of the scale from the labels."
            )

    @property
    def limit(self) -> float:
        """The highest sentiment."""
        return self.scale[1]

    @property
    def tolerance(self) -> float:
        """How far a sentiment may be beyond the scale to be set to its end: half a point of [-3, 3]."""
        return self.limit / 6

    @property
    def widths(self) -> dict[str, int]:
        """Task → number of outputs that predict it: one sentiment, one logit for each emotion."""
        return {"msa": 1, "mer": len(self.emotions)}

    def same_emotions(self, other: "LabelSet") -> bool:
        """Return True if the emotions of both mean the same, whatever the scale of the sentiment."""
        return self.emotions == other.emotions and self.is_exclusive == other.is_exclusive

    def as_dict(self) -> dict[str, Any]:
        """Return the set as JSON can hold it."""
        return {"emotions": list(self.emotions), "exclusive": self.is_exclusive, "scale": list(self.scale)}

    def noted(self) -> dict[str, Any]:
        """Return the entry of a file's facts, {"label_set": …}; empty for the usual set, which files from before have too."""
        return {} if self == MOSEI_LABELS else {"label_set": self.as_dict()}

    @classmethod
    def of(cls, facts: Mapping[str, Any], where: str) -> Self:
        """Return the set that `noted` wrote into the facts of a file.

        Args:
            facts: Attributes of a manifest, or the content of a run's JSON file.
            where: The file, for the message.

        Raises:
            InputError: The entry is damaged.
        """
        if "label_set" not in facts:
            return cls()
        try:
            found = facts["label_set"]
            low, high = map(float, found["scale"])
            if type(found["exclusive"]) is not bool or not all(isinstance(name, str) for name in found["emotions"]):
                raise TypeError
            return cls(tuple(found["emotions"]), found["exclusive"], (low, high))
        except (KeyError, TypeError, ValueError) as error:
            why = f" ({error})" if isinstance(error, InputError) else ""
            raise InputError(
                f"{where}: its label set is {shown(facts['label_set'])}, which is none{why}. Make the file again."
            ) from error

    def __str__(self) -> str:
        """The set in the words of a setting; see `data.label_sets`."""
        names = ("one of " if self.is_exclusive else "") + ", ".join(self.emotions)
        return f"{names}; [{self.scale[0]:g}, {self.scale[1]:g}]"


def is_name(text: str) -> bool:
    """Return True if an emotion can have this name."""
    return bool(_NAME.fullmatch(text)) and text not in _TAKEN and not text.endswith("_true")


MOSEI_LABELS = LabelSet()
"""Six emotions, any number of them at a time, and sentiment in [-3, 3]."""

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
