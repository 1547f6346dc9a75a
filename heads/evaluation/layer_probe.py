"""Which layer of an encoder says most: ridge regression on each layer of the cached features, measured on the validation rows.

Features are averaged over time, as the simple baselines read them (`heads.models.simple`). The test split is not read. The picture is
drawn in `heads.evaluation.layer_chart`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from data.errors import InputError
from data.tensors import CorpusTensors
from heads.evaluation.metrics import emotion_metrics, higher_is_better, sentiment_metrics
from heads.evaluation.predictions import layer_columns, pooled, present
from heads.models.simple import fit_simple
from heads.models.tasks import TASKS

MEAN = "mean"
"""Stands in the column `layer` for the mean of all cached layers."""

MEASURES = {
    "msa": ("mae", "corr", "acc2_non0", "acc2", "acc7", "acc3"),
    "mer": ("mean_ap", "mean_wf1", "uar", "wf1"),
}
"""Task → the metrics of a table, those that the labels have; the first of them is drawn, and names the best layer."""


def probe(tensors: CorpusTensors, task: str) -> pd.DataFrame:
    """Fits ridge on each layer alone, and on the mean of all, and measures it on the validation rows.

    Args:
        tensors: Features with several layers of at least one modality.
        task: A key of `TASKS`.

    Returns:
        One row for each modality and layer: `modality`, `layer` (a number, or `MEAN`) and the metrics of `MEASURES`.

    Raises:
        InputError: No modality has several layers, or train or valid has no label.
    """
    columns = layer_columns(tensors)
    if not columns:
        raise InputError(
            f"The {' and '.join(tensors.dims)} features hold one layer each, so there is nothing to compare. Set layers = all in"
            " luigi.cfg, sections [text] and [audio], and run BuildFeatures again."
        )
    rows = np.flatnonzero(np.isin(tensors.targets.split, ("train", "valid")))
    features = pooled(tensors, rows)
    found = []
    for modality, slices in columns.items():
        blocks = {str(number): features[:, own] for number, own in slices.items()}
        blocks[MEAN] = np.mean(list(blocks.values()), axis=0)
        for layer, block in blocks.items():
            found.append({"modality": modality, "layer": layer, **_measured(block, tensors, rows, TASKS[task])})
    return pd.DataFrame(found)


def _measured(features: np.ndarray, tensors: CorpusTensors, rows: np.ndarray, tasks: Sequence[str]) -> dict[str, float]:
    targets = tensors.targets
    sentiment, emotions = targets.sentiment[rows].astype(float), targets.emotions[rows].astype(float)
    train, valid = (targets.split[rows] == split for split in ("train", "valid"))
    unlearned = {"msa": sentiment, "mer": emotions}
    for task, labels in unlearned.items():
        if task not in tasks:
            labels[...] = np.nan  # a target without labels costs nothing
    found = fit_simple("ridge", features, sentiment, emotions, train, valid, names=targets.labels)
    values: dict[str, float] = {}
    if "msa" in tasks:
        values |= sentiment_metrics(found.sentiment[valid], sentiment[valid], labels=targets.labels)
    if "mer" in tasks:
        values |= emotion_metrics(found.emotion_probability[valid], present(emotions[valid]), labels=targets.labels)
    return {name: values[name] for task in tasks for name in MEASURES[task] if name in values}


def drawn(table: pd.DataFrame, task: str) -> str:
    """Returns the metric of one task (msa, mer) that is drawn of a result of `probe`."""
    return next(name for name in MEASURES[task] if name in table)


def best(table: pd.DataFrame, task: str) -> Iterator[tuple[str, str, str, float]]:
    """Yields modality, metric, layer and value of the best single layer, for each task that was measured."""
    singles = table[table["layer"] != MEAN]
    for modality, rows in singles.groupby("modality", sort=False):
        for one in TASKS[task]:
            metric = drawn(table, one)
            values = rows[metric].to_numpy(float)
            if np.isfinite(values).any():
                place = int(np.nanargmax(values) if higher_is_better(metric) else np.nanargmin(values))
                yield str(modality), metric, str(rows["layer"].iloc[place]), float(values[place])
