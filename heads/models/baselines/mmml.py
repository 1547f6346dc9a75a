"""MMML: Multimodal Multi-loss Fusion Network for Sentiment Analysis (Wu, Gong, Koo and Hirschberg, NAACL 2024),
https://arxiv.org/abs/2308.00264, https://github.com/zehuiwu/MMML.

MMML is the code base that MMoLRE builds on. It has a learned [cls] token before each modality, five cross-modal layers, an output
network on the two [cls] tokens, and predictions from text alone and from audio alone, with the same loss as the main prediction.

Reproduced: the model without context ("v1") and its three losses. Left out: the fine-tuning of RoBERTa and Data2Vec, the previous
sentences, and the large encoders of the authors' best numbers. RoBERTa's own pooler has no weights in its public checkpoint; the text
prediction has a trainable one instead. A Linear brings features of different widths to one width, which the original never needs.

In the original the three losses meet in the encoders. With frozen encoders they meet only in that Linear. Where there is none (features
as wide as the model, as in preset native), the losses of text and audio alone teach the main prediction nothing, and its network is
that of `baseline-msa`.

Emotions are our extension, with separate output layers behind the same fusion.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from data.labels import MOSEI_LABELS, LabelSet
from heads.models.base import HeadOutput
from heads.models.mmolre import FamilyOptions, FusionHead


@dataclass(frozen=True, kw_only=True)
class MMMLOptions(FamilyOptions):
    """Options of MMML. The defaults are the authors'."""

    unimodal_losses: bool = True  # predictions from each modality alone, with the same loss


class MMML(FusionHead):
    """MMML: predictions from the fusion of both modalities, from the first text token alone, and from the mean of audio alone."""

    Options = MMMLOptions
    shares_fusion = True
    needs = ("text", "audio")
    takes_more = False

    def __init__(self, options: MMMLOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when a modality is missing or an option is out of range."""
        self.expect_modalities("mmml", dims)
        super().__init__(options, dims, task, labels)
        if options.unimodal_losses:
            dim = options.dim or max(dims.values())
            self.pooler = nn.Sequential(nn.Linear(dim, dim), nn.Tanh())

    def _alone(self, modality: str, adapted: Tensor, mask: Tensor) -> HeadOutput:
        if modality == "text":
            adapted, mask = self.pooler(adapted[:, :1]), mask[:, :1]
        return super()._alone(modality, adapted, mask)
