"""UniTSE: Eq. 1 by hand, what its blocks share, and its options."""

from dataclasses import replace

import pytest
import torch
from batches import random_batch
from torch import nn

from data.errors import InputError
from heads.models.mixtures.unitse import UniTSE, UniTSEBlock, UniTSEOptions
from heads.models.parts.experts import squared_variation

TASKS = ("msa", "mer")
DIM = 8
SMALL = UniTSEOptions(experts=4, rank=2, task_rank=3, top_k=3)


@pytest.fixture
def text():
    batch = random_batch(dtype=torch.float64)
    return batch.features["text"], batch.masks["text"]


def unitse(options: UniTSEOptions = SMALL) -> UniTSE:
    torch.manual_seed(0)
    mixture = UniTSE(options, DIM, TASKS).double()
    for name, parameter in mixture.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return mixture


@torch.no_grad()
def block_by_hand() -> UniTSEBlock:
    """Experts of rank 1: shared expert n reads feature n of the same step, a task's own reads feature 3 of the step before."""
    block = UniTSEBlock(UniTSEOptions(experts=3, rank=1, task_rank=1, top_k=2), 4, ("msa",)).double()
    for parameter in block.parameters():
        parameter.zero_()
    block.shared.down[:, 4:8] = torch.eye(4)[:3]
    block.shared.up.copy_(torch.tensor([[1.0, 0, 0], [0, 10, 0], [0, 0, 100], [1, 1, 1]]))
    block.shared.up_bias.copy_(torch.tensor([[0.0, 0, 0, 4], [0, 0, 0, 8], [0, 0, 0, 1000]]))
    block.own["msa"].down[0, 3] = 1
    block.own["msa"].up.copy_(torch.tensor([[0.0], [0], [1], [0]]))
    block.routers["msa"].project.bias.copy_(torch.tensor([4.0, 2.0, 2.0]).log())
    return block


def test_equation_one_by_hand():
    """Gates ½, ¼, ¼, of which the first two are kept; of the tie, the smaller number."""
    inputs = torch.tensor([[[2.0, 4, 6, 8], [1, 2, 3, 4], [9, 9, 9, 9]]], dtype=torch.float64)
    streams, gates = block_by_hand()({"msa": inputs}, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(gates["msa"], torch.tensor([[0.5, 0.25, 0.0]], dtype=torch.float64))
    first = [0.5 * 2, 0.25 * 40, 0, 0.5 * 2 + 0.25 * 4 + 0.5 * 4 + 0.25 * 8]
    second = [0.5 * 1, 0.25 * 20, 8, 0.5 * 1 + 0.25 * 2 + 0.5 * 4 + 0.25 * 8]
    torch.testing.assert_close(streams["msa"], torch.tensor([[first, second, [0] * 4]], dtype=torch.float64))


def test_without_a_start_a_residual_block_is_the_identity_and_learns(text):
    torch.manual_seed(0)
    mixture = UniTSE(replace(SMALL, residual=True, init_scale=0.0), DIM, TASKS).double()
    inputs, mask = text
    streams = mixture(inputs, mask).streams
    for stream in streams.values():
        torch.testing.assert_close(stream, inputs)
    sum(stream.sum() for stream in streams.values()).backward()
    assert mixture.blocks[0].shared.up.grad.abs().sum() > 0


def test_the_experts_start_at_the_scale_asked_for():
    torch.manual_seed(0)
    whole = UniTSEBlock(SMALL, DIM, TASKS).shared
    torch.manual_seed(0)
    half = UniTSEBlock(replace(SMALL, init_scale=0.5), DIM, TASKS).shared
    torch.testing.assert_close(half.up, whole.up / 2)
    torch.testing.assert_close(half.down, whole.down)


def test_the_second_block_reads_what_the_first_made_for_the_task(text):
    mixture, (inputs, mask) = unitse(), text
    first, gates1 = mixture.blocks[0](dict.fromkeys(TASKS, inputs), mask)
    second, gates2 = mixture.blocks[1](first, mask)
    mixed = mixture(inputs, mask)
    assert list(mixed.routing) == ["block1/msa", "block1/mer", "block2/msa", "block2/mer"]
    for task in TASKS:
        assert torch.equal(mixed.streams[task], second[task])
        assert torch.equal(mixed.routing[f"block1/{task}"], gates1[task])
        assert torch.equal(mixed.routing[f"block2/{task}"], gates2[task])
    assert not torch.allclose(second["msa"], second["mer"])


def test_tasks_with_one_input_get_what_each_gets_by_itself(text):
    block, (inputs, mask) = unitse().blocks[0], text
    shared, gates = block(dict.fromkeys(TASKS, inputs), mask)
    apart, gates_apart = block({task: inputs.clone() for task in TASKS}, mask)
    for task in TASKS:
        torch.testing.assert_close(shared[task], apart[task], rtol=0, atol=1e-12)
        assert torch.equal(gates[task], gates_apart[task])


def test_tasks_with_one_input_share_the_first_convolution_of_the_shared_experts(text, monkeypatch):
    mixture, calls = unitse(), []
    for number, block in enumerate(mixture.blocks, 1):
        convolve = block.shared.hidden
        monkeypatch.setattr(block.shared, "hidden", lambda seen, number=number, run=convolve: calls.append(number) or run(seen))
    mixture(*text)
    assert calls == [1, 2, 2]


@pytest.mark.parametrize("kernel2", [1, 3])
@pytest.mark.parametrize("block_post", ["none", "ln", "mlore"])
@pytest.mark.parametrize("residual", [False, True])
def test_streams_are_zero_in_the_padding_and_independent_of_it(text, kernel2, block_post, residual):
    mixture = unitse(replace(SMALL, kernel2=kernel2, block_post=block_post, residual=residual))
    inputs, mask = text
    streams = mixture(inputs, mask).streams
    longer = torch.cat([inputs, torch.full((3, 4, DIM), 7.0)], 1), torch.cat([mask, torch.zeros(3, 4, dtype=torch.bool)], 1)
    for task, stream in mixture(*longer).streams.items():
        assert streams[task][mask].all()
        assert not stream[:, inputs.shape[1] :].any()
        assert not streams[task][~mask].any()
        torch.testing.assert_close(stream[:, : inputs.shape[1]], streams[task], rtol=0, atol=1e-12)


def test_shared_experts_are_shared_and_routers_and_own_experts_are_not():
    block = unitse().blocks[0]
    names = {name.split(".")[0] + "." + name.split(".")[1] for name, _ in block.named_parameters()}
    assert {"own.msa", "own.mer", "routers.msa", "routers.mer", "shared.down", "shared.up"} <= names
    assert block.shared.ranks == (2, 2, 2, 2)
    assert block.own["msa"].ranks == (3,)


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        (UniTSEOptions(rank=128, top_k=8, blocks=1), 7_075_102),
        (UniTSEOptions(blocks=1), 4_125_022),
        (UniTSEOptions(rank=tuple(range(16, 129, 8)), blocks=1), 4_493_782),
        (UniTSEOptions(rank=768, task_rank=768, blocks=1), 40_509_342),
    ],
)
def test_a_block_has_the_parameters_of_the_specification(options, parameters):
    assert sum(parameter.numel() for parameter in UniTSE(options, 768, TASKS).parameters()) == parameters


