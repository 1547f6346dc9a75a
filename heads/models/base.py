"""The contract of a head: its input, its output, and the calls of training. The heads are in modules of their own, listed in
`heads.models.registry`; tasks and the options of losses are in `heads.models.tasks`.

Legend of shapes, used in all of `heads`:

    B  utterances in a batch        T  time steps of a modality (tokens, frames), padded to the longest of the batch
    D  width of cached features     d  width of the model
    N  shared experts               C  emotions or classes, in the order of `data.labels.LabelSet`
    V  videos in a batch            L  utterances of a video, padded to the longest of the batch

Masks are bool, True = real. The content and the amount of padding do not change a head's result, to float tolerance.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from data.errors import InputError, shown
from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models.tasks import TASKS


class Aux(NamedTuple):
    """Further outputs of a head, besides its predictions."""

    losses: Mapping[str, Tensor] = {}  # name → scalar, already weighted; added to the loss in training
    routing: Mapping[str, Tensor] = {}  # "text/block1/msa" → (B, N) gates after selection; see heads.evaluation.routing
    unimodal: Mapping[str, "HeadOutput"] = {}  # modality → predictions from it alone, which get the same loss as the main ones


class HeadOutput(NamedTuple):
    """Predictions of a batch; None for a task that the head does not learn."""

    sentiment: Tensor | None  # (B,) float32
    emotion_logits: Tensor | None  # (B, C) float32; above 0 means present; the largest is the class
    aux: Aux = Aux()


_RESERVED = {*dir(nn.ModuleDict()), *dir(nn.ParameterDict())}
"""Names that torch's containers refuse for their members."""


class Head(nn.Module):
    """A trainable head on cached features.

    A subclass has a dataclass of its options, `Options`, and is built as `Subclass(options, dims, task, labels)`. Its forward has no
    control flow that depends on values, so that `torch.func.vmap` can train many of them as one, unless it says `packable = False`.
    Runs of a pack may differ in the options whose fields declare it (`heads.models.options.option`): those that are buffers of modules,
    such as dropout rates (`heads.models.parts.randomness.Dropout`) and `top_k`, or that only set the start. The methods below `stages`
    are for heads that keep something between batches; such heads are not packable.
    """

    Options: type
    packable = True
    context = False
    """True if the head reads whole videos: its batches then have `Batch.dialogue`."""
    smallest_batch = 1
    """The fewest utterances (videos, with context) in a batch of training: more than 1 where losses compare utterances."""
    stages: tuple[str, ...] = ("all",)
    """Passes over the training rows in every epoch, in this order."""
    needs: tuple[str, ...] = ("text", "audio")
    """Modalities that the head cannot do without; see `expect_modalities`."""
    takes_more = False
    """True if the head reads any number of modalities besides, of any name, in their order."""
    only_task: str | None = None
    """The task that a head of one's own (`heads.models.own`) learns, if it cannot learn both; the registry says it of the others."""
    RECIPE: Mapping[str, Any] = {}
    """Options of training and model that belong to a head of one's own, as in a section of the preset native, which takes them."""

    def __init__(self, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Args:
            dims: Modality → width D of its features, for each modality that there is, in the order in which heads read them.
            task: A key of `TASKS`.
            labels: What the head learns; `widths` has the number of its outputs for each task.

        Raises:
            InputError: A modality has a name that no part of a head can have.
        """
        super().__init__()
        if taken := [name for name in dims if name in _RESERVED]:
            raise InputError(f"Heads cannot read features named {shown(taken[0])}. Import them under another name (--modality).")
        self.dims, self.task, self.tasks, self.labels = dict(dims), task, TASKS[task], labels
        self.widths = {name: labels.widths[name] for name in self.tasks}

    @classmethod
    def expect_modalities(cls, head: str, dims: Mapping[str, int]) -> None:
        """Raises InputError if a modality that the head `head` needs has no features, or one has that it does not read."""
        got = " and ".join(dims) or "none"
        if any(modality not in dims for modality in cls.needs):
            raise InputError(f"{head} needs {' and '.join(cls.needs)} features, got {got}.")
        if not cls.takes_more and len(dims) > len(cls.needs):
            raise InputError(f"{head} reads {' and '.join(cls.needs)} only, got {got}. Use --modalities {' '.join(cls.needs)}.")

    def forward(self, batch: Batch) -> HeadOutput:
        raise NotImplementedError  # every head has its own

    def lr_factor(self, name: str) -> float:
        """Returns the factor of the learning rate for the parameter of this name."""
        return 1.0

    def prepare(self, sentiment: Tensor, emotions: Tensor, training: Tensor) -> None:
        """Prepares the head; called once before training.

        Args:
            sentiment: (N,) of the whole corpus, NaN where unlabelled; `Batch.index` are rows of it.
            emotions: (N, C), as in `Batch`.
            training: (N,) bool, True for the training rows. Labels of other rows must not be read.
        """

    def begin(self, stage: str, epoch: int) -> None:
        """Begins a pass; `epoch` counts from 1."""

    def trains(self, name: str, stage: str) -> bool:
        """Returns True if the parameter of this name is trained in this stage."""
        return True

    def remember(self, batch: Batch, output: HeadOutput) -> None:
        """Updates what the head keeps between batches, in buffers; called after each batch of training, without gradients."""


def predictions(values: Mapping[str, Tensor], aux: Aux = Aux()) -> HeadOutput:  # noqa: B008 - immutable
    """Makes the output from {task: (B, width)}; float32 in every precision."""
    sentiment = values["msa"].float().squeeze(-1) if "msa" in values else None
    emotion_logits = values["mer"].float() if "mer" in values else None
    return HeadOutput(sentiment, emotion_logits, aux)
