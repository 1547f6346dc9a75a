"""The loop of training: one run, or several that are trained together, epoch by epoch, from wherever they are.

What one step does to parameters is in `heads.training.single_engine` (one run) and `heads.training.packed_engine` (several);
what a run is going to do in `heads.training.plan`; which epoch is chosen in `heads.training.selection`; what is written in
`heads.runs.folder`.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data.batching import DialogueRows
from data.errors import InputError
from data.tensors import Batch, CorpusTensors
from heads.evaluation.predictions import Predictions, scores
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.folder import RunFolder
from heads.runs.rows import labelled_rows
from heads.training.plan import Entry, batch_keys, epoch_plan, groups, learning_rates, size_of, steps_per_epoch, steps_per_pass
from heads.training.selection import Selection

SAVE_EVERY_S = 60.0
"""How much work an interruption may cost at most, besides the epoch in flight."""

Advance = Callable[[int, str], None]


class Run:
    """One configuration on its way: how far it is, and what was best."""

    def __init__(self, config: RunConfig, tensors: CorpusTensors, folder: RunFolder) -> None:
        """Raises InputError when there is nothing to train on."""
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
        """How many epochs are complete."""
        return len(self.history)

    @property
    def is_over(self) -> bool:
        """Whether patience or epochs have run out."""
        return self.epoch >= self.config.train.max_epochs or self.selection.is_exhausted

    def plan(self) -> list[Entry]:
        """The batches of the epoch to come."""
        return epoch_plan(self.config, self.tensors, self.rows, self.epoch + 1)

    def keys(self, count: int) -> np.ndarray:
        """(count,) int64 random keys of its batches."""
        return batch_keys(self.config, self.epoch + 1, count)

    def rates(self) -> list[float]:
        """The learning rate of each of its steps."""
        losses = [row["valid_loss"] for row in self.history]
        return learning_rates(self.config.train, self.epoch + 1, self.steps_per_epoch, losses)

    def record(self, train_loss: float, seconds: float, found: Predictions, parameters: Callable[[], dict[str, Tensor]]) -> None:
        """Takes what an epoch gave; `parameters` is asked for those that were evaluated if the epoch is the best by any criterion.

        Raises:
            InputError: The validation loss is not finite, or it is all over without a value of the criterion that chooses.
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
                f"train.select is {options.select!r}, which was a number in none of {self.epoch} epochs of task"
                f" {self.config.task!r}. Choose loss, or a metric of that task."
            )

    def note(self) -> str:
        """The best epoch so far, in words."""
        name = self.selection.criteria[0]
        if name not in self.selection.best:
            return ""
        epoch, value = self.selection.best[name]
        return f"best {name} {value:.4f} (epoch {epoch})"

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        """Writes where the run stands; `tensors` are the engine's part."""
        best = {f"best/{criterion}/{name}": value for criterion, part in self.best.items() for name, value in part.items()}
        self.folder.save_state({**tensors, **best}, {"history": self.history, "selection": self.selection.state()})
        self.saved_at = time.monotonic()

    def resume(self) -> dict[str, Tensor] | None:
        """Goes on from what was saved, if anything was, and returns the engine's part."""
        state = self.folder.load_state()
        if state is None:
            return None
        tensors, progress = state
        self.history = progress["history"]
        self.selection.restore(progress["selection"])
        self.best = {criterion: below(tensors, f"best/{criterion}") for criterion in self.selection.best}
        return tensors


class Engine(Protocol):
    """What holds the parameters of K runs and changes them. Runs are numbered from 0, in the order in which they were given."""

    def begin(self, stage: str, epochs: Sequence[int]) -> None:
        """Starts a pass of training; `epochs` are the runs' numbers of the epoch, from 1."""

    def accumulate(self, batch: Batch, keys: Tensor, share: float) -> Tensor:
        """Adds gradients.

        Args:
            batch: (K · B) utterances, those of the first run first.
            keys: (K,) int64 random keys.
            share: What the losses are multiplied with.

        Returns:
            (K,) losses, multiplied with the share.
        """

    def step(self, rates: Sequence[float]) -> None:
        """Changes the parameters, each run's at its learning rate, and forgets the gradients."""

    def evaluate(self) -> list[Predictions]:
        """For the validation rows of each run."""

    def parameters(self, number: int) -> dict[str, Tensor]:
        """Of one run, as they are evaluated, by their names in the head's state_dict, on the host."""

    def state(self, number: int) -> dict[str, Tensor]:
        """All that one run needs to go on."""

    def load(self, number: int, state: Mapping[str, Tensor]) -> None:
        """What `state` gave, of whichever engine, and more."""

    def keep(self, numbers: Sequence[int]) -> None:
        """Drops all other runs; those that stay are numbered anew."""


