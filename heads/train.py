"""Trains one head on cached features: the loop, its randomness, its schedule, and going on where it was interrupted.

What is optimised is in `heads.losses`, which epoch is chosen in `heads.selection`, what is written in `heads.runs`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from data.batching import dialogues, of_like_lengths, shuffled
from data.errors import InputError
from data.tensors import CorpusTensors
from heads.base import TASKS, Head
from heads.config import RunConfig
from heads.inference import autocast, predict, scores, total_lengths
from heads.losses import total_loss
from heads.randomness import drawing_from
from heads.registry import HEADS
from heads.runs import RunFolder
from heads.selection import Selection

SAVE_EVERY_S = 60.0
"""How much work an interruption may cost at most, besides the epoch in flight."""


def build_head(config: RunConfig, tensors: CorpusTensors) -> Head:
    """The untrained head of a run, initialised by its seed alone, on the device of the tensors.

    Raises:
        InputError: An option is out of its range.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(config.seed, "weights"))
        head = HEADS[config.head].head(config.model, tensors.dims, config.task)
    return head.to(tensors.device)


def stream(seed: int, purpose: str, epoch: int = 0, count: int = 1) -> np.ndarray:
    """(count,) int64 seeds of one purpose: a run has one for its weights, and in every epoch one for its order and one for the
    dropout of each batch. So nothing but the number of the epoch is needed to go on."""
    codes = {"weights": 0, "order": 1, "dropout": 2}
    return np.random.SeedSequence([seed, codes[purpose], epoch]).generate_state(count, np.uint64).view(np.int64)


def epoch_plan(config: RunConfig, tensors: CorpusTensors, rows: np.ndarray, epoch: int) -> list:
    """The batches of one epoch of training."""
    generator = np.random.default_rng(stream(config.seed, "order", epoch))
    head, size = HEADS[config.head].head, config.train.batch_size
    if head.context:
        return dialogues(tensors.targets.video, tensors.targets.position, rows, size, generator, smallest=head.smallest_batch)
    if config.data.like_lengths:
        return of_like_lengths(rows, total_lengths(tensors), size, generator, smallest=head.smallest_batch)
    return shuffled(rows, size, generator, smallest=head.smallest_batch)


def warmup_factor(step: int, total: int, share: float) -> float:
    """The learning rate of a step (from 0) as a part of the full one: linear up to it in `share` of `total` steps, constant after."""
    return min(1.0, (step + 1) / max(1.0, share * total))


