"""Builds the untrained head of a run from its configuration and seed."""

import inspect
from typing import Any

import torch

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import CorpusTensors
from heads.models.base import Head
from heads.models.inputs import MIX, Inputs, MissingModalities, MixedLayers, fitted
from heads.models.own import short_name
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.seeds import stream


def build_head(config: RunConfig, tensors: CorpusTensors) -> Head:
    """Builds the untrained head of a run, initialised by its seed alone, on the device of the tensors.

    Raises:
        InputError: An option is out of its range.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(config.seed, "weights")[0] >> 1))
        head = make_head(config.head, config.model, Inputs.of(tensors), config.task, config.train.modality_dropout)
    return head.to(tensors.device)


def make_head(name: str, options: Any, inputs: Inputs, task: str, modality_dropout: float = 0.0) -> Head:
    """Makes the head of this name for its inputs; several layers are mixed before it if its option `adapter` says so.

    With a `modality_dropout` above 0, it can do without a modality.

    Raises:
        InputError: An option is out of its range, or the head cannot learn the labels.
    """
    entry = HEADS[name]
    kind: Any = entry.head  # a subclass of Head, which takes its options too
    dims, options = dict(inputs.dims), fitted(options, inputs)
    if entry.own is not None:
        kind.expect_modalities(short_name(name), dims)
    learned = _labels(kind, name, inputs.labels)
    layers = inputs.several if getattr(options, "adapter", None) == MIX else {}
    of_one_layer = {modality: dim // len(layers.get(modality, (0,))) for modality, dim in dims.items()}
    head: Head = kind(options, of_one_layer, task, **learned)
    if modality_dropout:
        head = MissingModalities(head, modality_dropout, of_one_layer)
    return MixedLayers(head, layers, dims) if layers else head


def _labels(kind: type[Head], name: str, labels: LabelSet) -> dict[str, LabelSet]:
    """Returns the argument of a head that says what it learns. Heads of users may take none, and then learn the usual labels."""
    if labels == MOSEI_LABELS:
        return {}
    if "labels" not in inspect.signature(kind).parameters:
        raise InputError(f"{name} learns {MOSEI_LABELS}, not {labels}: its __init__ has no argument `labels` (docs/labels.md).")
    return {"labels": labels}
