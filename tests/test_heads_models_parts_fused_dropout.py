"""Dropout as one operation: values and gradients are those of a mask that is multiplied by, and so are those of its kernel."""

import functools
import importlib

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from heads.models.parts import fused_dropout
from heads.models.parts.randomness import Dropout, drawing_from

KEYS = torch.tensor([[5, -6], [2**62, 8]])


@pytest.fixture
def both(monkeypatch):
    """Calls a function with masks that are kept, then with the operation."""

    def call(function):
        kept = function()
        monkeypatch.setattr(fused_dropout, "is_ready", lambda device: True)
        monkeypatch.setattr("heads.models.parts.randomness.scaled_mask", None)  # nothing else draws
        return kept, function()

    return call


def with_gradients(function, *inputs: Tensor) -> list[Tensor]:
    leaves = [one.clone().requires_grad_() for one in inputs]
    output = function(*leaves)
    (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)).sum().backward()
    return [output.detach(), *(leaf.grad for leaf in leaves)]


def twice(layer: Dropout, key: Tensor, inputs: Tensor, base: Tensor) -> Tensor:
    with drawing_from(key):
        return layer.added(base, layer(inputs))


@pytest.mark.parametrize("shape", [(9,), (3, 7), (2, 3, 5), (2, 2, 3, 6)])
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_it_is_what_the_mask_is_alone_in_packs_and_in_parts_of_a_pack(both, shape, levels):
    """The second level has inputs in its last dimension, and one base for all."""
    torch.manual_seed(0)
    function, sizes = functools.partial(twice, Dropout(0.3)), (2,) * levels
    inputs, base = torch.randn(*sizes[:1], *shape, *sizes[1:]), torch.randn(*sizes[:1], *shape)
    if levels == 2:
        function = vmap(function, in_dims=(0, -1, None))
    if levels:
        function = vmap(function)
    key = KEYS[(0,) * (2 - levels)]
    kept, fused = both(lambda: with_gradients(functools.partial(function, key), inputs, base))
    torch.testing.assert_close(fused[0], kept[0], rtol=1e-6, atol=1e-7)  # `addcmul` rounds once on a CPU
    assert all(map(torch.equal, fused[1:], kept[1:]))


def test_a_sum_of_two_dtypes_has_the_wider_one_and_gradients_have_their_own(both):
    inputs, base = torch.randn(40, 50).bfloat16(), torch.randn(40, 50)
    kept, fused = both(lambda: with_gradients(lambda *given: twice(Dropout(0.5), KEYS[0, 0], *given), inputs, base))
    assert [one.dtype for one in fused] == [torch.float32, torch.bfloat16, torch.float32]
    for one, other in zip(kept, fused, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=0)


def test_a_tensor_of_five_dimensions_is_masked_by_operations(both):
    both(lambda: None)
    with pytest.raises(TypeError), drawing_from(KEYS[0, 0]):  # asks for the mask that the fixture has taken away
        Dropout(0.5)(torch.ones(1, 1, 1, 1, 1))


def test_a_kernel_that_differs_in_one_number_is_found(monkeypatch):
    assert fused_dropout._is_exact(torch.device("cpu"))
    by_operations = fused_dropout._by_operations

    def other(inputs, base, **draw):
        result = by_operations(inputs, base, **draw)
        if inputs.dim() == 1 + fused_dropout.MOST_DIMS and base is not None:
            result.view(-1)[-1] += 1e-3
        return result

    monkeypatch.setattr(fused_dropout, "_by_operations", other)
    assert not fused_dropout._is_exact(torch.device("cpu"))


@pytest.mark.parametrize(
    ("exact", "reason"),
    [
        (lambda device: False, "its numbers are not those of the operations that it stands for"),
        (lambda device: importlib.import_module("triton_is_not_here"), "No module named 'triton_is_not_here'"),
    ],
)
def test_a_gpu_without_the_kernel_is_told_of_in_one_line(monkeypatch, capsys, exact, reason):
    monkeypatch.setattr(fused_dropout, "_is_exact", exact)
    assert not fused_dropout.is_ready.__wrapped__(torch.device("cuda:3"))
    assert capsys.readouterr() == (
        "",
        f"warning: cuda:3 does dropout in ten small kernels, not in one, which takes longer: {reason}.\n",
    )


CASES = [
    ((2,), (7,), torch.float32, None),
    ((), (3, 5), torch.float32, torch.float32),
    ((2,), (2, 5, 7), torch.float64, torch.float64),
    ((1,), (2, 3, 1100), torch.float16, None),
    ((3, 2), (4, 2, 3, 33), torch.float32, torch.float32),
]


def draws(runs: tuple[int, ...]) -> dict[str, Tensor]:
    torch.manual_seed(1)
    threshold = torch.randint(-(2**15), 2**15, runs[:1]).to(torch.int16)
    of_first = threshold[(..., *(None,) * (len(runs) - 1))].expand(runs)  # runs of a pack, and parts that have the rate of their run
    keys = torch.randint(-(2**63), 2**63 - 1, runs[::-1]).permute(tuple(range(len(runs)))[::-1])
    return {"threshold": of_first, "scale": torch.rand(runs) + 1, "keys": keys}


@pytest.fixture
def kernel(monkeypatch):
    """The module of the kernel, whose code Triton's interpreter runs on the CPU."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="Triton comes with PyTorch for CUDA; pip install triton brings its interpreter")
    return importlib.reload(importlib.import_module("heads.models.parts.dropout_kernel"))


@pytest.mark.parametrize(("runs", "shape", "dtype", "base_dtype"), CASES)
def test_the_kernel_has_the_numbers_of_the_operation(kernel, runs, shape, dtype, base_dtype):
    """But for bfloat16, to which the interpreter does not round as GPUs do."""
    inputs = torch.randn(*runs, *shape).to(dtype)
    base = None if base_dtype is None else torch.randn_like(inputs, dtype=base_dtype)
    found, expected = (function(inputs, base, **draws(runs)) for function in (kernel.dropped, fused_dropout._by_operations))
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def test_the_kernel_drops_the_same_values_in_bfloat16(kernel):
    inputs = torch.ones(2, 40, 30, dtype=torch.bfloat16)
    found, expected = (function(inputs, None, **draws((2,))) for function in (kernel.dropped, fused_dropout._by_operations))
    assert torch.equal(found == 0, expected == 0)
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize(("runs", "shape", "dtype", "base_dtype"), [*CASES, ((3,), (5, 70), torch.bfloat16, torch.float32)])
def test_a_gpu_has_the_numbers_of_the_operations(runs, shape, dtype, base_dtype):
    device = torch.device("cuda")
    assert fused_dropout.is_ready(device)
    inputs = torch.randn(*runs, *shape, device=device).to(dtype)
    base = None if base_dtype is None else torch.randn_like(inputs, dtype=base_dtype)
    draw = {name: value.to(device) for name, value in draws(runs).items()}
    assert torch.equal(torch.ops.heads.dropped(inputs, base, **draw), fused_dropout._by_operations(inputs, base, **draw))
