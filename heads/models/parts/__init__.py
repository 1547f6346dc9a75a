"""Building blocks that several heads share: layers, low-rank experts, cross-modal fusion, and random numbers that follow from a key.

No head lives here: MMoLRE and its family are in `heads.models.mmolre`, mixture designs in `heads.models.mixtures`, published baselines
in `heads.models.baselines`. Layers that only baselines share are in that room, in modules that start with an underscore.
"""

from heads.models.parts.experts import squared_variation
from heads.models.parts.layers import masked_mean
from heads.models.parts.randomness import drawing_from

__all__ = ["drawing_from", "masked_mean", "squared_variation"]
