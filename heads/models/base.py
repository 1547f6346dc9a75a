"""What every head is: its input, its output, its tasks. The heads themselves are in modules of their own, listed in
`heads.models.registry`.

Legend of shapes, used in all of `heads`:

    B  utterances in a batch        T  time steps of a modality (tokens, frames), padded to the longest of the batch
    D  width of cached features     d  width of the model
    N  shared experts               C  the six emotions, in the order of `data.labels.EMOTIONS`
    V  videos in a batch            L  utterances of a video, padded to the longest of the batch

Masks are bool and True where there is something real. A head gives the same result, to float tolerance, whatever stands in the padding
and however much of it there is.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from data.errors import InputError
from data.tensors import Batch

TASKS = {"msa": ("msa",), "mer": ("mer",), "both": ("msa", "mer")}
"""What a head is asked for → the tasks it learns: sentiment (`msa`, one number) and emotions (`mer`, six logits)."""

WIDTHS = {"msa": 1, "mer": 6}
"""Outputs of a task."""


class Aux(NamedTuple):
    """What a head has to say besides its predictions."""

    losses: Mapping[str, Tensor] = {}  # name → scalar, already weighted; added to the loss in training
    routing: Mapping[str, Tensor] = {}  # "text/block1/msa" → (B, N) gates after selection; see heads.evaluation.routing
    unimodal: Mapping[str, "HeadOutput"] = {}  # modality → predictions from it alone, which get the same loss as the main ones


class HeadOutput(NamedTuple):
    """Predictions of a batch; None for a task that the head does not learn."""

    sentiment: Tensor | None  # (B,) float32
    emotion_logits: Tensor | None  # (B, 6) float32; above 0 means present
    aux: Aux = Aux()


class Head(nn.Module):
    """A trainable head on cached features.

    A subclass has a dataclass of its options, `Options`, and is built as `Subclass(options, dims, task)`. Its forward has no control
    flow that depends on values, so that `torch.func.vmap` can train many of them as one, unless it says `packable = False`. Runs of a
    pack may differ in the options that are buffers of modules: dropout rates (`heads.models.parts.randomness.Dropout`), whose
    names end in "dropout", and `top_k`. What is below `stages` is for heads that keep something between batches; such heads are
    not packable.
    """

    Options: type
    packable = True
    context = False
    """Whether the head reads whole videos: its batches then have `Batch.dialogue`."""
    smallest_batch = 1
    """Utterances (videos, with context) that a batch of training needs at least: more than 1 where losses compare utterances."""
    stages: tuple[str, ...] = ("all",)
    """Passes over the training rows in every epoch, in this order."""

    def __init__(self, dims: Mapping[str, int], task: str) -> None:
        """Args:
        dims: Modality → width D of its features; which modalities there are.
        task: A key of `TASKS`.
        """
        super().__init__()
        self.dims, self.task, self.tasks = dict(dims), task, TASKS[task]

    def forward(self, batch: Batch) -> HeadOutput:
        raise NotImplementedError  # every head has its own

    def lr_factor(self, name: str) -> float:
        """What the learning rate is multiplied with for the parameter of this name."""
        return 1.0

    def prepare(self, sentiment: Tensor, emotions: Tensor, training: Tensor) -> None:
        """Called once before training.

        Args:
            sentiment: (N,) of the whole corpus, NaN where unlabelled; `Batch.index` are rows of it.
            emotions: (N, 6), as in `Batch`.
            training: (N,) bool, True for the rows that are trained on. What is not must not be read.
        """

    def begin(self, stage: str, epoch: int) -> None:
        """Called before each pass; `epoch` counts from 1."""

    def trains(self, name: str, stage: str) -> bool:
        """Whether the parameter of this name is trained in this stage."""
        return True

    def remember(self, batch: Batch, output: HeadOutput) -> None:
        """Called after each batch of training, without gradients. What is to be kept is kept in buffers, persistent or not."""


def require_modalities(head: str, dims: Mapping[str, int], needed: Sequence[str] = ("text", "audio")) -> None:
    """Raises InputError when a modality that the head needs has no features."""
    if any(modality not in dims for modality in needed):
        raise InputError(f"{head} needs {' and '.join(needed)} features, got {' and '.join(dims) or 'none'}.")


def predictions(values: Mapping[str, Tensor], aux: Aux = Aux()) -> HeadOutput:  # noqa: B008 - immutable
    """The output made of {task: (B, width)}; float32 whatever precision computed it."""
    sentiment = values["msa"].float().squeeze(-1) if "msa" in values else None
    emotion_logits = values["mer"].float() if "mer" in values else None
    return HeadOutput(sentiment, emotion_logits, aux)
