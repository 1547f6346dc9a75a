"""All heads by name: the one table that command lines, documentation and tests derive from.

A head is imported when it is first used, so that the table can be read without torch. Heads of one's own (`heads.models.own`) are
looked up in the same table and are not listed in it.
"""

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

from data.lookup import expect
from heads.models import own
from heads.models.own import OwnHead

if TYPE_CHECKING:
    from heads.models.base import Head


@dataclass(frozen=True)
class NoOptions:
    """Options of the simple baselines: none, because their settings are chosen on the validation split."""


@dataclass(frozen=True)
class Entry:
    """One head, or one simple baseline."""

    path: str | None  # module below heads.models and class; None for a simple baseline and for a head of one's own
    summary: str
    source: str
    task: str | None = None  # if it learns one task only
    simple: str | None = None  # a key of heads.models.simple.SIMPLE_BASELINES
    published: str | None = "both"  # the tasks it was published for on CMU-MOSI or CMU-MOSEI, in whatever form; None: on neither
    is_variant: bool = False  # True if cached features leave out a part that makes the method what it is
    own: OwnHead | None = None  # a head of one's own

    @cached_property
    def head(self) -> "type[Head] | None":
        """The class of the head, imported at its first use; None for a simple baseline."""
        if self.own is not None:
            return self.own.kind
        if self.path is None:
            return None
        module, _, name = self.path.rpartition(".")
        return getattr(import_module(f"heads.models.{module}"), name)

    @property
    def reproduction(self) -> str:
        """faithful, variant, simple baseline, or own head."""
        if self.own is not None:
            return "own head"
        return "simple baseline" if self.simple else "variant" if self.is_variant else "faithful"

    @property
    def packs(self) -> bool:
        """True if many runs can be trained as one: `heads.training.packed_engine` needs batches of one number of utterances,
        which videos do not have."""
        return self.head is not None and self.head.packable and not self.head.context

    @property
    def options(self) -> type:
        """The dataclass of the head's options."""
        return self.head.Options if self.head else NoOptions


class Heads(dict[str, Entry]):
    """The heads of the program by name. `HEADS[name]` also returns heads of one's own, by their full names, and loads them."""

    def __missing__(self, name: str) -> Entry:
        if not own.is_reference(name) and name not in own.installed():
            raise KeyError(name)
        return _own_entry(own.loaded(name))


def find(name: str, kind: str = "head") -> str:
    """Returns the full name of a head. The file of a head of one's own is read again.

    Args:
        name: A key of `HEADS`, FILE.py:CLASS, MODULE:CLASS, or the name of an entry point.
        kind: For the message: "head", or more of where the name stands.

    Raises:
        InputError: There is no such head, or it is not one (`heads.models.own.load`).
    """
    if name in HEADS:
        return name
    if not own.is_reference(name):
        expect([*HEADS, *own.installed()], name, kind)
    full = own.full_name(name)
    own.load(full)
    return full


def _own_entry(found: OwnHead) -> Entry:
    words = (found.kind.__doc__ or "").strip().partition("\n")[0]
    return Entry(None, words or "no summary", str(found.file), found.kind.only_task, own=found)


MEDIAN = "median"
"""The simple baseline that reads no feature, which every head has to beat."""

_PAPER = "MMoLRE, arXiv 2505.14143, 2025"
_SKLEARN = "scikit-learn, on mean-pooled features"

