"""MLoRE (Yang et al., CVPR 2024, https://arxiv.org/abs/2403.17749), the design that UniTSE simplifies, on sequences instead of images.

UniTSE leaves out: a layer per task before and after the experts, a path common to all tasks, learned gate noise, and a learned weight
of the task's own expert. Deviations from the original:

- LayerNorm replaces BatchNorm. Batch statistics of padded sequences would have to leave the padding out, and running statistics change
  buffers in place, which many heads trained as one batched model cannot do.
- The router has only the branch that averages over positions. The other branch is a linear layer over the positions and needs inputs
  of one length. The router is `heads.models.parts.experts.Router` of kind B, whose norm has no weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

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
    """Options of MLoRE. The defaults are the original's."""

    ranks: tuple[int, ...] = tuple(range(16, 129, 8))  # of the shared experts, one each
    task_rank: int = 64  # the original has 72, 64 or 16
    top_k: int = option(9, in_pack=FREE)
    blocks: int = 2
    noise: bool = True  # adds normal numbers to gate logits in training, with an sd that the router gives
    renormalise: bool = False  # makes the kept gates sum to 1; the original's `pre_softmax`
    balance: float = 3e-4  # weight of the load-balancing loss


class MLoRE(Mixture):
    """Stack of blocks of low-rank experts on task-specific inputs."""

    Options = MLoREOptions

    def __init__(self, options: MLoREOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raise InputError when the options contradict each other or are out of range."""
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
    """One block: z = W^τ x for each task τ; then LayerNorm, GELU and Linear of LN(Σ_n g_n f_n(z)) + m f^τ(z) + conv3(z).

    The sum is over the k experts with the largest gates. The router gives g and m. The convolution conv3, common to all tasks, passes
    no gradient back to z.
    """

    def __init__(self, options: MLoREOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raise InputError when the options contradict each other or are out of range."""
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
        """Apply the block: task → (B, T, d) in; task → (B, T, d) and task → (B, N) gates out."""
        outputs, routing = {}, {}
        for task, inputs in streams.items():
            projected = self.project[task](inputs)
            gates, own_weight = self._route(task, projected, mask)
            seen = windows(projected, mask)
            shared = self.norm[task](self.shared.mix(self.shared.hidden(seen), gates, mask))
            expert = cast(LowRankExperts, self.own[task])
            own = expert.mix(expert.hidden(seen), own_weight, mask)
            outputs[task] = zero_padding(self.post[task](shared + own + self.generic(seen.detach())), mask)
            routing[task] = gates
        return outputs, routing

    def _route(self, task: str, projected: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the gates of the shared experts, (B, N), and the weight of the task's own expert, (B, 1)."""
        logits, scale, own_weight = self.routers[task](projected, mask).split([self.count, self.count, 1], -1)
        if self.training and self.noise:
            logits = logits + gaussian_like(logits) * scale
        return self.select(logits), own_weight
