"""From the folder of a finished run to results: metrics of a split, predictions for a corpus.

How a run gets into its folder is in `heads.training.fit`, the numbers themselves in `heads.evaluation.predictions` and
`heads.evaluation.metrics`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from data.errors import InputError
from data.targets import Targets
from data.tensors import CorpusTensors
from heads.evaluation import predictions
from heads.evaluation.intervals import bootstrap
from heads.evaluation.metrics import emotion_metrics, sentiment_metrics
from heads.evaluation.predictions import Predictions, present, scores
from heads.evaluation.routing import xray
from heads.evaluation.routing_chart import draw
from heads.models.registry import HEADS
from heads.runs import config as configs
from heads.runs.build import build_head
from heads.runs.contents import differences, identity_of
from heads.runs.devices import watched
from heads.runs.folder import RunFolder, predictions_table
from heads.runs.rows import labelled_rows
from heads.runs.run_data import RunData, encoders, open_run_data


def reopen(folder: RunFolder, cache: Path | None, device: torch.device, corpus: str | None = None) -> RunData:
    """What a run read, or the same of another corpus or cache, made by the same encoders.

    Raises:
        InputError: There is no such run; its features are not there, or come from other encoders.
    """
    content = folder.config()
    config = configs.from_mapping(content["config"], str(folder.path / "config.json"))
    if corpus is not None and corpus != config.corpus:
        data = dataclasses.replace(config.data, emotions="annotated")  # labels are not needed, and may not exist
        config = dataclasses.replace(config, corpus=corpus, data=data)
    run_data = open_run_data(config, cache or Path(content["made"]["cache"]), device)
    for modality, made in encoders(run_data.corpus, run_data.config.data.modalities).items():
        found, wanted = identity_of(made), identity_of(content["encoders"][modality])
        if found != wanted:
            raise InputError(
                f"{run_data.corpus.features[modality]}: not made as the {modality} features that {folder.path} was trained on:"
                f" {differences(found, wanted)}. Build the cache with the same encoder and settings."
            )
    return run_data


def evaluate(run_data: RunData, folder: RunFolder, split: str, checkpoint: str = "checkpoint") -> dict[str, Any]:
    """Predicts a split with a finished run, writes predictions and metrics, and writes down that the split was opened.

    Returns:
        What is in metrics.json now.
    """
    content = folder.metrics()
    found = predict_rows(run_data, folder, labelled_rows(run_data.config, run_data.tensors, split), checkpoint)
    values, intervals = assess(found, run_data.tensors)
    name = split if checkpoint == "checkpoint" else f"{split}-{checkpoint}"
    folder.record_opening(split, checkpoint)
    folder.write_predictions(f"predictions-{name}.parquet", predictions_table(found, run_data.tensors.targets), {"split": split})
    write_routing(folder, found, run_data.tensors.targets, f"xray-{name}")
    draw_routing(folder, f"xray-{name}")
    content |= {name: values, f"{name}_interval": intervals}
    folder.write_metrics(content)
    return folder.metrics()


def predict(folder: RunFolder, cache: Path | None, corpus: str | None, device: torch.device) -> pd.DataFrame:
    """Predicts a corpus with a finished run.

    Args:
        folder: The run's.
        cache: Where the corpus is; where the run found its own if None.
        corpus: Name in the cache; the run's own if None.
        device: Where it is computed.

    Returns:
        One row for each utterance that can be used: predictions, beside labels if there are any. Those of the test split are left
        out: `evaluate` opens it, and writes down that it did.

    Raises:
        InputError: As `reopen`; the run is not complete.
    """
    folder.metrics()
    run_data = reopen(folder, cache, device, corpus)
    config, tensors = run_data.config, run_data.tensors
    rows = np.arange(len(tensors.targets))
    if simple := HEADS[config.head].simple:
        found = predictions.predict_simple(simple, config.task, _learned(folder, cache, device), rows, tensors)[0]
    else:
        found = predict_rows(run_data, folder, rows)
    return predictions_table(found, tensors.targets.without_labels("test"))


def _learned(folder: RunFolder, cache: Path | None, device: torch.device) -> CorpusTensors:
    """What a simple baseline was fitted on, where the run found it or, if it is no longer there, in the cache that is given."""
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
    """Predictions of a finished run for rows of a corpus, labelled or not.

    Raises:
        InputError: The checkpoint is missing or does not fit, or memory runs out.
    """
    config, tensors = run_data.config, run_data.tensors
    if simple := HEADS[config.head].simple:
        if checkpoint != "checkpoint":
            raise InputError(f"{folder.path}: a simple baseline has no checkpoint {checkpoint!r}. Leave out --checkpoint.")
        return predictions.predict_simple(simple, config.task, tensors, rows, tensors)[0]
    with watched(tensors.device):
        head = build_head(config, tensors)
        try:
            head.load_state_dict(folder.load_checkpoint(f"{checkpoint}.safetensors"))
        except RuntimeError as error:
            raise InputError(f"{folder.path / checkpoint}.safetensors: not of this head ({' '.join(str(error).split())}).") from error
        return predictions.predict(head, tensors, rows, 4 * config.train.batch_size, config.train.precision)


def assess(found: Predictions, tensors: CorpusTensors) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics, and 95 % bootstrap intervals of each."""
    intervals: dict[str, tuple[float, float]] = {}
    targets = tensors.targets
    if found.sentiment is not None:
        intervals |= bootstrap(sentiment_metrics, found.sentiment.astype(float), targets.sentiment[found.rows].astype(float))
    if found.emotion_logits is not None:
        intervals |= bootstrap(emotion_metrics, found.emotion_probability, present(targets.emotions[found.rows]))
    return scores(found, tensors), intervals


def write_routing(folder: RunFolder, found: Predictions, targets: Targets, name: str) -> None:
    """Writes the routing report, for heads that route."""
    if found.routing:
        folder.write_json(f"{name}.json", xray(found.routing, targets.emotions[found.rows]))


def draw_routing(folder: RunFolder, name: str) -> None:
    """Draws a routing report, if there is one. It takes seconds, which the trials of a sweep are spared."""
    if (report := folder.routing(name)) is not None:
        draw(report, folder.path / f"{name}.svg")
