"""PLE: who reads what, whose experts a gate covers, and through which of them a task learns."""

import pytest
import torch
from torch import Tensor

from heads.models.mixtures.ple import PLE, PLEOptions

TASKS = ("msa", "mer")
SHARED_EXPERTS, TASK_EXPERTS = 4, 2


@pytest.fixture
def ple() -> PLE:
    torch.manual_seed(0)
    return PLE(PLEOptions(experts=SHARED_EXPERTS, rank=3, task_experts=TASK_EXPERTS, task_rank=2), 8, TASKS)


@pytest.fixture
def streams() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(4, 6, 8, generator=generator) for name in ("shared", *TASKS)}


MASK = torch.ones(4, 6, dtype=torch.bool)


def test_a_tasks_gate_covers_shared_and_own_experts_and_the_shared_gate_covers_all(ple, streams):
    _, gates = ple.blocks[0](streams, MASK)
    widths = {name: values.shape[-1] for name, values in gates.items()}
    both = SHARED_EXPERTS + TASK_EXPERTS
    assert widths == {"msa": both, "mer": both, "shared": both + TASK_EXPERTS}
    for values in gates.values():
        torch.testing.assert_close(values.sum(-1), torch.ones(4))


def test_the_last_block_has_no_shared_stream(ple, streams):
    outputs, gates = ple.blocks[1](streams, MASK)
    assert tuple(outputs) == tuple(gates) == TASKS
    assert tuple(ple(streams["msa"], MASK).streams) == TASKS


def test_shared_experts_read_the_shared_stream_and_a_tasks_experts_and_gate_that_tasks(ple, streams):
    block = ple.blocks[1]
    outputs, _ = block(streams, MASK)
    for task in TASKS:
        gates = block.routers[task](streams[task], MASK).softmax(-1)
        shared = block.experts["shared"](streams["shared"], gates[:, :SHARED_EXPERTS], MASK)
        own = block.experts[task](streams[task], gates[:, SHARED_EXPERTS:], MASK)
        torch.testing.assert_close(outputs[task], shared + own)


def test_the_shared_stream_mixes_the_experts_of_all_tasks(ple, streams):
    block = ple.blocks[0]
    outputs, _ = block(streams, MASK)
    gates = block.routers["shared"](streams["shared"], MASK).softmax(-1)
    parts = zip(("shared", *TASKS), gates.split([SHARED_EXPERTS, TASK_EXPERTS, TASK_EXPERTS], -1), strict=True)
    expected = sum(block.experts[name](streams[name], part, MASK) for name, part in parts)
    torch.testing.assert_close(outputs["shared"], expected)


def test_a_task_learns_through_the_other_tasks_experts_in_all_blocks_but_the_last(ple, streams):
    ple(streams["msa"], MASK).streams["msa"].square().sum().backward()
    first, last = ple.blocks
    assert all(parameter.grad.any() for parameter in first.experts["mer"].parameters())
    assert all(parameter.grad is None for parameter in last.experts["mer"].parameters())
    assert all(parameter.grad is None for block in ple.blocks for parameter in block.routers["mer"].parameters())
