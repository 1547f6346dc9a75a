"""Encodes utterances: the encoders and their files, the batches, and the device that computes them.

Here: `encoders` and what they need: their files (`checkpoints`, `pretrained`), a trial of each model (`trial`, `inspection`), its
computation (`cpu`, `devices`, `extract`), and `tiny_encoder`, which makes the bundled one. Not here: media are decoded in `data.media`,
features are stored by `data.feature_store`, and `pipeline.plan` names the files.

Importing this room imports no torch: its modules import it when they are used.
"""

from pipeline.encoding.checkpoints import ENCODERS, MODALITIES, Source, locate
from pipeline.encoding.devices import claim

__all__ = ["ENCODERS", "MODALITIES", "Source", "claim", "locate"]
