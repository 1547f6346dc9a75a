"""The tasks that heads learn, and the options of their losses: names and values, without torch.

The losses are computed in `heads.models.losses`; what every head is, is in `heads.models.base`.
"""

from dataclasses import dataclass

from heads.models.options import FREE, option

TASKS = {"msa": ("msa",), "mer": ("mer",), "both": ("msa", "mer")}
"""What a user asks for → the tasks that a head then learns: sentiment (`msa`, one number) and emotions (`mer`, a logit each)."""


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """The losses that are minimised, and their weights.

    sentiment: l1 is Eq. 5.
    emotion: bce; literal is Eq. 6 of sigmoids, literal_softmax Eq. 6 of a softmax.
    emotion_reduction: Over the six emotions: mean, or sum as Eq. 6 has it.
    """

    sentiment: str = option("l1", choices=("l1", "mse"), kind="sentiment loss")
    emotion: str = option("bce", choices=("bce", "literal", "literal_softmax"), kind="emotion loss")
    emotion_reduction: str = option("mean", choices=("mean", "sum"), kind="reduction")
    sentiment_weight: float = option(1.0, least=0, in_pack=FREE)
    emotion_weight: float = option(1.0, least=0, in_pack=FREE)

    def weights(self) -> dict[str, float]:
        """Task → weight."""
        return {"msa": self.sentiment_weight, "mer": self.emotion_weight}