_TABLE: dict[str, Entry] = {
    "mmolre": Entry("mmolre.MMoLRE", "mixture of low-rank experts (UniTSE) per modality, fusion per task", _PAPER),
    "pre-fusion": Entry("mmolre.PreFusion", "ablation: fusion per task, no mixture", _PAPER),
    "post-fusion": Entry("mmolre.PostFusion", "ablation: one fusion for both tasks", _PAPER),
    "baseline-msa": Entry("mmolre.PreFusion", "ablation: sentiment alone", _PAPER, "msa", published="msa"),
    "baseline-mer": Entry("mmolre.PreFusion", "ablation: emotions alone", _PAPER, "mer", published="mer"),
    "moe": Entry("mmolre_variants.StandardMoEHead", "full-rank experts in UniTSE's place", _PAPER),
    "mmoe": Entry("mmolre_variants.MMoEHead", "multi-gate mixture of experts in UniTSE's place", "Ma et al., KDD 2018", published=None),
    "ple": Entry(
        "mmolre_variants.PLEHead", "progressive layered extraction in UniTSE's place", "Tang et al., RecSys 2020", published=None
    ),
    "mod-squad": Entry(
        "mmolre_variants.ModSquadHead", "token-level experts in UniTSE's place", "Chen et al., CVPR 2023", published=None
    ),
    "mlore": Entry("mmolre_variants.MLoREHead", "MLoRE's blocks in UniTSE's place", "Yang et al., CVPR 2024", published=None),
    "demt": Entry("mmolre_variants.DeMTHead", "cross-task attention in UniTSE's place", "Xu et al., AAAI 2023", published=None),
    "mult": Entry(
        "baselines.mult.MulT", "crossmodal transformers between unaligned sequences", "Tsai et al., ACL 2019", published="msa"
    ),
    "misa": Entry(
        "baselines.misa.MISA", "private and shared subspaces, one-layer fusion", "Hazarika et al., ACM MM 2020", published="msa"
    ),
    "mag-head": Entry(
        "baselines.mag.MAGHead", "adaptation gate on last hidden states", "Rahman et al., ACL 2020", published="msa", is_variant=True
    ),
    "self-mm": Entry("baselines.self_mm.SelfMM", "branches that make their own labels", "Yu et al., AAAI 2021", published="msa"),
    "mmim": Entry(
        "baselines.mmim.MMIM", "mutual information between text, audio and fusion", "Han et al., EMNLP 2021", published="msa"
    ),
    "spectra": Entry(
        "baselines.spectra.SPECTRA", "one joint attention, no pre-training", "Yu et al., ACL 2023", published="msa", is_variant=True
    ),
    "hycon": Entry(
        "baselines.hycon.HyCon", "contrast within and across modalities", "Mai et al., TAFFC 2022", published="msa", is_variant=True
    ),
    "mmml": Entry("baselines.mmml.MMML", "cross-modal layers, three losses", "Wu et al., NAACL 2024", published="msa"),
    "multilogue-net": Entry(
        "baselines.multilogue.Multilogue", "recurrent states per modality, pairwise attention", "Shenoy and Sardana, Challenge-HML 2020"
    ),
    "tbje": Entry("baselines.tbje.TBJE", "joint encoding, audio guided by text, glimpses", "Delbrouck et al., Challenge-HML 2020"),
    "mr": Entry("baselines.mr.MR", "capsules of modalities routed to labels", "Tsai et al., EMNLP 2020"),
    "cogmen": Entry("baselines.cogmen.COGMEN", "utterance transformer and relational graph", "Joshi et al., NAACL 2022"),
    "corect": Entry("baselines.corect.CORECT", "relational temporal graph, cross-modality attention", "Nguyen et al., EMNLP 2023"),
    "mtl": Entry("baselines.mtl.MTL", "recurrent encoders, contextual inter-modal attention", "Akhtar et al., NAACL 2019"),
    "unimse-head": Entry("baselines.unimse.UniMSEHead", "audio by adapters, contrast, no T5", "Hu et al., EMNLP 2022", is_variant=True),
    "median": Entry(None, "train median of sentiment, base rate of emotions", "no feature is read", simple="median"),
    "ridge": Entry(None, "ridge regression", _SKLEARN, simple="ridge"),
    "svr": Entry(None, "support vector regression, RBF kernel", _SKLEARN, simple="svr"),
    "logistic": Entry(None, "logistic regression", _SKLEARN, simple="logistic"),
}

HEADS = Heads(_TABLE)
