"""The standard MoE that the MMoLRE paper compares UniTSE with: the same blocks with experts of full rank, r = d.

The paper does not define its standard MoE. Of the readings that were counted, this one has the 5.7 times as many parameters and 5.9
times as many multiplications that the paper reports. With one router for all tasks it is the textbook MoE.
"""

from dataclasses import asdict, dataclass
from typing import cast

from heads.models.mixtures.unitse import BlockOptions, UniTSE, UniTSEBlock, UniTSEOptions


@dataclass(frozen=True, kw_only=True)
class StandardMoEOptions(BlockOptions):
    """Options of the standard MoE: UniTSE's without the ranks, which equal the width of the model."""

    share_router: bool = False  # one router a block for all tasks

    def unitse(self, dim: int) -> UniTSEOptions:
        """Make the same options for UniTSE, with full rank at width `dim`."""
        values = asdict(self)
        del values["share_router"]
        return UniTSEOptions(rank=dim, task_rank=dim, **values)


class StandardMoE(UniTSE):
    """UniTSE with experts of full rank."""

    Options = StandardMoEOptions

    def __init__(self, options: StandardMoEOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raise InputError when the options contradict each other or are out of range."""
        super().__init__(options.unitse(dim), dim, tasks)
        if options.share_router:
            for block in self.blocks:
                routers = cast(UniTSEBlock, block).routers
                routers.update(dict.fromkeys(tasks, routers[tasks[0]]))
