"""What a run is going to do, from its configuration and the data alone: which rows, in which batches, with which random keys, at which
learning rate. Nothing here depends on how far a run is but the number of the epoch, so that going on needs nothing else."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data.batching import DialogueRows, dialogues, of_like_lengths, shuffled
from data.tensors import CorpusTensors
from heads.evaluation.predictions import total_lengths
from heads.models.base import Head
from heads.models.registry import HEADS
from heads.runs.config import RunConfig, TrainOptions
from heads.runs.seeds import stream

Entry = np.ndarray | DialogueRows
"""One batch of a plan."""


def epoch_plan(config: RunConfig, tensors: CorpusTensors, rows: np.ndarray, epoch: int) -> list[Entry]:
    """The batches of one epoch of training, of all its passes one after the other.

    With context, the videos of these rows are whole: unlabelled utterances are read, and count in no loss.

    What is in them is the run's own; when long ones come is the same for all seeds, so that runs that are trained together pad little.
    """
    head = _head(config)
    seeds = stream(config.seed, "order", epoch, len(head.stages))
    return [
        entry for seed in seeds for entry in _pass(config, tensors, rows, np.random.default_rng(seed), np.random.default_rng(epoch))
    ]


def _pass(
    config: RunConfig, tensors: CorpusTensors, rows: np.ndarray, order: np.random.Generator, schedule: np.random.Generator
) -> list[Entry]:
    head, size = _head(config), config.train.batch_size
    if head.context:
        targets = tensors.targets
        return dialogues(targets.dialogue, targets.position, targets.with_neighbours(rows), size, order, smallest=head.smallest_batch)
    if config.data.like_lengths:
        return of_like_lengths(rows, total_lengths(tensors), size, order, schedule, smallest=head.smallest_batch)
    return shuffled(rows, size, order, smallest=head.smallest_batch)


def batch_keys(config: RunConfig, epoch: int, count: int) -> np.ndarray:
    """(count,) int64 keys of `heads.models.parts.randomness`, one for each batch of an epoch."""
    return stream(config.seed, "dropout", epoch, count).view(np.int64)


def steps_per_pass(config: RunConfig, batches: int) -> int:
    """Steps of the optimizer in one pass over so many batches."""
    return -(-batches // config.train.accumulate)


def steps_per_epoch(config: RunConfig, plan: Sequence[Entry]) -> int:
    """Steps of the optimizer in an epoch of this plan."""
    stages = len(_head(config).stages)
    return stages * steps_per_pass(config, len(plan) // stages)


def learning_rates(options: TrainOptions, epoch: int, steps: int, losses: Sequence[float]) -> list[float]:
    """The learning rate of each step of an epoch.

    Linear warm-up in the first part of all steps that there can be; then constant, falling linearly to zero, or, on a plateau of the
    validation loss, lowered by a factor.

    Args:
        options: Of the run.
        epoch: From 1.
        steps: In an epoch.
        losses: Validation losses of the epochs before.
    """
    total = options.max_epochs * steps
    first = (epoch - 1) * steps
    lowered = plateau_factor(losses, options.plateau_patience, options.plateau_factor) if options.schedule == "plateau" else 1.0
    return [options.lr * lowered * _factor(step, total, options) for step in range(first, first + steps)]


def _factor(step: int, total: int, options: TrainOptions) -> float:
    rising = min(1.0, (step + 1) / max(1.0, options.warmup * total))
    falling = (total - step) / (total * (1 - options.warmup)) if options.schedule == "linear" else 1.0
    return min(rising, falling)


def plateau_factor(losses: Sequence[float], patience: int, factor: float) -> float:
    """`factor` to the power of how often more than `patience` epochs in a row brought no lower loss, as torch's ReduceLROnPlateau
    counts with its default threshold of 1e-4."""
    best, waited, lowered = float("inf"), 0, 1.0
    for loss in losses:
        if loss < best * (1 - 1e-4):
            best, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            lowered, waited = lowered * factor, 0
    return lowered


def size_of(entry: Entry) -> int:
    """Utterances of a batch."""
    return len(getattr(entry, "rows", entry))


def groups(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive parts of `size` items; the last may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _head(config: RunConfig) -> type[Head]:
    return HEADS[config.head].head
