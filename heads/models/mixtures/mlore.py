"""MLoRE (Yang et al., CVPR 2024, https://arxiv.org/abs/2403.17749), UniTSE's parent, on sequences instead of images.

What UniTSE left out of it: a layer per task before and after, a path that is generic to the tasks, learned gate noise, a learned
weight for the task's own expert. What differs from the original:

- LayerNorm stands where it has BatchNorm. Batch statistics of padded sequences would have to leave the padding out, and running
  statistics change buffers in place, which many heads trained as one cannot do.
- The router has the branch that averages over positions only. The other one is a linear layer over the positions, which needs all
  inputs to have one length. The router is `heads.models.parts.experts.Router` of kind B, whose norm has no weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heads.models.mixtures.base import Mixed, Mixture
from heads.models.mixtures.unitse import block_post
from heads.models.options import FREE, option
from heads.models.parts.experts import LowRankExperts, Router, TopK, squared_variation, windows
from heads.models.parts.layers import stacked, zero_padding
from heads.models.parts.randomness import gaussian_like


@dataclass(frozen=True, kw_only=True)
class MLoREOptions:
    """What can be chosen; the defaults are the original's."""

    ranks: tuple[int, ...] = tuple(range(16, 129, 8))  # of the shared experts, one each
    task_rank: int = 64  # the original has 72, 64 or 16
    top_k: int = option(9, in_pack=FREE)
    blocks: int = 2
    noise: bool = True  # adds normal numbers to gate logits in training, with an sd that the router gives
    renormalise: bool = False  # makes the kept gates sum to 1; the original's `pre_softmax`
    balance: float = 3e-4  # weight of the load-balancing loss


class MLoRE(Mixture):
    """Blocks of low-rank experts on task-specific inputs."""

    Options = MLoREOptions

    def __init__(self, options: MLoREOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raises InputError when options do not fit together."""
        super().__init__()
        self.tasks, self.balance = tasks, options.balance
        self.blocks = stacked(options.blocks, "blocks", lambda _: MLoREBlock(options, dim, tasks))

    def forward(self, inputs: Tensor, mask: Tensor) -> Mixed:
        streams: Mapping[str, Tensor] = dict.fromkeys(self.tasks, inputs)
        routing: dict[str, Tensor] = {}
        variations = []
        for number, block in enumerate(self.blocks, 1):
            streams, gates = block(streams, mask)
            routing |= {f"block{number}/{task}": values for task, values in gates.items()}
            variations.append(squared_variation(torch.cat(list(gates.values()))))
        losses = {"balance": self.balance * torch.stack(variations).sum()} if self.balance else {}
        return Mixed(streams, losses, routing)


class MLoREBlock(nn.Module):
    """z = W^τ x; then a LayerNorm, GELU and linear layer on LN(Σ over the k best n of g_n f_n(z)) + m f^τ(z) + conv3(z).

    The router gives g and m. The generic convolution conv3 passes no gradient back to z.
    """

    def __init__(self, options: MLoREOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raises InputError when options do not fit together."""
        super().__init__()
        self.noise, self.count = options.noise, len(options.ranks)
        self.project = nn.ModuleDict({task: nn.Linear(dim, dim) for task in tasks})
        self.shared = LowRankExperts(dim, options.ranks)
        self.own = nn.ModuleDict({task: LowRankExperts(dim, [options.task_rank]) for task in tasks})
        self.generic = nn.Linear(3 * dim, dim)  # on `windows`: a convolution of kernel 3
        self.routers = nn.ModuleDict({task: Router(dim, 2 * self.count + 1) for task in tasks})
        self.select = TopK(self.count, options.top_k, options.renormalise)
        self.norm = nn.ModuleDict({task: nn.LayerNorm(dim) for task in tasks})
        self.post = nn.ModuleDict({task: block_post("mlore", dim) for task in tasks})

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One step for every task: task → (B, T, d) in; task → (B, T, d) and task → (B, N) gates out."""
        outputs, routing = {}, {}
        for task, inputs in streams.items():
            projected = self.project[task](inputs)
            gates, own_weight = self._route(task, projected, mask)
            seen = windows(projected, mask)
            shared = self.norm[task](self.shared.mix(self.shared.hidden(seen), gates, mask))
            own = self.own[task].mix(self.own[task].hidden(seen), own_weight, mask)
            outputs[task] = zero_padding(self.post[task](shared + own + self.generic(seen.detach())), mask)
            routing[task] = gates
        return outputs, routing

    def _route(self, task: str, projected: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) gates of the shared experts and (B, 1), the weight of the task's own."""
        logits, scale, own_weight = self.routers[task](projected, mask).split([self.count, self.count, 1], -1)
        if self.training and self.noise:
            logits = logits + gaussian_like(logits) * scale
        return self.select(logits), own_weight
