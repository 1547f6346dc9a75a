"""The plan of a run's epochs: their batches, random keys and learning rates.

All of it follows from the configuration, the data and the number of the epoch, so an interrupted run needs nothing else to go on.
The loop that carries the plan out is in `heads.training.loop`; the rows a run may use are in `heads.runs.rows`.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

from data.batching import DialogueRows, dialogues, of_like_lengths, shuffled
from data.tensors import CorpusTensors
from heads.evaluation.predictions import total_lengths
from heads.models.base import Head
from heads.models.registry import HEADS
from heads.runs.config import RunConfig, TrainOptions
from heads.runs.seeds import stream

BatchRows = np.ndarray | DialogueRows
"""The rows of one batch: (B,) int64, or whole videos for heads that read context."""

CUDA_LENGTH_MULTIPLE = 16
"""Default of `train.length_multiple` on a GPU, where shapes that come again are worth some padding."""

T = TypeVar("T")


def epoch_plan(config: RunConfig, tensors: CorpusTensors, rows: np.ndarray, epoch: int) -> list[BatchRows]:
    """List the batches of one training epoch, all its passes one after the other.

    For heads that read context, the videos of these rows are whole: their unlabelled utterances are read, and count in no loss.

    The order of the rows follows from the run's seed. The places of long batches follow from the epoch alone and are the same for
    all seeds, so runs that are trained together need little padding.

    Args:
        config: Configuration of the run.
        tensors: The corpus.
        rows: (n,) int64 training rows.
        epoch: Number of the epoch, from 1.
    """
    seeds = stream(config.seed, "order", epoch, len(head_class(config).stages))
    return [
        batch for seed in seeds for batch in _pass(config, tensors, rows, np.random.default_rng(seed), np.random.default_rng(epoch))
    ]


def _pass(
    config: RunConfig, tensors: CorpusTensors, rows: np.ndarray, order: np.random.Generator, schedule: np.random.Generator
) -> Sequence[BatchRows]:
    head, size = head_class(config), config.train.batch_size
    if head.context:
        targets = tensors.targets
        return dialogues(targets.dialogue, targets.position, targets.with_neighbours(rows), size, order, smallest=head.smallest_batch)
    if config.data.like_lengths:
        return of_like_lengths(rows, total_lengths(tensors), size, order, schedule, smallest=head.smallest_batch)
    return shuffled(rows, size, order, smallest=head.smallest_batch)


def length_multiple(options: TrainOptions, device: torch.device) -> int:
    """Return the number whose multiples the lengths of training batches are rounded up to."""
    if options.length_multiple is not None:
        return options.length_multiple
    return CUDA_LENGTH_MULTIPLE if device.type == "cuda" else 1


def batch_keys(config: RunConfig, epoch: int, count: int) -> np.ndarray:
    """Draw the (count,) int64 keys of `heads.models.parts.randomness`, one for each batch of an epoch."""
    return stream(config.seed, "dropout", epoch, count).view(np.int64)


def steps_per_pass(config: RunConfig, batches: int) -> int:
    """Count the optimizer steps of one pass over this number of batches."""
    return -(-batches // config.train.accumulate)


def steps_per_epoch(config: RunConfig, plan: Sequence[BatchRows]) -> int:
    """Count the optimizer steps of an epoch with this plan."""
    stages = len(head_class(config).stages)
    return stages * steps_per_pass(config, len(plan) // stages)


def learning_rates(options: TrainOptions, epoch: int, steps: int, losses: Sequence[float]) -> list[float]:
    """List the learning rate of each step of an epoch.

    The rate rises linearly during the warm-up, which is a share of all steps the run may take. Then it stays constant, falls linearly
    to zero, or is lowered by a factor whenever the validation loss is on a plateau.

    Args:
        options: Training options of the run.
        epoch: Number of the epoch, from 1.
        steps: Steps of an epoch.
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
    """Return `factor` to the power of the number of plateaus so far.

    A plateau is more than `patience` epochs in a row without a lower loss, counted as torch's ReduceLROnPlateau does with its default
    threshold of 1e-4.
    """
    best, waited, lowered = float("inf"), 0, 1.0
    for loss in losses:
        if loss < best * (1 - 1e-4):
            best, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            lowered, waited = lowered * factor, 0
    return lowered


def rows_of(batch: BatchRows) -> np.ndarray:
    """Return the (B,) int64 rows of a batch."""
    return batch.rows if isinstance(batch, DialogueRows) else batch


def size_of(batch: BatchRows) -> int:
    """Count the utterances of a batch."""
    return len(rows_of(batch))


def groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into consecutive parts of `size` items; the last may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def head_class(config: RunConfig) -> type[Head]:
    """Return the class of a run's head.

    Raises:
        ValueError: The run is of a simple baseline, which has no epochs.
    """
    head = HEADS[config.head].head
    if head is None:
        raise ValueError(f"{config.head} is a simple baseline: it has no epochs to plan.")
    return head
