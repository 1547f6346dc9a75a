"""All heads by name: the one table that command lines, documentation and tests derive from."""

from dataclasses import dataclass

from heads.base import Head
from heads.mixture_heads import DeMTHead, MLoREHead, MMoEHead, ModSquadHead, PLEHead, StandardMoEHead
from heads.mmolre import MMoLRE, PostFusion, PreFusion


@dataclass(frozen=True)
class NoOptions:
    """Options of the floors, which have none: what they choose, they choose on the validation split."""


@dataclass(frozen=True)
class Entry:
    """One head, or one floor."""

    head: type[Head] | None
    summary: str
    source: str
    task: str | None = None  # if it learns one task only
    floor: str | None = None  # a key of heads.floors.FLOORS

    @property
    def options(self) -> type:
        """The dataclass of what can be chosen."""
        return self.head.Options if self.head else NoOptions


_PAPER = "MMoLRE, arXiv 2505.14143"
_SKLEARN = "scikit-learn, on mean-pooled features"

HEADS: dict[str, Entry] = {
    "mmolre": Entry(MMoLRE, "mixture of low-rank experts (UniTSE) per modality, fusion per task", _PAPER),
    "pre-fusion": Entry(PreFusion, "ablation: fusion per task, no mixture", _PAPER),
    "post-fusion": Entry(PostFusion, "ablation: one fusion for both tasks", _PAPER),
    "baseline-msa": Entry(PreFusion, "ablation: sentiment alone", _PAPER, "msa"),
    "baseline-mer": Entry(PreFusion, "ablation: emotions alone", _PAPER, "mer"),
    "moe": Entry(StandardMoEHead, "full-rank experts in UniTSE's place", _PAPER),
    "mmoe": Entry(MMoEHead, "multi-gate mixture of experts in UniTSE's place", "Ma et al., KDD 2018"),
    "ple": Entry(PLEHead, "progressive layered extraction in UniTSE's place", "Tang et al., RecSys 2020"),
    "mod-squad": Entry(ModSquadHead, "token-level experts in UniTSE's place", "Chen et al., CVPR 2023"),
    "mlore": Entry(MLoREHead, "MLoRE's blocks in UniTSE's place", "Yang et al., CVPR 2024"),
    "demt": Entry(DeMTHead, "cross-task attention in UniTSE's place", "Xu et al., AAAI 2023"),
    "median": Entry(None, "train median of sentiment, base rate of emotions", "no feature is read", floor="median"),
    "ridge": Entry(None, "ridge regression", _SKLEARN, floor="ridge"),
    "svr": Entry(None, "support vector regression, RBF kernel", _SKLEARN, floor="svr"),
    "logistic": Entry(None, "logistic regression", _SKLEARN, floor="logistic"),
}
