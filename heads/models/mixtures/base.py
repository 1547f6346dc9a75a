"""The interface of all mixture designs: one modality's features in, one stream of features per task out."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from heads.models.parts.layers import zero_padding


class Mixed(NamedTuple):
    """What a mixture makes of (B, T, d) features."""

    streams: Mapping[str, Tensor]  # task → (B, T, d), zero in the padding
    losses: Mapping[str, Tensor] = {}  # name → scalar, already weighted
    routing: Mapping[str, Tensor] = {}  # "block1/msa" → (B, N) or (B, T, N) gates after selection


class Mixture(nn.Module):
    """A mixture design. Subclasses are built as `Subclass(options, dim, tasks)`; `options` has at least what they read."""

    def forward(self, inputs: Tensor, mask: Tensor) -> Mixed:
        """(B, T, d) features and their mask (B, T) → a stream per task."""
        raise NotImplementedError  # every design has its own


class NoMixture(Mixture):
    """Every task reads the features as they are: pre-fusion and the single-task baselines."""

    def __init__(self, options: object, dim: int, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.tasks = tasks

    def forward(self, inputs: Tensor, mask: Tensor) -> Mixed:
        return Mixed(dict.fromkeys(self.tasks, zero_padding(inputs, mask)))
