"""The engine of several runs: one batched model whose parameters are stacked, so one step of all is one forward and backward pass.

The runs' heads have the same shapes; seeds, learning rates, weight decay, dropout rates, loss weights, top-k, labels, patience and
all other options whose fields declare it (`heads.models.options.option`) may differ. Each run has its own initialisation, order of the
data, dropout masks, clipping, optimizer state and end, and gives the result of `heads.training.single_engine`, to float tolerance.
`signature` decides which runs can be trained together; `heads.sweeps.packing` decides how many.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from data.tensors import Batch, CorpusTensors
from heads.evaluation.predictions import Predictions, autocast, evaluation_plan, gathered
from heads.models import options
from heads.models.base import Aux, HeadOutput
from heads.models.inputs import Inputs
from heads.models.losses import total_loss
from heads.models.parts.randomness import drawing_from
from heads.models.registry import HEADS
from heads.runs.build import build_head, make_head
from heads.runs.config import RunConfig
from heads.runs.devices import watched
from heads.runs.rows import labelled_rows
from heads.training.loop import Run, below
from heads.training.single_engine import OPTIMIZERS
from heads.training.steps import make_steps


def signature(config: RunConfig, tensors: CorpusTensors) -> tuple[Any, ...] | None:
    """Return the signature of a run: runs with equal signatures can be trained together.

    Args:
        config: Configuration with the source of emotions settled.
        tensors: The corpus that the run reads. Its features are not looked at.

    Returns:
        None if the head can only be trained alone: it says so, or it reads whole videos, and batches of videos differ in their numbers
        of utterances.

    Raises:
        InputError: An option of the head is out of its range, its parameters are more than any memory has, or there is nothing to train
            on.
    """
    rows, valid_rows = (labelled_rows(config, tensors, split) for split in ("train", "valid"))
    shapes = _shapes(config.head, config.model, Inputs.of(tensors), config.task, config.train.modality_dropout)
    if not HEADS[config.head].packs:
        return None
    same = tuple((field.name, _kept(field)) for field in options.walk(config) if field.declared.in_pack != options.FREE)
    return (*same, shapes, len(rows), tuple(valid_rows.tolist()))


def _kept(field: options.Field) -> Any:
    """Return the part of an option's value that is the same in all runs of a pack."""
    return field.value > 0 if field.declared.in_pack == options.ZERO_OR_NOT else field.value


@cache
def _shapes(head: str, model: Any, inputs: Inputs, task: str, modality_dropout: float) -> tuple[torch.Size, ...]:
    """List the shapes of all parameters. They are needed because `top_k` sets the width of the experts in some heads."""
    with torch.device("meta") as meta, watched(meta):  # refuses sizes that no number of bytes can be of
        return tuple(parameter.shape for parameter in make_head(head, model, inputs, task, modality_dropout).parameters())


