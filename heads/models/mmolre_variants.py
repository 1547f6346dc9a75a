"""Other mixture designs in UniTSE's place: MMoLRE's family of heads, one subclass each. The designs are in `heads.models.mixtures`."""

from dataclasses import dataclass, field

from heads.models.mixtures.demt import DeMT, DeMTOptions
from heads.models.mixtures.mlore import MLoRE, MLoREOptions
from heads.models.mixtures.mmoe import MMoE, MMoEOptions
from heads.models.mixtures.mod_squad import ModSquad, ModSquadOptions
from heads.models.mixtures.ple import PLE, PLEOptions
from heads.models.mixtures.standard import StandardMoE, StandardMoEOptions
from heads.models.mmolre import FamilyOptions, FusionHead


@dataclass(frozen=True, kw_only=True)
class StandardMoEHeadOptions(FamilyOptions):
    """Options of `StandardMoEHead`."""

    mixture: StandardMoEOptions = field(default_factory=StandardMoEOptions)


class StandardMoEHead(FusionHead):
    """The standard MoE: full-rank experts in UniTSE's place."""

    Options = StandardMoEHeadOptions
    mixture = StandardMoE


@dataclass(frozen=True, kw_only=True)
class MMoEHeadOptions(FamilyOptions):
    """Options of `MMoEHead`."""

    mixture: MMoEOptions = field(default_factory=MMoEOptions)


class MMoEHead(FusionHead):
    """MMoE in UniTSE's place."""

    Options = MMoEHeadOptions
    mixture = MMoE


@dataclass(frozen=True, kw_only=True)
class PLEHeadOptions(FamilyOptions):
    """Options of `PLEHead`."""

    mixture: PLEOptions = field(default_factory=PLEOptions)


class PLEHead(FusionHead):
    """PLE in UniTSE's place."""

    Options = PLEHeadOptions
    mixture = PLE


@dataclass(frozen=True, kw_only=True)
class ModSquadHeadOptions(FamilyOptions):
    """Options of `ModSquadHead`."""

    mixture: ModSquadOptions = field(default_factory=ModSquadOptions)


class ModSquadHead(FusionHead):
    """Mod-Squad in UniTSE's place."""

    Options = ModSquadHeadOptions
    mixture = ModSquad


@dataclass(frozen=True, kw_only=True)
class MLoREHeadOptions(FamilyOptions):
    """Options of `MLoREHead`."""

    mixture: MLoREOptions = field(default_factory=MLoREOptions)


class MLoREHead(FusionHead):
    """MLoRE in UniTSE's place."""

    Options = MLoREHeadOptions
    mixture = MLoRE


@dataclass(frozen=True, kw_only=True)
class DeMTHeadOptions(FamilyOptions):
    """Options of `DeMTHead`."""

    mixture: DeMTOptions = field(default_factory=DeMTOptions)


class DeMTHead(FusionHead):
    """DeMT's cross-task attention in UniTSE's place."""

    Options = DeMTHeadOptions
    mixture = DeMT
