"""Task-adaptive multimodal fusion (MMoLRE, III-C), which is the cross-modal encoder of MMML: a learned [cls] token per modality
collects what its task needs from both modalities.

No positions are encoded, as in MMML: the order of the time steps behind [cls] does not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.models.options import dropout_rate
from heads.models.parts.layers import Attention, FeedForward, PostNorm, stacked


@dataclass(frozen=True, kw_only=True)
class FusionOptions:
    """Options of a fusion. The defaults are those of the paper, and those of MMML where the paper is silent."""

    layers: int = 5
    heads: int = 12
    ffn: int = 3072
    dropout: float = dropout_rate(0.3)
    attention_dropout: float = dropout_rate(0.3)
    share_directions: bool = False  # one W_q, W_k, W_v for text ← audio and audio ← text, as Eq. 2 and 3 read literally


class CrossModalFusion(nn.Module):
    """Stack of cross-modal layers: {modality: (B, T, d)} → (B, M·d), the [cls] outputs of the M modalities concatenated."""

    def __init__(self, options: FusionOptions, dim: int, modalities: tuple[str, ...]) -> None:
        """Raise InputError when the attention heads do not divide `dim`."""
        super().__init__()
        self.cls = nn.ParameterDict({modality: nn.Parameter(torch.randn(dim)) for modality in modalities})
        self.layers = stacked(options.layers, "layers", lambda _: CrossModalLayer(options, dim, modalities))

    def forward(self, streams: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        tokens = {m: torch.cat([self._first(m, x), x], -2) for m, x in streams.items()}
        real = {m: functional.pad(mask, (1, 0), value=True) for m, mask in masks.items() if m in streams}
        for number, layer in enumerate(self.layers, 1):
            tokens = layer(tokens, real, only_cls=number == len(self.layers))
        return torch.cat([x[..., 0, :] for x in tokens.values()], -1)

    def _first(self, modality: str, inputs: Tensor) -> Tensor:
        """Return [cls] for each utterance, (B, 1, d)."""
        return self.cls[modality].to(inputs.dtype)[..., None, None, :].expand(*inputs.shape[:-2], 1, -1)

    def draws(self) -> int:
        """Return how many times a forward pass in training draws random numbers."""
        return sum(cast(CrossModalLayer, layer).draws() for layer in self.layers)


class CrossModalLayer(nn.Module):
    """One layer: for each modality cross-attention to all other modalities, then self-attention, then feed-forward.

    With one modality there is no cross-attention. With more than two, a modality reads the others as one sequence.
    """

    def __init__(self, options: FusionOptions, dim: int, modalities: tuple[str, ...]) -> None:
        super().__init__()

        def attention() -> Attention:
            return Attention(dim, options.heads, options.attention_dropout)

        def around() -> nn.ModuleDict:
            return nn.ModuleDict({modality: PostNorm(dim, options.dropout) for modality in modalities})

        if len(modalities) > 1:
            shared = attention() if options.share_directions else None
            self.cross = nn.ModuleDict({modality: shared or attention() for modality in modalities})
            self.after_cross = around()
        self.attend = nn.ModuleDict({modality: attention() for modality in modalities})
        self.after_attend = around()
        self.feed_forward = nn.ModuleDict({modality: FeedForward(dim, options.ffn) for modality in modalities})
        self.after_feed_forward = around()

    def forward(self, tokens: Mapping[str, Tensor], masks: Mapping[str, Tensor], only_cls: bool) -> dict[str, Tensor]:
        """Apply the layer.

        Args:
            tokens: Modality → (B, 1 + T, d), [cls] first.
            masks: Modality → (B, 1 + T).
            only_cls: True computes only the first token from self-attention on, for the last layer, of which nothing else is read.

        Returns:
            Modality → (B, 1 + T, d), or (B, 1, d) with `only_cls`.
        """
        crossed = {modality: self._cross(modality, tokens, masks) for modality in tokens}
        result = {}
        for modality, inputs in crossed.items():
            queries = inputs[..., :1, :] if only_cls else inputs
            attended = self.after_attend[modality](queries, self.attend[modality](queries, inputs, masks[modality]))
            result[modality] = self.after_feed_forward[modality](attended, self.feed_forward[modality](attended))
        return result

    def draws(self) -> int:
        """As `CrossModalFusion.draws`."""
        parts = [self.attend, self.after_attend, self.after_feed_forward]
        if len(self.attend) > 1:
            parts += [self.cross, self.after_cross]
        return sum(cast(Attention | PostNorm, one).dropout.is_active for part in parts for one in part.values())

    def _cross(self, modality: str, tokens: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        inputs, others = tokens[modality], [other for other in tokens if other != modality]
        if not others:
            return inputs
        if len(others) == 1:  # the view keeps the order in which gradients are summed, and so the numbers
            source, mask = tokens[others[0]].view_as(tokens[others[0]]), masks[others[0]]
        else:
            source, mask = torch.cat([tokens[other] for other in others], -2), torch.cat([masks[other] for other in others], -1)
        return self.after_cross[modality](inputs, self.cross[modality](inputs, source, mask))
