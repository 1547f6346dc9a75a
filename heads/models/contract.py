"""The contract of a head, as checks: what `heads.models.base` says in words, tried on small random batches.

    python -m heads check path/to/file.py:Class

The tests run the same checks on every head of the program. Whatever depends on the task (shapes, gradients, the smallest batch) is
checked for each task that the head learns; everything else for both tasks at once, where every layer of the single tasks takes part.
"""

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from data.errors import InputError, listed
from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models import options
from heads.models.base import TASKS, Head, HeadOutput
from heads.models.losses import LossOptions, total_loss
from heads.models.options import ZERO_OR_NOT, walk
from heads.models.own import in_short
from heads.models.parts.randomness import drawing_from
from heads.models.tasks import WIDTHS
from heads.models.trial_batches import alone, in_videos, pad, padded_videos, random_batch, reordered, select, videos_of

DIMS = {"text": 7, "audio": 5}
"""Widths of the features, unlike and odd."""

_THIRD, _THIRD_WIDTH = "vision", 3

LENGTHS = {"text": (5, 3, 4, 1, 2), "audio": (9, 12, 7, 3, 1)}
"""Time steps of five utterances."""

_THIRD_LENGTHS = (2, 4, 1, 3, 2)

VIDEOS = ((3, 0, 2), (1, 4))
"""Rows of each video's utterances, in their order."""

_CONTENTS = (0.0, 100.0, math.nan)
"""Values that may stand in the padding."""

_MEMORIES = ("lr_factor", "prepare", "begin", "trains", "remember")
"""Methods of `Head` by which a head keeps something between batches, or trains its parameters unlike each other."""

_TOLERANCE = 1e-5


class BrokenError(InputError):
    """A head breaks the contract; the text says by how much."""


@dataclass(frozen=True)
class Subject:
    """A head that is checked, with options that make it small or not."""

    name: str
    kind: type[Head]
    options: Any
    tasks: tuple[str, ...]  # keys of TASKS that it can be made for

    @property
    def widest(self) -> str:
        """The task that has all outputs of the head."""
        return "both" if "both" in self.tasks else self.tasks[0]

    def tasks_of(self, check: str) -> list[str]:
        """List the tasks that a check, a key of `CHECKS`, is made for."""
        return [*self.tasks] if check in PER_TASK else [self.widest]

    @property
    def dims(self) -> dict[str, int]:
        """Modality → D, of the modalities that the checks give it: those it needs, or text and audio."""
        if not self.kind.needs or self.kind.needs == tuple(DIMS):
            return dict(DIMS)
        return {modality: DIMS.get(modality, _THIRD_WIDTH) for modality in self.kind.needs}

    @property
    def epochs(self) -> int:
        """Epochs until all of the head takes part: heads that remember batches have terms from the third epoch on."""
        return 3 if self.overrides("remember") else 1

    def overrides(self, *hooks: str) -> bool:
        """True if the head has its own version of one of the hooks of `Head`."""
        return any(getattr(self.kind, hook) is not getattr(Head, hook) for hook in hooks)

    def make(self, task: str, dims: Mapping[str, int] | None = None, calm: bool = False, labels: LabelSet = MOSEI_LABELS) -> Head:
        """Make the head in training mode. Parameters that start at zero become noise, so that they have an effect.

        Args:
            task: A key of `TASKS`.
            dims: Modality → D; None: `dims`.
            calm: True turns dropout off and lets routers keep all experts, so that each parameter can get a gradient.
            labels: What it learns; heads of users may know the usual ones only.
        """
        torch.manual_seed(0)
        kind: Any = self.kind  # takes its options too
        learned = {} if labels == MOSEI_LABELS else {"labels": labels}
        head = kind(_calm(self.options) if calm else self.options, dict(self.dims if dims is None else dims), task, **learned)
        with torch.no_grad():
            for parameter in head.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.1)
        return head

    @functools.cache  # noqa: B019 - a few small heads
    def made(self, task: str) -> Head:
        """Make the head in evaluation mode. Checks share it and do not change it."""
        return self.make(task).eval()

    @functools.cache  # noqa: B019 - a few small heads
    def drawn(self, task: str) -> tuple[float, dict[str, Tensor | None]]:
        """Train the head on `batch` with random numbers from one key; return loss and gradients. Checks share them."""
        return _drawn(self, task, self.batch())

    def batch(self) -> Batch:
        """Make a batch of five utterances, in two videos for a head that reads whole videos."""
        made = random_batch({modality: LENGTHS.get(modality, _THIRD_LENGTHS) for modality in self.dims}, self.dims)
        return in_videos(made, VIDEOS) if self.kind.context else made

    def predicted(self, task: str, batch: Batch) -> Tensor:
        """Predict a batch without training: (B, 7), or (B, 1) or (B, 6) for one task."""
        return joined(self.made(task)(batch))


