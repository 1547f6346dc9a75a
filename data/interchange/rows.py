"""The columns that the general formats (Parquet, `.npz`, WebDataset) say of an utterance, beside its features; and their description.

`data.interchange.cached` selects the utterances.
"""

from typing import Any

import pandas as pd

from data.interchange.cached import Selection
from data.labels import EMOTIONS

TEXTS = ("utterance_id", "video_id", "clip_id", "speaker", "split", "text")
NUMBERS = ("start_s", "end_s", "duration_s", "sentiment", *EMOTIONS)
COLUMNS = (*TEXTS, "position", *NUMBERS)
"""Columns of the manifest that are exported, in this order; numbers are missing (null, NaN) where they are not known."""


def described(selection: Selection) -> dict[str, Any]:
    """Return what an exported folder or file says of itself: corpus, source of emotions, and encoder and width of the features."""
    features = {
        name: {"encoder": selection.encoder(name), "dim": store.dim, "identity": store.attrs.get("identity")}
        for name, store in selection.stores.items()
    }
    return {"corpus": selection.corpus, "emotions": selection.emotions, "features": features}


def labels_of(row: Any) -> dict[str, Any]:
    """Return the exported columns of one row of a table, as JSON can hold them: missing numbers are None."""
    texts = {name: str(getattr(row, name)) for name in TEXTS}
    numbers = {name: None if pd.isna(value := getattr(row, name)) else float(value) for name in NUMBERS}
    return {**texts, "position": int(row.position), **numbers}
