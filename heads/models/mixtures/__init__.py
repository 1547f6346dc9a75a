"""Mixture designs, one per file: each turns the features of one modality into one stream of features per task.

`base` defines the interface. UniTSE is MMoLRE's own design; `heads.models.mmolre_variants` puts the others in its place. Low-rank
experts, routers and attention, of which designs are built, are in `heads.models.parts`.
"""

from heads.models.mixtures.base import Mixed, Mixture, NoMixture

__all__ = ["Mixed", "Mixture", "NoMixture"]
