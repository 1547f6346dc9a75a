"""The tasks that heads learn, and the options of their losses: names and values, without torch.

The losses are computed in `heads.models.losses`; what every head is, is in `heads.models.base`.
"""

from dataclasses import dataclass

from data.labels import MOSEI_LABELS
from heads.models.options import FREE, option

TASKS = {"msa": ("msa",), "mer": ("mer",), "both": ("msa", "mer")}
"""What a user asks for → the tasks that a head then learns: sentiment (`msa`, one number) and emotions (`mer`, a logit each)."""


WIDTHS = MOSEI_LABELS.widths
"""Outputs of a task with the usual labels; with any labels, `Head.widths` has them."""

CROSS_ENTROPY = "cross_entropy"
"""The emotion loss of classes, and only of them."""


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """The losses that are minimised, and their weights.

    sentiment: l1 is Eq. 5.
    emotion: bce; literal is Eq. 6 of sigmoids, literal_softmax Eq. 6 of a softmax. Where emotions are classes: cross_entropy, which
        stands in the place of bce there.
    emotion_reduction: Over the emotions: mean, or sum as Eq. 6 has it.
    """

    sentiment: str = option("l1", choices=("l1", "mse"), kind="sentiment loss")
    emotion: str = option("bce", choices=("bce", "literal", "literal_softmax", CROSS_ENTROPY), kind="emotion loss")
    emotion_reduction: str = option("mean", choices=("mean", "sum"), kind="reduction")
    sentiment_weight: float = option(1.0, least=0, in_pack=FREE)
    emotion_weight: float = option(1.0, least=0, in_pack=FREE)

    def weights(self) -> dict[str, float]:
        """Task → weight."""
        return {"msa": self.sentiment_weight, "mer": self.emotion_weight}
