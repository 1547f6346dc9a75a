"""The random streams of a run."""

import numpy as np

from heads.runs.seeds import stream


def test_streams_of_random_numbers_are_apart():
    pairs = [(purpose, epoch) for purpose in ("weights", "order", "dropout") for epoch in (0, 1)]
    found = [int(seed) for run in (0, 1) for purpose, epoch in pairs for seed in stream(run, purpose, epoch, 3)]
    assert len(set(found)) == 36
    assert stream(0, "weights", 0, 1)[0] == found[0]


def test_a_seed_gives_the_same_stream_everywhere():
    assert stream(1, "order", 3, 2).tolist() == np.random.SeedSequence([1, 1, 3]).generate_state(2, np.uint64).tolist()
