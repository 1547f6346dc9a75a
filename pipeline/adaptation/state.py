"""The state of an adaptation between two epochs, in one file: weights, optimiser, best epoch and history.

A process that is killed loses the epoch in which it was. The file is bound to the key of the adaptation, and its values to a checksum;
it goes when the checkpoint is finished.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data.atomic import atomic_path
from data.files import unreadable
from pipeline.adaptation.checkpoint import writing
from pipeline.adaptation.model import TaskModel

_FORMAT = "mmolre-adaptation-state 1"


@dataclass
class Progress:
    """The record of the epochs so far."""

    history: list[dict[str, Any]] = field(default_factory=list)  # one record an epoch
    best: dict[str, Tensor] = field(default_factory=dict)  # parameters of the best epoch
    selected: int = 0  # number of the best epoch, from 1
    waited: int = 0  # epochs since then


def save(path: Path, key: str, model: TaskModel, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Writes the state after an epoch; it replaces the old one completely or not at all."""
    moments = optimizer.state_dict()["state"]
    tensors = {f"now.{name}": one for name, one in model.state().items()}
    tensors |= {f"adam.{number}.{name}": one.cpu() for number, found in moments.items() for name, one in found.items()}
    if progress.waited:
        tensors |= {f"best.{name}": one for name, one in progress.best.items()}
    said = {"history": progress.history, "selected": progress.selected, "waited": progress.waited}
    metadata = {"format": _FORMAT, "key": key, "said": json.dumps(said), "crc32": f"{_checksum(tensors, said):08x}"}
    with atomic_path(path) as temporary, writing(path):
        save_file(tensors, temporary, metadata)


def load(path: Path, key: str, model: TaskModel, optimizer: torch.optim.Optimizer) -> Progress:
    """Sets model and optimiser to the state of the last finished epoch; without a usable state, everything begins anew.

    Raises:
        UnreadableError: There is a file, and it cannot be read now.
    """
    if not path.is_file():
        return Progress()
    found = _read(path, key)
    if found is None:
        print(f"{path}: damaged, or of another adaptation: it begins with the first epoch.", file=sys.stderr, flush=True)
        return Progress()
    tensors, said = found
    now = _part(tensors, "now.")
    model.restore(now)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, one in _part(tensors, "adam.").items():
        number, _, kind = name.partition(".")
        moments.setdefault(int(number), {})[kind] = one
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    best = _part(tensors, "best.") if said["waited"] else now
    return Progress(said["history"], best, said["selected"], said["waited"])


def _read(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if (metadata.get("format"), metadata.get("key")) != (_FORMAT, key):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        said = json.loads(metadata["said"])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        if (known := unreadable(path, error)) is not None:
            raise known from error
        return None
    return (tensors, said) if metadata.get("crc32") == f"{_checksum(tensors, said):08x}" else None


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}


def _checksum(tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> int:
    checksum = zlib.crc32(json.dumps(said, sort_keys=True).encode())
    for name, one in sorted(tensors.items()):
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(one.contiguous().flatten().numpy().data, checksum)
    return checksum