def _calm(chosen: Any) -> Any:
    rates: dict[str, Any] = {name: 0.0 for name in options.names(type(chosen)) if name.endswith("dropout")}
    mixture: Any = getattr(chosen, "mixture", None)
    if hasattr(mixture, "top_k"):
        rates["mixture.top_k"] = mixture.experts if hasattr(mixture, "experts") else len(mixture.ranks)
    return options.change(chosen, options.nested(rates), "check")


def joined(output: HeadOutput) -> Tensor:
    """Join sentiment and emotions, as far as there are any: (B, 1), (B, 6) or (B, 7)."""
    values = [output.sentiment[:, None]] if output.sentiment is not None else []
    return torch.cat([*values, *([output.emotion_logits] if output.emotion_logits is not None else [])], 1)


def train(head: Head, batch: Batch, epochs: int = 1, kinds: LossOptions | None = None) -> float:
    """Train on one batch as `heads.training.single_engine` does, but sum gradients instead of taking steps.

    Args:
        head: The head, whose gradients are changed.
        batch: The batch.
        epochs: Number of times that it is trained on.
        kinds: The losses; None: the usual ones.

    Returns:
        The sum of the losses.
    """
    head.train().prepare(batch.sentiment, batch.emotions, torch.ones(len(batch.index), dtype=torch.bool))
    kinds, total = kinds or LossOptions(), 0.0
    for epoch in range(1, epochs + 1):
        for stage in head.stages:
            for name, parameter in head.named_parameters():
                parameter.requires_grad_(head.trains(name, stage))
            head.begin(stage, epoch)
            output = head(batch)
            loss = total_loss(output, batch, kinds, kinds.weights())
            loss.backward()
            with torch.no_grad():
                head.remember(batch, output)
            total += loss.item()
    return total


def gradients(head: Head) -> dict[str, Tensor | None]:
    """Collect the gradients by name, without biases of keys, which softmax cancels."""
    return {name: value.grad for name, value in head.named_parameters() if not name.endswith("key.bias")}


def has_expected_outputs(subject: Subject, task: str) -> None:
    """The outputs are those of the task, float32, finite, whatever the widths of the features."""
    output = subject.made(task)(subject.batch())
    if not isinstance(output, HeadOutput):
        raise BrokenError(f"forward returns {type(output).__name__}, expected a HeadOutput: heads.models.base.predictions makes it.")
    count = len(subject.batch().index)
    wanted = {
        "sentiment": (count,) if "msa" in TASKS[task] else None,
        "emotion_logits": (count, WIDTHS["mer"]) if "mer" in TASKS[task] else None,
    }
    for field, shape in wanted.items():
        value = getattr(output, field)
        found = None if value is None else tuple(value.shape)
        if found != shape:
            raise BrokenError(f"for task {task}, {field} has the shape {found}, expected {shape}.")
        if value is not None and value.dtype != torch.float32:
            raise BrokenError(f"for task {task}, {field} is {value.dtype}, expected float32.")
        if value is not None and not value.isfinite().all():
            raise BrokenError(f"for task {task}, {field} has {int((~value.isfinite()).sum())} values that are not finite.")


def reaches_every_parameter(subject: Subject, task: str) -> None:
    """Every parameter gets a gradient."""
    head = subject.make(task, calm=True)
    train(head, subject.batch(), subject.epochs)
    if not list(head.parameters()):
        raise BrokenError("the head has no parameters.")
    found = gradients(head)
    if without := [name for name, gradient in found.items() if gradient is None or not gradient.abs().max() > 0]:
        raise BrokenError(f"for task {task}, {len(without)} of {len(found)} parameters get no gradient: {listed(without)}.")


def trains_on_the_smallest_batch(subject: Subject, task: str) -> None:
    """The smallest batch of training, and a batch of one in evaluation, give no NaN."""
    head, batch = subject.make(task), subject.batch()
    rows = [3, *(row for row in range(len(batch.index)) if row != 3)]
    loss = train(head, alone(batch, *rows[: subject.kind.smallest_batch]), subject.epochs)
    if not math.isfinite(loss):
        raise BrokenError(f"for task {task}, the loss of a batch of {subject.kind.smallest_batch} is {loss}.")
    _expect_finite_gradients(head, f"for task {task}, in a batch of {subject.kind.smallest_batch}")
    if not joined(head.eval()(alone(batch, 3))).isfinite().all():
        raise BrokenError(f"for task {task}, the prediction of a batch of one is not finite.")


