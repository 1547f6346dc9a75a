"""MMoE: shared experts, all of them for every task, and a gate per task."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from heads.models.mixtures.mmoe import MMoE, MMoEOptions
from heads.models.parts.experts import LowRankExperts

RANKS = (2, 3, 5)


@pytest.fixture
def mmoe() -> MMoE:
    torch.manual_seed(0)
    return MMoE(MMoEOptions(rank=RANKS), 8, ("msa", "mer"))


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(1))


def real(inputs: Tensor) -> Tensor:
    return torch.ones(inputs.shape[:2], dtype=torch.bool)


def one_by_one(experts: LowRankExperts, inputs: Tensor) -> list[Tensor]:
    """Each expert's output, (B, T, d), by convolutions of its own."""
    outputs, start = [], 0
    for number, rank in enumerate(experts.ranks):
        rows = slice(start, start + rank)
        down = experts.down[rows].unflatten(1, (3, -1)).transpose(1, 2)
        narrow = functional.conv1d(inputs.transpose(1, 2), down, experts.down_bias[rows], padding=1)
        outputs.append((experts.up[:, rows] @ narrow).transpose(1, 2) + experts.up_bias[number])
        start += rank
    return outputs


def test_a_stream_is_the_softmax_weighted_sum_of_all_experts(mmoe, inputs):
    mixed = mmoe(inputs, real(inputs))
    for task, router in mmoe.routers.items():
        gates = router(inputs, real(inputs)).softmax(-1)
        expected = sum(gates[:, n, None, None] * output for n, output in enumerate(one_by_one(mmoe.experts, inputs)))
        torch.testing.assert_close(mixed.streams[task], expected)


def test_gates_are_dense_and_sum_to_one(mmoe, inputs):
    for gates in mmoe(inputs, real(inputs)).routing.values():
        assert gates.shape == (4, len(RANKS))
        assert (gates > 0).all()
        torch.testing.assert_close(gates.sum(-1), torch.ones(4))


def test_nothing_but_the_gate_belongs_to_a_task(mmoe, inputs):
    mmoe(inputs, real(inputs)).streams["msa"].square().sum().backward()
    without = {name for name, parameter in mmoe.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in mmoe.named_parameters() if name.startswith("routers.mer.")}


def test_identical_gates_give_identical_streams(mmoe, inputs):
    assert not torch.allclose(*mmoe(inputs, real(inputs)).streams.values())
    mmoe.routers["mer"].load_state_dict(mmoe.routers["msa"].state_dict())
    assert torch.equal(*mmoe(inputs, real(inputs)).streams.values())
