"""DeMT: what attends to what, and where there is a residual."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.models.mixtures.demt import DeMT, DeMTBlock, DeMTOptions

TASKS = ("msa", "mer")
B, T, WIDTH = 3, 6, 12


@pytest.fixture
def block() -> DeMTBlock:
    torch.manual_seed(0)
    return DeMT(DeMTOptions(width=WIDTH, heads=4, blocks=1), 8, TASKS).eval().blocks[0]


@pytest.fixture
def streams() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {task: torch.randn(B, T, 8, generator=generator) for task in TASKS}


MASK = torch.ones(B, T, dtype=torch.bool)


def silence(attend: nn.Module) -> None:
    """Nothing is read any more: values and all biases up to the LayerNorm are zero, so that its own bias is all that comes out."""
    layers = attend.attention.value, attend.attention.out, attend.after[0]
    nn.init.zeros_(attend.attention.value.weight)
    for layer in layers:
        nn.init.zeros_(layer.bias)
    nn.init.normal_(attend.after[1].bias)


def test_keys_and_values_are_the_tokens_of_all_tasks(block, streams):
    seen = {}
    for name, attend in {"interact": block.interact, **block.read}.items():
        attend.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: [x.shape[1] for x in given]}))
    block(streams, MASK)
    assert seen == {"interact": [2 * T, 2 * T, 2 * T], "msa": [T, 2 * T, 2 * T], "mer": [T, 2 * T, 2 * T]}


@pytest.mark.parametrize(("changed", "other"), [TASKS, TASKS[::-1]])
def test_one_tasks_stream_changes_the_others(block, streams, changed, other):
    without = block(streams | {changed: torch.zeros(B, T, 8)}, MASK)
    assert not torch.allclose(without[other], block(streams, MASK)[other], atol=1e-3)


def test_what_is_read_is_added_to_a_tasks_own_tokens(block, streams):
    for task in TASKS:
        silence(block.read[task])
    outputs = block(streams, MASK)
    for task in TASKS:
        tokens = block.mix[task](block.narrow[task](streams[task]), MASK)
        torch.testing.assert_close(outputs[task], block.widen[task](block.read[task].after[1].bias + tokens))


def test_the_interaction_adds_nothing_to_its_input(block):
    silence(block.interact)
    tokens = torch.randn(B, 2 * T, WIDTH)
    found = block.interact(tokens, tokens, torch.ones(B, 2 * T, dtype=torch.bool))
    torch.testing.assert_close(found, block.interact.after[1].bias.expand(B, 2 * T, WIDTH))


def test_a_mixer_convolves_each_feature_over_time_and_adds_it_to_its_input(block):
    mixer, inputs = block.mix["msa"], torch.randn(B, T, WIDTH)
    first = mixer.first(inputs)
    kernel = mixer.depthwise.t().unsqueeze(1)
    convolved = functional.conv1d(first.transpose(1, 2), kernel, padding=1, groups=WIDTH).transpose(1, 2)
    torch.testing.assert_close(mixer(inputs, MASK), first + mixer.second(convolved))


def test_only_the_interaction_is_shared_by_the_tasks(block):
    shared = {name.split(".")[0] for name, _ in block.named_parameters() if not set(name.split(".")) & set(TASKS)}
    assert shared == {"interact"}
