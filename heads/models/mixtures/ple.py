"""PLE, progressive layered extraction (Tang et al., RecSys 2020, https://doi.org/10.1145/3383313.3412236), with low-rank experts.

Differences to UniTSE: a task's own experts compete with the shared ones in one softmax instead of being added with weight 1; no expert
is left out; and a shared stream, which mixes the experts of all tasks, runs from block to block beside the streams of the tasks.
Deviation from the original: experts and routers are UniTSE's (there fully connected, on one vector).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from data.errors import InputError
from heads.models.mixtures.base import Mixed, Mixture
from heads.models.mixtures.mmoe import MMoEOptions
from heads.models.parts.experts import LowRankExperts, Router, windows
from heads.models.parts.layers import stacked

SHARED = "shared"
"""Name of the shared stream and of the owner of the shared experts."""


@dataclass(frozen=True, kw_only=True)
class PLEOptions(MMoEOptions):
    """Options of PLE; `experts` and `rank` are those of the shared experts. The defaults are UniTSE's."""

    task_experts: int = 1  # of each task
    task_rank: int = 128
    blocks: int = 2


class PLE(Mixture):
    """Stack of blocks with one stream per task and, up to the last block, one shared stream.

    The routing holds each task's gates of the shared experts; the rest, up to a sum of 1, goes to the task's own experts.
    """

    Options = PLEOptions

    def __init__(self, options: PLEOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raise InputError when an option is out of range."""
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
    """One block, "customised gate control": each stream is a softmax-weighted sum of experts.

    A task's stream reads the shared experts and the task's own; the shared stream reads all experts.
    """

    def __init__(self, options: PLEOptions, dim: int, tasks: tuple[str, ...], is_last: bool) -> None:
        """Make the block; the last one gives no shared stream. Raise InputError when an option is out of range."""
        super().__init__()
        if options.task_experts < 1:
            raise InputError(f"task_experts is {options.task_experts}, expected 1 or more.")
        ranks = {SHARED: options.ranks()} | dict.fromkeys(tasks, (options.task_rank,) * options.task_experts)
        experts = {name: LowRankExperts(dim, given, options.kernel2, options.activation) for name, given in ranks.items()}
        self.experts = nn.ModuleDict(experts)
        self.mixed_of: dict[str, tuple[str, ...]] = {task: (SHARED, task) for task in tasks}  # stream → owners of its experts
        if not is_last:
            self.mixed_of[SHARED] = (SHARED, *tasks)
        widths = {name: sum(len(ranks[owner]) for owner in owners) for name, owners in self.mixed_of.items()}
        self.routers = nn.ModuleDict({name: Router(dim, width, options.router) for name, width in widths.items()})

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Apply the block.

        Args:
            streams: Task or `SHARED` → (B, T, d), the input of its own experts and router.
            mask: (B, T).

        Returns:
            Two mappings from each task and, unless this is the last block, `SHARED`: to (B, T, d), and to (B, N) gates over the
            experts, shared ones first.
        """
        seen = {id(inputs): windows(inputs, mask) for inputs in streams.values()}
        hidden = {name: self._of(name).hidden(seen[id(streams[name])]) for name in self.experts}
        gates = {name: router(streams[name], mask).softmax(-1) for name, router in self.routers.items()}
        return {name: self._mix(hidden, name, values, mask) for name, values in gates.items()}, gates

    def _mix(self, hidden: Mapping[str, Tensor], name: str, gates: Tensor, mask: Tensor) -> Tensor:
        owners = self.mixed_of[name]
        parts = gates.split([len(self._of(owner).ranks) for owner in owners], -1)
        mixed = [self._of(owner).mix(hidden[owner], part, mask) for owner, part in zip(owners, parts, strict=True)]
        return sum(mixed[1:], mixed[0])

    def _of(self, owner: str) -> LowRankExperts:
        return cast(LowRankExperts, self.experts[owner])
