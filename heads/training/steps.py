"""The ways in which an engine carries out its steps on the device, and which runs can have which (`train.step`).

An engine has two functions: one adds the gradients of a batch, the other changes the parameters. Here they are called as they are
(eager); in `heads.training.graphed_steps` they are recorded as CUDA graphs. Both engines work either way.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from data.errors import InputError
from data.tensors import Batch
from heads.models.registry import HEADS
from heads.runs.config import RunConfig

Backward = Callable[[Batch, Tensor, float], Tensor]
"""Adds the gradients of a batch: (batch, (K,) int64 keys, share) → (K,) losses."""

Update = Callable[[Sequence[float] | Sequence[Tensor]], None]
"""Changes the parameters at the learning rate of each of K runs, and clears the gradients."""


class Steps(Protocol):
    """A way to carry out steps."""

    is_recorded: bool
    """True if gradients and moments have to stay where they are in memory, and the optimizer can be captured."""

    def backward(self, function: Backward, batch: Batch, keys: Tensor, share: float) -> Tensor:
        """Call `function` with the other arguments. The losses hold until the next call."""
        ...

    def update(self, function: Update, rates: Sequence[float]) -> None:
        """Call `function` with the learning rates."""
        ...

    def forget_update(self) -> None:
        """Learn that the optimizer or its state was replaced."""
        ...


class EagerSteps:
    """Calls the functions as they are."""

    is_recorded = False

    def backward(self, function: Backward, batch: Batch, keys: Tensor, share: float) -> Tensor:
        return function(batch, keys, share)

    def update(self, function: Update, rates: Sequence[float]) -> None:
        function(rates)

    def forget_update(self) -> None:
        """Do nothing: nothing was recorded."""


def make_steps(config: RunConfig, device: torch.device) -> Steps:
    """Make what carries out the steps of a run, or of runs that are trained together.

    Raises:
        InputError: As for `expect_steps`.
    """
    expect_steps(config, device.type)
    if config.train.step == "eager":
        return EagerSteps()
    from heads.training.graphed_steps import CudaRecorder, GraphedSteps

    return GraphedSteps(CudaRecorder(device), device)


def expect_steps(config: RunConfig, device_type: str) -> None:
    """Check that the steps of a run can be carried out as `train.step` says.

    A step can be recorded if it is the same for all batches of a shape: heads that can be packed have no control flow that depends on
    values and keep nothing between batches.

    Raises:
        InputError: They cannot.
    """
    if config.train.step == "eager" or HEADS[config.head].simple:
        return
    if not HEADS[config.head].packs:
        raise InputError(
            f"train.step is {config.train.step}, but steps of {config.head} cannot be recorded: it reads whole videos, keeps something"
            " between batches or waits for the device. Choose train.step=eager; python -m heads list says which heads can be packed,"
            " and those can be recorded."
        )
    if device_type != "cuda":
        raise InputError(f"train.step is {config.train.step}, which needs a CUDA device, not {device_type}. Choose train.step=eager.")
