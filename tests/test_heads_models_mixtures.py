"""Common behaviour of all mixture designs. The computation of each design is tested in its own file."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from data.errors import InputError
from heads.models.mixtures.base import Mixed, Mixture
from heads.models.mixtures.demt import DeMT, DeMTOptions
from heads.models.mixtures.mlore import MLoRE, MLoREOptions
from heads.models.mixtures.mmoe import MMoE, MMoEOptions
from heads.models.mixtures.mod_squad import ModSquad, ModSquadOptions
from heads.models.mixtures.ple import PLE, PLEOptions
from heads.models.mixtures.standard import StandardMoE, StandardMoEOptions
from heads.models.mixtures.unitse import UniTSE, UniTSEOptions
from heads.models.parts.randomness import drawing_from

# All experts are kept, so that all of them learn; whatever draws random numbers or adds a loss is on.
CASES = {
    "unitse": (UniTSE, UniTSEOptions(experts=4, rank=(2, 3, 3, 5), task_rank=3, top_k=4, noise=0.5, balance=0.1)),
    "unitse-every-option": (
        UniTSE,
        UniTSEOptions(experts=4, rank=2, top_k=4, kernel2=3, block_post="mlore", residual=True, activation="gelu", router="A"),
    ),
    "standard": (StandardMoE, StandardMoEOptions(experts=4, top_k=4, noise=0.5)),
    "standard-shared-router": (StandardMoE, StandardMoEOptions(experts=4, top_k=4, share_router=True)),
    "mmoe": (MMoE, MMoEOptions(experts=4, rank=(2, 3, 3, 5))),
    "ple": (PLE, PLEOptions(experts=4, rank=3, task_experts=2, task_rank=4)),
    "mod-squad": (ModSquad, ModSquadOptions(experts=4, top_k=4)),
    "mlore": (MLoRE, MLoREOptions(ranks=(2, 3, 4), task_rank=3, top_k=3)),
    "demt": (DeMT, DeMTOptions(width=8, heads=2, dropout=0.3)),
}
BOTH = ("msa", "mer")
LENGTHS = (5, 2, 7, 1)

every_mixture = pytest.mark.parametrize(("kind", "options"), CASES.values(), ids=CASES)


def make(kind: Callable[..., Mixture], options: object, seed: int = 0, dim: int = 16, tasks: tuple[str, ...] = BOTH) -> Mixture:
    """Make a mixture in float64 with random parameters; those that start at zero would hide their effect."""
    torch.manual_seed(seed)
    mixture = kind(options, dim, tasks).double()
    with torch.no_grad():
        for parameter in mixture.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return mixture


def batch(dim: int = 16, time: int = max(LENGTHS), padding: float = 0.0) -> tuple[Tensor, Tensor]:
    """Make the same four clips for any number of time steps and any value `padding` behind them."""
    mask = torch.arange(time) < torch.tensor(LENGTHS)[:, None]
    features = torch.full((len(LENGTHS), time, dim), padding, dtype=torch.float64)
    for row, length in enumerate(LENGTHS):
        features[row, :length] = torch.randn(length, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(row))
    return features, mask


def objective(mixed: Mixed) -> Tensor:
    """Reduce a mixture's output to one number: the streams with fixed random weights, plus the losses."""
    generator = torch.Generator().manual_seed(9)
    parts = [(torch.randn(stream.shape, dtype=torch.float64, generator=generator) * stream).sum() for stream in mixed.streams.values()]
    return torch.stack([*parts, *mixed.losses.values()]).sum()


@every_mixture
@pytest.mark.parametrize("dim", [16, 24])
def test_there_is_a_stream_for_each_task_with_zeros_in_the_padding(kind, options, dim):
    inputs, mask = batch(dim, padding=3.0)
    mixed = make(kind, options, dim=dim)(inputs, mask)
    assert tuple(mixed.streams) == BOTH
    for stream in mixed.streams.values():
        assert stream.shape == inputs.shape
        assert torch.equal(stream.abs().sum(-1) > 0, mask)
    assert all(loss.shape == () for loss in mixed.losses.values())


@every_mixture
def test_tasks_get_streams_of_their_own(kind, options):
    mixed = make(kind, options).eval()(*batch())
    assert not torch.allclose(mixed.streams["msa"], mixed.streams["mer"], atol=1e-3)


@every_mixture
def test_every_parameter_learns(kind, options):
    mixture = make(kind, options)
    objective(mixture(*batch())).backward()
    # Softmax does not see what is the same for all keys, so that a bias of the keys has no effect on anything.
    learning = {name: value.grad for name, value in mixture.named_parameters() if not name.endswith("key.bias")}
    assert [name for name, gradient in learning.items() if gradient is None or not gradient.abs().max() > 1e-7] == []


