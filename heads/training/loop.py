"""The training loop: one run, or several runs together, epoch by epoch, from the point where they were saved.

An engine holds the parameters and changes them: `heads.training.single_engine` for one run, `heads.training.packed_engine` for
several. The batches and learning rates of an epoch are in `heads.training.plan`, the choice of the best epoch in
`heads.training.selection`, the files of a run in `heads.runs.folder`.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data import stopping
from data.batching import DialogueRows
from data.errors import InputError, shown
from data.tensors import Batch, CorpusTensors
from heads.evaluation.predictions import Predictions, scores
from heads.runs.config import RunConfig
from heads.runs.folder import RunFolder
from heads.runs.rows import labelled_rows
from heads.training.plan import (
    BatchRows,
    batch_keys,
    epoch_plan,
    groups,
    head_class,
    learning_rates,
    length_multiple,
    rows_of,
    size_of,
    steps_per_epoch,
    steps_per_pass,
)
from heads.training.selection import Selection

SAVE_EVERY_S = 60.0
"""Seconds of work that an interruption may cost at most, besides the epoch in progress."""

Advance = Callable[[int, str], None]
"""Progress report: called with the steps done since the last call and a note in words."""

OnEpoch = Callable[["Run"], None]
"""Called with a run after each of its epochs."""

OnEnd = Callable[["Run", InputError | None], None]
"""Called with a run that is over, and with its error if it failed."""


class Run:
    """A configuration in training: its progress so far and its best epochs."""

    def __init__(self, config: RunConfig, tensors: CorpusTensors, folder: RunFolder) -> None:
        """Start a run at its first epoch; `resume` goes on from a saved one.

        Args:
            config: Configuration with the source of emotions settled.
            tensors: The corpus, with the features that the configuration reads.
            folder: Where the run is saved.

        Raises:
            InputError: A split has no utterance, or a task no label, to train on.
        """
        self.config, self.tensors, self.folder = config, tensors, folder
        self.rows = labelled_rows(config, tensors, "train")
        self.valid_rows = labelled_rows(config, tensors, "valid")
        self.selection = Selection((config.train.select, *config.train.keep), config.train.patience)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, dict[str, Tensor]] = {}  # criterion → parameters of its best epoch, on the host
        self.steps_per_epoch = steps_per_epoch(config, self.plan())
        self.saved_at = time.monotonic()

    @property
    def epoch(self) -> int:
        """Number of complete epochs."""
        return len(self.history)

    @property
    def is_over(self) -> bool:
        """True when patience or epochs have run out."""
        return self.epoch >= self.config.train.max_epochs or self.selection.is_exhausted

    def plan(self) -> list[BatchRows]:
        """List the batches of the next epoch."""
        return epoch_plan(self.config, self.tensors, self.rows, self.epoch + 1)

    def keys(self, count: int) -> np.ndarray:
        """Draw the (count,) int64 random keys of the next epoch's batches."""
        return batch_keys(self.config, self.epoch + 1, count)

    def rates(self) -> list[float]:
        """List the learning rate of each step of the next epoch."""
        losses = [row["valid_loss"] for row in self.history]
        return learning_rates(self.config.train, self.epoch + 1, self.steps_per_epoch, losses)

    def record(self, train_loss: float, seconds: float, found: Predictions, parameters: Callable[[], dict[str, Tensor]]) -> None:
        """Record an epoch, and keep its parameters if it is the best by any criterion.

        Args:
            train_loss: Mean loss of its steps.
            seconds: Time that it took.
            found: Predictions of the validation split.
            parameters: Returns the parameters that made these predictions; called only if they are kept.

        Raises:
            InputError: The validation loss is not finite, or the run is over and the criterion that chooses never had a value.
        """
        options, epoch = self.config.train, self.epoch + 1
        values = scores(found, self.tensors, self.config.loss)
        if not np.isfinite(values["loss"]):
            raise InputError(f"Epoch {epoch}: the validation loss is not finite. Lower train.lr ({options.lr:g}).")
        if improved := self.selection.update(epoch, values):
            self.best |= dict.fromkeys(improved, parameters())
        validated = {f"valid_{name}": value for name, value in values.items()}
        self.history.append({"epoch": epoch, "train_loss": train_loss, "seconds": seconds, **validated})
        if self.is_over and options.select not in self.selection.best:
            raise InputError(
                f"train.select is {shown(options.select)}, which was a number in none of {self.epoch} epochs of task"
                f" {shown(self.config.task)}. Choose loss, or a metric of that task."
            )

    def note(self) -> str:
        """Describe the best epoch so far in a few words."""
        name = self.selection.criteria[0]
        if name not in self.selection.best:
            return ""
        epoch, value = self.selection.best[name]
        return f"best {name} {value:.4f} (epoch {epoch})"

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        """Save the progress of the run; `tensors` is the engine's part of it."""
        best = {f"best/{criterion}/{name}": value for criterion, part in self.best.items() for name, value in part.items()}
        self.folder.save_state({**tensors, **best}, {"history": self.history, "selection": self.selection.state()})
        self.saved_at = time.monotonic()

    def resume(self) -> dict[str, Tensor] | None:
        """Go on from the saved progress and return the engine's part of it; None if nothing was saved."""
        state = self.folder.load_state()
        if state is None:
            return None
        tensors, progress = state
        self.history = progress["history"]
        self.selection.restore(progress["selection"])
        self.best = {criterion: below(tensors, f"best/{criterion}") for criterion in self.selection.best}
        return tensors


