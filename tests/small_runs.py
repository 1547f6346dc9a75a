"""Runs that take a fraction of a second: options for heads a few numbers wide, said once for command lines and for Python."""

from collections.abc import Mapping
from pathlib import Path

import torch
import yaml

from heads.models.mmolre import FamilyOptions
from heads.models.options import nested
from heads.models.registry import HEADS
from heads.runs.config import RunConfig, make_config
from heads.runs.folder import RunFolder, run_folder
from heads.runs.run_data import RunData, open_run_data
from heads.training.fit import fit

SMALL = {
    "model.dim": 8,
    "model.output": [8],
    "model.audio_pool": 1,
    "model.fusion.layers": 1,
    "model.fusion.heads": 2,
    "model.fusion.ffn": 8,
    "train.batch_size": 8,
    "train.max_epochs": 3,
    "train.patience": 3,
    "train.lr": 0.01,
    "train.average": 0.0,
}
SMALL_MIXTURE = {
    "model.mixture.blocks": 1,
    "model.mixture.experts": 3,
    "model.mixture.top_k": 2,
    "model.mixture.rank": 2,
    "model.mixture.task_rank": 2,
    "model.mixture.noise": 0.1,
}

Changes = Mapping[str, object]
"""Dotted name → value."""


def options(head: str, changes: Changes) -> dict[str, object]:
    """Dotted name → value, of a short run, and of a small head if it is of MMoLRE's family."""
    entry = HEADS[head]
    if entry.simple:
        return dict(changes)
    small = SMALL if issubclass(entry.options, FamilyOptions) else {name: value for name, value in SMALL.items() if "train." in name}
    return small | (SMALL_MIXTURE if head == "mmolre" else {}) | dict(changes)


def config(head: str = "pre-fusion", changes: Changes = {}, corpus: str = "mosi") -> RunConfig:  # noqa: B006 - never changed
    """The configuration of a small run."""
    return make_config(head, corpus, changes=nested(options(head, changes)))


def run_data(cache: Path, head: str = "pre-fusion", changes: Changes = {}, corpus: str = "mosi") -> RunData:  # noqa: B006
    """What a small run reads."""
    return open_run_data(config(head, changes, corpus), cache, torch.device("cpu"))


def run(cache: Path, out: Path, head: str = "pre-fusion", changes: Changes = {}, corpus: str = "mosi") -> RunFolder:  # noqa: B006
    """A small run that is complete."""
    made = run_data(cache, head, changes, corpus)
    folder = run_folder(made.config, out)
    fit(made, folder)
    return folder


def command(cache: Path, out: Path, head: str = "pre-fusion", changes: Changes = {}, corpus: str = "mosi") -> list[str]:  # noqa: B006
    """The same run as a command line of `python -m heads`."""
    given = [
        f"--set={name}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"
        for name, value in options(head, changes).items()
    ]
    return ["fit", f"--cache={cache}", f"--out={out}", f"--corpus={corpus}", f"--head={head}", "--device=cpu", "--no-report", *given]
