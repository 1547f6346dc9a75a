"""The training loop of an adaptation: learns on training clips, chooses the epoch by validation clips, and writes the checkpoint.

The same clips, recipe, machine and number of threads give the same bytes, in one go or after a kill: every epoch has a random state of
its own, and the state between epochs is on disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.errors import InputError
from data.fingerprint import digest
from data.labels import MOSEI_LABELS, LabelSet
from data.media import SAMPLE_RATE_HZ
from pipeline.adaptation import checkpoint, state
from pipeline.adaptation.clips import Clips, Labels
from pipeline.adaptation.model import TaskModel, row_losses
from pipeline.adaptation.recipe import Recipe, lr_factor
from pipeline.encoding.checkpoints import Source
from pipeline.encoding.extract import batches

Advance = Callable[[int], None]
Say = Callable[[str], None]

_SHORT_SAMPLE = 64
"""Number of validation clips on which the effect of bfloat16 is measured."""


@dataclass(frozen=True)
class Job:
    """One adaptation."""

    name: str  # for messages: "mosi text"
    key: str
    recipe: Recipe
    base: Source
    folder: Path  # of the result
    record: Mapping[str, Any]  # what adapt.json says besides the clips and the course of the training
    labels: LabelSet = MOSEI_LABELS  # of the clips

    @property
    def state(self) -> Path:
        """The file of the state between epochs."""
        return self.folder.with_name(f"{self.folder.name}.state.safetensors")


def adapt(job: Job, encoder: Any, train: Clips, valid: Clips, advance: Advance, say: Say) -> None:
    """Adapts an encoder and writes its checkpoint.

    Args:
        job: What to do.
        encoder: One of `pipeline.encoding.encoders`, loaded as trainable.
        train: Clips that teach.
        valid: Clips that choose the epoch.
        advance: Is called with the number of training clips that were read since the last call; those of earlier runs count at once.
        say: Is called with a line about each epoch.

    Raises:
        InputError: A split has no labels of a task, the method does not fit the encoder, or the loss is not finite. Nothing is left.
    """
    for clips, split in ((train, "train"), (valid, "valid")):
        _expect_labels(job, clips, split)
    with _reproducible(encoder.device), torch.random.fork_rng():
        _seed(job.recipe.settings.seed, 0)
        course = Course(job, TaskModel(encoder, job.recipe, job.labels), train, valid)
        progress = course.run(advance, say)
        course.model.restore(progress.best)
        record = {
            **job.record,
            "train": _clips_record(train),
            "valid": _clips_record(valid),
            "history": progress.history,
            "selected": progress.selected,
            "precision_effect": course.precision_effect(),
        }
        checkpoint.write(job.folder, job.base, course.model, record)
    job.state.unlink(missing_ok=True)


class Course:
    """A training from its beginning, or from the last finished epoch, to its end."""

    def __init__(self, job: Job, model: TaskModel, train: Clips, valid: Clips) -> None:
        self.job, self.model, self.train, self.valid = job, model, train, valid
        self.settings = job.recipe.settings
        self.parameters = [one for _, one in model.named_parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, self.settings.lr, weight_decay=self.settings.weight_decay, fused=True)
        self.steps = -(-len(train) // job.recipe.step_size) * self.settings.epochs

    def run(self, advance: Advance, say: Say) -> state.Progress:
        """Returns what happened; the best epoch's parameters are in it."""
        progress = state.load(self.job.state, self.job.key, self.model, self.optimizer)
        advance(len(progress.history) * len(self.train))
        try:
            for epoch in range(len(progress.history) + 1, self.settings.epochs + 1):
                if progress.waited >= self.settings.patience:
                    break
                self._epoch(epoch, progress, advance)
                state.save(self.job.state, self.job.key, self.model, self.optimizer, progress)
                say(f"AdaptedEncoder {self.job.name}: epoch {epoch} of at most {self.settings.epochs}, {_words(progress.history[-1])}")
        except InputError:
            self.job.state.unlink(missing_ok=True)
            raise
        return progress

    def _epoch(self, epoch: int, progress: state.Progress, advance: Advance) -> None:
        _seed(self.settings.seed, epoch)
        taught = self.learn(epoch, advance)
        losses = self.validate()
        found = sum(losses.values())
        names = {"msa": "valid_mae", "mer": "valid_bce"}
        progress.history.append(
            {"epoch": epoch, "train_loss": taught, "valid_loss": found} | {names[task]: loss for task, loss in losses.items()}
        )
        best = min((record["valid_loss"] for record in progress.history[:-1]), default=float("inf"))
        progress.waited += 1
        if found < best:
            progress.best, progress.selected, progress.waited = self.model.state(), epoch, 0

    def learn(self, epoch: int, advance: Advance) -> float:
        """Teaches all training clips once and returns the mean loss of the steps."""
        self.model.train()
        order = np.random.default_rng([self.settings.seed, epoch]).permutation(len(self.train))
        size, total = self.job.recipe.step_size, 0.0
        starts = range(0, len(order), size)
        for number, start in enumerate(starts, (epoch - 1) * len(starts)):
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.lr * lr_factor(number, self.steps, self.settings.warmup)
            self.optimizer.zero_grad()
            loss = self._step(order[start : start + size], advance)
            if not np.isfinite(loss):
                raise self._not_finite(f"epoch {epoch}, step {number + 1} of {self.steps}")
            torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
            self.optimizer.step()
            total += loss
        return total / len(starts)

    def _step(self, rows: np.ndarray, advance: Advance) -> float:
        """Adds up the gradients of the mean loss over some clips, however they are divided into forward passes; returns that loss."""
        labels = self.train.labels.taken(rows)
        counts = {task: max(1, int(labels.labelled(task).sum())) for task in self.job.recipe.tasks}
        total = 0.0
        for group in self._passes(self.train, rows):
            with self._within_memory():
                losses = self._losses(self.train, group, self.settings.precision)
                loss = torch.stack([one.sum() / counts[task] for task, one in losses.items()]).sum()
                loss.backward()
            total += loss.item()
            advance(len(group))
        return total

    @contextlib.contextmanager
    def _within_memory(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise InputError(
                f"AdaptedEncoder {self.job.name}: the {self.model.encoder.device} device has too little memory. Set a smaller"
                " batch_size with more accumulation, gradient_checkpointing = true, or method = lora, in luigi.cfg, section [adapt]."
            ) from None

    def _losses(self, clips: Clips, rows: Sequence[int], precision: str) -> dict[str, Tensor]:
        labels = clips.labels.taken(np.asarray(rows))
        outputs = self.model.predict([clips.items[row] for row in rows], precision)
        arrays = (torch.from_numpy(one).to(self.model.encoder.device) for one in _arrays(labels))
        return row_losses(outputs, *arrays, has_classes=self.job.labels.is_exclusive)

    def validate(self) -> dict[str, float]:
        """Returns task → mean loss over the labelled validation clips, which are read whole."""
        self.model.train(False)
        sums = dict.fromkeys(self.job.recipe.tasks, 0.0)
        with torch.no_grad():
            for group in self._passes(self.valid, np.arange(len(self.valid))):
                for task, losses in self._losses(self.valid, group, self.settings.precision).items():
                    sums[task] += losses.double().sum().item()
        found = {task: total / int(self.valid.labels.labelled(task).sum()) for task, total in sums.items()}
        if not np.isfinite(list(found.values())).all():
            raise self._not_finite("the validation clips")
        return found

    def _passes(self, clips: Clips, rows: np.ndarray) -> Iterator[list[int]]:
        """Divides clips into forward passes of similar lengths; padding would change the clips of some encoders, which run alone."""
        encoder, budget = self.model.encoder, self.settings.batch_tokens
        if self.job.recipe.modality == "audio":
            budget = encoder.frames(round(self.settings.batch_seconds * SAMPLE_RATE_HZ))
        if encoder.budget == 0:
            budget = 0
        for group in batches([clips.costs[row] for row in rows], budget):
            for start in range(0, len(group), self.settings.batch_size):
                yield [int(rows[i]) for i in group[start : start + self.settings.batch_size]]

    def precision_effect(self) -> dict[str, float] | None:
        """Measures how far the predictions of some validation clips in bfloat16 are from those in float32; None for float32."""
        if self.settings.precision == "float32":
            return None
        self.model.train(False)
        clips = [self.valid.items[row] for row in range(min(_SHORT_SAMPLE, len(self.valid)))]
        differences = []
        with torch.no_grad():
            for item in clips:
                short, exact = (self.model.predict([item], precision) for precision in ("bfloat16", "float32"))
                differences += [(short[task] - exact[task]).abs().flatten() for task in short]
        both = torch.cat(differences)
        return {"max_abs": both.max().item(), "mean_abs": both.mean().item(), "clips": len(clips)}

    def _not_finite(self, where: str) -> InputError:
        return InputError(
            f"AdaptedEncoder {self.job.name}: the loss of {where} is not finite; nothing was written. Set a smaller lr, or"
            " precision = float32, in luigi.cfg, section [adapt]."
        )


def _arrays(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    return labels.sentiment, labels.emotions


def _expect_labels(job: Job, clips: Clips, split: str) -> None:
    words = {"msa": "a sentiment", "mer": "emotions"}
    for task in job.recipe.tasks:
        if not len(clips) or not clips.labels.labelled(task).any():
            raise InputError(
                f"AdaptedEncoder {job.name}: no clip of the {split} split has {words[task]}. Choose other tasks than"
                f" {job.recipe.settings.tasks}, or other corpora, in luigi.cfg, section [adapt]."
            )


def _clips_record(clips: Clips) -> dict[str, Any]:
    labelled = {task: int(clips.labels.labelled(task).sum()) for task in ("msa", "mer")}
    return {"clips": len(clips), "ids": digest(clips.ids), "labelled": labelled}


def _words(record: Mapping[str, Any]) -> str:
    names = {"train_loss": "training loss", "valid_mae": "validation MAE", "valid_bce": "validation BCE"}
    return ", ".join(f"{words} {record[name]:.4f}" for name, words in names.items() if name in record)


def _seed(seed: int, epoch: int) -> None:
    """Sets the random state of an epoch; epoch 0 is the initialisation."""
    number = int(digest(["adaptation", seed, epoch]), 16)
    torch.manual_seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002  # some models of transformers draw from NumPy's global generator


@contextlib.contextmanager
def _reproducible(device: str) -> Iterator[None]:
    """Makes the gradients on a GPU the same each time, and leaves the random state of NumPy as it was."""
    before = np.random.get_state()  # noqa: NPY002  # the global generator that `_seed` seeds
    is_cuda = device.startswith("cuda")
    if is_cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002  # as above
        if is_cuda:
            torch.use_deterministic_algorithms(False)
