"""Published baselines, one per file, on the same cached features.

The docstring of a file cites the paper and says what is reproduced, what frozen features leave out, and what deviates.

Modules that start with an underscore hold what several baselines share and define no head: `_encoder` (transformer layers, LSTMs,
output layers), `_crossmodal` (MulT's stacks) and `_dialogue` (layers over the utterances of a video). What MMoLRE uses as well is in
`heads.models.parts`. This room exports nothing: `heads.models.registry` names each head, and a head is imported when it is used.
"""
