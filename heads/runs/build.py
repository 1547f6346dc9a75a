"""Builds the untrained head of a run from its configuration and seed."""

from typing import Any

import torch

from data.tensors import CorpusTensors
from heads.models.base import Head
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.seeds import stream


def build_head(config: RunConfig, tensors: CorpusTensors) -> Head:
    """Builds the untrained head of a run, initialised by its seed alone, on the device of the tensors.

    Raises:
        InputError: An option is out of its range.
    """
    kind: Any = HEADS[config.head].head  # a subclass of Head, which takes its options too
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(config.seed, "weights")[0] >> 1))
        head = kind(config.model, tensors.dims, config.task)
    return head.to(tensors.device)
