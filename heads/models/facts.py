"""What the table of `python -m heads list` says of each head, so that it can be printed without making, or importing, any head.

All of it repeats what the classes say and how many parameters they make; `tests/test_heads_models_facts.py` makes every head and
compares. Training reads the classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """The facts of one head; their meaning is that of the attributes of `heads.models.base.Head`."""

    parameters: int  # with default options, for text and audio features 768 wide, and both tasks or the one that it learns
    needs: tuple[str, ...] = ("text", "audio")
    takes_more: bool = False
    context: bool = False
    packable: bool = True

    @property
    def packs(self) -> bool:
        """True if many runs can be trained as one: see `heads.models.registry.Entry.packs`."""
        return self.packable and not self.context


FACTS: Mapping[str, Facts] = {
    "mmolre": Facts(208_690_559, needs=(), takes_more=True),
    "pre-fusion": Facts(192_190_471, needs=(), takes_more=True),
    "post-fusion": Facts(97_671_175, needs=(), takes_more=True),
    "baseline-msa": Facts(96_093_953, needs=(), takes_more=True),
    "baseline-mer": Facts(96_096_518, needs=(), takes_more=True),
    "moe": Facts(354_227_839, needs=(), takes_more=True),
    "mmoe": Facts(198_864_067, needs=(), takes_more=True),
    "ple": Facts(209_068_073, needs=(), takes_more=True),
    "mod-squad": Facts(227_747_335, needs=(), takes_more=True),
    "mlore": Facts(225_171_935, needs=(), takes_more=True),
    "demt": Facts(200_369_159, needs=(), takes_more=True),
    "mult": Facts(277_867, takes_more=True),
    "misa": Facts(1_224_281, packable=False),
    "mag-head": Facts(16_544_263),
    "self-mm": Facts(275_573, packable=False),
    "mmim": Facts(294_759, packable=False),
    "spectra": Facts(7_685_383),
    "hycon": Facts(643_847, takes_more=True),
    "mmml": Facts(98_272_533),
    "multilogue-net": Facts(6_288_007, takes_more=True, context=True),
    "tbje": Facts(29_687_303, packable=False),
    "mr": Facts(10_568_659, takes_more=True),
    "cogmen": Facts(31_723_931, needs=(), takes_more=True, context=True, packable=False),
    "corect": Facts(12_938_675, takes_more=True, context=True, packable=False),
    "mtl": Facts(2_411_809, takes_more=True, context=True),
    "unimse-head": Facts(23_552_007, packable=False),
}
"""Head → its facts, for every entry of `heads.models.registry.HEADS` that is no simple baseline."""
