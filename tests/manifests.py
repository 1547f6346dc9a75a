"""Small manifests and embeddings for tests, written in one line."""

import numpy as np
import pandas as pd

from data.labels import emotions_of_category
from data.schema import COLUMNS, TEXT_COLUMNS, validate

JOY, RAGE, CALM = (emotions_of_category(category) for category in ("joy", "anger", "neutral"))


def manifest(corpus, rows):
    """Return a valid manifest. Rows give only the columns that matter; ids are a, b, c, … unless given."""
    base = {**dict.fromkeys(COLUMNS, np.nan), **dict.fromkeys(TEXT_COLUMNS, ""), "corpus": corpus, "split": "train"}
    ids = ({"utterance_id": chr(97 + i), "text": f"line {i}", "position": i} for i in range(len(rows)))
    return validate(pd.DataFrame([{**base, **name, **row} for name, row in zip(ids, rows, strict=True)], columns=COLUMNS), "here")


def vectors(*rows):
    return np.array(rows, dtype=np.float32)
