"""PLE, progressive layered extraction (Tang et al., RecSys 2020, https://doi.org/10.1145/3383313.3412236), with low-rank experts.

What differs from UniTSE: a task's own experts compete with the shared ones in one softmax instead of being added with weight 1, no
expert is left out, and a shared stream, which mixes the experts of all tasks, goes from block to block beside the tasks' streams.
What differs from the original: experts and routers are UniTSE's (there fully connected, on one vector).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from data.errors import InputError
from heads.models.mixtures.base import Mixed, Mixture
from heads.models.mixtures.mmoe import MMoEOptions
from heads.models.parts.experts import LowRankExperts, Router, windows
from heads.models.parts.layers import stacked

SHARED = "shared"


@dataclass(frozen=True, kw_only=True)
class PLEOptions(MMoEOptions):
    """What can be chosen; `experts` and `rank` are those of the shared experts. The defaults are UniTSE's."""

    task_experts: int = 1  # of each task
    task_rank: int = 128
    blocks: int = 2


class PLE(Mixture):
    """Blocks of experts; every task has a stream, and so has what they share until the last block.

    The routing has a task's gates of the shared experts; what is left to 1 is for its own.
    """

    Options = PLEOptions

    def __init__(self, options: PLEOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raises InputError when options do not fit together."""
        super().__init__()
        self.tasks, self.shared_experts = tasks, options.experts
        self.blocks = stacked(options.blocks, "blocks", lambda number: PLEBlock(options, dim, tasks, number == options.blocks))

    def forward(self, inputs: Tensor, mask: Tensor) -> Mixed:
        streams: Mapping[str, Tensor] = dict.fromkeys((SHARED, *self.tasks), inputs)
        routing: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks, 1):
            streams, gates = block(streams, mask)
            routing |= {f"block{number}/{task}": gates[task][..., : self.shared_experts] for task in self.tasks}
        return Mixed(streams, routing=routing)


class PLEBlock(nn.Module):
    """Customised gate control: each stream is a softmax-weighted sum of its experts.

    A task's are the shared ones and its own; the shared stream's are all.
    """

    def __init__(self, options: PLEOptions, dim: int, tasks: tuple[str, ...], is_last: bool) -> None:
        """Without a shared stream at its end when it is the last block. Raises InputError when options do not fit together."""
        super().__init__()
        if options.task_experts < 1:
            raise InputError(f"task_experts is {options.task_experts}, expected 1 or more.")
        ranks = {SHARED: options.ranks()} | dict.fromkeys(tasks, (options.task_rank,) * options.task_experts)
        experts = {name: LowRankExperts(dim, given, options.kernel2, options.activation) for name, given in ranks.items()}
        self.experts = nn.ModuleDict(experts)
        self.mixed_of = {task: (SHARED, task) for task in tasks}  # stream → whose experts
        if not is_last:
            self.mixed_of[SHARED] = (SHARED, *tasks)
        widths = {name: sum(len(ranks[owner]) for owner in owners) for name, owners in self.mixed_of.items()}
        self.routers = nn.ModuleDict({name: Router(dim, width, options.router) for name, width in widths.items()})

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One step for every stream.

        Args:
            streams: Task or `SHARED` → (B, T, d), what that one's experts and router read.
            mask: (B, T).

        Returns:
            Task (or `SHARED`, unless this is the last block) → (B, T, d), and the same → gates over its experts, shared ones first.
        """
        seen = {id(inputs): windows(inputs, mask) for inputs in streams.values()}
        hidden = {name: experts.hidden(seen[id(streams[name])]) for name, experts in self.experts.items()}
        gates = {name: router(streams[name], mask).softmax(-1) for name, router in self.routers.items()}
        return {name: self._mix(hidden, name, values, mask) for name, values in gates.items()}, gates

    def _mix(self, hidden: Mapping[str, Tensor], name: str, gates: Tensor, mask: Tensor) -> Tensor:
        owners = self.mixed_of[name]
        parts = gates.split([len(self.experts[owner].ranks) for owner in owners], -1)
        return sum(self.experts[owner].mix(hidden[owner], part, mask) for owner, part in zip(owners, parts, strict=True))
