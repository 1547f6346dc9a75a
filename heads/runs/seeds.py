"""The random streams of a run, all derived from its one seed."""

import numpy as np

_PURPOSES = {"weights": 0, "order": 1, "dropout": 2}


def stream(seed: int, purpose: str, epoch: int = 0, count: int = 1) -> np.ndarray:
    """Derives (count,) uint64 seeds: a run has one for its weights, and in every epoch one for the order of each pass and one for the
    dropout of each batch."""
    return np.random.SeedSequence([seed, _PURPOSES[purpose], epoch]).generate_state(count, np.uint64)
