"""UniTSE, the unified task-specific and shared experts of MMoLRE (III-B, Eq. 1). With rank = width it is the standard MoE."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from data.lookup import expect
from heads.models.mixtures.base import Mixed, Mixture
from heads.models.options import FREE, dropout_rate, option
from heads.models.parts.experts import LowRankExperts, Router, TopK, squared_variation, windows
from heads.models.parts.joint import joint, pays
from heads.models.parts.layers import stacked, zero_padding
from heads.models.parts.randomness import Dropout, drawing_in_parts

BLOCK_POSTS = ("none", "ln", "mlore")


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """Options besides the ranks. The defaults are the paper's for CMU-MOSI where it states them, and Eq. 1 to the letter elsewhere."""

    experts: int = 15
    top_k: int = option(11, in_pack=FREE)
    blocks: int = 2
    kernel2: int = 1  # of the experts' second convolution: 1 or 3
    activation: str = "none"  # between the two: none, relu, gelu
    block_post: str = "none"  # after a block: none, ln (LayerNorm), mlore (LayerNorm, GELU, linear)
    residual: bool = False  # adds a block's input to its output
    dropout: float = dropout_rate(0.0)  # of a block's output, before the residual
    # of the experts' second convolution at the start; 0 with a residual: a block starts as the identity
    init_scale: float = option(1.0, in_pack=FREE)
    router: str = "B"  # see heads.models.parts.experts.Router
    renormalise: bool = False  # makes the kept gates sum to 1
    noise: float = 0.0  # sd of what is added to gate logits in training
    balance: float = 0.0  # weight of the load-balancing loss


@dataclass(frozen=True, kw_only=True)
class UniTSEOptions(BlockOptions):
    """Options of UniTSE."""

    rank: int | tuple[int, ...] = 64  # of the shared experts: one for all, or one each
    task_rank: int = 128

    def ranks(self) -> tuple[int, ...]:
        """List one rank per shared expert."""
        return (self.rank,) * self.experts if isinstance(self.rank, int) else tuple(self.rank)


class UniTSE(Mixture):
    """Stack of blocks: shared experts that each task weighs by its own router, plus one expert per task."""

    Options = UniTSEOptions

    def __init__(self, options: UniTSEOptions, dim: int, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.tasks, self.balance = tasks, options.balance
        self.blocks = stacked(options.blocks, "blocks", lambda _: UniTSEBlock(options, dim, tasks))

    def forward(self, inputs: Tensor, mask: Tensor) -> Mixed:
        pass_tasks = self._together if self.training and len(self.tasks) > 1 and pays(mask.device) else self._one_by_one
        streams, routing = pass_tasks(inputs, mask)
        losses = {}
        if self.balance:
            losses["balance"] = self.balance * torch.stack([squared_variation(gates) for gates in routing.values()]).sum()
        return Mixed(streams, losses, routing)

    def _one_by_one(self, inputs: Tensor, mask: Tensor) -> tuple[Mapping[str, Tensor], dict[str, Tensor]]:
        streams: Mapping[str, Tensor] = dict.fromkeys(self.tasks, inputs)
        routing: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks, 1):
            streams, gates = block(streams, mask, is_first=number == 1)
            routing |= {f"block{number}/{task}": value for task, value in gates.items()}
        return streams, routing

    def _together(self, inputs: Tensor, mask: Tensor) -> tuple[Mapping[str, Tensor], dict[str, Tensor]]:
        """Do the same for all tasks at once."""
        blocks = [cast(UniTSEBlock, block) for block in self.blocks]
        layers = joint([[layer for block in blocks for layer in block.of_task(task)] for task in self.tasks])
        stream, routing = inputs.unsqueeze(0), {}
        of_blocks = zip(blocks, layers[::3], layers[1::3], layers[2::3], strict=True)
        for number, (block, own, router, post) in enumerate(of_blocks, 1):
            seen = windows(stream, mask if number == 1 else None)
            with drawing_in_parts(len(self.tasks), block.draws(), mask.device):
                stream, gates = block.step(own, router, post, stream, seen, block.shared.hidden(seen), mask)
            routing |= {f"block{number}/{task}": value for task, value in zip(self.tasks, gates, strict=True)}
        return dict(zip(self.tasks, stream, strict=True)), routing


