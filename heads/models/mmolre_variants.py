"""Heads of MMoLRE's family with another mixture in UniTSE's place: one head per mixture of `heads.models.mixtures`, all else equal.

The family itself, MMoLRE and the ablations without a mixture are in `heads.models.mmolre`. A new mixture needs one line here and one in
`heads.models.registry`.
"""

from dataclasses import field, make_dataclass

from heads.models.mixtures.base import Mixture
from heads.models.mixtures.demt import DeMT
from heads.models.mixtures.mlore import MLoRE
from heads.models.mixtures.mmoe import MMoE
from heads.models.mixtures.mod_squad import ModSquad
from heads.models.mixtures.ple import PLE
from heads.models.mixtures.standard import StandardMoE
from heads.models.mmolre import FamilyOptions, FusionHead


def mixture_head(mixture: type[Mixture]) -> type[FusionHead]:
    """Make the head of MMoLRE's family that has `mixture` in UniTSE's place.

    The head is named after the mixture, `<mixture>Head`, and has to be assigned to that name here: pickle finds it and its options by
    name. Its options are those of the family and, under `mixture`, those of the mixture.
    """
    name = f"{mixture.__name__}Head"
    options = make_dataclass(
        "Options",
        [("mixture", mixture.Options, field(default_factory=mixture.Options))],
        bases=(FamilyOptions,),
        namespace={"__doc__": f"Options of `{name}`.", "__module__": __name__, "__qualname__": f"{name}.Options"},
        frozen=True,
        kw_only=True,
    )
    body = {"__doc__": f"{mixture.__name__} in UniTSE's place.", "__module__": __name__, "Options": options, "mixture": mixture}
    return type(name, (FusionHead,), body)


StandardMoEHead = mixture_head(StandardMoE)
MMoEHead = mixture_head(MMoE)
PLEHead = mixture_head(PLE)
ModSquadHead = mixture_head(ModSquad)
MLoREHead = mixture_head(MLoRE)
DeMTHead = mixture_head(DeMT)
