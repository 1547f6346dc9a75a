"""What the commands of `python -m heads` do: from a configuration and a cache to a run folder, and from a run folder to results.

The loop of training is in `heads.train`, the floors of scikit-learn in `heads.floors`, what is printed in `heads.console`.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from data.cache import CachedCorpus
from data.errors import InputError
from data.feature_store import FeatureStore
from data.targets import Targets
from data.tensors import CorpusTensors
from heads import config as configs
from heads import inference
from heads.base import TASKS
from heads.config import RunConfig
from heads.inference import Predictions, present, scores
from heads.intervals import bootstrap
from heads.materials import Material, open_material
from heads.metrics import emotion_metrics, sentiment_metrics
from heads.options import items
from heads.plan import epoch_plan, labelled_rows, steps_per_epoch
from heads.registry import HEADS
from heads.runs import RunFolder, predictions_table
from heads.solo import Solo
from heads.train import Advance, Run, build_head, train
from heads.xray import draw, xray


def with_seed(material: Material, seed: int) -> Material:
    """The same with another seed, 0 or more."""
    return dataclasses.replace(material, config=configs.change(material.config, {"seed": seed}, "--seed"))


def facts(material: Material) -> str:
    """One line on what a run reads and makes."""
    config, tensors = material.config, material.tensors
    counts = " + ".join(f"{len(labelled_rows(config, tensors, split)):,} {split}" for split in ("train", "valid"))
    emotions = f", {config.data.emotions} emotions" if "mer" in TASKS[config.task] else ""
    where = "streamed from disk" if tensors.is_streamed else f"on {tensors.device}"
    return f"{counts} utterances{emotions}, {' + '.join(config.data.modalities)} features {where}"


def steps(material: Material) -> int:
    """Steps of all epochs of a run; 0 for a floor."""
    config = material.config
    if HEADS[config.head].floor:
        return 0
    plan = epoch_plan(config, material.tensors, labelled_rows(config, material.tensors, "train"), 1)
    return config.train.max_epochs * steps_per_epoch(config, plan)


def run_folder(config: RunConfig, out: Path) -> RunFolder:
    """Where a run of this configuration goes below `out`."""
    preset = Path(config.preset).stem
    return RunFolder(out / f"{config.corpus}-{config.head}-{preset}-{config.key()}-seed{config.seed}")


def fit(material: Material, folder: RunFolder, advance: Advance = lambda steps, note: None) -> dict[str, Any]:
    """Trains a run, or goes on with it, and writes its results; a complete one is left as it is.

    Returns:
        What is in metrics.json.

    Raises:
        InputError: The folder holds another run, or the configuration does not fit the data.
    """
    folder.begin(describe(material))
    if not folder.is_complete:
        if floor := HEADS[material.config.head].floor:
            _fit_floor(material, folder, floor)
        else:
            run = Run(material.config, material.tensors, folder)
            train([run], Solo(run), finish, advance=advance)
    return folder.metrics()


def finish(run: Run, error: InputError | None = None) -> None:
    """Writes checkpoints, history, predictions and metrics of a run that is over.

    Raises:
        InputError: The run failed, with that error.
    """
    if error:
        raise error
    config, folder, best = run.config, run.folder, run.selection.best
    for name in best:
        chosen = name == config.train.select
        folder.save_checkpoint("checkpoint.safetensors" if chosen else f"best-{name}.safetensors", run.best[name])
    folder.write_history(run.history)
    head = build_head(config, run.tensors)
    head.load_state_dict(run.best[config.train.select])
    found = inference.predict(head, run.tensors, run.valid_rows, 4 * config.train.batch_size, config.train.precision)
    _write_results(
        config,
        run.tensors,
        folder,
        found,
        {
            "parameters": sum(parameter.numel() for parameter in head.parameters()),
            "epochs": run.epoch,
            "selected": {name: {"epoch": epoch, "value": value} for name, (epoch, value) in best.items()},
        },
    )


def _fit_floor(material: Material, folder: RunFolder, floor: str) -> None:
    config, tensors = material.config, material.tensors
    found, chosen = inference.predict_floor(floor, config.task, tensors, labelled_rows(config, tensors, "valid"), tensors)
    _write_results(config, tensors, folder, found, {"chosen": chosen})


def _write_results(config: RunConfig, tensors: CorpusTensors, folder: RunFolder, found: Predictions, facts: Mapping[str, Any]) -> None:
    values, intervals = assess(found, tensors)
    folder.write_predictions("predictions.parquet", predictions_table(found, tensors.targets), {"split": "valid"})
    write_routing(folder, found, tensors.targets, "xray")
    head = {"head": config.head, "corpus": config.corpus, "task": config.task, "seed": config.seed}
    folder.write_metrics({**head, **facts, "valid": values, "valid_interval": intervals})
    folder.remove_state()


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
    """Writes the routing report and its picture, for heads that route."""
    if found.routing:
        report = xray(found.routing, targets.emotions[found.rows])
        folder.write_json(f"{name}.json", report)
        draw(report, folder.path / f"{name}.svg")


def describe(material: Material) -> dict[str, Any]:
    """What config.json holds. "made" is for the reader; the rest identifies the run."""
    config, corpus = material.config, material.corpus
    files = {modality: corpus.features[modality].name for modality in config.data.modalities}
    ledger = corpus.pseudo_labels.name if config.data.emotions == "pseudo" and corpus.pseudo_labels else None
    return {
        "version": 1,
        "config": config.as_dict(),
        "manifest": corpus.manifest.name,
        "features": files,
        "pseudo_labels": ledger,
        "encoders": encoders(corpus, config.data.modalities),
        "made": {
            "cache": str(corpus.manifest.parent.parent.resolve()),
            "device": str(material.tensors.device),
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in ("torch", "numpy", "scikit-learn", "safetensors")},
        },
    }


def encoders(corpus: CachedCorpus, modalities: tuple[str, ...]) -> dict[str, Any]:
    """Modality → name, weights and settings of the encoder that made the features."""
    found = {}
    for modality in modalities:
        with FeatureStore.open(corpus.features[modality]) as store:
            found[modality] = {"encoder": store.attrs.get("encoder"), "identity": store.attrs.get("identity"), "dim": store.dim}
    return found


def reopen(folder: RunFolder, cache: Path | None, device: torch.device, corpus: str | None = None) -> Material:
    """What a run read, or the same of another corpus or cache, made by the same encoders.

    Raises:
        InputError: There is no such run; its features are not there, or come from other encoders.
    """
    content = folder.config()
    config = configs.from_mapping(content["config"], str(folder.path / "config.json"))
    if corpus is not None and corpus != config.corpus:
        data = dataclasses.replace(config.data, emotions="annotated")  # labels are not needed, and may not exist
        config = dataclasses.replace(config, corpus=corpus, data=data)
    material = open_material(config, cache or Path(content["made"]["cache"]), device)
    for modality, wanted in content["encoders"].items():
        found = encoders(material.corpus, (modality,))[modality]
        if found != wanted:
            raise InputError(
                f"{material.corpus.features[modality]}: not made as the {modality} features that {folder.path} was trained on:"
                f" {_differences(found, wanted)}. Build the cache with the same encoder and settings."
            )
    return material


def evaluate(material: Material, folder: RunFolder, split: str, checkpoint: str = "checkpoint") -> dict[str, Any]:
    """Predicts a split with a finished run, writes predictions and metrics, and writes down that the split was opened.

    Returns:
        What is in metrics.json now.
    """
    content = folder.metrics()
    found = predict_rows(material, folder, labelled_rows(material.config, material.tensors, split), checkpoint)
    values, intervals = assess(found, material.tensors)
    name = split if checkpoint == "checkpoint" else f"{split}-{checkpoint}"
    folder.record_opening(split, checkpoint)
    folder.write_predictions(f"predictions-{name}.parquet", predictions_table(found, material.tensors.targets), {"split": split})
    write_routing(folder, found, material.tensors.targets, f"xray-{name}")
    content |= {name: values, f"{name}_interval": intervals}
    folder.write_metrics(content)
    return folder.metrics()


def predict(folder: RunFolder, cache: Path | None, corpus: str | None, device: torch.device) -> pd.DataFrame:
    """One row for each utterance of a corpus that can be used: what a finished run predicts, beside labels if there are any."""
    folder.metrics()
    material = reopen(folder, cache, device, corpus)
    rows = np.arange(len(material.tensors.targets))
    if floor := HEADS[material.config.head].floor:
        own = reopen(folder, None, device).tensors
        found = inference.predict_floor(floor, material.config.task, own, rows, material.tensors)[0]
    else:
        found = predict_rows(material, folder, rows)
    return predictions_table(found, material.tensors.targets)


def predict_rows(material: Material, folder: RunFolder, rows: np.ndarray, checkpoint: str = "checkpoint") -> Predictions:
    """Predictions of a finished run for rows of a corpus, labelled or not.

    Raises:
        InputError: The checkpoint is missing or does not fit.
    """
    config, tensors = material.config, material.tensors
    if floor := HEADS[config.head].floor:
        if checkpoint != "checkpoint":
            raise InputError(f"{folder.path}: a floor has no checkpoint {checkpoint!r}. Leave out --checkpoint.")
        return inference.predict_floor(floor, config.task, tensors, rows, tensors)[0]
    head = build_head(config, tensors)
    try:
        head.load_state_dict(folder.load_checkpoint(f"{checkpoint}.safetensors"))
    except RuntimeError as error:
        raise InputError(f"{folder.path / checkpoint}.safetensors: not of this head ({' '.join(str(error).split())}).") from error
    return inference.predict(head, tensors, rows, 4 * config.train.batch_size, config.train.precision)


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    have, want = dict(items(found)), dict(items(wanted))
    changed = [name for name in have | want if have.get(name) != want.get(name)]
    return "; ".join(f"{name} is {have.get(name)!r}, not {want.get(name)!r}" for name in changed[:3])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
