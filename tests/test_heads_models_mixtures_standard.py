"""The standard MoE is UniTSE with experts of full rank, and costs what the paper says it costs."""

import torch

from heads.models.mixtures.standard import StandardMoE, StandardMoEOptions
from heads.models.mixtures.unitse import UniTSE, UniTSEOptions

TASKS = ("msa", "mer")


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_it_computes_what_unitse_computes_when_the_rank_is_the_width():
    torch.manual_seed(0)
    low_rank = UniTSE(UniTSEOptions(experts=3, rank=8, task_rank=8, top_k=2), 8, TASKS)
    full_rank = StandardMoE(StandardMoEOptions(experts=3, top_k=2), 8, TASKS)
    full_rank.load_state_dict(low_rank.state_dict())
    inputs, mask = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    expected, found = low_rank(inputs, mask), full_rank(inputs, mask)
    for task in TASKS:
        assert torch.equal(found.streams[task], expected.streams[task])


def test_every_option_reaches_unitse():
    options = StandardMoEOptions(kernel2=3, activation="gelu", block_post="ln", residual=True, router="A", noise=0.1, balance=0.2)
    expected = {"kernel2": 3, "activation": "gelu", "block_post": "ln", "residual": True, "router": "A", "noise": 0.1, "balance": 0.2}
    assert options.unitse(24) == UniTSEOptions(rank=24, task_rank=24, **expected)


def test_it_has_as_many_times_the_parameters_of_unitse_as_the_paper_says():
    full_rank = parameters(StandardMoE(StandardMoEOptions(blocks=1), 768, TASKS))
    low_rank = parameters(UniTSE(UniTSEOptions(blocks=1, rank=128), 768, TASKS))
    assert (full_rank, low_rank) == (40_509_342, 7_075_102)
    assert round(full_rank / low_rank, 3) == 5.726


def test_a_shared_router_gives_both_tasks_the_gates_of_one():
    torch.manual_seed(0)
    own = StandardMoE(StandardMoEOptions(experts=3, top_k=2), 8, TASKS)
    shared = StandardMoE(StandardMoEOptions(experts=3, top_k=2, share_router=True), 8, TASKS)
    inputs, mask = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    gates = shared(inputs, mask).routing
    assert torch.equal(gates["block1/msa"], gates["block1/mer"])
    assert not torch.equal(own(inputs, mask).routing["block1/msa"], own(inputs, mask).routing["block1/mer"])
    assert parameters(own) - parameters(shared) == 2 * parameters(own.blocks[0].routers["mer"])
