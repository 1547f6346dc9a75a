"""Heads and batches on PyTorch's meta device, which have shapes and no memory: what a step of a trial needs is counted on them."""

import torch

from data.tensors import Batch, CorpusTensors, rounded_up
from heads.models.base import Head
from heads.models.inputs import Inputs
from heads.runs.build import make_head
from heads.runs.config import RunConfig
from heads.runs.rows import labelled_rows
from heads.training.plan import epoch_plan, rows_of


def head_on_meta(config: RunConfig, tensors: CorpusTensors) -> Head:
    """Return the head of a trial without memory."""
    with torch.device("meta"):
        return make_head(config.head, config.model, Inputs.of(tensors), config.task, config.train.modality_dropout)


def batch_of_size(config: RunConfig, tensors: CorpusTensors, share: float) -> Batch:
    """Return a batch without memory that has the shapes of one of an epoch's batches: 1 the largest, 0.5 the middle one, by size."""
    lengths, dims, multiple = tensors.lengths, tensors.dims, config.train.length_multiple or 1
    plan = map(rows_of, epoch_plan(config, tensors, labelled_rows(config, tensors, "train"), 1))
    sizes = [(len(rows), {m: rounded_up(int(lengths[m][rows].max()), multiple) for m in dims}) for rows in plan]
    ordered = sorted(sizes, key=lambda size: size[0] * sum(size[1].values()))
    count, steps = ordered[round(share * (len(ordered) - 1))]
    with torch.device("meta"):
        features = {m: torch.empty(count, steps[m], dim) for m, dim in dims.items()}
        masks = {m: torch.empty(count, steps[m], dtype=torch.bool) for m in dims}
        return Batch(
            features,
            masks,
            torch.empty(count),
            torch.empty(count, len(tensors.targets.labels.emotions)),
            torch.empty(count, dtype=torch.int64),
        )