class PackedEngine:
    """The engine of K runs with one signature; see `heads.training.loop.Engine`. Parameters are rows of one (K, P) tensor."""

    def __init__(self, runs: Sequence[Run]) -> None:
        """Build the heads of all runs and stack their parameters.

        Raises:
            InputError: An option is out of its range, or `train.step` is not for this head or device.
        """
        heads = [build_head(run.config, run.tensors) for run in runs]
        self.shapes = {name: value.shape for name, value in heads[0].named_parameters()}
        self.buffers = stack_module_state(heads)[1]
        self.template = copy.deepcopy(heads[0]).to("meta")
        flat = torch.stack([torch.cat([value.detach().flatten() for value in head.parameters()]) for head in heads])
        averages = any(run.config.train.average for run in runs)
        self.averaged_before = torch.zeros(len(runs), device=flat.device)  # 0: the average of a run starts with its next step
        self._hold(list(runs), flat, flat.clone() if averages else None, [{} for _ in runs])

    def _hold(self, runs: list[Run], flat: Tensor, average: Tensor | None, states: Sequence[dict[str, Tensor]]) -> None:
        """Take runs with their parameters (K, P), the moving average of those, and the optimizer's state of each."""
        self.runs, self.flat, self.average = runs, flat.requires_grad_(), average
        self.rows = flat.detach().unbind()  # torch's optimizers have a learning rate per tensor
        groups = [{"params": [row], "weight_decay": run.config.train.weight_decay} for row, run in zip(self.rows, runs, strict=True)]
        self.steps = make_steps(runs[0].config, flat.device)  # what was recorded of other runs is dropped
        kind = OPTIMIZERS[runs[0].config.train.optimizer]
        self.optimizer = kind(groups, lr=0.0, fused=True, capturable=self.steps.is_recorded)
        self.optimizer.state.update({row: state for row, state in zip(self.rows, states, strict=True) if state})
        self.clip_norm, self.clip_value = (self._column(name, torch.inf) for name in ("clip_norm", "clip_value"))
        self.decay = self._column("average", 0.0)
        weights = [run.config.loss.weights() for run in runs]
        self.weights = {task: torch.tensor([one[task] for one in weights], device=flat.device) for task in weights[0]}
        self.emotions = torch.stack([run.tensors.emotions for run in runs])

    def _column(self, option: str, otherwise: float) -> Tensor:
        """Return the (K, 1) values of a training option."""
        values = [getattr(run.config.train, option) for run in self.runs]
        return torch.tensor([[otherwise if value is None else value] for value in values], device=self.flat.device)

    def begin(self, stage: str, epochs: Sequence[int]) -> None:
        self.template.train()
        for row, run in zip(self.rows, self.runs, strict=True):
            if run.config.train.reset_optimizer:
                self.optimizer.state.pop(row, None)
                self.steps.forget_update()

    def accumulate(self, batch: Batch, keys: Tensor, share: float) -> Tensor:
        return self.steps.backward(self._backward, batch, keys, share)

    def _backward(self, batch: Batch, keys: Tensor, share: float) -> Tensor:
        config, count = self.runs[0].config, len(self.runs)
        features, masks = ({m: x.unflatten(0, (count, -1)) for m, x in part.items()} for part in (batch.features, batch.masks))
        index, sentiment = batch.index.view(count, -1), batch.sentiment.view(count, -1)
        emotions = self.emotions[torch.arange(count, device=index.device)[:, None], index]
        runs_batch = (features, masks, sentiment, emotions, index)

        def loss(parameters: Any, buffers: Any, weights: Any, key: Tensor, *parts: Any) -> Tensor:
            own = Batch(*parts)
            with drawing_from(key):
                output = functional_call(self.template, (parameters, buffers), (own,))
            return total_loss(output, own, config.loss, weights)

        with autocast(self.flat.device, config.train.precision), sdpa_kernel(SDPBackend.MATH):
            losses = vmap(loss)(self._views(self.flat), self.buffers, self.weights, keys, *runs_batch) * share
            losses.sum().backward()
        return losses.detach()

    def step(self, rates: Sequence[float]) -> None:
        self.steps.update(self._update, rates)
        if self.average is not None:
            kept = self.decay * self.averaged_before[:, None]
            self.average.lerp_(self.flat.detach(), 1 - kept)
            self.averaged_before.fill_(1)

    def _update(self, rates: Sequence[float] | Sequence[Tensor]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        gradient = self.flat.grad
        if gradient is None:
            raise RuntimeError("step() needs gradients: call accumulate() first.")
        if any(run.config.train.clip_value for run in self.runs):
            gradient.clamp_(-self.clip_value, self.clip_value)
        norms = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient.mul_((self.clip_norm / (norms + 1e-6)).clamp(max=1))  # as torch.nn.utils.clip_grad_norm_
        for row, own in zip(self.rows, gradient, strict=True):
            row.grad = own
        self.optimizer.step()
        if self.steps.is_recorded:
            gradient.zero_()
        else:
            self.flat.grad = None

    def evaluate(self) -> list[Predictions]:
        first = self.runs[0]
        self.template.eval()
        found: list[list[tuple[Tensor, HeadOutput]]] = [[] for _ in self.runs]
        plan = evaluation_plan(self.template, first.tensors, first.valid_rows, first.config.train.batch_size)
        state = self._views(self._shown), self.buffers
        with torch.no_grad(), autocast(self.flat.device, first.config.train.precision), sdpa_kernel(SDPBackend.MATH):
            for batch in first.tensors.batches(plan):

                def predict(parameters: Any, buffers: Any, batch: Batch = batch) -> dict[str, Tensor]:
                    return _tensors(functional_call(self.template, (parameters, buffers), (batch,)))

                outputs = vmap(predict)(*state)
                for number, parts in enumerate(found):
                    parts.append((batch.index, _output({name: value[number] for name, value in outputs.items()})))
        return [gathered(parts, first.tensors.targets.labels) for parts in found]

    def parameters(self, number: int) -> dict[str, Tensor]:
        values = self._named(self._shown, number) | {name: value[number] for name, value in self.buffers.items()}
        names = {id(tensor): name for name, tensor in (*self.template.named_parameters(), *self.template.named_buffers())}
        whole = self.template.state_dict(keep_vars=True)  # a module that a head has twice has two names in it
        return {name: values[names[id(tensor)]].cpu().clone() for name, tensor in whole.items()}

    def state(self, number: int) -> dict[str, Tensor]:
        values = self._named(self.flat.detach(), number) | {name: value[number] for name, value in self.buffers.items()}
        tensors = {f"head/{name}": value for name, value in values.items()}
        if self.average is not None and self.runs[number].config.train.average:
            tensors |= {f"average/{name}": value for name, value in values.items()}
            tensors |= {f"average/{name}": value for name, value in self._named(self.average, number).items()}
        for key, moment in self.optimizer.state.get(self.rows[number], {}).items():
            of_name = self._named(moment[None], 0) if moment.dim() else dict.fromkeys(self.shapes, moment)
            tensors |= {f"optimizer/{name}/{key}": value for name, value in of_name.items()}
        return tensors

    def load(self, number: int, state: Mapping[str, Tensor]) -> None:
        head, average, moments = (below(state, part) for part in ("head", "average", "optimizer"))
        with torch.no_grad():
            self.flat[number] = self._joined(head)
            for name, value in self.buffers.items():
                value[number] = head.get(name, value[number])  # as in `heads.training.single_engine`
            if self.average is not None:
                self.average[number] = self._joined(average or head)
                self.averaged_before[number] = 1
        if moments:
            step = moments[f"{next(iter(self.shapes))}/step"].to(self.flat.device)
            joined = {key: self._joined({name: moments[f"{name}/{key}"] for name in self.shapes}) for key in ("exp_avg", "exp_avg_sq")}
            self.optimizer.state[self.rows[number]] = {"step": step, **joined}
            self.steps.forget_update()

    def keep(self, numbers: Sequence[int]) -> None:
        if not numbers:
            return  # the caller drops the empty engine
        picked = torch.tensor(numbers, device=self.flat.device)
        states = [self.optimizer.state.get(self.rows[number], {}) for number in numbers]
        self.buffers = {name: value[picked] for name, value in self.buffers.items()}
        self.averaged_before = self.averaged_before[picked]
        average = None if self.average is None else self.average[picked]
        self._hold([self.runs[number] for number in numbers], self.flat.detach()[picked], average, states)

    @property
    def _shown(self) -> Tensor:
        return self.flat.detach() if self.average is None else self.average

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        """Split (K, P) numbers into named (K, …) tensors."""
        parts = flat.split([shape.numel() for shape in self.shapes.values()], 1)
        return {name: part.unflatten(1, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def _named(self, flat: Tensor, number: int) -> dict[str, Tensor]:
        """Split one run's row of (K, P) numbers into its named tensors."""
        return {name: value[0] for name, value in self._views(flat[number : number + 1]).items()}

    def _joined(self, named: Mapping[str, Tensor]) -> Tensor:
        """Join one run's named tensors into (P,) numbers."""
        return torch.cat([named[name].flatten() for name in self.shapes]).to(self.flat.device)


def _tensors(output: HeadOutput) -> dict[str, Tensor]:
    """Return the predictions and gates of an output as plain tensors, the only values that vmap can return."""
    found = {"sentiment": output.sentiment, "emotion_logits": output.emotion_logits}
    found |= {f"routing/{name}": gates for name, gates in output.aux.routing.items()}
    return {name: value for name, value in found.items() if value is not None}


def _output(tensors: Mapping[str, Tensor]) -> HeadOutput:
    return HeadOutput(tensors.get("sentiment"), tensors.get("emotion_logits"), Aux(routing=below(tensors, "routing")))