class Engine(Protocol):
    """The parameters of K runs and the steps that change them. Runs are numbered from 0, in the order they were given."""

    def begin(self, stage: str, epochs: Sequence[int]) -> None:
        """Start a pass of training; `epochs` has each run's number of the epoch, from 1."""
        ...

    def accumulate(self, batch: Batch, keys: Tensor, share: float) -> Tensor:
        """Add the gradients of a batch.

        Args:
            batch: (K · B) utterances, those of the first run first.
            keys: (K,) int64 random keys.
            share: Factor of the losses.

        Returns:
            (K,) losses, multiplied by the share.
        """
        ...

    def step(self, rates: Sequence[float]) -> None:
        """Change the parameters of each run at its learning rate, and clear the gradients."""
        ...

    def evaluate(self) -> list[Predictions]:
        """Predict each run's validation rows."""
        ...

    def parameters(self, number: int) -> dict[str, Tensor]:
        """Return one run's evaluated parameters by their names in the head's state_dict, on the host."""
        ...

    def state(self, number: int) -> dict[str, Tensor]:
        """Return everything that one run needs to go on."""
        ...

    def load(self, number: int, state: Mapping[str, Tensor]) -> None:
        """Restore one run from what `state` of either engine returned; other entries are ignored."""
        ...

    def keep(self, numbers: Sequence[int]) -> None:
        """Drop all other runs, and number those that stay from 0 again."""
        ...


def train_runs(
    runs: Sequence[Run],
    engine: Engine,
    on_end: OnEnd,
    is_pruned: Callable[[Run], bool] = lambda run: False,
    advance: Advance = lambda steps, note: None,
    on_epoch: OnEpoch = lambda run: None,
) -> None:
    """Train runs to their ends. Epochs that were saved are not computed again.

    When the command is asked to stop (`data.stopping`), the epoch in hand is finished and all runs are saved.

    Args:
        runs: Runs with the same number of steps in an epoch, last saved after the same epoch (the place of the short batch differs
            between epochs).
        engine: The engine that holds these runs.
        on_end: Called with each run when it is over, and with the error if it failed.
        is_pruned: Asked after every epoch of a run; a pruned run is over.
        advance: Called with the steps done since the last call, of all runs together, and a note.
        on_epoch: Called with a run after each of its epochs.

    Raises:
        Stopped: The command was asked to stop; the same call goes on.
    """
    with stopping.finishing():
        _train(runs, engine, on_end, is_pruned, advance, on_epoch)


