"""MMML: Multimodal Multi-loss Fusion Network for Sentiment Analysis (Wu, Gong, Koo and Hirschberg, NAACL 2024),
https://arxiv.org/abs/2308.00264, https://github.com/zehuiwu/MMML.

The code base that MMoLRE builds on: a learned [cls] token before each modality, five cross-modal layers, an output network on the two
[cls], and predictions from text alone and from audio alone that get the same loss as the main one.

Reproduced: the model without context ("v1") and its three losses. Left out: the fine-tuning of RoBERTa and Data2Vec, the previous
sentences, and the large encoders of the authors' best numbers. RoBERTa's own pooler has no weights in its public checkpoint, so that
the text's prediction has a trainable one. Features of two widths are first brought to one by a Linear, which the original never needs.

The three losses met in the encoders. With these frozen, they meet in that Linear only: where there is none (features as wide as the
model, as in preset native), the losses of text and audio alone teach the main prediction nothing, and its network is `baseline-msa`'s.

Emotions are our extension, with output layers of their own behind the same fusion.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from heads.models.base import HeadOutput, require_modalities
from heads.models.mmolre import FamilyOptions, FusionHead


@dataclass(frozen=True, kw_only=True)
class MMMLOptions(FamilyOptions):
    """What can be chosen; the defaults are the authors'."""

    unimodal_losses: bool = True  # predictions from each modality alone, with the same loss


class MMML(FusionHead):
    """Fusion of all tokens of both modalities, and each modality alone: text by its first token, audio by its mean."""

    Options = MMMLOptions
    shares_fusion = True

    def __init__(self, options: MMMLOptions, dims: Mapping[str, int], task: str) -> None:
        """Raise InputError when a modality is missing or an option is out of its range."""
        require_modalities("mmml", dims)
        super().__init__(options, dims, task)
        if options.unimodal_losses:
            dim = options.dim or max(dims.values())
            self.pooler = nn.Sequential(nn.Linear(dim, dim), nn.Tanh())

    def _alone(self, modality: str, adapted: Tensor, mask: Tensor) -> HeadOutput:
        if modality == "text":
            adapted, mask = self.pooler(adapted[:, :1]), mask[:, :1]
        return super()._alone(modality, adapted, mask)