@every_mixture
def test_padding_changes_nothing(kind, options):
    mixture = make(kind, options).eval()
    tight = mixture(*batch())
    loose = mixture(*batch(time=12, padding=7.0))
    for task, stream in tight.streams.items():
        torch.testing.assert_close(loose.streams[task][:, : stream.shape[1]], stream)
        assert not loose.streams[task][:, stream.shape[1] :].any()
    torch.testing.assert_close(dict(loose.losses), dict(tight.losses))
    for name, gates in tight.routing.items():
        other = loose.routing[name][:, : gates.shape[1]] if gates.dim() == 3 else loose.routing[name]
        torch.testing.assert_close(other, gates)


@every_mixture
def test_a_clip_does_not_depend_on_the_other_clips_in_the_batch(kind, options):
    mixture = make(kind, options).eval()
    inputs, mask = batch()
    whole = mixture(inputs, mask).streams
    alone = mixture(inputs[1:2, : LENGTHS[1]], mask[1:2, : LENGTHS[1]]).streams
    for task, stream in alone.items():
        torch.testing.assert_close(whole[task][1:2, : LENGTHS[1]], stream)


@every_mixture
def test_routing_names_block_and_task(kind, options):
    mixed = make(kind, options)(*batch())
    levels = getattr(options, "blocks", 1)
    expected = [f"block{level}/{task}" for level in range(1, levels + 1) for task in BOTH]
    assert list(mixed.routing) == ([] if kind is DeMT else expected)
    assert all(len(gates) == len(LENGTHS) for gates in mixed.routing.values())


@every_mixture
@pytest.mark.parametrize("task", ["msa", "mer"])
def test_one_task_works_alone(kind, options, task):
    mixture = make(kind, options, tasks=(task,))
    mixed = mixture(*batch())
    objective(mixed).backward()
    assert list(mixed.streams) == [task]
    assert mixed.streams[task].isfinite().all()
    assert all(value.grad.isfinite().all() for value in mixture.parameters() if value.grad is not None)


@every_mixture
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_pack_of_two_gives_what_each_gives_alone(kind, options, training):
    inputs, mask = batch()
    pair = [make(kind, options, seed).train(training) for seed in (1, 2)]
    parameters, buffers = stack_module_state(pair)
    template = copy.deepcopy(pair[0])

    def one(parameters, buffers, key):
        with drawing_from(key):
            return functional_call(template, (parameters, buffers), (inputs, mask))

    with sdpa_kernel(SDPBackend.MATH):  # the fused attention for CPUs has no batching rule and warns
        packed = vmap(one)(parameters, buffers, torch.tensor([1, 2]))
    of_run = [Mixed(*({name: value[run] for name, value in part.items()} for part in packed)) for run in (0, 1)]
    gradients = torch.autograd.grad(objective(of_run[0]) + objective(of_run[1]), list(parameters.values()))
    for run, mixture in enumerate(pair):
        with drawing_from(torch.tensor(run + 1)):
            alone = mixture(inputs, mask)
        for mine, other in zip(alone, of_run[run], strict=True):
            torch.testing.assert_close(other, dict(mine))
        for own, stacked in zip(torch.autograd.grad(objective(alone), list(mixture.parameters())), gradients, strict=True):
            torch.testing.assert_close(stacked[run], own)


@pytest.mark.parametrize("name", ["unitse", "standard", "mlore", "demt"])
def test_random_numbers_are_the_runs_own_and_for_training_only(name):
    kind, options = CASES[name]
    mixture = make(kind, options)

    def streams(seed: int) -> Tensor:
        with drawing_from(torch.tensor(seed)):
            return torch.stack(list(mixture(*batch()).streams.values()))

    assert torch.equal(streams(1), streams(1))
    assert not torch.allclose(streams(1), streams(2))
    mixture.eval()
    assert torch.equal(streams(1), streams(2))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("standard", {"top_k": 5}, "top_k is 5, expected 1 to 4, the number of experts."),
        ("mmoe", {"rank": (2, 0)}, "Ranks of experts are [2, 0]; expected one or more whole numbers ≥ 1."),
        ("mmoe", {"router": "C"}, "Unknown router 'C'."),
        ("ple", {"task_experts": 0}, "task_experts is 0, expected 1 or more."),
        ("mod-squad", {"top_k": 0}, "top_k is 0, expected 1 to 4, the number of experts."),
        ("mod-squad", {"hidden": 0}, "The width inside an expert is 0, expected 1 or more. Set `hidden`."),
        ("mlore", {"top_k": 4}, "top_k is 4, expected 1 to 3, the number of experts."),
        ("demt", {"heads": 3}, "3 attention heads do not divide the width 8."),
        ("demt", {"width": 0}, "The width inside a DeMT block is 0, expected 1 or more."),
    ],
)
def test_options_out_of_range_are_refused_by_name(name, changes, message):
    kind, options = CASES[name]
    with pytest.raises(InputError) as refused:
        make(kind, replace(options, **changes))
    assert str(refused.value).startswith(message)
