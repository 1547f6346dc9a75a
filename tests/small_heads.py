"""Small versions of every registered head, a batch that each can read, and one step of training. `batches` makes the batches."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from batches import random_batch, select, trim
from torch import Tensor
from torch.nn import functional

from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models import options
from heads.models.base import TASKS, Head, HeadOutput
from heads.models.losses import LossOptions, total_loss
from heads.models.registry import HEADS
from heads.runs.config import make_config

DIMS = {"text": 7, "audio": 5}
LENGTHS = {"text": (5, 3, 4, 1, 2), "audio": (9, 12, 7, 3, 1)}
VIDEOS = ((3, 0, 2), (1, 4))
"""Rows of each video's utterances, in their order."""

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
def _options(name: str) -> Any:
    return make_config(name, "mosi", "paper-mosi", {"model": small_options(name)}).model


def make(name: str, task: str, dims: Mapping[str, int] = DIMS, calm: bool = False, labels: LabelSet = MOSEI_LABELS) -> Head:
    """Make a small head in training mode. Parameters that start at zero become noise, so that they have an effect.

    Args:
        name: A key of `HEADS`.
        task: A key of `TASKS`.
        dims: Modality → D.
        calm: True turns dropout off and lets routers keep all experts, so that each parameter can get a gradient.
        labels: What it learns.
    """
    chosen = _options(name)
    if calm:
        rates = {option: 0.0 for option in options.names(type(chosen)) if option.endswith("dropout")}
        chosen = options.change(chosen, options.nested(rates | _all_experts(chosen)), "test")
    torch.manual_seed(0)
    head = HEADS[name].head(chosen, dims, task, labels)
    with torch.no_grad():
        for parameter in head.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return head


@functools.cache
def made(name: str, task: str) -> Head:
    """Make a small head in evaluation mode. Tests share it and must not change it."""
    return make(name, task).eval()


def _all_experts(chosen: Any) -> dict[str, int]:
    mixture = getattr(chosen, "mixture", None)
    if not hasattr(mixture, "top_k"):
        return {}
    return {"mixture.top_k": mixture.experts if hasattr(mixture, "experts") else len(mixture.ranks)}


def a_batch(name: str) -> Batch:
    """Make a batch of five utterances, in two videos for a head that reads whole videos."""
    return _in_videos(random_batch(LENGTHS, DIMS), VIDEOS) if HEADS[name].head.context else random_batch(LENGTHS, DIMS)


def reordered(batch: Batch, *rows: int) -> Batch:
    """Move the utterances to other places of the batch; videos stay unchanged."""
    moved = select(batch, *rows)
    return moved if batch.dialogue is None else _in_videos(moved, [[rows.index(row) for row in video] for video in VIDEOS])


def alone(batch: Batch, *rows: int) -> Batch:
    """Make a corpus of some utterances, without needless padding; they form one video for a head that reads whole videos."""
    fewer = trim(select(batch, *rows))._replace(index=torch.arange(len(rows)))
    return fewer if batch.dialogue is None else _in_videos(fewer, [range(len(rows))])


def independent(batch: Batch) -> list[list[int]]:
    """List the groups of rows that are predicted independently: each utterance, or each video for a head that reads whole videos."""
    return [[row] for row in range(len(batch.index))] if batch.dialogue is None else [list(video) for video in VIDEOS]


def padded_videos(batch: Batch, steps: int) -> Batch:
    """Add padding behind the utterances of each video, if there are videos."""
    return batch if batch.dialogue is None else batch._replace(dialogue=functional.pad(batch.dialogue, (0, steps), value=-1))


def _in_videos(batch: Batch, videos: Any) -> Batch:
    longest = max(map(len, videos))
    return batch._replace(dialogue=torch.tensor([[*video, *[-1] * (longest - len(video))] for video in videos]))


def joined(output: HeadOutput) -> Tensor:
    """Join sentiment and emotions, as far as there are any: (B, 1), (B, 6) or (B, 7)."""
    values = [output.sentiment[:, None]] if output.sentiment is not None else []
    return torch.cat([*values, *([output.emotion_logits] if output.emotion_logits is not None else [])], 1)


def train(head: Head, batch: Batch, epochs: int = 1, kinds: LossOptions = LossOptions()) -> float:  # noqa: B008 - immutable
    """Train on one batch as `heads.training.single_engine` does, but sum gradients instead of taking steps. Return the sum of
    losses."""
    head.train().prepare(batch.sentiment, batch.emotions, torch.ones(len(batch.index), dtype=torch.bool))
    total = 0.0
    for epoch in range(1, epochs + 1):
        for stage in head.stages:
            for name, parameter in head.named_parameters():
                parameter.requires_grad_(head.trains(name, stage))
            head.begin(stage, epoch)
            output = head(batch)
            loss = total_loss(output, batch, kinds, kinds.weights())
            loss.backward()
            with torch.no_grad():
                head.remember(batch, output)
            total += loss.item()
    return total


def gradients(head: Head) -> dict[str, Tensor]:
    """Collect the gradients by name, without biases of keys, which softmax cancels."""
    return {name: value.grad for name, value in head.named_parameters() if not name.endswith("key.bias")}
