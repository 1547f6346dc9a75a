"""MLoRE: linear experts, gates with learned noise, and the generic path that teaches its input nothing."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from heads.models.mixtures.mlore import MLoRE, MLoREOptions
from heads.models.parts.experts import squared_variation

TASKS = ("msa", "mer")
RANKS = (2, 3, 4)
MASK = torch.ones(4, 6, dtype=torch.bool)


def make(**options: object) -> MLoRE:
    torch.manual_seed(0)
    return MLoRE(MLoREOptions(**{"ranks": RANKS, "task_rank": 2, "top_k": 2} | options), 8, TASKS)


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(1))


def test_the_default_ranks_are_the_originals():
    assert MLoREOptions().ranks == (16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128)


def test_experts_are_linear_in_their_input(inputs):
    experts, gates = make().blocks[0].shared, torch.rand(4, len(RANKS))
    torch.nn.init.normal_(experts.down_bias)
    torch.nn.init.normal_(experts.up_bias)
    none, once, twice = (experts(scale * inputs, gates, MASK) for scale in (0, 1, 2))
    torch.testing.assert_close(twice - none, 2 * (once - none))


def test_the_generic_path_reads_its_input_but_teaches_it_nothing(inputs):
    block = make().blocks[0]
    for experts in (block.shared, *block.own.values()):
        torch.nn.init.zeros_(experts.up)
    inputs.requires_grad_()
    stream = block(dict.fromkeys(TASKS, inputs), MASK)[0]["msa"]
    other = block(dict.fromkeys(TASKS, inputs + 1), MASK)[0]["msa"]
    stream.square().sum().backward()
    assert not torch.allclose(stream, other)
    assert block.generic.weight.grad.any()
    assert not inputs.grad.any()
    assert not block.project["msa"].weight.grad.any()


def test_a_block_is_normed_experts_plus_weighted_own_expert_plus_generic_convolution(inputs):
    block = make().eval().blocks[0]
    outputs, gates = block({"msa": inputs}, MASK)
    z = block.project["msa"](inputs)
    numbers = block.routers["msa"](z, MASK)
    best = numbers[:, :3].softmax(-1).topk(2)
    torch.testing.assert_close(gates["msa"], torch.zeros(4, 3).scatter(-1, best.indices, best.values))
    shared = block.norm["msa"](block.shared(z, gates["msa"], MASK))
    own = numbers[:, -1, None, None] * block.own["msa"](z, torch.ones(4, 1), MASK)
    kernel = block.generic.weight.unflatten(1, (3, -1)).transpose(1, 2)
    generic = functional.conv1d(z.transpose(1, 2), kernel, block.generic.bias, padding=1).transpose(1, 2)
    norm, activation, linear = block.post["msa"]
    assert isinstance(activation, torch.nn.GELU)
    torch.testing.assert_close(outputs["msa"], linear(functional.gelu(norm(shared + own + generic))))


@pytest.mark.parametrize("renormalise", [False, True])
def test_gates_sum_to_one_when_all_are_kept_or_when_renormalised(inputs, renormalise):
    ones = torch.ones(4)
    for gates in make(top_k=3, renormalise=renormalise)(inputs, MASK).routing.values():
        torch.testing.assert_close(gates.sum(-1), ones)
    for gates in make(top_k=2, renormalise=renormalise)(inputs, MASK).routing.values():
        assert ((gates > 0).sum(-1) == 2).all()
        assert torch.allclose(gates.sum(-1), ones) if renormalise else (gates.sum(-1) < 1).all()


def test_noise_is_as_large_as_the_router_says_and_in_training_only(inputs):
    mlore = make(top_k=3, blocks=1)
    project = mlore.blocks[0].routers["msa"].project
    assert not torch.equal(mlore(inputs, MASK).routing["block1/msa"], mlore.eval()(inputs, MASK).routing["block1/msa"])
    project.weight.data[3:6] = 0
    project.bias.data[3:6] = 0
    assert torch.equal(mlore.train()(inputs, MASK).routing["block1/msa"], mlore.eval()(inputs, MASK).routing["block1/msa"])
    quiet = make(noise=False)
    assert torch.equal(quiet(inputs, MASK).streams["msa"], quiet.eval()(inputs, MASK).streams["msa"])


def test_squared_variation_is_zero_for_equal_load_and_fifteen_for_one_expert_of_fifteen():
    assert squared_variation(torch.full((4, 15), 1 / 15)).item() == pytest.approx(0, abs=1e-6)
    assert squared_variation(torch.eye(15)[[3] * 4]).item() == pytest.approx(15, rel=1e-5)


def test_the_balance_loss_is_that_of_the_mean_gate_over_clips_and_tasks_summed_over_blocks(inputs):
    mixed = make().eval()(inputs, MASK)
    loads = [(mixed.routing[f"block{n}/msa"].mean(0) + mixed.routing[f"block{n}/mer"].mean(0)) / 2 for n in (1, 2)]
    expected = 3e-4 * sum((load.std() / load.mean()) ** 2 for load in loads)
    torch.testing.assert_close(mixed.losses["balance"], expected)
    assert make(balance=0.0)(inputs, MASK).losses == {}
