"""The untrained head of a run: its seed alone decides its parameters."""

import pytest
import small_runs
import torch
from caches import make_cache

from heads.runs.build import build_head


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"))


def parameters(cache, **changes: object) -> torch.Tensor:
    made = small_runs.run_data(cache, changes=changes)
    return torch.cat([value.detach().flatten() for value in build_head(made.config, made.tensors).parameters()])


def test_the_seed_alone_decides_the_parameters(cache):
    torch.manual_seed(5)
    first = parameters(cache, seed=1)
    torch.manual_seed(6)
    assert torch.equal(parameters(cache, seed=1), first)
    assert not torch.equal(parameters(cache, seed=2), first)


def test_torchs_own_random_numbers_are_left_as_they_were(cache):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    parameters(cache, seed=1)
    assert torch.equal(torch.rand(3), expected)