def train(
    runs: Sequence[Run],
    engine: Engine,
    ended: Callable[[Run, InputError | None], None],
    is_pruned: Callable[[Run], bool] = lambda run: False,
    advance: Advance = lambda steps, note: None,
) -> None:
    """Trains runs to their ends. What is complete on disk is not computed again.

    Args:
        runs: With one number of steps in an epoch, and last saved after the same one: a short batch comes at another place in each.
        engine: Of these runs.
        ended: Called with each run when it is over, and with the error if it failed.
        is_pruned: FixedGrid after every epoch of a run; one that is pruned is over.
        advance: Called with the steps done since the last call, of all runs together, and a note.
    """
    for number, run in enumerate(runs):
        if state := run.resume():
            engine.load(number, state)
    advance(sum(run.epoch * run.steps_per_epoch for run in runs), _note(runs))
    going = _without(runs, engine, {run: None for run in runs if run.is_over}, ended)
    while going:
        failed = _epoch(going, engine, advance)
        over = {run: failed.get(run) for run in going if run in failed or run.is_over or is_pruned(run)}
        if any(time.monotonic() - run.saved_at > SAVE_EVERY_S for run in going):  # all of them, so that they can go on together
            for number, run in enumerate(going):
                if run not in over:
                    run.save(engine.state(number))
        going = _without(going, engine, over, ended)


def _without(
    runs: Sequence[Run], engine: Engine, over: Mapping[Run, InputError | None], ended: Callable[[Run, InputError | None], None]
) -> list[Run]:
    if over:
        engine.keep([number for number, run in enumerate(runs) if run not in over])
    for run, error in over.items():
        ended(run, error)
    return [run for run in runs if run not in over]


def _epoch(runs: Sequence[Run], engine: Engine, advance: Advance) -> dict[Run, InputError]:
    """One epoch of every run, with its evaluation; the errors of those that failed."""
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
    """Every pass of an epoch over the training rows, without evaluation; the mean loss of each run's steps."""
    first = runs[0]
    stages, accumulate, device = HEADS[first.config.head].head.stages, first.config.train.accumulate, first.tensors.device
    plans = [run.plan() for run in runs]
    keys = iter(torch.from_numpy(np.stack([run.keys(len(plans[0])) for run in runs], 1)).to(device))
    rates = iter(zip(*(run.rates() for run in runs), strict=True))
    plan = [together(entries) for entries in zip(*plans, strict=True)]
    batches = first.tensors.batches(plan)
    total = torch.zeros(len(runs), device=device)
    length = len(plan) // len(stages)
    for stage, part in zip(stages, groups(plan, length), strict=True):
        engine.begin(stage, [run.epoch + 1 for run in runs])
        for group in groups(part, accumulate):
            sizes = [size_of(entry) for entry in group]
            for size in sizes:
                total += engine.accumulate(next(batches), next(keys), size / sum(sizes))
            engine.step(next(rates))
            advance(len(runs), _note(runs))
    return (total / (len(stages) * steps_per_pass(first.config, length))).tolist()


def together(entries: Iterable[Entry]) -> Entry:
    """The batches that several runs have at the same time as one, one after the other."""
    entries = list(entries)
    if isinstance(entries[0], DialogueRows):
        (only,) = entries
        return only
    return np.concatenate(entries)


def _note(runs: Sequence[Run]) -> str:
    return runs[0].note() if len(runs) == 1 else f"{len(runs)} runs"


def below(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """{"a/b": 1} below "a" → {"b": 1}"""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{prefix}/")}
