"""Label sets by name or in words, as a setting states them, and as the header and the cells of a `label.csv` do.

    mosei                           the six emotions of CMU-MOSEI and sentiment in [-3, 3], which every corpus has unless it is told
    meld7, iemocap4, iemocap6       classes of MELD and IEMOCAP, as papers use them
    one of calm, happy, sad         classes: an utterance has exactly one of them
    calm, happy, sad                emotions: an utterance has any number of them
    [-1, 1]                         the scale of the sentiment

Emotions and scale may stand together, with a semicolon between them: `one of calm, happy; [-1, 1]`. What a statement leaves open is
taken from the header of a `label.csv`, and from the usual set where that says nothing either.

Sources: the orders and merges of MELD (https://github.com/declare-lab/MELD) and of IEMOCAP with four classes, happy with excited, and
with six (Majumder et al. 2019, DialogueRNN, https://github.com/declare-lab/conv-emotion).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data.errors import InputError, shown
from data.labels import CATEGORIES, EMOTIONS, MOSEI_LABELS, LabelSet
from data.lookup import nearest

CLASS_COLUMN = "emotion"
"""Column of a `label.csv` with the class of each utterance."""

EMOTION_PREFIX = "emotion:"
"""Columns `emotion:calm`, … of a `label.csv` hold intensities of emotions that are not the usual six."""

_SIX_CLASSES = {"hap": "happiness", "sad": "sadness", "neu": "neutral", "ang": "anger", "exc": "excitement", "fru": "frustration"}
_ALIKE = {"happiness": "hap", "joy": "hap", "sadness": "sad", "neutral": "neu", "anger": "ang"}


@dataclass(frozen=True)
class NamedSet:
    """A label set, and the class that each category of MELD and IEMOCAP is in it; categories that are missing have none."""

    labels: LabelSet
    classes: Mapping[str, str]


def _classes(names: tuple[str, ...], classes: Mapping[str, str]) -> NamedSet:
    return NamedSet(LabelSet(names, is_exclusive=True), classes)


_IEMOCAP4 = {"hap": "happiness", "exc": "happiness", "sad": "sadness", "neu": "neutral", "ang": "anger"}
_MELD7 = {category: "joy" if emotion == "happiness" else emotion for category, emotion in CATEGORIES.items() if emotion is not None}

LABEL_SETS: Mapping[str, NamedSet] = {
    "mosei": NamedSet(MOSEI_LABELS, {}),
    "meld7": _classes(("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"), _MELD7),
    "iemocap4": _classes(
        ("happiness", "sadness", "neutral", "anger"), _IEMOCAP4 | {ours: _IEMOCAP4[code] for ours, code in _ALIKE.items()}
    ),
    "iemocap6": _classes(tuple(_SIX_CLASSES.values()), _SIX_CLASSES | {ours: _SIX_CLASSES[code] for ours, code in _ALIKE.items()}),
}
"""Name → label set."""


@dataclass(frozen=True)
class Statement:
    """What a setting says about labels. None: it leaves that open."""

    emotions: tuple[str, ...] | None = None
    is_exclusive: bool = False
    scale: tuple[float, float] | None = None
    name: str = ""  # a key of `LABEL_SETS`, if the statement is one

    def label_set(self, header: LabelSet | None = None) -> LabelSet:
        """Return the label set: what is stated, else what a header says, else the usual one."""
        rest = header or MOSEI_LABELS
        emotions, is_exclusive = (rest.emotions, rest.is_exclusive) if self.emotions is None else (self.emotions, self.is_exclusive)
        return LabelSet(emotions, is_exclusive, self.scale or rest.scale)

    @property
    def is_open(self) -> bool:
        """True if nothing is stated."""
        return self.emotions is None and self.scale is None


OPEN = Statement()
"""The statement of a corpus that no setting names."""


def parse(text: str, where: str) -> Statement:
    """Read a statement, in the forms that this module's docstring shows.

    Args:
        text: The statement; "" leaves everything open.
        where: The setting or flag, for messages.

    Raises:
        InputError: It has none of these forms, or the emotions or the scale cannot be used.
    """
    try:
        return _parse(text)
    except InputError as error:
        raise InputError(f"{where} is {shown(text)}: {error}") from None


def _parse(text: str) -> Statement:
    if text.strip() in LABEL_SETS:
        labels = LABEL_SETS[text.strip()].labels
        scale = labels.scale if labels == MOSEI_LABELS else None
        return Statement(labels.emotions, labels.is_exclusive, scale, text.strip())
    found = OPEN
    for part in (part.strip() for part in text.split(";") if part.strip()):
        stated = _scale_statement(part) if part.startswith("[") else _emotion_statement(part)
        if (stated.scale and found.scale) or (stated.emotions and found.emotions):
            raise InputError("it states the same thing twice.")
        found = Statement(found.emotions or stated.emotions, found.is_exclusive or stated.is_exclusive, found.scale or stated.scale)
    found.label_set()  # checks names and scale
    return found


def _scale_statement(text: str) -> Statement:
    return Statement(scale=read_scale(text))


def _emotion_statement(text: str) -> Statement:
    is_exclusive = text.startswith("one of ")
    names = tuple(name.strip() for name in text.removeprefix("one of ").split(","))
    if names in [(name,) for name in LABEL_SETS]:
        raise InputError(f"a set with a name stands alone, without {';'!r}.")
    if len(names) == 1 and (near := nearest(names[0], LABEL_SETS)):
        raise InputError(f"unknown label set. Did you mean {near!r}? Available: {', '.join(LABEL_SETS)}; or list emotions.")
    return Statement(names, is_exclusive)


def read_scale(text: str) -> tuple[float, float]:
    """Read "[-1, 1]".

    Raises:
        InputError: It is not a scale.
    """
    match = re.fullmatch(r"\[\s*(\S+?)\s*,\s*(\S+?)\s*\]", text.strip())
    try:
        low, high = (float(end) for end in match.groups()) if match else (math.nan, math.nan)
    except ValueError:
        low = high = math.nan
    if math.isnan(low + high):
        raise InputError(f"{text.strip()!r} is no scale, expected one such as [-1, 1].")
    return LabelSet(scale=(low, high)).scale


def by_category(table: pd.DataFrame, statement: Statement, where: str) -> tuple[pd.DataFrame, LabelSet]:
    """Return a table of MELD or IEMOCAP with the stated emotions in the place of the six, and the label set.

    A category has the class that a named set gives it; in a set of stated names, its own name, or that of its counterpart among the
    six emotions and "neutral". Of classes, a category that is none of them is unlabelled. Of emotions, "neutral" and other categories
    with a counterpart set all to 0.

    Args:
        table: With the column `category`, empty where an utterance has none, and the six emotions.
        statement: What a setting says about the labels; if it is open, the table stays as it is.
        where: The corpus, for messages.

    Raises:
        InputError: A scale is stated, or no category that occurs is in the set.
    """
    labels = statement.label_set()
    if labels.scale != MOSEI_LABELS.scale:
        raise InputError(f"{where}: a scale is stated, {list(labels.scale)}, but this corpus has no sentiment. Remove it.")
    if labels == MOSEI_LABELS:
        return table, labels
    categories = table["category"]
    known = {category: _values(category, statement, labels) for category in categories.unique()}
    values = np.array([known[category] for category in categories])
    if not (values > 0).any():
        there = ", ".join(category for category in categories.unique() if category)
        raise InputError(f"{where}: none of its categories ({there}) is in the stated label set, {labels}. State others.")
    columns = {name: values[:, place] for place, name in enumerate(labels.emotions)}
    return table.drop(columns=list(EMOTIONS)).assign(**columns), labels


def _values(category: str, statement: Statement, labels: LabelSet) -> list[float]:
    if statement.name:
        own = LABEL_SETS[statement.name].classes.get(category)
    else:
        counterpart = CATEGORIES.get(category)
        own = next((name for name in (category, counterpart) if name in labels.emotions), None)
        if own is None and not labels.is_exclusive and counterpart is not None:
            return [0.0] * len(labels.emotions)
    if own is None:
        return [np.nan] * len(labels.emotions)
    return [float(name == own) for name in labels.emotions]


def label_columns(table: pd.DataFrame, labels: LabelSet) -> dict[str, pd.Series]:
    """Return the labels of a manifest as columns of a `label.csv`, header → values, as `data.corpora.folder` reads them."""
    sentiment = "sentiment" if labels.scale == MOSEI_LABELS.scale else f"sentiment [{labels.scale[0]:g}, {labels.scale[1]:g}]"
    found = {sentiment: table["sentiment"]}
    if labels.is_exclusive:
        values = table[list(labels.emotions)]
        names = np.array(labels.emotions, object)[np.nan_to_num(values.to_numpy()).argmax(axis=1)]
        return found | {CLASS_COLUMN: pd.Series(np.where(values.isna().any(axis=1), "", names), index=table.index)}
    prefix = "" if labels.emotions == EMOTIONS else EMOTION_PREFIX
    return found | {f"{prefix}{name}": table[name] for name in labels.emotions}
