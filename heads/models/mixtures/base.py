"""Interface of all mixture designs: the features of one modality in, one stream of features per task out."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from heads.models.parts.layers import zero_padding


class Mixed(NamedTuple):
    """Output of a mixture for (B, T, d) features."""

    streams: Mapping[str, Tensor]  # task → (B, T, d), zero in the padding
    losses: Mapping[str, Tensor] = {}  # name → scalar, already weighted
    routing: Mapping[str, Tensor] = {}  # "block1/msa" → (B, N) or (B, T, N) gates after selection


class Mixture(nn.Module):
    """A mixture design. A subclass names the dataclass of its options, `Options`, and is built as `Subclass(options, dim, tasks)`."""

    Options: type

    def forward(self, inputs: Tensor, mask: Tensor) -> Mixed:
        """Turn (B, T, d) features and their mask (B, T) into one stream per task."""
        raise NotImplementedError  # every design has its own


class NoMixture(Mixture):
    """No mixture: every task reads the features unchanged. Pre-fusion and the single-task baselines use it."""

    def __init__(self, options: object, dim: int, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.tasks = tasks

    def forward(self, inputs: Tensor, mask: Tensor) -> Mixed:
        return Mixed(dict.fromkeys(self.tasks, zero_padding(inputs, mask)))