def _expect_finite_gradients(head: Head, where: str) -> None:
    if wrong := [name for name, gradient in gradients(head).items() if gradient is not None and not gradient.isfinite().all()]:
        raise BrokenError(f"{where}, gradients are not finite: {listed(wrong)}.")


def ignores_padding(subject: Subject, task: str) -> None:
    """The content and the amount of padding change no prediction."""
    batch = subject.batch()
    for content in _CONTENTS:
        longer = padded_videos(pad(batch, 3, content), 2)
        _expect_close(subject.predicted(task, longer), subject.predicted(task, batch), f"padding of {content:g} changes predictions")


def ignores_padding_in_training(subject: Subject, task: str) -> None:
    """Neither does padding change losses or gradients: random masks follow from the place of a value."""
    batch = subject.batch()
    loss, expected = subject.drawn(task)
    for content in _CONTENTS:
        found, gradient = _drawn(subject, task, padded_videos(pad(batch, 3, content), 2))
        if not math.isclose(found, loss, rel_tol=1e-5):
            raise BrokenError(
                f"padding of {content:g} changes the loss of training from {loss:.6g} to {found:.6g}. Dropout has to be"
                " heads.models.parts.randomness.Dropout, on separate dimensions of utterances and time steps."
            )
        for name, value in expected.items():
            _expect_close(gradient[name], value, f"padding of {content:g} changes the gradient of {name}", 1e-3)


def _drawn(subject: Subject, task: str, batch: Batch) -> tuple[float, dict[str, Tensor | None]]:
    """Train with random numbers from one key; return loss and gradients."""
    head = subject.make(task)
    with drawing_from(torch.tensor(1)):
        loss = train(head, batch, subject.epochs)
    return loss, gradients(head)


def ignores_company(subject: Subject, task: str) -> None:
    """The other clips in a batch and their order change no prediction; those of other videos, if the head reads whole videos."""
    batch, order = subject.batch(), [3, 0, 4, 2, 1]
    together = subject.predicted(task, batch)
    _expect_close(
        subject.predicted(task, reordered(batch, *order)), together[order], "the order of the clips in a batch changes predictions"
    )
    for rows in videos_of(batch):
        found = subject.predicted(task, alone(batch, *rows))
        _expect_close(found, together[rows], "the other clips in a batch change predictions")


def _expect_close(found: Tensor | None, expected: Tensor | None, what: str, relative: float = 0.0) -> None:
    if found is None or expected is None:
        if found is not expected:
            raise BrokenError(f"{what}: there is none in one of the two.")
        return
    largest = (found - expected).abs().max().item() if found.numel() else 0.0
    if not torch.allclose(found, expected, rtol=relative, atol=_TOLERANCE):
        raise BrokenError(f"{what} by up to {largest:.3g}, allowed are {_TOLERANCE:g}.")


def reads_no_labels(subject: Subject, task: str) -> None:
    """Labels are not read in evaluation, and there are no losses then."""
    head, batch = subject.make(task), subject.batch()
    train(head, batch)
    expected = joined(head.eval()(batch))
    for sentiment, emotions in ((torch.nan, torch.nan), (-3.0, 1.0)):
        labels = torch.full_like(batch.sentiment, sentiment), torch.full_like(batch.emotions, emotions)
        found = joined(head(batch._replace(sentiment=labels[0], emotions=labels[1])))
        if not torch.equal(found, expected):
            raise BrokenError("predictions depend on the labels of the batch.")


def trains_without_labels(subject: Subject, task: str) -> None:
    """Losses and gradients are finite where some or all utterances lack the sentiment, the emotions or both."""
    batch = subject.batch()
    for rows, lacking in itertools.product(([0, 3], [0, 1, 2, 3, 4]), (["sentiment"], ["emotions"], ["sentiment", "emotions"])):
        labels = {field: getattr(batch, field).clone() for field in lacking}
        for values in labels.values():
            values[rows] = torch.nan
        head, where = subject.make(task), f"where {len(rows)} of {len(batch.index)} clips lack {' and '.join(lacking)}"
        loss = train(head, batch._replace(**labels), subject.epochs)
        if not math.isfinite(loss):
            raise BrokenError(f"{where}, the loss is {loss}. NaN means unlabelled.")
        _expect_finite_gradients(head, where)


