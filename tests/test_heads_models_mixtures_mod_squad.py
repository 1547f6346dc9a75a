"""Mod-Squad: gates per token, experts of all tasks, and the mutual information of tasks and experts."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from heads.models.mixtures.mod_squad import ModSquad, ModSquadOptions, mutual_information

TASKS = ("msa", "mer")
EXPERTS, TOP_K = 5, 2


@pytest.fixture
def squad() -> ModSquad:
    torch.manual_seed(0)
    return ModSquad(ModSquadOptions(experts=EXPERTS, top_k=TOP_K), 8, TASKS)


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(1))


MASK = torch.arange(6) < torch.tensor([6, 2, 4])[:, None]


def choosing(squad: ModSquad) -> ModSquad:
    """Make a block whose gates have preferences, as after some training."""
    for block in squad.blocks:
        for gate in block.gates.values():
            torch.nn.init.normal_(gate.weight)
    return squad


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ([[1.0, 3.0, 2.0], [2.0, 6.0, 4.0]], 0.0),  # independent, though one task has twice the tokens
        ([[7.0, 0.0], [0.0, 7.0]], math.log(2)),  # each task has an expert of its own
        ([[1.0, 2.0, 5.0]], 0.0),  # one task
        ([[3.0, 1.0], [1.0, 3.0]], 0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
    ],
)
def test_mutual_information_of_tasks_and_experts(usage, expected):
    assert mutual_information(torch.tensor(usage)).item() == pytest.approx(expected, abs=1e-6)


def test_two_tasks_with_disjoint_experts_have_the_smallest_loss():
    torch.manual_seed(0)
    squad = ModSquad(ModSquadOptions(experts=2, top_k=1), 8, TASKS)
    for block in squad.blocks:
        block.norm.weight.data.zero_()
        block.norm.bias.data.fill_(1.0)
        block.gates["msa"].weight.data[0] = 10.0
        block.gates["mer"].weight.data[1] = 10.0
    losses = squad(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)).losses
    assert losses["mutual_information"].item() == pytest.approx(-0.005 * 2 * math.log(2), rel=3e-3)


def test_the_loss_sums_the_blocks_over_real_tokens(squad, inputs):
    choosing(squad)
    streams, information = dict.fromkeys(TASKS, inputs * MASK.unsqueeze(-1)), 0.0
    for block in squad.blocks:
        usage = [(block.gates[task](block.norm(streams[task])).softmax(-1) + 1e-4)[MASK].sum(0) for task in TASKS]
        information += mutual_information(torch.stack(usage))
        streams, _, _ = block(streams, MASK)
    torch.testing.assert_close(squad(inputs, MASK).losses["mutual_information"], -0.005 * information)


def test_without_weight_there_is_no_loss(inputs):
    assert ModSquad(ModSquadOptions(mutual_information=0.0), 8, TASKS)(inputs, MASK).losses == {}


def test_gates_start_without_a_preference(squad, inputs):
    for gates in squad(inputs, MASK).routing.values():
        start = 1 / EXPERTS + 1e-4
        torch.testing.assert_close(gates[MASK], torch.tensor([start, start, 0.0, 0.0, 0.0]).expand(12, EXPERTS))


def test_each_token_keeps_its_k_best_as_they_are(squad, inputs):
    block = choosing(squad).blocks[0]
    gates = squad(inputs, MASK).routing["block1/msa"]
    probabilities = block.gates["msa"](block.norm(inputs)).softmax(-1) + 1e-4
    best = probabilities.topk(TOP_K)
    expected = torch.zeros_like(probabilities).scatter(-1, best.indices, best.values) * MASK.unsqueeze(-1)
    torch.testing.assert_close(gates, expected)
    assert len({tuple(row) for row in best.indices[MASK].tolist()}) > 1


def test_a_block_adds_its_gated_experts_to_its_input(squad, inputs):
    block = choosing(squad).blocks[0]
    experts, normed = block.experts, block.norm(inputs)
    streams, _, gates = block(dict.fromkeys(TASKS, inputs * MASK.unsqueeze(-1)), MASK)
    down, up = experts.down.unflatten(0, (EXPERTS, -1)), experts.up.unflatten(1, (EXPERTS, -1))
    down_bias = experts.down_bias.unflatten(0, (EXPERTS, -1))
    for task in TASKS:
        expected = inputs
        for n in range(EXPERTS):
            hidden = functional.gelu(functional.linear(normed, down[n], down_bias[n]))
            expected = expected + gates[task][..., n, None] * functional.linear(hidden, up[:, n], experts.up_bias[n])
        torch.testing.assert_close(streams[task][MASK], expected[MASK])


def test_experts_are_shared_by_the_tasks(squad, inputs):
    choosing(squad)(inputs, MASK).streams["msa"].square().sum().backward()
    without = {name for name, parameter in squad.named_parameters() if parameter.grad is None}
    assert without == {f"blocks.{block}.gates.mer.weight" for block in (0, 1)}


@pytest.mark.parametrize(("options", "width"), [(ModSquadOptions(experts=16, top_k=4), 24), (ModSquadOptions(hidden=7), 7)])
def test_the_kept_experts_together_are_as_wide_as_a_transformers_unless_told_otherwise(options, width):
    experts = ModSquad(options, 24, TASKS).blocks[0].experts
    assert experts.up.shape == (24, options.experts * width)