class UniTSEBlock(nn.Module):
    """One block: h^τ = Σ_n g_n^τ(x^τ) f_n(x^τ) + f^τ(x^τ) for each task τ (Eq. 1), summed over the k experts with the largest gates."""

    def __init__(self, options: UniTSEOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raise InputError when the options contradict each other or are out of range."""
        super().__init__()
        ranks = options.ranks()
        self.residual = options.residual
        self.dropout = Dropout(options.dropout)
        common = options.kernel2, options.activation, options.init_scale
        self.shared = LowRankExperts(dim, ranks, *common)
        self.own = nn.ModuleDict({task: LowRankExperts(dim, [options.task_rank], *common) for task in tasks})
        self.routers = nn.ModuleDict({task: Router(dim, len(ranks), options.router) for task in tasks})
        self.select = TopK(len(ranks), options.top_k, options.renormalise, options.noise)
        self.post = nn.ModuleDict({task: block_post(options.block_post, dim) for task in tasks})

    def forward(
        self, streams: Mapping[str, Tensor], mask: Tensor, is_first: bool = True
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Apply the block.

        Args:
            streams: Task → (B, T, d). For tasks that share one tensor the first convolution of the shared experts is computed once.
            mask: (B, T).
            is_first: False: the streams are those of another block, zero in the padding.

        Returns:
            Task → (B, T, d), zero in the padding, and task → (B, N) gates.
        """
        distinct = {id(inputs): inputs for inputs in streams.values()}
        seen = {key: windows(inputs, mask if is_first else None) for key, inputs in distinct.items()}
        hidden = {key: self.shared.hidden(value) for key, value in seen.items()}
        found = {
            task: self.step(*self.of_task(task), inputs, seen[id(inputs)], hidden[id(inputs)], mask) for task, inputs in streams.items()
        }
        return {task: output for task, (output, _) in found.items()}, {task: gates for task, (_, gates) in found.items()}

    def of_task(self, task: str) -> tuple[LowRankExperts, Router, nn.Module]:
        """Return the layers of a task: its own expert, its router, and what follows the block."""
        return cast(LowRankExperts, self.own[task]), cast(Router, self.routers[task]), self.post[task]

    def draws(self) -> int:
        """Return how many times a task draws random numbers in training."""
        return bool(self.select.noise) + self.dropout.is_active

    def step(
        self, own: LowRankExperts, router: Router, post: nn.Module, inputs: Tensor, seen: Tensor, hidden: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Apply the block for one task, or for all at once, with their layers joint and a dimension for them in front.

        Args:
            own: As `of_task`, and so are `router` and `post`.
            inputs: (B, T, d).
            seen: Their windows, (B, T, 3d).
            hidden: What the first convolution of the shared experts makes of them, (B, T, Σr).
            mask: (B, T).

        Returns:
            (B, T, d), zero in the padding, and (B, N) gates.
        """
        gates = self.select(router(inputs, mask))
        mixed = self.shared.weighted(hidden, gates, mask) + own.weighted(own.hidden(seen), None, mask)
        posted = self.dropout(post(mixed))
        return zero_padding(posted + inputs if self.residual else posted, mask), gates


def block_post(kind: str, dim: int) -> nn.Module:
    """Make the layer that follows a block, (B, T, d) → (B, T, d).

    Raises:
        InputError: The kind is not one of `BLOCK_POSTS`.
    """
    expect(BLOCK_POSTS, kind, "block_post")
    if kind == "none":
        return nn.Identity()
    norm = nn.LayerNorm(dim)
    return norm if kind == "ln" else nn.Sequential(norm, nn.GELU(), nn.Linear(dim, dim))
