"""Exact nearest neighbours against a search in plain Python, and what must not change them."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.pseudo_labels.neighbours import _plain_float32, nearest

CHECKOUT = Path(__file__).parents[1]
TOLERANCE = 1e-6


def cosine(left, right):
    left, right = [float(x) for x in left], [float(x) for x in right]
    return math.fsum(x * y for x, y in zip(left, right, strict=True)) / (math.hypot(*left) * math.hypot(*right))


def search(targets, donors, k, tolerance, own):
    """(index, similarity) of the chosen donors and the number of ties, for each target: the rule, read aloud."""
    found = []
    for row, target in enumerate(targets):
        left = {i: cosine(target, donor) for i, donor in enumerate(donors) if i != own[row]}
        chosen, tied = [], sum(value >= max(left.values()) - tolerance for value in left.values()) if left else 0
        while left and len(chosen) < k:
            near = [i for i, value in left.items() if value >= max(left.values()) - tolerance]
            chosen.append((min(near), left.pop(min(near))))
        found.append((chosen, tied))
    return found


def as_found(result):
    rows = zip(result.index, result.similarity, result.tied, strict=True)
    return [([(i, s) for i, s in zip(index, similarity, strict=True) if i >= 0], tied) for index, similarity, tied in rows]


def assert_same(result, expected):
    for (ours, our_ties), (theirs, their_ties) in zip(as_found(result), expected, strict=True):
        assert [i for i, _ in ours] == [i for i, _ in theirs]
        assert [s for _, s in ours] == pytest.approx([s for _, s in theirs], abs=1e-14)
        assert our_ties == their_ties


@st.composite
def problems(draw):
    """Small integer vectors: the same sentence, parallel vectors and equal cosines are everywhere; some are moved below 1e-6."""
    dim = draw(st.integers(1, 4))
    vectors = st.lists(st.integers(-2, 2), min_size=dim, max_size=dim).filter(any)
    targets = draw(st.lists(vectors, min_size=1, max_size=9))
    donors = np.array(draw(st.lists(vectors, min_size=1, max_size=40)), dtype=np.float32)
    nudge = draw(st.sampled_from([0.0, 1e-4]))
    donors[::3, 0] += np.float32(nudge)
    own = draw(st.lists(st.integers(-1, len(donors) - 1), min_size=len(targets), max_size=len(targets)))
    return np.array(targets, dtype=np.float32), donors, np.array(own)


@settings(max_examples=150, deadline=None)
@given(problem=problems(), k=st.integers(1, 5), tolerance=st.sampled_from([TOLERANCE, 0.2871]), block=st.sampled_from([1, 7, 64]))
def test_nearest_equals_a_search_in_plain_python(problem, k, tolerance, block):
    targets, donors, own = problem
    assert_same(nearest(targets, donors, k, tolerance, own, block=block), search(targets, donors, k, tolerance, own))


def test_nearest_equals_the_full_float64_matrix_on_many_donors():
    rng = np.random.default_rng(3)
    targets, donors = (rng.normal(size=(count, 24)).astype(np.float32) for count in (150, 3000))
    donors[1500:1600] = donors[:100]
    unit = [x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (targets, donors)]
    similarity = unit[0] @ unit[1].T
    found = nearest(targets, donors, 1, TOLERANCE)
    assert (found.index[:, 0] == similarity.argmax(axis=1)).all()  # argmax takes the first of equal donors too
    assert found.similarity[:, 0] == pytest.approx(similarity.max(axis=1), abs=1e-14)
    assert (found.tied == (similarity >= similarity.max(axis=1, keepdims=True) - TOLERANCE).sum(axis=1)).all()
    assert found.tied.max() == 2


@pytest.mark.parametrize("block", [1, 7, 64, 5000])
def test_nearest_gives_the_same_bytes_for_every_block_size(block):
    rng = np.random.default_rng(5)
    targets, donors = (rng.normal(size=(count, 17)).astype(np.float32) for count in (20, 200))
    expected, found = nearest(targets, donors, 3, TOLERANCE), nearest(targets, donors, 3, TOLERANCE, block=block)
    assert found.index.tobytes() == expected.index.tobytes()
    assert found.similarity.tobytes() == expected.similarity.tobytes()
    assert found.tied.tobytes() == expected.tied.tobytes()


def test_nearest_tells_donors_apart_that_float32_cannot():
    donors = np.array([[1, 2e-4], [1, 1e-4], [1, 3e-4]], dtype=np.float32)
    target = np.array([[1, 0]], dtype=np.float32)
    assert np.float32(cosine(target[0], donors[0])) == np.float32(cosine(target[0], donors[1])) == 1
    assert nearest(target, donors, 3, tolerance=0.0).index.tolist() == [[1, 0, 2]]
    assert nearest(target, donors, 3, tolerance=TOLERANCE).index.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("scale", [1e-38, 1e38])
def test_length_does_not_matter_at_the_ends_of_float32(scale):
    targets, donors = np.array([[1, 1]]), np.array([[1, 0], [1, 2], [3, 3]])
    found = nearest((targets * scale).astype(np.float32), (donors * scale).astype(np.float32), 2, TOLERANCE)
    assert found.index.tolist() == [[2, 1]]
    assert found.similarity[0, 0] == pytest.approx(1, abs=1e-7)


def test_fewer_donors_than_wanted_leave_gaps():
    targets, donors = np.ones((2, 3), dtype=np.float32), np.ones((1, 3), dtype=np.float32)
    found = nearest(targets, donors, 2, TOLERANCE, own=np.array([-1, 0]))
    assert found.index.tolist() == [[0, -1], [-1, -1]]
    assert found.tied.tolist() == [1, 0]
    assert np.isnan(found.similarity).tolist() == [[False, True], [True, True]]
    assert nearest(targets, donors[:0], 2, TOLERANCE).index.tolist() == [[-1, -1], [-1, -1]]
    assert nearest(targets[:0], donors, 2, TOLERANCE).index.shape == (0, 2)


@pytest.mark.parametrize("setting", ["medium", "highest"])
def test_products_are_plain_float32_and_the_setting_of_the_process_comes_back(setting):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        with _plain_float32():
            inside = (torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision)
        assert inside == ("ieee", "ieee")
        assert torch.get_float32_matmul_precision() == setting
    finally:
        torch.set_float32_matmul_precision(before)


PEAK = """
import resource, sys
import numpy as np
from pipeline.pseudo_labels.neighbours import nearest
rng = np.random.default_rng(0)
targets, donors = (rng.normal(size=(count, 8)).astype(np.float32) for count in (3000, 40000))
nearest(targets[:10], donors[:10], 1, 1e-6)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest(targets, donors, 1, 1e-6, block=512)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_is_that_of_a_block_not_of_all_pairs():
    done = subprocess.run([sys.executable, "-c", PEAK], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 64  # MiB; all pairs in float32 are 458


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_finds():
    rng = np.random.default_rng(7)
    targets, donors = (rng.normal(size=(count, 384)).astype(np.float32) for count in (300, 5000))
    donors[4000:] = donors[:1000]
    cpu, gpu = (nearest(targets, donors, 3, TOLERANCE, device=device) for device in ("cpu", "cuda"))
    assert cpu.index.tobytes() == gpu.index.tobytes()
    assert cpu.similarity.tobytes() == gpu.similarity.tobytes()
    assert cpu.tied.tobytes() == gpu.tied.tobytes()


def test_opposites_are_never_below_minus_one():
    """Rounding makes some cosines of opposites −1.0000000000000002, which no minimum that can be set would let through."""
    targets = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    similarity = [nearest(one[None], np.float32(-3) * one[None], 1, TOLERANCE, np.array([-1])).similarity[0, 0] for one in targets]
    assert min(similarity) == -1
