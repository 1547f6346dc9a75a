"""The engine of one run: its head, its optimizer and one training step on a device.

The loop around it is in `heads.training.loop`, the engine of several runs in `heads.training.packed_engine`.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from data.tensors import Batch
from heads.evaluation.predictions import Predictions, autocast, predict
from heads.models.base import Head
from heads.models.losses import total_loss
from heads.models.parts.randomness import drawing_from
from heads.runs.build import build_head
from heads.runs.config import TrainOptions
from heads.training.loop import Run, below
from heads.training.steps import make_steps

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


class SingleEngine:
    """The engine of one run; see `heads.training.loop.Engine`."""

    def __init__(self, run: Run) -> None:
        """Build the head of a run and its optimizer.

        Raises:
            InputError: An option is out of its range, or `train.step` is not for this head or device.
        """
        self.run, options = run, run.config.train
        self.steps = make_steps(run.config, run.tensors.device)
        self.head = build_head(run.config, run.tensors)
        self.head.prepare(run.tensors.sentiment, run.tensors.emotions, _mask(run))
        self.average = MovingAverage(self.head, options.average) if options.average else None
        self.factors = [self.head.lr_factor(name) for name, _ in self.head.named_parameters()]
        self.optimizer = self._new_optimizer()

    def _new_optimizer(self) -> torch.optim.Optimizer:
        options = self.run.config.train
        groups = [{"params": [parameter]} for parameter in self.head.parameters()]
        if len(set(self.factors)) == 1:  # in one group all parameters are changed by one kernel
            groups = [{"params": list(self.head.parameters())}]
        kind, recorded = OPTIMIZERS[options.optimizer], self.steps.is_recorded
        return kind(groups, lr=options.lr, weight_decay=options.weight_decay, fused=True, capturable=recorded)

    @property
    def shown(self) -> Head:
        """Head that is evaluated and kept: the trained one, or the moving average of its parameters."""
        return self.average.of(self.head) if self.average else self.head

    def begin(self, stage: str, epochs: Sequence[int]) -> None:
        self.head.train()
        if self.run.config.train.reset_optimizer and stage == self.head.stages[0]:
            self.optimizer = self._new_optimizer()
            self.steps.forget_update()
        for name, parameter in self.head.named_parameters():
            parameter.requires_grad_(self.head.trains(name, stage))
        self.head.begin(stage, epochs[0])

    def accumulate(self, batch: Batch, keys: Tensor, share: float) -> Tensor:
        return self.steps.backward(self._backward, batch, keys, share)

    def _backward(self, batch: Batch, keys: Tensor, share: float) -> Tensor:
        config = self.run.config
        with autocast(self.run.tensors.device, config.train.precision), drawing_from(keys[0]):
            output = self.head(batch)
            loss = total_loss(output, batch, config.loss, config.loss.weights()) * share
            loss.backward()
        with torch.no_grad():
            self.head.remember(batch, output)
        return loss.detach()

    def step(self, rates: Sequence[float]) -> None:
        factors = self.factors[: len(self.optimizer.param_groups)]  # one group if all are equal
        self.steps.update(self._update, [rates[0] * factor for factor in factors])
        if self.average:
            self.average.update(self.head)

    def _update(self, rates: Sequence[float] | Sequence[Tensor]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        clip(self.head, self.run.config.train)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=not self.steps.is_recorded)

    def evaluate(self) -> list[Predictions]:
        run, options = self.run, self.run.config.train
        return [predict(self.shown, run.tensors, run.valid_rows, 4 * options.batch_size, options.precision)]

    def parameters(self, number: int) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.shown.state_dict().items()}

    def state(self, number: int) -> dict[str, Tensor]:
        tensors = {f"head/{name}": value for name, value in _tensors(self.head).items()}
        if self.average:
            tensors |= {f"average/{name}": value for name, value in _tensors(self.average.of(self.head)).items()}
        for name, parameter in self.head.named_parameters():
            moments = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer/{name}/{key}": value for key, value in moments.items()}
        return tensors

    def load(self, number: int, state: Mapping[str, Tensor]) -> None:
        _copy(below(state, "head"), self.head)
        if self.average:
            _copy(below(state, "average"), self.average.head)
            self.average.has_begun = True
        content, moments = self.optimizer.state_dict(), below(state, "optimizer")
        of_parameter = (below(moments, name) for name, _ in self.head.named_parameters())
        content["state"] = {number: found for number, found in enumerate(of_parameter) if found}
        self.optimizer.load_state_dict(content)
        self.steps.forget_update()

    def keep(self, numbers: Sequence[int]) -> None:
        """Do nothing: the only run is either kept or over."""


class MovingAverage:
    """Exponential moving average of a head's parameters over its steps: a ← decay · a + (1 − decay) · p, from the first step on.

    torch's AveragedModel has the same numbers, but keeps its count of steps on the host and copies it to the device at every step.
    """

    def __init__(self, head: Head, decay: float) -> None:
        self.head, self.has_begun = copy.deepcopy(head), False
        self._move = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, head: Head) -> None:
        """Take the parameters of the head after a step into the average."""
        average: list[Tensor] = list(self.head.parameters())
        latest: list[Tensor] = list(head.parameters())
        if self.has_begun:
            self._move(average, latest, 0)  # one kernel; it has no use for the count of steps
        else:
            for own, first in zip(average, latest, strict=True):
                own.copy_(first)
        self.has_begun = True

    @torch.no_grad()
    def of(self, head: Head) -> Head:
        """Return the head with averaged parameters and the buffers of `head`."""
        for average, latest in zip(self.head.buffers(), head.buffers(), strict=True):
            average.copy_(latest)
        return self.head


def clip(head: nn.Module, options: TrainOptions) -> None:
    """Clip each element of the gradient and then its norm, if the options ask for it."""
    if options.clip_value is not None:
        nn.utils.clip_grad_value_(head.parameters(), options.clip_value, foreach=True)
    if options.clip_norm is not None:
        nn.utils.clip_grad_norm_(head.parameters(), options.clip_norm, foreach=True)


def _mask(run: Run) -> Tensor:
    training = torch.zeros(len(run.tensors.targets), dtype=torch.bool)
    training[torch.from_numpy(run.rows)] = True
    return training.to(run.tensors.device)


def _tensors(head: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers, including those that checkpoints leave out."""
    return dict(head.named_parameters()) | dict(head.named_buffers())


def _copy(state: Mapping[str, Tensor], head: nn.Module) -> None:
    """Restore parameters and buffers. Buffers that an earlier version did not have follow from the options and stay as they are."""
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            parameter.copy_(state[name])
        for name, buffer in head.named_buffers():
            buffer.copy_(state.get(name, buffer))
