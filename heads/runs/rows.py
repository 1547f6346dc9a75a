"""Selects the rows of a corpus on which a run is trained or evaluated."""

import numpy as np

from data.errors import InputError
from data.schema import SPLITS
from data.tensors import CorpusTensors
from heads.models.tasks import TASKS
from heads.runs.config import RunConfig


def labelled_rows(config: RunConfig, tensors: CorpusTensors, split: str) -> np.ndarray:
    """Selects the rows of a split that have a label for at least one of the tasks.

    Raises:
        InputError: Nothing is in the split, or a task has no label in it at all.
    """
    targets, rows = tensors.targets, tensors.targets.rows(split)
    if not len(rows):
        present = [name for name in SPLITS if len(targets.rows(name))]
        raise InputError(
            f"{config.corpus}: no utterance that can be used is in split {split!r}, which is needed (there are:"
            f" {', '.join(present) or 'none'}). Give the corpus this split and run BuildFeatures again."
        )
    labelled = {"msa": ~np.isnan(targets.sentiment[rows]), "mer": ~np.isnan(targets.emotions[rows]).any(1)}
    tasks = TASKS[config.task]
    for task in tasks:
        if not labelled[task].any():
            what = "sentiment" if task == "msa" else f"{config.data.emotions} emotion"
            usable = [name for name, parts in TASKS.items() if all(labelled[part].any() for part in parts)]
            raise InputError(
                f"{config.corpus}: none of {len(rows):,} utterances of {split} has {what} labels, which task {config.task!r} needs."
                f" Tasks with labels there: {', '.join(usable) or 'none'}."
            )
    return rows[np.any([labelled[task] for task in tasks], axis=0)]
