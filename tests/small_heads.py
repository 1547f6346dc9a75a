"""Small versions of every registered head, as `heads.models.contract` checks them, and a batch that each can read."""

import functools
from collections.abc import Mapping
from typing import Any

from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models.base import TASKS, Head
from heads.models.contract import DIMS, LENGTHS, VIDEOS, Subject, gradients, joined, subject_of, train
from heads.models.registry import HEADS
from heads.models.trial_batches import alone, padded_videos, reordered
from heads.models.trial_batches import videos_of as independent
from heads.runs.config import make_config

__all__ = [
    "CASES",
    "DIMS",
    "LENGTHS",
    "TRAINED",
    "VIDEOS",
    "ZOO",
    "a_batch",
    "alone",
    "gradients",
    "independent",
    "joined",
    "made",
    "make",
    "padded_videos",
    "reordered",
    "small_options",
    "subject",
    "train",
]

TRAINED = [name for name, entry in HEADS.items() if entry.head]
ZOO = [name for name in TRAINED if HEADS[name].head.__module__.startswith("heads.models.baselines.")]
CASES = [(name, task) for name in TRAINED for task in (TASKS if HEADS[name].task is None else [HEADS[name].task])]

_FAMILY = {"dim": 8, "output": [9], "fusion": {"layers": 1, "heads": 2, "ffn": 16}}
_ENCODER = {"dim": 8, "heads": 2, "ffn": 16}
_RANKS = {"experts": 3, "rank": 4}
_MIXTURES: dict[str, dict[str, Any]] = {
    "mmolre": {**_RANKS, "task_rank": 4, "top_k": 2, "noise": 0.1, "dropout": 0.1},
    "moe": {"experts": 3, "top_k": 2, "noise": 0.1, "dropout": 0.1},
    "mmoe": _RANKS,
    "ple": {**_RANKS, "task_rank": 4},
    "mod-squad": {"experts": 3, "top_k": 2},
    "mlore": {"ranks": [2, 3, 4], "task_rank": 4, "top_k": 2},
    "demt": {"width": 8, "heads": 2, "dropout": 0.1},
}
_SMALL: dict[str, dict[str, Any]] = {
    "mult": {"width": 6, "layers": 1, "heads": 2},
    "misa": {"dim": 6, "audio_dim": 5, "ffn": 16},
    "mag-head": {**_ENCODER, "layers": 1},
    "self-mm": {"fusion_width": 9, "text_width": 8},
    "mmim": {"width": 6},
    "spectra": _ENCODER,
    "hycon": _ENCODER,
    "multilogue-net": {"state": 6, "emotion_state": 5},
    "tbje": {**_ENCODER, "blocks": 2, "steps": 6, "audio_pool": 2, "output_dim": 10},
    "mr": {"width": 6, "layers": 1, "heads": 2, "pose": 5},
    "cogmen": {"dim": 6, "ffn": 16},
    "corect": {"width": 6, "text_layers": 1, "text_ffn": 8, "graph_heads": 2, "crossmodal_layers": 1, "memory_layers": 1},
    "mtl": {"gru": 5, "dim": 6},
    "unimse-head": {**_ENCODER, "layers": 1, "audio_dim": 5, "bottleneck": 4, "contrast_dim": 3},
}


def small_options(name: str) -> dict[str, Any]:
    """Return the options that make a head small, nested."""
    return _SMALL.get(name) or {**_FAMILY, **({"mixture": _MIXTURES[name]} if name in _MIXTURES else {})}


@functools.cache
def subject(name: str) -> Subject:
    """Return a small head as the checks of the contract take it."""
    chosen = make_config(name, "mosi", "paper-mosi", {"model": small_options(name)}).model
    return subject_of(name, HEADS[name].head, chosen, HEADS[name].task)


def make(name: str, task: str, dims: Mapping[str, int] = DIMS, calm: bool = False, labels: LabelSet = MOSEI_LABELS) -> Head:
    """Make a small head in training mode; see `Subject.make`."""
    return subject(name).make(task, dims, calm, labels)


def made(name: str, task: str) -> Head:
    """Make a small head in evaluation mode. Tests share it and must not change it."""
    return subject(name).made(task)


def a_batch(name: str) -> Batch:
    """Make a batch of five utterances, in two videos for a head that reads whole videos."""
    return subject(name).batch()
