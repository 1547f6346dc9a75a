"""All heads by name: the one table that command lines, documentation and tests derive from."""

from dataclasses import dataclass

from heads.models.base import Head
from heads.models.baselines.cogmen import COGMEN
from heads.models.baselines.corect import CORECT
from heads.models.baselines.hycon import HyCon
from heads.models.baselines.mag import MAGHead
from heads.models.baselines.misa import MISA
from heads.models.baselines.mmim import MMIM
from heads.models.baselines.mmml import MMML
from heads.models.baselines.mr import MR
from heads.models.baselines.mtl import MTL
from heads.models.baselines.mult import MulT
from heads.models.baselines.multilogue import Multilogue
from heads.models.baselines.self_mm import SelfMM
from heads.models.baselines.spectra import SPECTRA
from heads.models.baselines.tbje import TBJE
from heads.models.baselines.unimse import UniMSEHead
from heads.models.mmolre import MMoLRE, PostFusion, PreFusion
from heads.models.mmolre_variants import DeMTHead, MLoREHead, MMoEHead, ModSquadHead, PLEHead, StandardMoEHead


@dataclass(frozen=True)
class NoOptions:
    """Options of the simple baselines, which have none: what they choose, they choose on the validation split."""


@dataclass(frozen=True)
class Entry:
    """One head, or one simple baseline."""

    head: type[Head] | None
    summary: str
    source: str
    task: str | None = None  # if it learns one task only
    simple: str | None = None  # a key of heads.models.simple.SIMPLE_BASELINES
    published: str | None = "both"  # the tasks it was published for on CMU-MOSI or CMU-MOSEI, in whatever form; None: on neither
    is_variant: bool = False  # whether frozen features leave out a part that makes the method what it is

    @property
    def reproduction(self) -> str:
        """faithful, variant, or simple baseline."""
        return "simple baseline" if self.simple else "variant" if self.is_variant else "faithful"

    @property
    def packs(self) -> bool:
        """Whether many runs can be trained as one: `heads.training.packed_engine` needs batches of one number of utterances,
        which videos do not have."""
        return self.head is not None and self.head.packable and not self.head.context

    @property
    def options(self) -> type:
        """The dataclass of what can be chosen."""
        return self.head.Options if self.head else NoOptions


MEDIAN = "median"
"""The head that looks at no feature, which every other has to beat."""

_PAPER = "MMoLRE, arXiv 2505.14143, 2025"
_SKLEARN = "scikit-learn, on mean-pooled features"

HEADS: dict[str, Entry] = {
    "mmolre": Entry(MMoLRE, "mixture of low-rank experts (UniTSE) per modality, fusion per task", _PAPER),
    "pre-fusion": Entry(PreFusion, "ablation: fusion per task, no mixture", _PAPER),
    "post-fusion": Entry(PostFusion, "ablation: one fusion for both tasks", _PAPER),
    "baseline-msa": Entry(PreFusion, "ablation: sentiment alone", _PAPER, "msa", published="msa"),
    "baseline-mer": Entry(PreFusion, "ablation: emotions alone", _PAPER, "mer", published="mer"),
    "moe": Entry(StandardMoEHead, "full-rank experts in UniTSE's place", _PAPER),
    "mmoe": Entry(MMoEHead, "multi-gate mixture of experts in UniTSE's place", "Ma et al., KDD 2018", published=None),
    "ple": Entry(PLEHead, "progressive layered extraction in UniTSE's place", "Tang et al., RecSys 2020", published=None),
    "mod-squad": Entry(ModSquadHead, "token-level experts in UniTSE's place", "Chen et al., CVPR 2023", published=None),
    "mlore": Entry(MLoREHead, "MLoRE's blocks in UniTSE's place", "Yang et al., CVPR 2024", published=None),
    "demt": Entry(DeMTHead, "cross-task attention in UniTSE's place", "Xu et al., AAAI 2023", published=None),
    "mult": Entry(MulT, "crossmodal transformers between unaligned sequences", "Tsai et al., ACL 2019", published="msa"),
    "misa": Entry(MISA, "private and shared subspaces, one-layer fusion", "Hazarika et al., ACM MM 2020", published="msa"),
    "mag-head": Entry(MAGHead, "adaptation gate on last hidden states", "Rahman et al., ACL 2020", published="msa", is_variant=True),
    "self-mm": Entry(SelfMM, "branches that make their own labels", "Yu et al., AAAI 2021", published="msa"),
    "mmim": Entry(MMIM, "mutual information between text, audio and fusion", "Han et al., EMNLP 2021", published="msa"),
    "spectra": Entry(SPECTRA, "one joint attention, no pre-training", "Yu et al., ACL 2023", published="msa", is_variant=True),
    "hycon": Entry(HyCon, "contrast within and across modalities", "Mai et al., TAFFC 2022", published="msa", is_variant=True),
    "mmml": Entry(MMML, "cross-modal layers, three losses", "Wu et al., NAACL 2024", published="msa"),
    "multilogue-net": Entry(Multilogue, "recurrent states per modality, pairwise attention", "Shenoy and Sardana, Challenge-HML 2020"),
    "tbje": Entry(TBJE, "joint encoding, audio guided by text, glimpses", "Delbrouck et al., Challenge-HML 2020"),
    "mr": Entry(MR, "capsules of modalities routed to labels", "Tsai et al., EMNLP 2020"),
    "cogmen": Entry(COGMEN, "utterance transformer and relational graph", "Joshi et al., NAACL 2022"),
    "corect": Entry(CORECT, "relational temporal graph, cross-modality attention", "Nguyen et al., EMNLP 2023"),
    "mtl": Entry(MTL, "recurrent encoders, contextual inter-modal attention", "Akhtar et al., NAACL 2019"),
    "unimse-head": Entry(UniMSEHead, "audio by adapters, contrast, no T5", "Hu et al., EMNLP 2022", is_variant=True),
    "median": Entry(None, "train median of sentiment, base rate of emotions", "no feature is read", simple="median"),
    "ridge": Entry(None, "ridge regression", _SKLEARN, simple="ridge"),
    "svr": Entry(None, "support vector regression, RBF kernel", _SKLEARN, simple="svr"),
    "logistic": Entry(None, "logistic regression", _SKLEARN, simple="logistic"),
}
