"""A finished run asked again: the gates of each utterance, and the metrics without each modality."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from data.errors import InputError, shown
from data.labels import EMOTIONS
from heads.evaluation.modalities import Loss, losses, variants
from heads.evaluation.predictions import Predictions
from heads.reports.results import Result
from heads.runs.evaluate import predict_each
from heads.runs.run_data import RunData

_TOLERANCE = 0.01
"""Predictions differ by less between devices and precisions."""


@dataclass(frozen=True)
class Probe:
    """Answers of one run about the utterances of a split."""

    ids: tuple[str, ...] = ()
    gates: Mapping[str, np.ndarray] = field(default_factory=dict)  # "text/block1/msa" → (n, N), by `ids`
    losses: tuple[Loss, ...] = ()
    doubt: str = ""  # if its predictions are not those in the run folder

    def of(self, ids: pd.Index) -> dict[str, np.ndarray]:
        """Returns the gates of some of its utterances, key → (m, N)."""
        places = pd.Index(self.ids).get_indexer(ids)
        return {key: values[places] for key, values in self.gates.items()}


def rows_of(run_data: RunData, result: Result) -> np.ndarray:
    """Finds the utterances of a result in the data of its run, (n,) int64, ascending.

    Raises:
        InputError: The data lack one of them.
    """
    places = {name: row for row, name in enumerate(run_data.tensors.targets.ids)}
    if missing := [name for name in result.table.index if name not in places]:
        raise InputError(f"{run_data.corpus.manifest}: {shown(missing[0])} is not in it, which {result.folder.path} has predicted.")
    return np.array(sorted(places[name] for name in result.table.index), np.int64)


def probe(run_data: RunData, result: Result, rows: np.ndarray) -> Probe:
    """Predicts the utterances of a result as they are and without each modality.

    Args:
        run_data: Data of the run.
        result: The run on a split.
        rows: Result of `rows_of`.

    Raises:
        InputError: The checkpoint is missing or does not fit, or memory runs out.
    """
    tensors = run_data.tensors
    changed = variants(tensors, rows)
    whole, *others = predict_each(run_data, result.folder, rows, [tensors, *(one.tensors for one in changed)])
    found = losses(whole, list(zip(changed, others, strict=True)), tensors)
    ids = tuple(tensors.targets.ids[row] for row in rows)
    gates = {key: values.astype(np.float64) for key, values in whole.routing.items()}
    return Probe(ids, gates, tuple(found), _doubt(whole, result.table.loc[list(ids)]))


def _doubt(found: Predictions, table: pd.DataFrame) -> str:
    """Says how far predictions are from those in the run folder; "" if they are the same but for rounding."""
    pairs = [(found.sentiment, ["sentiment"]), (found.emotion_probability, [*EMOTIONS])]
    apart = [
        np.abs(np.asarray(values).reshape(len(table), -1) - table[names].to_numpy(float)).max()
        for values, names in pairs
        if values is not None
    ]
    if max(apart, default=0.0) <= _TOLERANCE:
        return ""
    return (
        f"predictions from this cache are up to {max(apart):.2g} from those in the run folder, so its features or the device are"
        " others. What each modality adds and the experts of clips are of this cache, all other figures of the run folder."
    )
