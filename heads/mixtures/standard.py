"""The standard MoE that MMoLRE compares UniTSE with: the same blocks with experts of full rank, so r = d.

The paper does not say what a standard MoE is; of the readings that were counted, this one gives the 5.7 times the parameters and 5.9
times the multiplications that it claims. With one router for all tasks it is the textbook MoE.
"""

from dataclasses import asdict, dataclass

from heads.mixtures.unitse import UniTSE, UniTSEOptions


@dataclass(frozen=True, kw_only=True)
class StandardMoEOptions:
    """UniTSE's options without the ranks, which are the width of the model."""

    experts: int = 15
    top_k: int = 11
    blocks: int = 2
    kernel2: int = 1  # of the experts' second convolution: 1 or 3
    activation: str = "none"  # between the two: none, relu, gelu
    block_post: str = "none"  # after a block: none, ln (LayerNorm), mlore (LayerNorm, GELU, linear)
    residual: bool = False  # adds a block's input to its output
    dropout: float = 0.0  # of a block's output, before the residual
    init_scale: float = 1.0  # of the experts' second convolution at the start; 0 with a residual: a block starts as the identity
    router: str = "B"  # see heads.experts.Router
    share_router: bool = False  # one router a block for all tasks
    renormalise: bool = False  # makes the kept gates sum to 1
    noise: float = 0.0  # sd of what is added to gate logits in training
    balance: float = 0.0  # weight of the load-balancing loss

    def unitse(self, dim: int) -> UniTSEOptions:
        """The same for UniTSE, with full rank at width `dim`."""
        values = asdict(self)
        del values["share_router"]
        return UniTSEOptions(rank=dim, task_rank=dim, **values)


class StandardMoE(UniTSE):
    """UniTSE with experts of full rank."""

    def __init__(self, options: StandardMoEOptions, dim: int, tasks: tuple[str, ...]) -> None:
        """Raises InputError when options do not fit together."""
        super().__init__(options.unitse(dim), dim, tasks)
        if options.share_router:
            for block in self.blocks:
                block.routers.update(dict.fromkeys(tasks, block.routers[tasks[0]]))
