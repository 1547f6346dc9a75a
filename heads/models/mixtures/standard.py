"""The standard MoE that MMoLRE compares UniTSE with: the same blocks with experts of full rank, so r = d.

The paper does not say what a standard MoE is; of the readings that were counted, this one gives the 5.7 times the parameters and 5.9
times the multiplications that it claims. With one router for all tasks it is the textbook MoE.
"""

from dataclasses import asdict, dataclass

from heads.models.mixtures.unitse import BlockOptions, UniTSE, UniTSEOptions


@dataclass(frozen=True, kw_only=True)
class StandardMoEOptions(BlockOptions):
    """UniTSE's options without the ranks, which are the width of the model."""

    share_router: bool = False  # one router a block for all tasks

    def unitse(self, dim: int) -> UniTSEOptions:
        """The same for UniTSE, with full rank at width `dim`."""
        values = asdict(self)
        del values["share_router"]
        return UniTSEOptions(rank=dim, task_rank=dim, **values)


class StandardMoE(UniTSE):
    """UniTSE with experts of full rank."""

    Options = StandardMoEOptions

    def __init__(self, options: StandardMoEOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raises InputError when options do not fit together."""
        super().__init__(options.unitse(dim), dim, tasks)
        if options.share_router:
            for block in self.blocks:
                block.routers.update(dict.fromkeys(tasks, block.routers[tasks[0]]))
