"""Dropout and noise: their distribution, and that a number depends on its key and place alone."""

import copy

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from heads.models.parts import hashing
from heads.models.parts.randomness import Dropout, drawing_from, gaussian_like


def dropped(rate: float, inputs: Tensor, key: int = 0) -> Tensor:
    with drawing_from(torch.tensor(key)):
        return Dropout(rate)(inputs)


def packed(rates: list[float], inputs: Tensor, in_dim: int | None, *keys: int) -> Tensor:
    """(runs, …): the same layer at one rate for each run, all at once."""
    layers = [Dropout(rate) for rate in rates]
    parameters, buffers = stack_module_state(layers)

    def run(parameters, buffers, key, inputs):
        with drawing_from(key):
            return functional_call(copy.deepcopy(layers[0]), (parameters, buffers), (inputs,))

    return vmap(run, in_dims=(0, 0, 0, in_dim))(parameters, buffers, torch.tensor(keys), inputs)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_values_are_dropped_at_the_rate_and_the_mean_stays(rate):
    count = 200_000
    outputs = dropped(rate, torch.ones(count))
    zeros = (outputs == 0).float().mean().item()
    tolerance = 5 * (rate * (1 - rate) / count) ** 0.5
    assert zeros == pytest.approx(rate, abs=tolerance)
    assert outputs.mean().item() == pytest.approx(1, abs=tolerance / (1 - rate))
    assert outputs.unique().tolist() == pytest.approx([0, 1 / (1 - rate)])


