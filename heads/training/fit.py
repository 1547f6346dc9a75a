"""Training of one run, from a configuration and a cache to a complete run folder.

The training loop is in `heads.training.loop`, the simple baselines of scikit-learn in `heads.models.simple`, the evaluation of
finished runs in `heads.runs.evaluate`, terminal output in `heads.evaluation.console`.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from data.errors import InputError
from data.feature_sets import modality_of
from data.packages import installed_version
from data.tensors import CorpusTensors
from heads.evaluation import predictions
from heads.evaluation.predictions import Predictions
from heads.models.base import TASKS
from heads.models.inputs import MIX, MixedLayers
from heads.models.own import short_name
from heads.models.registry import HEADS
from heads.runs import config as configs
from heads.runs.build import build_head
from heads.runs.config import RunConfig
from heads.runs.devices import watched
from heads.runs.evaluate import assess
from heads.runs.folder import VERSION, RunFolder, predictions_table
from heads.runs.logs import log_finished, logging_to
from heads.runs.rows import labelled_rows
from heads.runs.run_data import RunData, encoders
from heads.training.loop import Advance, Run, train_runs
from heads.training.plan import epoch_plan, steps_per_epoch
from heads.training.single_engine import SingleEngine


def with_seed(run_data: RunData, seed: int) -> RunData:
    """Return the same run with another seed, 0 or more."""
    return dataclasses.replace(run_data, config=configs.change(run_data.config, {"seed": seed}, "--seed"))


def facts(run_data: RunData) -> str:
    """Describe in one line what a run reads."""
    config, tensors = run_data.config, run_data.tensors
    counts = " + ".join(f"{len(labelled_rows(config, tensors, split)):,} {split}" for split in ("train", "valid"))
    emotions = f", {config.data.emotions} emotions" if "mer" in TASKS[config.task] else ""
    where = "streamed from disk" if tensors.is_streamed else f"on {tensors.device}"
    read = " + ".join(_described(run_data, stream) for stream in run_data.streams)
    features = f"{read} features {where}" if run_data.streams else "no features"
    left_out = f" ({run_data.left_out:,} others lack some of these features)" if run_data.left_out else ""
    return f"{counts} utterances{emotions}, {features}{left_out}"


def _described(run_data: RunData, stream: str) -> str:
    """Describe the features of a stream by their sets; in more words where they are several layers or means of frames."""
    tensors, model = run_data.tensors, run_data.config.model
    numbers, averaged = tensors.layers[stream], tensors.averaged[stream]
    notes: list[str] = []
    if len(numbers) > 1:
        baseline, is_mixed = HEADS[run_data.config.head].simple, getattr(model, "adapter", None) == MIX
        how = "one of them chosen on valid" if baseline else "mixed" if is_mixed else "side by side"
        notes.append(f"layers {', '.join(map(str, numbers))}: {how}")
    elif numbers and run_data.config.data.layers.picked().get(modality_of(run_data.streams[stream][0])):
        notes.append(f"layer {numbers[0]}")
    if averaged > 1:
        notes.append(f"means of {averaged} frames")
    sets = " & ".join(run_data.streams[stream])  # joined by width
    return f"{sets} ({'; '.join(notes)})" if notes else sets


def steps(run_data: RunData) -> int:
    """Count the optimizer steps of all epochs of a run; 0 for a simple baseline."""
    config = run_data.config
    if HEADS[config.head].simple:
        return 0
    plan = epoch_plan(config, run_data.tensors, labelled_rows(config, run_data.tensors, "train"), 1)
    return config.train.max_epochs * steps_per_epoch(config, plan)


def fit(run_data: RunData, folder: RunFolder, advance: Advance = lambda steps, note: None, logs: Sequence[str] = ()) -> dict[str, Any]:
    """Train a run, or go on with it, and write its results; a complete run is left as it is.

    Args:
        run_data: Data and configuration of the run.
        folder: Its run folder.
        advance: Called with the steps done since the last call, and a note.
        logs: Keys of `heads.runs.logs.LOGS`. A run that is complete and not logged is logged.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: The folder holds another run, the configuration does not fit the data, or memory runs out.
    """
    baseline = HEADS[run_data.config.head].simple
    with watched(run_data.tensors.device):
        # made before anything is written, because it may refuse
        engine = None if folder.is_complete or baseline else SingleEngine(Run(run_data.config, run_data.tensors, folder))
        folder.begin(describe(run_data))
        if engine:
            with logging_to(logs, folder, run_data.config, folder.path.parent) as live:
                train_runs([engine.run], engine, finish, advance=advance, on_epoch=lambda run: live.update(run.history))
            folder.draw_routing("xray")
        elif baseline and not folder.is_complete:
            _fit_simple_baseline(run_data, folder, baseline)
    if not engine:
        log_finished(logs, folder, folder.path.parent)
    return folder.metrics()


def finish(run: Run, error: InputError | None = None) -> None:
    """Write checkpoints, history, predictions and metrics of a run that is over.

    Raises:
        InputError: The run failed; this is its error.
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
    found = predictions.predict(head, run.tensors, run.valid_rows, 4 * config.train.batch_size, config.train.precision)
    _write_results(
        config,
        run.tensors,
        folder,
        found,
        {
            "parameters": sum(parameter.numel() for parameter in head.parameters()),
            "epochs": run.epoch,
            **({} if run.is_over else {"pruned": True}),
            "selected": {name: {"epoch": epoch, "value": value} for name, (epoch, value) in best.items()},
            **({"layer_weights": head.layer_weights()} if isinstance(head, MixedLayers) else {}),
        },
    )


def _fit_simple_baseline(run_data: RunData, folder: RunFolder, baseline: str) -> None:
    config, tensors = run_data.config, run_data.tensors
    found, chosen = predictions.predict_simple(baseline, config.task, tensors, labelled_rows(config, tensors, "valid"), tensors)
    _write_results(config, tensors, folder, found, {"chosen": chosen})


def _write_results(config: RunConfig, tensors: CorpusTensors, folder: RunFolder, found: Predictions, facts: Mapping[str, Any]) -> None:
    values, intervals = assess(found, tensors)
    folder.write_predictions("predictions.parquet", predictions_table(found, tensors.targets), {"split": "valid"})
    folder.write_routing("xray", found, tensors.targets)
    head = {"head": short_name(config.head), "corpus": config.corpus, "task": config.task, "seed": config.seed}
    labels = tensors.targets.labels.noted()
    folder.write_metrics({**head, **labels, **facts, "valid": values, "valid_interval": intervals})
    folder.remove_state()


def describe(run_data: RunData) -> dict[str, Any]:
    """Return the content of config.json. Its part "made" is for the reader; the rest identifies the run."""
    config, corpus = run_data.config, run_data.corpus
    files = {name: corpus.features[name].name for name in run_data.sets}
    ledger = corpus.pseudo_labels.name if config.data.emotions == "pseudo" and corpus.pseudo_labels else None
    return {
        "version": VERSION,
        "config": config.as_dict(),
        **run_data.tensors.targets.labels.noted(),
        "manifest": corpus.manifest.name,
        "features": files,
        "pseudo_labels": ledger,
        "encoders": encoders(corpus, run_data.sets),
        "made": {
            "cache": str(corpus.manifest.parent.parent.resolve()),
            "device": str(device := run_data.tensors.device),
            **({"threads": torch.get_num_threads()} if device.type == "cpu" else {}),
            "python": platform.python_version(),
            "packages": {name: installed_version(name) for name in ("torch", "numpy", "scikit-learn", "safetensors")},
        },
    }
