"""The columns that the general formats (Parquet, `.npz`, WebDataset) say of an utterance, beside its features; and their description.

`data.interchange.cached` selects the utterances.
"""

from typing import Any

import pandas as pd

from data.interchange.cached import Selection
from data.labels import LabelSet

TEXTS = ("utterance_id", "video_id", "clip_id", "speaker", "split", "text")
NUMBERS = ("start_s", "end_s", "duration_s", "sentiment")
"""Columns of the manifest that are exported, before those of the emotions; numbers are missing (null, NaN) where they are not known."""


def numbers(labels: LabelSet) -> tuple[str, ...]:
    """List the exported columns of numbers: `NUMBERS`, then the emotions."""
    return (*NUMBERS, *labels.emotions)


def described(selection: Selection) -> dict[str, Any]:
    """Return what an exported folder or file says of itself: corpus, source of emotions, and encoder and width of the features."""
    features = {
        name: {"encoder": selection.encoder(name), "dim": store.dim, "identity": store.attrs.get("identity")}
        for name, store in selection.stores.items()
    }
    about = {"corpus": selection.corpus, "emotions": selection.emotions, **selection.labels.noted()}
    return {**about, "features": features}


def labels_of(row: pd.Series, labels: LabelSet) -> dict[str, Any]:
    """Return the exported columns of one row of a table, as JSON can hold them: missing numbers are None."""
    texts = {name: str(row[name]) for name in TEXTS}
    known = {name: None if pd.isna(row[name]) else float(row[name]) for name in numbers(labels)}
    return {**texts, "position": int(row["position"]), **known}