class Trainer:
    """One run: a head, its optimizer and how far it is. `fit` is the whole of it."""

    def __init__(self, config: RunConfig, tensors: CorpusTensors, folder: RunFolder) -> None:
        """Raises InputError when there is nothing to train on, or an option is out of its range."""
        self.config, self.tensors, self.folder = config, tensors, folder
        self.head = build_head(config, tensors)
        self.average = averaged(self.head, config.train.average)
        self.rows = labelled_rows(config, tensors, "train")
        self.valid_rows = labelled_rows(config, tensors, "valid")
        options = config.train
        self.optimizer = self._new_optimizer()
        self.steps_per_epoch = -(-len(epoch_plan(config, tensors, self.rows, 1)) // options.accumulate)
        self.selection = Selection((options.select, *options.keep), options.patience)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, dict[str, Tensor]] = {}  # criterion → parameters of its best epoch, on the host

    def _new_optimizer(self) -> torch.optim.AdamW:
        options = self.config.train
        return torch.optim.AdamW(self.head.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True)

    @property
    def shown(self) -> Head:
        """The head that is evaluated and kept: the one that is trained, or the moving average of its parameters."""
        return self.average.module if self.average else self.head

    @property
    def epoch(self) -> int:
        """How many epochs are complete."""
        return len(self.history)

    def fit(self, advance: Callable[[int, str], None] = lambda steps, note: None) -> None:
        """Trains until patience or epochs run out. What is complete on disk is not computed again.

        Args:
            advance: Called with the steps done since the last call and a note on the best epoch so far.
        """
        self._resume()
        advance(self.epoch * self.steps_per_epoch, self._note())
        saved_at = time.monotonic()
        while self.epoch < self.config.train.max_epochs and not self.selection.is_exhausted:
            self._epoch(self.epoch + 1, advance)
            if time.monotonic() - saved_at > SAVE_EVERY_S:
                self._save()
                saved_at = time.monotonic()
        if self.config.train.select not in self.selection.best:
            raise InputError(
                f"train.select is {self.config.train.select!r}, which was a number in none of {self.epoch} epochs of task"
                f" {self.config.task!r}. Choose loss, or a metric of that task."
            )

    def _epoch(self, epoch: int, advance: Callable[[int, str], None]) -> None:
        began = time.perf_counter()
        loss = self._train(epoch, advance)
        seconds = time.perf_counter() - began
        options = self.config.train
        found = predict(self.shown, self.tensors, self.valid_rows, 4 * options.batch_size, options.precision)
        values = scores(found, self.tensors, self.config.loss)
        if values["loss"] != values["loss"]:
            raise InputError(f"Epoch {epoch}: the validation loss is not finite. Lower train.lr ({options.lr:g}).")
        for name in self.selection.update(epoch, values):
            self.best[name] = {key: value.detach().cpu().clone() for key, value in self.shown.state_dict().items()}
        self.history.append({"epoch": epoch, "train_loss": loss, "seconds": seconds} | {f"valid_{k}": v for k, v in values.items()})
        advance(0, self._note())

    def _train(self, epoch: int, advance: Callable[[int, str], None]) -> float:
        """One pass over the training rows; the mean loss of its steps."""
        self.head.train()
        if self.config.train.reset_optimizer:
            self.optimizer = self._new_optimizer()
        options = self.config.train
        self.generator.manual_seed(stream(self.config.seed, "dropout", epoch))
        total = torch.zeros((), device=self.tensors.device)
        plan = epoch_plan(self.config, self.tensors, self.rows, epoch)
        batches = self.tensors.batches(plan)
        with drawing_from([self.generator]):
            for number, sizes in enumerate(groups([len_of(rows) for rows in plan], options.accumulate)):
                step = (epoch - 1) * self.steps_per_epoch + number
                factor = warmup_factor(step, options.max_epochs * self.steps_per_epoch, options.warmup)
                for group in self.optimizer.param_groups:
                    group["lr"] = options.lr * factor
                total += self._step(batches, sizes)
                advance(1, self._note())
        return float(total) / self.steps_per_epoch

    def _step(self, batches: Iterator, sizes: list[int]) -> Tensor:
        """One step of the optimizer on as many batches as there are sizes, each weighted by its share of utterances."""
        options, loss_options = self.config.train, self.config.loss
        total: Any = 0.0
        for size in sizes:
            batch = next(batches)
            with autocast(self.tensors.device, options.precision):
                output = self.head(batch)
                loss = total_loss(output, batch, loss_options, loss_options.weights()) * (size / sum(sizes))
                loss.backward()
            total = total + loss.detach()
        if options.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.head.parameters(), options.clip_norm, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update_parameters(self.head)
        return total

    def _note(self) -> str:
        name = self.selection.criteria[0]
        if name not in self.selection.best:
            return ""
        epoch, value = self.selection.best[name]
        return f"best {name} {value:.4f} (epoch {epoch})"

    def _save(self) -> None:
        names = [name for name, _ in self.head.named_parameters()]
        tensors = {f"head/{name}": value for name, value in self.head.state_dict().items()}
        if self.average:
            tensors |= {f"average/{name}": value for name, value in self.average.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{names[number]}/{key}": value for key, value in moments.items()}
        for criterion, parameters in self.best.items():
            tensors |= {f"best/{criterion}/{name}": value for name, value in parameters.items()}
        self.folder.save_state(tensors, {"history": self.history, "selection": self.selection.state()})

    def _resume(self) -> None:
        state = self.folder.load_state()
        if state is None:
            return
        tensors, progress = state
        self.history = progress["history"]
        self.selection.restore(progress["selection"])
        self.head.load_state_dict(_below(tensors, "head"))
        if self.average:
            self.average.load_state_dict(_below(tensors, "average"))
        self.best = {name: _below(tensors, f"best/{name}") for name in self.selection.best}
        moments = _below(tensors, "optimizer")
        content = self.optimizer.state_dict()
        content["state"] = {
            number: _below(moments, name) for number, (name, _) in enumerate(self.head.named_parameters()) if _below(moments, name)
        }
        self.optimizer.load_state_dict(content)


def averaged(head: Head, decay: float) -> AveragedModel | None:
    """The moving average of a head's parameters over its steps; None without a decay."""
    return AveragedModel(head, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None


def labelled_rows(config: RunConfig, tensors: CorpusTensors, split: str) -> np.ndarray:
    """Rows of a split that have a label for at least one of the tasks.

    Raises:
        InputError: There is none, or a task has no label in the split at all.
    """
    targets, rows = tensors.targets, tensors.targets.rows(split)
    labelled = {"msa": ~np.isnan(targets.sentiment[rows]), "mer": ~np.isnan(targets.emotions[rows]).any(1)}
    tasks = TASKS[config.task]
    for task in tasks:
        if not labelled[task].any():
            what = "sentiment" if task == "msa" else f"{config.data.emotions} emotion"
            raise InputError(f"{config.corpus}: none of {len(rows):,} utterances of {split} has a {what} label. Choose another --task.")
    return rows[np.any([labelled[task] for task in tasks], axis=0)]


def len_of(rows: Any) -> int:
    """Utterances of an entry of a plan."""
    return len(getattr(rows, "rows", rows))


def groups(items: list[int], size: int) -> Iterator[list[int]]:
    """Consecutive parts of `size` items; the last may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{prefix}/")}