def test_the_defaults_are_the_papers_on_mosi():
    options = UniTSEOptions()
    assert (options.ranks(), options.task_rank, options.top_k, options.blocks) == ((64,) * 15, 128, 11, 2)


def test_as_many_gates_are_open_as_asked_for(text):
    for gates in unitse(replace(SMALL, top_k=2))(*text).routing.values():
        assert gates.shape == (3, 4)
        assert (gates > 0).sum(1).tolist() == [2, 2, 2]
        assert (gates.sum(1) < 1).all()
    for gates in unitse(replace(SMALL, top_k=2, renormalise=True))(*text).routing.values():
        torch.testing.assert_close(gates.sum(1), torch.ones(3, dtype=torch.float64))


def test_the_residual_adds_a_blocks_input(text):
    inputs, mask = text
    plain, residual = (unitse(replace(SMALL, blocks=1, residual=on))(inputs, mask).streams["msa"] for on in (False, True))
    torch.testing.assert_close(residual, plain + inputs)


def test_what_follows_a_block_is_each_tasks_own(text):
    mixture, plain = unitse(replace(SMALL, blocks=1, block_post="mlore")), unitse(replace(SMALL, blocks=1))
    plain.load_state_dict({key: value for key, value in mixture.state_dict().items() if ".post." not in key})
    before, after = plain(*text).streams, mixture(*text).streams
    mask = text[1]
    for task in TASKS:
        norm, _, linear = mixture.blocks[0].post[task]
        torch.testing.assert_close(after[task][mask], linear(nn.functional.gelu(norm(before[task])))[mask])
    assert mixture.blocks[0].post["msa"] is not mixture.blocks[0].post["mer"]


def test_the_balance_loss_is_the_weighted_variation_of_every_blocks_load(text):
    mixed = unitse(replace(SMALL, balance=0.1))(*text)
    torch.testing.assert_close(mixed.losses["balance"], 0.1 * sum(squared_variation(gates) for gates in mixed.routing.values()))
    assert not unitse()(*text).losses


def test_an_activation_makes_experts_not_linear(text):
    inputs, mask = text
    for activation, linear in (("none", True), ("gelu", False)):
        shared = unitse(replace(SMALL, activation=activation)).blocks[0].shared
        gates = torch.ones(3, 4, dtype=torch.float64)
        at = [shared(scale * inputs, gates, mask) for scale in (0, 1, 2)]
        assert torch.allclose(at[2] - at[0], 2 * (at[1] - at[0])) is linear


def test_the_gate_of_an_utterance_does_not_depend_on_its_company(text):
    mixture, (inputs, mask) = unitse(), text
    together, alone = mixture(inputs, mask), mixture(inputs[1:2, :3], mask[1:2, :3])
    for key, gates in alone.routing.items():
        torch.testing.assert_close(gates, together.routing[key][1:2])


def test_one_expert_is_always_open(text):
    mixed = unitse(UniTSEOptions(experts=1, rank=2, task_rank=2, top_k=1))(*text)
    assert all(gates.flatten().tolist() == [1, 1, 1] for gates in mixed.routing.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (replace(SMALL, top_k=5), "top_k is 5, expected 1 to 4"),
        (replace(SMALL, block_post="mlora"), "Unknown block_post 'mlora'. Did you mean 'mlore'"),
        (replace(SMALL, router="Z"), "Unknown router 'Z'"),
        (replace(SMALL, rank=(2, 0)), r"Ranks of experts are \[2, 0\]"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        UniTSE(options, DIM, TASKS)