def reads_every_modality(subject: Subject, task: str) -> None:
    """Every modality that the head is given has an effect on every clip."""
    batch, order = subject.batch(), (1, 2, 0, 4, 3)
    expected, other = subject.predicted(task, batch), select(batch, *order)
    for modality in batch.features:
        rolled = {**batch.features, modality: batch.features[modality].roll(1, -1)}
        swapped = {**batch.features, modality: other.features[modality]}
        masks = {**batch.masks, modality: other.masks[modality]}
        for changed in (batch._replace(features=rolled), batch._replace(features=swapped, masks=masks)):
            unmoved = (subject.predicted(task, changed) - expected).abs().amax(1) <= 1e-7
            if unmoved.any():
                raise BrokenError(f"other {modality} changes nothing for {int(unmoved.sum())} of {len(order)} clips.")


def reads_the_modalities_it_says(subject: Subject, task: str) -> None:
    """A head that needs no modality reads each alone; one that takes more than it needs reads a third."""
    batch = subject.batch()
    for modality, width in {} if subject.kind.needs else subject.dims.items():
        found = joined(subject.make(task, {modality: width}).eval()(batch))
        if not found.isfinite().all():
            raise BrokenError(f"needs is empty, but from {modality} alone predictions are not finite.")
    if not subject.kind.takes_more or _THIRD in subject.dims:
        return
    third = random_batch({_THIRD: _THIRD_LENGTHS}, {_THIRD: _THIRD_WIDTH}, seed=1)
    seen = third.features[_THIRD].requires_grad_()
    wider = batch._replace(features={**batch.features, _THIRD: seen}, masks={**batch.masks, **third.masks})
    head = subject.make(task, {**subject.dims, _THIRD: _THIRD_WIDTH}, calm=True)
    joined(head.eval()(wider)).sum().backward()
    reached = 0.0 if seen.grad is None else (seen.grad[third.masks[_THIRD]] != 0).any(-1).float().mean().item()
    if not reached > 0.1:
        raise BrokenError(f"takes_more is True, but predictions depend on {reached:.0%} of the rows of a third modality.")


def is_packable_if_it_says_so(subject: Subject, task: str) -> None:
    """A head that says it is packable trains in a pack as it trains alone, and keeps nothing between batches."""
    if not subject.kind.packable:
        return
    if subject.kind.stages != ("all",) or subject.overrides(*_MEMORIES):
        raise BrokenError(f"it has stages of its own or one of {', '.join(_MEMORIES)}: say packable = False.")
    if subject.kind.context:
        return  # batches of videos differ in their numbers of utterances, so that they are never packed
    heads, batches = [subject.make(task) for _ in range(2)], (subject.batch(), reordered(subject.batch(), 3, 0, 4, 2, 1))
    with torch.no_grad():
        for parameter in heads[1].parameters():
            parameter.mul_(1.01)  # runs of a pack have parameters of their own
    single = [_loss_of(head, batch, torch.tensor(number)) for number, (head, batch) in enumerate(zip(heads, batches, strict=True))]
    for number, packed in enumerate(_losses_of_pack(subject, heads, batches)):
        if not math.isclose(packed, single[number], rel_tol=1e-4, abs_tol=_TOLERANCE):
            raise BrokenError(f"trained in a pack its loss is {packed:.6g}, alone {single[number]:.6g}. Say packable = False.")


def _loss_of(head: Head, batch: Batch, key: Tensor) -> float:
    with drawing_from(key):
        return total_loss(head.train()(batch), batch, LossOptions(), LossOptions().weights()).item()


def _losses_of_pack(subject: Subject, heads: list[Head], batches: tuple[Batch, Batch]) -> list[float]:
    """Compute the losses of two heads at once, as `heads.training.packed_engine` does."""
    parameters, buffers = stack_module_state([*heads])
    parts = (
        {m: torch.stack([batch.features[m] for batch in batches]) for m in batches[0].features},
        {m: torch.stack([batch.masks[m] for batch in batches]) for m in batches[0].masks},
        *(torch.stack([getattr(batch, field) for batch in batches]) for field in ("sentiment", "emotions", "index")),
    )

    def loss(own: Any, buffers: Any, key: Tensor, parts: Any) -> Tensor:
        batch = Batch(*parts)
        with drawing_from(key):
            output = functional_call(heads[0], (own, buffers), (batch,))
        return total_loss(output, batch, LossOptions(), LossOptions().weights())

    try:
        with sdpa_kernel(SDPBackend.MATH):
            losses = vmap(loss)(parameters, buffers, torch.arange(2), parts)
            losses.sum().backward()
    except RuntimeError as error:
        raise BrokenError(
            f"it cannot be trained in a pack by torch.func.vmap ({in_short(error) or ' '.join(str(error).split())[:200]})."
            " Say packable = False, or write it without control flow that depends on values."
        ) from error
    return losses.detach().tolist()


