"""Files of predictions for tests, as another tool would write them."""

from pathlib import Path

import numpy as np
import pandas as pd

from data.labels import EMOTIONS


def made_up(table: pd.DataFrame, seed: int = 0, ids: str = "utterance_id") -> pd.DataFrame:
    """Predictions of everything for each row of a manifest, in another order; `ids` is "utterance_id" or "mmsa"."""
    rng = np.random.default_rng(seed)
    names = table["utterance_id"] if ids == "utterance_id" else table["video_id"] + "$_$" + table["clip_id"]
    columns = {"id": names, "sentiment": rng.normal(size=len(table)) * 2}
    return pd.DataFrame(columns | {emotion: rng.random(len(table)) for emotion in EMOTIONS}).sample(frac=1, random_state=seed)


def written(path: Path, frame: pd.DataFrame) -> Path:
    """Writes a CSV file and returns its path."""
    frame.to_csv(path, index=False)
    return path