def _train(
    runs: Sequence[Run], engine: Engine, on_end: OnEnd, is_pruned: Callable[[Run], bool], advance: Advance, on_epoch: OnEpoch
) -> None:
    damaged = _resume(runs, engine)
    advance(sum(run.epoch * run.steps_per_epoch for run in runs), _note(runs))
    active = _without(runs, engine, {run: damaged.get(run) for run in runs if run in damaged or run.is_over}, on_end)
    while active:
        failed = _train_and_evaluate(active, engine, advance)
        for run in active:
            on_epoch(run)
        over = {run: failed.get(run) for run in active if run in failed or run.is_over or is_pruned(run)}
        is_due = stopping.is_asked() or any(time.monotonic() - run.saved_at > SAVE_EVERY_S for run in active)
        if is_due:  # all of them are saved, so that they can go on together
            for number, run in enumerate(active):
                if run not in over:
                    run.save(engine.state(number))
        active = _without(active, engine, over, on_end)
        stopping.check()


def _resume(runs: Sequence[Run], engine: Engine) -> dict[Run, InputError]:
    """Go on with every run from its saved state; return the errors of those whose state is damaged."""
    damaged = {}
    for number, run in enumerate(runs):
        try:
            if state := run.resume():
                engine.load(number, state)
        except InputError as error:
            damaged[run] = error
    return damaged


def _without(runs: Sequence[Run], engine: Engine, over: Mapping[Run, InputError | None], on_end: OnEnd) -> list[Run]:
    """Return the runs that are not over, after the engine has dropped the others and `on_end` has been told."""
    if over:
        engine.keep([number for number, run in enumerate(runs) if run not in over])
    for run, error in over.items():
        on_end(run, error)
    return [run for run in runs if run not in over]


def _train_and_evaluate(runs: Sequence[Run], engine: Engine, advance: Advance) -> dict[Run, InputError]:
    """Train and evaluate one epoch of every run; return the errors of the runs that failed."""
    began = time.perf_counter()
    losses = train_epoch(runs, engine, advance)
    seconds = (time.perf_counter() - began) / len(runs)
    failed = {}
    for number, (run, loss, found) in enumerate(zip(runs, losses, engine.evaluate(), strict=True)):
        try:
            run.record(loss, seconds, found, lambda number=number: engine.parameters(number))
        except InputError as error:
            failed[run] = error
    advance(0, _note(runs))
    return failed


def train_epoch(runs: Sequence[Run], engine: Engine, advance: Advance = lambda steps, note: None) -> list[float]:
    """Train every pass of one epoch without evaluating it; return the mean loss of each run's steps."""
    first = runs[0]
    stages, accumulate, device = head_class(first.config).stages, first.config.train.accumulate, first.tensors.device
    plans = [run.plan() for run in runs]
    keys = iter(torch.from_numpy(np.stack([run.keys(len(plans[0])) for run in runs], 1)).to(device))
    rates = iter(zip(*(run.rates() for run in runs), strict=True))
    plan = [together(parts) for parts in zip(*plans, strict=True)]
    batches = first.tensors.batches(plan, length_multiple(first.config.train, device))
    total = torch.zeros(len(runs), device=device)
    length = len(plan) // len(stages)
    for stage, part in zip(stages, groups(plan, length), strict=True):
        engine.begin(stage, [run.epoch + 1 for run in runs])
        for group in groups(part, accumulate):
            sizes = [size_of(batch) for batch in group]
            for size in sizes:
                total += engine.accumulate(next(batches), next(keys), size / sum(sizes))
            engine.step(next(rates))
            advance(len(runs), _note(runs))
    return (total / (len(stages) * steps_per_pass(first.config, length))).tolist()


def together(parts: Iterable[BatchRows]) -> BatchRows:
    """Concatenate the batches that several runs have at the same time; a batch of whole videos stands alone."""
    parts = list(parts)
    if isinstance(parts[0], DialogueRows):
        (only,) = parts
        return only
    return np.concatenate([rows_of(part) for part in parts])


def _note(runs: Sequence[Run]) -> str:
    return runs[0].note() if len(runs) == 1 else f"{len(runs)} runs"


def below(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Select the entries below a prefix and drop it: {"a/b": 1} below "a" → {"b": 1}."""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{prefix}/")}
