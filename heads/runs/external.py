"""Predictions that another tool made, from a CSV file, as if a head of ours had made them; `heads.commands.score` prints their metrics.

    id,sentiment[,happiness,sadness,anger,surprise,disgust,fear]

`id` is our utterance_id, or "<video_id>$_$<clip_id>" as MMSA has it; emotions are probabilities, in columns with the names of the
corpus's own; of classes, a column `emotion` may have the names of the predicted ones instead. Utterances that are not asked for (of
other splits, without labels) may be there too. An apostrophe before an id that begins like a formula is taken away, as
`data.spreadsheets` puts it there. What predictions are worth is computed in `heads.runs.evaluate`; how other tools are given our
features is in `data.interchange`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.cache import CachedCorpus
from data.csv_tables import expect_classes, numbers, read_table, require_columns, unique
from data.errors import InputError, shown
from data.interchange.mmsa import SEPARATOR
from data.label_sets import CLASS_COLUMN
from data.labels import EMOTIONS, MOSEI_LABELS, LabelSet
from data.manifest import read_manifest
from data.spreadsheets import unescape_cells
from heads.evaluation.predictions import Predictions, logits_of
from heads.models.tasks import TASKS
from heads.runs.rows import labelled_rows
from heads.runs.run_data import RunData


@dataclass(frozen=True, eq=False)
class PredictionFile:
    """A file of predictions as text; values are checked when they are used."""

    path: Path
    task: str  # a key of `TASKS`: the tasks that it has predictions for
    table: pd.DataFrame  # text, by line

    def stranger(self, corpus: CachedCorpus) -> str | None:
        """Describes the first line that names no utterance of a corpus; None if all lines name one."""
        found = self._utterances(corpus)
        if found.notna().all():
            return None
        line: Any = found.isna().idxmax()
        more = f" ({int(found.isna().sum()) - 1:,} more rows like it)" if found.isna().sum() > 1 else ""
        identifier = shown(self.table.loc[line, "id"])
        return f"{self.path}:{line}: id is {identifier}, which names no utterance, or several, of {corpus.name}{more}"

    def predictions(self, run_data: RunData, split: str) -> Predictions:
        """Returns the predictions for the labelled utterances of a split.

        Args:
            run_data: The corpus, with a configuration whose task is `task` or a part of it.
            split: Of `data.schema.SPLITS`.

        Raises:
            InputError: An id is unknown or repeated, an utterance is missing, a value is no number or no probability; nothing of the
                split has labels.
        """
        rows = labelled_rows(run_data.config, run_data.tensors, split)
        table = self._rows(run_data.corpus, [run_data.tensors.targets.ids[row] for row in rows], split)
        tasks, sentiment, logits = TASKS[run_data.config.task], None, None
        labels = run_data.tensors.targets.labels
        if "msa" in tasks:
            sentiment = _float32(table["sentiment"], self.path)
        if "mer" in tasks:
            logits = logits_of(_emotions(table, labels, self.path), labels).astype(np.float32)
        return Predictions(rows, sentiment, logits, {}, labels)

    def _rows(self, corpus: CachedCorpus, ids: Sequence[str], split: str) -> pd.DataFrame:
        """Selects the rows of these utterances, in their order."""
        if stranger := self.stranger(corpus):
            form = f"an utterance_id such as {shown(ids[0])}, or <video_id>{SEPARATOR}<clip_id>"
            raise InputError(f"{stranger}; expected {form}. Is the file of another corpus?")
        names = unique(self._utterances(corpus), self.path)
        lines = pd.Series(names.index, index=names)
        if missing := [name for name in ids if name not in lines]:
            raise InputError(
                f"{self.path}: {len(missing):,} of {len(ids):,} labelled utterances of {corpus.name}, {split}, are not in it, first"
                f" {shown(missing[0])}. Predict every one of them."
            )
        return self.table.loc[lines[list(ids)]]

    def _utterances(self, corpus: CachedCorpus) -> pd.Series:
        """Finds the utterance_id of each line; NaN where an id names none, or several."""
        manifest = read_manifest(corpus.manifest)
        joined = manifest["video_id"] + SEPARATOR + manifest["clip_id"]
        once = ~joined.duplicated(keep=False)
        names = dict(zip(joined[once], manifest.loc[once, "utterance_id"], strict=True))
        names |= {name: name for name in manifest["utterance_id"]}
        return self.table["id"].map(names)


def read_predictions(path: Path, labels: LabelSet = MOSEI_LABELS) -> PredictionFile:
    """Reads a CSV file of predictions.

    Args:
        path: The file.
        labels: Those of the corpus that it predicts.

    Raises:
        InputError: It cannot be read, is empty, has no `id`, neither sentiment nor emotions, or not all emotions.
    """
    if path.is_file() and not path.stat().st_size:
        raise InputError(f"{path}: the file is empty, expected a header line and one row an utterance.")
    table = unescape_cells(read_table(path, ("id",)))
    missing = [emotion for emotion in labels.emotions if emotion not in table]
    has_names = labels.is_exclusive and CLASS_COLUMN in table
    has_emotions = len(missing) < len(labels.emotions) or has_names
    if has_emotions and missing and not has_names:
        count = "six emotions" if labels.emotions == EMOTIONS else f"{len(labels.emotions)} emotions"
        raise InputError(f"{path}:1: no column {', '.join(missing)}. Give the probabilities of all {count}, or of none.")
    require_columns(table, () if has_emotions else ("sentiment",), path)
    task = "mer" if "sentiment" not in table else "both" if has_emotions else "msa"
    return PredictionFile(path, task, table)


def _emotions(table: pd.DataFrame, labels: LabelSet, path: Path) -> np.ndarray:
    """Returns the probabilities (n, C); of classes that are named, 1 and 0."""
    if labels.is_exclusive and CLASS_COLUMN in table:
        expect_classes(table[CLASS_COLUMN], labels.emotions, path)
        return np.column_stack([(table[CLASS_COLUMN].str.strip() == name).astype(float) for name in labels.emotions])
    probability = np.column_stack([_probabilities(table[emotion], path) for emotion in labels.emotions])
    nothing = np.flatnonzero(probability.sum(axis=1) == 0)
    if labels.is_exclusive and len(nothing):
        raise InputError(f"{path}:{table.index[nothing[0]]}: the probabilities of all classes are 0, expected one above it.")
    return probability


def _float32(column: pd.Series, path: Path) -> np.ndarray:
    values = numbers(column, path)
    too_large = values.abs() > np.finfo(np.float32).max
    if too_large.any():
        line: Any = too_large.idxmax()
        raise InputError(
            f"{path}:{line}: {column.name} is {shown(column[line])}, expected a number that fits into 32 bits (below 3.4e38)."
        )
    return values.to_numpy(np.float32)


def _probabilities(column: pd.Series, path: Path) -> np.ndarray:
    values = numbers(column, path)
    outside = ~values.between(0, 1)
    if outside.any():
        line: Any = outside.idxmax()
        raise InputError(f"{path}:{line}: {column.name} is {shown(column[line])}, expected a probability from 0 to 1.")
    return values.to_numpy()
