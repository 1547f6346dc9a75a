"""Mod-Squad (Chen et al., CVPR 2023, https://arxiv.org/abs/2212.08066): each token chooses its experts by one gate per task.

Reproduced: the transformer's feed-forward network as a mixture of experts that all tasks share, and the loss that increases the mutual
information of tasks and experts. Deviations from the original: attention is not a mixture (blocks have no attention; fusion follows),
and all experts are computed in one pass, of which the gates keep k.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from heads.models.mixtures.base import Mixed, Mixture
from heads.models.options import FREE, option
from heads.models.parts.experts import TopK, ranking
from heads.models.parts.layers import stacked, zero_padding

GATE_FLOOR = 1e-4
"""Constant added to each gate probability, as in the original; it keeps the logarithm in the loss finite."""


@dataclass(frozen=True, kw_only=True)
class ModSquadOptions:
    """Options of Mod-Squad. The defaults are comparable to UniTSE; the original has 16 experts and keeps 4 of them."""

    experts: int = 15
    top_k: int = option(8, in_pack=FREE)
    hidden: int | None = None  # width inside an expert; 4·d / top_k if None, so that those kept are as wide as one transformer's
    blocks: int = 2
    mutual_information: float = 0.005  # weight of the loss


class ModSquad(Mixture):
    """Stack of blocks: LayerNorm and a mixture of feed-forward experts, with a residual."""

    Options = ModSquadOptions

    def __init__(self, options: ModSquadOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raise InputError when the options contradict each other or are out of range."""
        super().__init__()
        self.tasks, self.weight = tasks, options.mutual_information
        self.blocks = stacked(options.blocks, "blocks", lambda _: ModSquadBlock(options, dim, tasks))

    def forward(self, inputs: Tensor, mask: Tensor) -> Mixed:
        streams: Mapping[str, Tensor] = dict.fromkeys(self.tasks, zero_padding(inputs, mask))
        routing: dict[str, Tensor] = {}
        information = []
        for number, block in enumerate(self.blocks, 1):
            streams, probabilities, gates = block(streams, mask)
            routing |= {f"block{number}/{task}": values for task, values in gates.items()}
            information.append(mutual_information(torch.stack([each.sum((0, 1)) for each in probabilities.values()])))
        losses = {"mutual_information": -self.weight * torch.stack(information).sum()} if self.weight else {}
        return Mixed(streams, losses, routing)


class ModSquadBlock(nn.Module):
    """One block: x^τ + Σ_n p_n^τ f_n(LN(x^τ)) with p^τ = softmax(W^τ LN(x^τ)) + 1e-4 for each token and task τ.

    The sum is over the k experts with the largest p, which are not renormalised. W^τ starts at zero, so that no task prefers an expert.
    """

    def __init__(self, options: ModSquadOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raise InputError when the options contradict each other or are out of range."""
        super().__init__()
        self.select = TopK(options.experts, options.top_k)
        self.norm = nn.LayerNorm(dim)
        hidden = 4 * dim // options.top_k if options.hidden is None else options.hidden
        self.experts = FeedForwardExperts(dim, hidden, options.experts)
        gates = {task: nn.Linear(dim, options.experts, bias=False) for task in tasks}
        for gate in gates.values():
            nn.init.zeros_(gate.weight)
        self.gates = nn.ModuleDict(gates)

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Apply the block.

        Args:
            streams: Task → (B, T, d), zero in the padding. Tasks that share one tensor share the first half of the experts.
            mask: (B, T).

        Returns:
            Task → (B, T, d); task → (B, T, N) probabilities; task → (B, T, N) gates. All are zero in the padding.
        """
        normed = {id(inputs): self.norm(inputs) for inputs in streams.values()}
        hidden = {key: self.experts.hidden(values) for key, values in normed.items()}
        outputs, probabilities, gates = {}, {}, {}
        for task, inputs in streams.items():
            chances = zero_padding(self.gates[task](normed[id(inputs)]).softmax(-1) + GATE_FLOOR, mask)
            kept = chances * (ranking(chances) < self.select.k)
            outputs[task] = inputs + self.experts.mix(hidden[id(inputs)], kept)
            probabilities[task], gates[task] = chances, kept
        return outputs, probabilities, gates


class FeedForwardExperts(nn.Module):
    """N experts, each Linear, GELU, Linear, d → h → d, as one product d → N·h, a scaling by the gates, and one product N·h → d."""

    def __init__(self, dim: int, hidden: int, experts: int) -> None:
        """Initialise weights as torch initialises a Linear, each expert by its own fan-in, and biases with zeros.

        Raises:
            InputError: `hidden` is below 1.
        """
        super().__init__()
        if hidden < 1:
            raise InputError(f"The width inside an expert is {hidden}, expected 1 or more. Set `hidden`.")
        self.count = experts
        self.down = nn.Parameter(torch.empty(experts * hidden, dim))
        self.down_bias = nn.Parameter(torch.zeros(experts * hidden))
        self.up = nn.Parameter(torch.empty(dim, experts * hidden))
        self.up_bias = nn.Parameter(torch.zeros(experts, dim))
        nn.init.uniform_(self.down, -(dim**-0.5), dim**-0.5)
        nn.init.uniform_(self.up, -(hidden**-0.5), hidden**-0.5)

    def hidden(self, inputs: Tensor) -> Tensor:
        """Apply the first half of every expert, (B, T, d) → (B, T, N·h)."""
        return functional.gelu(functional.linear(inputs, self.down, self.down_bias))

    def mix(self, hidden: Tensor, gates: Tensor) -> Tensor:
        """Sum the experts' outputs, weighted by their gates: (B, T, N·h) and (B, T, N) → (B, T, d)."""
        scaled = hidden.unflatten(-1, (self.count, -1)) * gates.unsqueeze(-1)
        return functional.linear(scaled.flatten(-2), self.up) + gates @ self.up_bias


def mutual_information(usage: Tensor) -> Tensor:
    """Compute I(T; E) = Σ P(T, E) log(P(T, E) / (P(T) P(E))) in nats: 0 when all tasks use the experts alike. Source: Mod-Squad.

    Args:
        usage: (tasks, N), gate probabilities summed over the tokens of each task. P(T, E) is `usage` divided by its sum.
    """
    joint = usage / usage.sum()
    alone = joint.sum(0, keepdim=True) * joint.sum(1, keepdim=True)
    return (torch.xlogy(joint, joint) - torch.xlogy(joint, alone)).sum()
