"""MMoE, the multi-gate mixture of experts (Ma et al., KDD 2018, https://doi.org/10.1145/3219819.3220007), with low-rank experts.

All experts are shared and contribute to every task; only the gates belong to one task. There is one level. Deviations from the
original: experts are UniTSE's (there fully connected, 256 and 128 wide), and so are the routers (there fully connected on one vector).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from heads.models.mixtures.base import Mixed, Mixture
from heads.models.parts.experts import LowRankExperts, Router, windows


@dataclass(frozen=True, kw_only=True)
class MMoEOptions:
    """Options of MMoE. The defaults are UniTSE's."""

    experts: int = 15
    rank: int | tuple[int, ...] = 64  # of the experts: one for all, or one each
    kernel2: int = 1  # of the experts' second convolution: 1 or 3
    activation: str = "none"  # between the two: none, relu, gelu
    router: str = "B"  # see heads.models.parts.experts.Router

    def ranks(self) -> tuple[int, ...]:
        """List one rank per shared expert."""
        return (self.rank,) * self.experts if isinstance(self.rank, int) else tuple(self.rank)


class MMoE(Mixture):
    """Multi-gate mixture of experts: h^τ = Σ_n softmax(g^τ(x))_n f_n(x) for each task τ."""

    Options = MMoEOptions

    def __init__(self, options: MMoEOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raise InputError when an option is out of range."""
        super().__init__()
        ranks = options.ranks()
        self.experts = LowRankExperts(dim, ranks, options.kernel2, options.activation)
        self.routers = nn.ModuleDict({task: Router(dim, len(ranks), options.router) for task in tasks})

    def forward(self, inputs: Tensor, mask: Tensor) -> Mixed:
        hidden = self.experts.hidden(windows(inputs, mask))
        gates = {task: router(inputs, mask).softmax(-1) for task, router in self.routers.items()}
        streams = {task: self.experts.mix(hidden, values, mask) for task, values in gates.items()}
        return Mixed(streams, routing={f"block1/{task}": values for task, values in gates.items()})