def follows_from_its_seed(subject: Subject, task: str) -> None:
    """The same seed gives the same losses and gradients, bit for bit."""
    loss, expected = subject.drawn(task)
    again = subject.make(task)
    torch.manual_seed(1)  # nothing may depend on the state of torch's own generator after the head was made
    with drawing_from(torch.tensor(1)):
        found = train(again, subject.batch(), subject.epochs)
    changed = [name for name, value in gradients(again).items() if not _same(value, expected[name])]
    if found != loss or changed:
        raise BrokenError(
            f"the same seed gives the loss {loss:.9g} and then {found:.9g}. Random numbers have to come from"
            " heads.models.parts.randomness (Dropout, gaussian_like), not from torch's generator."
        )


def _same(found: Tensor | None, expected: Tensor | None) -> bool:
    return found is expected if found is None or expected is None else torch.equal(found, expected)


def declares_its_options(subject: Subject, _: str) -> None:
    """Options can be written to JSON and read again; dropout rates say that runs of a pack may differ in them."""
    kind = type(subject.options)
    again = options.build(kind, json.loads(json.dumps(options.as_dict(subject.options))), "Options")
    if again != subject.options:
        changed = [name for name, value in options.flat(again) if value != dict(options.flat(subject.options))[name]]
        raise BrokenError(f"options do not come back from JSON as they were: {listed(changed)}.")
    for field in walk(subject.options):
        if field.name.endswith("dropout") and field.declared.in_pack != ZERO_OR_NOT:
            raise BrokenError(f"option {field.name}: a dropout rate is declared by heads.models.options.dropout_rate.")


CHECKS: Mapping[str, Callable[[Subject, str], None]] = {
    "options": declares_its_options,
    "outputs": has_expected_outputs,
    "gradients": reaches_every_parameter,
    "smallest batch": trains_on_the_smallest_batch,
    "padding": ignores_padding,
    "padding in training": ignores_padding_in_training,
    "other clips in a batch": ignores_company,
    "labels in evaluation": reads_no_labels,
    "missing labels": trains_without_labels,
    "modalities": reads_every_modality,
    "number of modalities": reads_the_modalities_it_says,
    "packs": is_packable_if_it_says_so,
    "seed": follows_from_its_seed,
}
"""What a line of `python -m heads check` says → the check of a head for a task; it raises `BrokenError`."""

PER_TASK = ("outputs", "gradients", "smallest batch")
"""Checks that are made for every task of a head; the others for the widest."""


class Outcome(NamedTuple):
    """The result of one check."""

    name: str
    fault: str | None  # what was found; None if the head keeps this part of the contract


def checked(subject: Subject) -> Iterator[Outcome]:
    """Carry out all checks on a head, one after the other; an error that its code raises is a fault."""
    for name, check in CHECKS.items():
        for task in subject.tasks_of(name):
            what = f"{name}, task {task}" if name in PER_TASK else name
            yield Outcome(what, _fault(lambda check=check, task=task: check(subject, task)))


def _fault(check: Callable[[], None]) -> str | None:
    try:
        with torch.random.fork_rng(devices=[]):
            check()
    except InputError as error:
        return str(error)
    except Exception as error:
        if (words := in_short(error)) is None:
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return words
    return None


def subject_of(name: str, kind: type[Head], chosen: Any, only_task: str | None) -> Subject:
    """Return what is checked of a head with these options."""
    return Subject(name, kind, chosen, tuple(TASKS) if only_task is None else (only_task,))


def expect_kept(subject: Subject, how: str) -> None:
    """Check a head, up to its first fault.

    Args:
        subject: The head.
        how: The command that prints all checks.

    Raises:
        InputError: It breaks the contract.
    """
    for name, fault in checked(subject):
        if fault is not None:
            raise InputError(f"Head {subject.name} breaks the contract of heads ({name}): {fault} {how} prints all checks.")