def test_values_are_dropped_independently_of_their_neighbours():
    """Four of them come from one random word."""
    zeros = (dropped(0.5, torch.ones(100_000, 4)) == 0).float()
    assert torch.corrcoef(zeros.T).fill_diagonal_(0).abs().max() < 0.02


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_any_number_of_values_can_be_drawn(size):
    assert dropped(0.5, torch.ones(size)).shape == (size,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_dtype_stays(dtype):
    assert dropped(0.3, torch.ones(8, dtype=dtype)).dtype == dtype


def test_it_is_the_identity_in_evaluation_and_at_rate_zero():
    inputs = torch.randn(4, 5)
    assert Dropout(0.5).eval()(inputs) is inputs
    assert Dropout(0.0)(inputs) is inputs


def test_the_gradient_goes_through_the_kept_values():
    inputs = torch.ones(1000, requires_grad=True)
    outputs = dropped(0.3, inputs)
    outputs.sum().backward()
    assert torch.equal(inputs.grad, outputs.detach())


def test_the_same_key_gives_the_same_mask_whatever_else_is_drawn():
    inputs = torch.ones(100)
    first = dropped(0.5, inputs, key=1)
    torch.rand(7)
    assert torch.equal(dropped(0.5, inputs, key=1), first)
    assert not torch.equal(dropped(0.5, inputs, key=2), first)


@pytest.mark.parametrize(("small", "large"), [((3, 5), (4, 9)), ((2, 3, 6), (5, 11, 6)), ((2, 2, 3, 5), (2, 2, 7, 10))])
def test_a_mask_does_not_depend_on_how_large_the_tensor_is(small, large):
    part = tuple(slice(size) for size in small)
    assert torch.equal(dropped(0.5, torch.ones(large))[part], dropped(0.5, torch.ones(small)))
    with drawing_from(torch.tensor(4)):
        noise = gaussian_like(torch.ones(large))
    with drawing_from(torch.tensor(4)):
        assert torch.equal(noise[part], gaussian_like(torch.ones(small)))


def test_every_draw_has_numbers_of_its_own():
    with drawing_from(torch.tensor(1)):
        masks = torch.stack([Dropout(0.5)(torch.ones(20_000)) for _ in range(4)])
    assert torch.corrcoef(masks).fill_diagonal_(0).abs().max() < 0.03


def zeros(shape: tuple[int, ...], key: int, draws: int = 1) -> Tensor:
    """(*shape,): 1 where the last of some draws drops a value."""
    with drawing_from(torch.tensor(key)):
        masks = [Dropout(0.5)(torch.ones(shape)) for _ in range(draws)]
    return (masks[-1] == 0).double()


def correlation(first: Tensor, second: Tensor) -> float:
    return torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_counts_of_dropped_values_vary_as_those_of_independent_draws(rate):
    """Whatever is counted: the values of an utterance, of a time step, or of a place of the width."""
    size = (64, 80, 96)
    with drawing_from(torch.tensor(5)):
        dropped_values = (Dropout(rate)(torch.ones(size)) == 0).double()
    for dim in range(3):
        counts = dropped_values.movedim(dim, 0).flatten(1).sum(1)
        each = dropped_values.numel() / size[dim]
        assert counts.mean().item() == pytest.approx(rate * each, rel=0.02)
        expected = (each * rate * (1 - rate)) ** 0.5
        assert counts.std().item() == pytest.approx(expected, rel=4 / (2 * size[dim]) ** 0.5)  # 4 standard errors


@pytest.mark.parametrize("shift", [(1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1), (1, 2, 4), (0, 1, 4), (3, 0, 4)])
def test_values_a_few_places_apart_in_several_dimensions_are_independent(shift):
    mask = zeros((40, 50, 60), key=3)
    first = tuple(slice(None, size - step) for size, step in zip(mask.shape, shift, strict=True))
    second = tuple(slice(step, None) for step in shift)
    assert abs(correlation(mask[first], mask[second])) < 0.02


@pytest.mark.parametrize("other", [1, 2, 3, 2**16, 2**32, 2**48, 2**63 - 1, -1, -5])
def test_masks_of_keys_that_are_alike_are_independent(other):
    shape, base = (30, 40, 50), zeros((30, 40, 50), key=0)
    assert abs(correlation(base, zeros(shape, key=other))) < 0.02
    for dim in range(3):  # nor is one the other, moved
        moved = zeros(shape, key=other).narrow(dim, 1, shape[dim] - 1)
        assert abs(correlation(base.narrow(dim, 0, shape[dim] - 1), moved)) < 0.02


def test_the_next_draw_is_not_that_of_the_next_key():
    shape = (50, 400)
    assert abs(correlation(zeros(shape, key=8, draws=2), zeros(shape, key=9))) < 0.03
    assert abs(correlation(zeros(shape, key=8), zeros(shape, key=8, draws=3))) < 0.03


def test_words_are_the_documented_function_of_key_and_place():
    """The sum of the key and of the places, each times an odd factor, mixed as splitmix64 does with shifts at 32; in plain integers."""
    words = hashing.words((3, 2), torch.tensor(-7))
    for row in range(3):
        for column in range(2):
            word = (-7 + (row + 1) * hashing.factor(1) + (column + 1) * hashing.factor(2)) % 2**64
            for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
                word = (word ^ word >> 32) * factor % 2**64
            assert words[row, column].item() % 2**64 == word ^ word >> 32
    factors = [hashing.factor(number) for number in range(6)]
    assert all(factor % 2 for factor in factors)
    assert len(set(factors)) == 6


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_neighbours_in_every_dimension_are_independent(dim):
    mask = dropped(0.5, torch.ones(40, 50, 60)).movedim(dim, 0)
    pairs = torch.stack([mask[:-1].flatten(), mask[1:].flatten()])
    assert torch.corrcoef(pairs)[0, 1].abs() < 0.02


def test_without_a_key_torch_is_asked():
    layer, inputs = Dropout(0.5), torch.ones(100)
    torch.manual_seed(3)
    first = layer(inputs)
    torch.manual_seed(3)
    assert torch.equal(layer(inputs), first)


def test_keys_go_back_to_what_they_were():
    layer, inputs = Dropout(0.5), torch.ones(100)
    with drawing_from(torch.tensor(1)):
        with drawing_from(torch.tensor(2)):
            inner = layer(inputs)
        outer = layer(inputs)
    assert torch.equal(inner, dropped(0.5, inputs, key=2))
    assert torch.equal(outer, dropped(0.5, inputs, key=1))


@pytest.mark.parametrize("in_dim", [None, 0, 1])
def test_each_run_of_a_pack_has_the_masks_that_it_has_alone(in_dim):
    inputs = torch.randn(3, 3, 5)
    rates, keys = [0.3, 0.3, 0.3], (11, 12, 11)
    each = [inputs] * 3 if in_dim is None else inputs.unbind(in_dim)
    alone = [dropped(rate, part, key) for rate, part, key in zip(rates, each, keys, strict=True)]
    assert torch.equal(packed(rates, inputs, in_dim, *keys), torch.stack(alone))


def test_the_runs_of_a_pack_may_have_different_rates():
    outputs = packed([0.1, 0.7], torch.ones(50_000), None, 1, 2)
    assert (outputs == 0).float().mean(1).tolist() == pytest.approx([0.1, 0.7], abs=0.01)


def test_a_pack_has_gradients_through_its_masks():
    inputs = torch.ones(2, 1000)

    def loss(inputs, key):
        with drawing_from(key):
            return Dropout(0.5)(inputs).square().sum()

    gradients = vmap(grad(loss))(inputs, torch.tensor([1, 2]))
    alone = torch.stack([dropped(0.5, part, key) for part, key in zip(inputs, (1, 2), strict=True)])
    assert torch.allclose(gradients, 2 * alone * 2)


def test_noise_is_standard_normal_and_has_no_gradient():
    values = torch.zeros(100_000, dtype=torch.float64, requires_grad=True)
    with drawing_from(torch.tensor(0)):
        noise = gaussian_like(values)
    assert (noise.mean().item(), noise.std().item()) == pytest.approx((0, 1), abs=0.02)
    assert noise.dtype == torch.float64
    assert not noise.requires_grad


def test_the_noise_of_each_run_of_a_pack_is_its_own():
    def noise(key):
        with drawing_from(key):
            return gaussian_like(torch.zeros(10))

    keys = torch.tensor([1, 2])
    assert torch.equal(vmap(noise)(keys), torch.stack([noise(key) for key in keys]))
