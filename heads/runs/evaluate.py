"""Finished runs opened again: metrics of a split, predictions for a corpus.

Runs are trained in `heads.training.fit`; predictions and metrics are computed in `heads.evaluation`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from data.errors import InputError, reason, shown
from data.tensors import CorpusTensors
from heads.evaluation import predictions
from heads.evaluation.intervals import bootstrap
from heads.evaluation.metrics import emotion_metrics, sentiment_metrics
from heads.evaluation.predictions import Predictions, present, scores
from heads.models.registry import HEADS
from heads.runs import config as configs
from heads.runs.build import build_head
from heads.runs.config import RunConfig
from heads.runs.contents import differences, identity_of
from heads.runs.devices import watched
from heads.runs.folder import RunFolder, predictions_table
from heads.runs.rows import labelled_rows
from heads.runs.run_data import LoadedCache, RunData, encoders


class FinishedRuns:
    """Finished runs, opened again one after the other. A run that reads the same data as the one before shares its features."""

    def __init__(self, cache: Path | None, device: torch.device) -> None:
        """Args:
        cache: Folder where the features are now; None: where each run found them.
        device: Holds the features.
        """
        self._cache, self._device = cache, device
        self._loaded: LoadedCache | None = None  # the features of the run before
        self._reads: tuple[object, ...] = ()  # what they were loaded for

    def reopen(self, folder: RunFolder, corpus: str | None = None) -> RunData:
        """Loads the data that a run read, or the same of another corpus or cache, made by the same encoders.

        Raises:
            InputError: There is no such run; its features are missing, or come from other encoders.
        """
        content = folder.config()
        config = configs.from_mapping(content["config"], str(folder.path / "config.json"))
        if corpus is not None and corpus != config.corpus:
            data = dataclasses.replace(config.data, emotions="annotated")  # labels are not needed, and may not exist
            config = dataclasses.replace(config, corpus=corpus, data=data)
        run_data = self._load(self._cache or Path(content["made"]["cache"]), config)
        for name, made in encoders(run_data.corpus, run_data.sets).items():
            found, wanted = identity_of(made), identity_of(content["encoders"][name])
            if found != wanted:
                raise InputError(
                    f"{run_data.corpus.features[name]}: not made as the {name} features that {folder.path} was trained on:"
                    f" {differences(found, wanted)}. Build the cache with the same encoder and settings."
                )
        return run_data

    def _load(self, cache: Path, config: RunConfig) -> RunData:
        """Loads the data of a run. Features of other data than the run before read are let go first, so that memory is bounded."""
        features = dataclasses.replace(config.data, emotions="auto", minimum_similarity=0.0)  # labels may differ
        reads = (cache, config.corpus, features)
        if self._loaded is None or reads != self._reads:
            self._loaded, self._reads = LoadedCache(cache, self._device), reads
        return self._loaded.open(config)


def reopen(folder: RunFolder, cache: Path | None, device: torch.device, corpus: str | None = None) -> RunData:
    """Loads the data of one finished run; see `FinishedRuns`."""
    return FinishedRuns(cache, device).reopen(folder, corpus)


def evaluate(
    run_data: RunData, folder: RunFolder, split: str, checkpoint: str = "checkpoint", with_pictures: bool = True
) -> dict[str, Any]:
    """Predicts a split with a finished run, writes predictions and metrics, and records in opened.csv that the split was opened.

    Without pictures, the routing of heads that route is written as numbers only.

    Returns:
        The new content of metrics.json.
    """
    content = folder.metrics()
    found = predict_rows(run_data, folder, labelled_rows(run_data.config, run_data.tensors, split), checkpoint)
    values, intervals = assess(found, run_data.tensors)
    name = split if checkpoint == "checkpoint" else f"{split}-{checkpoint}"
    folder.record_opening(split, checkpoint)
    folder.write_predictions(f"predictions-{name}.parquet", predictions_table(found, run_data.tensors.targets), {"split": split})
    folder.write_routing(f"xray-{name}", found, run_data.tensors.targets)
    if with_pictures:
        folder.draw_routing(f"xray-{name}")
    content |= {name: values, f"{name}_interval": intervals}
    folder.write_metrics(content)
    return folder.metrics()


def predict(run_data: RunData, folder: RunFolder, cache: Path | None) -> pd.DataFrame:
    """Predicts a corpus with a finished run.

    Args:
        run_data: The corpus, as `reopen` has loaded it.
        folder: The run's.
        cache: The cache that was given to `reopen`.

    Returns:
        One row for each utterance of `run_data`: predictions, beside labels if there are any. Labels of the test split are left out:
        only `evaluate` opens it, and records that.

    Raises:
        InputError: The run is not finished, or its checkpoint does not fit.
    """
    folder.metrics()
    config, tensors = run_data.config, run_data.tensors
    rows = np.arange(len(tensors.targets))
    if simple := HEADS[config.head].simple:
        found = predictions.predict_simple(simple, config.task, _learned(folder, cache, tensors.device), rows, tensors)[0]
    else:
        found = predict_rows(run_data, folder, rows)
    return predictions_table(found, tensors.targets.without_labels("test"))


def _learned(folder: RunFolder, cache: Path | None, device: torch.device) -> CorpusTensors:
    """Loads the data that a simple baseline was fitted on, from its own cache or, if that is gone, from the cache that is given."""
    reasons = []
    for place in dict.fromkeys((None, cache)):
        try:
            run_data = reopen(folder, place, device)
            for split in ("train", "valid"):
                labelled_rows(run_data.config, run_data.tensors, split)  # raises if there are none, as in another cache
            return run_data.tensors
        except InputError as error:
            reasons.append(str(error))
    raise InputError(
        f"{folder.path}: a simple baseline is fitted again on the corpus of its run, which cannot be read: {' '.join(reasons)}"
        " Give a --cache that holds the run's corpus as well."
    )


def predict_rows(run_data: RunData, folder: RunFolder, rows: np.ndarray, checkpoint: str = "checkpoint") -> Predictions:
    """Predicts rows of a corpus, labelled or not, with a finished run.

    Raises:
        InputError: The checkpoint is missing or does not fit, or memory runs out.
    """
    return predict_each(run_data, folder, rows, [run_data.tensors], checkpoint)[0]


def predict_each(
    run_data: RunData, folder: RunFolder, rows: np.ndarray, corpora: Sequence[CorpusTensors], checkpoint: str = "checkpoint"
) -> list[Predictions]:
    """Does the same for several forms of the corpus of `run_data`, such as without a modality: one `Predictions` for each."""
    config, tensors = run_data.config, run_data.tensors
    if simple := HEADS[config.head].simple:
        if checkpoint != "checkpoint":
            raise InputError(f"{folder.path}: a simple baseline has no checkpoint {shown(checkpoint)}. Leave out --checkpoint.")
        return predictions.predict_simple_each(simple, config.task, tensors, rows, corpora)[0]
    with watched(tensors.device):
        head = build_head(config, tensors)
        try:
            head.load_state_dict(folder.load_checkpoint(f"{checkpoint}.safetensors"))
        except RuntimeError as error:
            raise InputError(f"{folder.path / checkpoint}.safetensors: not of this head ({reason(error)}).") from error
        options = config.train
        return [predictions.predict(head, one, rows, 4 * options.batch_size, options.precision) for one in corpora]


def assess(found: Predictions, tensors: CorpusTensors) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Computes metrics, and a 95 % bootstrap interval of each."""
    intervals: dict[str, tuple[float, float]] = {}
    targets = tensors.targets
    if found.sentiment is not None:
        intervals |= bootstrap(sentiment_metrics, found.sentiment.astype(float), targets.sentiment[found.rows].astype(float))
    if (probability := found.emotion_probability) is not None:
        intervals |= bootstrap(emotion_metrics, probability, present(targets.emotions[found.rows]))
    return scores(found, tensors), intervals
