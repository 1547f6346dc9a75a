"""Experts in one pass beside a loop over convolutions, and how experts are selected."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from heads.models.parts.experts import LowRankExperts, Router, TopK, ranking, squared_variation, windows

DIM = 5
MASK = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] + [False] * 5])
CLOSE = {"rtol": 0, "atol": 1e-10}


def convolutions(experts: LowRankExperts) -> list[tuple[nn.Conv1d, nn.Conv1d]]:
    """Each expert as a pair of PyTorch's convolutions, with its weights."""
    pairs, start, dim = [], 0, experts.up.shape[0]
    up = experts.up.view(dim, experts.kernel2, -1)
    for number, rank in enumerate(experts.ranks):
        rows = slice(start, start + rank)
        first = nn.Conv1d(dim, rank, 3, padding=1, dtype=experts.up.dtype)
        second = nn.Conv1d(rank, dim, experts.kernel2, padding=experts.kernel2 // 2, dtype=experts.up.dtype)
        with torch.no_grad():
            first.weight.copy_(experts.down[rows].view(rank, 3, dim).transpose(1, 2))
            first.bias.copy_(experts.down_bias[rows])
            second.weight.copy_(up[:, :, rows].transpose(1, 2))
            second.bias.copy_(experts.up_bias[number])
        pairs.append((first, second))
        start += rank
    return pairs


def loop(pairs, activation, inputs: Tensor, gates: Tensor, mask: Tensor) -> Tensor:
    """The sum of the gated experts, one after the other, padding at zero before each convolution and behind the last."""
    gates = gates if gates.dim() == 3 else gates.unsqueeze(1).expand(-1, inputs.shape[1], -1)
    real = mask.unsqueeze(1).to(inputs.dtype)
    total = torch.zeros_like(inputs)
    for number, (first, second) in enumerate(pairs):
        hidden = activation(first(inputs.transpose(1, 2) * real)) * gates[..., number].unsqueeze(1) * real
        bias = second.bias * gates[..., number, None]
        total = total + functional.conv1d(hidden, second.weight, None, padding=second.padding[0]).transpose(1, 2) + bias
    return total * real.transpose(1, 2)


def experts_of(ranks=(1, 4, 2), kernel2=1, activation="none") -> LowRankExperts:
    torch.manual_seed(0)
    experts = LowRankExperts(DIM, ranks, kernel2, activation).double()
    for bias in (experts.down_bias, experts.up_bias):
        nn.init.normal_(bias)
    return experts


def gates_of(experts: LowRankExperts, per_step: bool) -> Tensor:
    shape = MASK.shape if per_step else MASK.shape[:1]
    return torch.rand(*shape, len(experts.ranks), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
@pytest.mark.parametrize("kernel2", [1, 3])
@pytest.mark.parametrize("ranks", [(2, 2, 2), (1, 4, 2), (5,)])
def test_one_pass_equals_the_loop_over_convolutions(ranks, kernel2, activation, per_step):
    experts = experts_of(ranks, kernel2, activation)
    gates, pairs = gates_of(experts, per_step), convolutions(experts)
    inputs = torch.randn(*MASK.shape, DIM, dtype=torch.float64, requires_grad=True)
    call = {"none": lambda x: x, "relu": torch.relu, "gelu": functional.gelu}[activation]
    found, expected = experts(inputs, gates, MASK), loop(pairs, call, inputs, gates, MASK)
    torch.testing.assert_close(found, expected, **CLOSE)
    direction = torch.randn_like(found)
    ours = torch.autograd.grad((found * direction).sum(), [inputs, gates, *experts.parameters()])
    weights = [parameter for pair in pairs for layer in pair for parameter in layer.parameters()]
    theirs = torch.autograd.grad((expected * direction).sum(), [inputs, gates, *weights])
    torch.testing.assert_close(ours[:2], theirs[:2], **CLOSE)
    torch.testing.assert_close(ours[2:], packed(theirs[2:], kernel2), **CLOSE)


def packed(gradients: tuple[Tensor, ...], kernel2: int) -> tuple[Tensor, ...]:
    """Gradients of the pairs of convolutions in the layout of `LowRankExperts`."""
    down, down_bias, up, up_bias = (gradients[kind::4] for kind in range(4))
    rows = torch.cat([weight.transpose(1, 2).flatten(1) for weight in down])
    columns = torch.cat([weight.transpose(1, 2) for weight in up], -1).flatten(1)
    assert columns.shape == (DIM, kernel2 * len(rows))
    return rows, torch.cat(down_bias), columns, torch.stack(up_bias)


def test_one_gate_of_one_is_torchs_pair_of_convolutions():
    """Without padding and gates the reference itself is nothing but PyTorch's modules."""
    experts = experts_of((3,), kernel2=3, activation="relu")
    (first, second), inputs = convolutions(experts)[0], torch.randn(2, 7, DIM, dtype=torch.float64)
    found = experts(inputs, torch.ones(2, 1, dtype=torch.float64), torch.ones(2, 7, dtype=torch.bool))
    torch.testing.assert_close(found, second(torch.relu(first(inputs.transpose(1, 2)))).transpose(1, 2), **CLOSE)


@pytest.mark.parametrize("kernel2", [1, 3])
def test_padding_is_neither_read_nor_written(kernel2):
    experts = experts_of(kernel2=kernel2)
    gates, inputs = gates_of(experts, per_step=False), torch.randn(*MASK.shape, DIM, dtype=torch.float64)
    found = experts(inputs, gates, MASK)
    assert not found[~MASK].any()
    assert torch.equal(found, experts(inputs.masked_fill(~MASK.unsqueeze(-1), torch.nan), gates, MASK))
    short = experts(inputs[1:2, :4], gates[1:2], MASK[1:2, :4])
    torch.testing.assert_close(found[1:2, :4], short, **CLOSE)


def test_windows_hold_the_step_before_this_one_and_the_one_after():
    steps = torch.tensor([[[1.0], [2.0], [3.0]]])
    assert windows(steps, torch.tensor([[True, True, False]])).tolist() == [[[0, 1, 2], [1, 2, 0], [2, 0, 0]]]


def test_experts_are_linear_without_an_activation():
    experts, ones = experts_of(), torch.ones(3, 3, dtype=torch.float64)
    inputs = torch.randn(*MASK.shape, DIM, dtype=torch.float64)
    origin = experts(torch.zeros_like(inputs), ones, MASK)
    torch.testing.assert_close(experts(2 * inputs, ones, MASK) - origin, 2 * (experts(inputs, ones, MASK) - origin), **CLOSE)


@pytest.mark.parametrize("kernel2", [1, 3])
def test_weights_start_within_the_bounds_of_each_experts_own_convolutions(kernel2):
    torch.manual_seed(0)
    ranks, dim = (2, 64, 8), 100
    experts = LowRankExperts(dim, ranks, kernel2)
    for first, second in convolutions(experts):
        for layer in (first, second):
            bound = (layer.in_channels * layer.kernel_size[0]) ** -0.5
            size = layer.weight.detach().abs()
            assert 0.97 * bound < size.max() <= bound
            assert size.mean().item() == pytest.approx(bound / 2, rel=0.1)
    assert not experts.down_bias.any()
    assert not experts.up_bias.any()


@pytest.mark.parametrize(
    ("ranks", "kernel2", "parameters"),
    [((128,), 1, 394_112), ((128,), 3, 590_720), ((768,), 1, 2_360_832), ((768,), 3, 3_540_480), ((128,) * 15, 1, 15 * 394_112)],
)
def test_experts_have_the_parameters_of_their_convolutions(ranks, kernel2, parameters):
    assert sum(parameter.numel() for parameter in LowRankExperts(768, ranks, kernel2).parameters()) == parameters


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), r"Ranks of experts are \[\]; expected one or more whole numbers ≥ 1\."),
        (([4, 0],), r"Ranks of experts are \[4, 0\]"),
        (([4], 2), "kernel2 is 2, expected 1 or 3"),
        (([4], 1, "gelo"), "Unknown activation 'gelo'. Did you mean 'gelu'"),
    ],
)
def test_impossible_experts_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        LowRankExperts(DIM, *arguments)


@pytest.mark.parametrize(("kind", "parameters"), [("A", 150_543), ("B", 187_599)])
def test_a_router_has_the_parameters_of_the_specification_and_a_norm_without_weights(kind, parameters):
    router = Router(768, 15, kind)
    assert sum(parameter.numel() for parameter in router.parameters()) == parameters
    assert [norm.elementwise_affine for norm in router.modules() if isinstance(norm, nn.LayerNorm)] == [False]


@pytest.mark.parametrize("kind", ["A", "B"])
def test_a_router_is_its_formula(kind):
    torch.manual_seed(0)
    router, inputs = Router(8, 3, kind).double(), torch.randn(*MASK.shape, 8, dtype=torch.float64)
    first, second = router.steps[0], router.steps[3]
    steps = second(functional.gelu(functional.layer_norm(first(inputs), (2,))))
    means = torch.stack([row[: int(mask.sum())].mean(0) for row, mask in zip(steps, MASK, strict=True)])
    expected = router.project(means) if kind == "B" else means
    assert expected.shape == (3, 3)
    torch.testing.assert_close(router(inputs, MASK), expected, **CLOSE)


@pytest.mark.parametrize("kind", ["A", "B"])
def test_padding_does_not_count_in_a_router(kind):
    torch.manual_seed(0)
    router, inputs = Router(8, 3, kind), torch.randn(*MASK.shape, 8)
    logits = router(inputs, MASK)
    assert torch.equal(router(inputs.masked_fill(~MASK.unsqueeze(-1), 100.0), MASK), logits)
    torch.testing.assert_close(router(inputs[1:2, :4], MASK[1:2, :4]), logits[1:2])


def test_impossible_routers_are_refused():
    with pytest.raises(InputError, match=r"Unknown router 'C'\. Available: B, A"):
        Router(8, 3, "C")
    with pytest.raises(InputError, match="A router needs a width of at least 4, got 3"):
        Router(3, 3)


LOGITS = torch.tensor([[0.1, 2.0, -1.0, 2.0], [0.0, 0.0, 0.0, 0.0], [3.0, 1.0, 2.0, 0.0]])


def test_the_best_gates_stay_as_the_softmax_gave_them():
    gates = TopK(4, 2)(LOGITS)
    softmax = LOGITS.exp() / LOGITS.exp().sum(1, keepdim=True)
    kept = torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0], [1, 0, 1, 0]])
    torch.testing.assert_close(gates, softmax * kept)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_gates_sum_to_one_only_when_all_are_kept_or_renormalised(k):
    sums = TopK(4, k)(LOGITS).sum(1)
    assert ((sums < 1) if k < 4 else torch.isclose(sums, torch.ones(3))).all()
    torch.testing.assert_close(TopK(4, k, renormalise=True)(LOGITS).sum(1), torch.ones(3))
    assert (TopK(4, k)(LOGITS) > 0).sum(1).tolist() == [k] * 3


def test_token_gates_are_selected_step_by_step():
    logits = torch.randn(2, 5, 4)
    torch.testing.assert_close(TopK(4, 2)(logits).flatten(0, 1), TopK(4, 2)(logits.flatten(0, 1)))


def test_no_gradient_reaches_the_gates_that_are_dropped():
    """Renormalised gates do not depend on a dropped logit; other gates depend on it only through the softmax's denominator."""
    logits = LOGITS[2:].clone().requires_grad_()
    weights = torch.tensor([5.0, 7.0, -3.0, 11.0])
    (renormalised,) = torch.autograd.grad((TopK(4, 2, renormalise=True)(logits) * weights).sum(), logits)
    assert renormalised[0, [1, 3]].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert renormalised[0, [0, 2]].abs().min() > 0.1
    (plain,) = torch.autograd.grad((TopK(4, 2)(logits) * weights).sum(), logits)
    gates = logits[0].softmax(0)
    kept = torch.tensor([1.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close(plain[0], gates * (weights * kept - (weights * kept * gates).sum()))


def test_k_is_a_buffer_so_that_runs_of_a_pack_may_differ():
    select = TopK(4, 2)
    assert dict(select.named_buffers())["k"].item() == 2
    assert not select.state_dict()
    gates = torch.vmap(lambda k: torch.func.functional_call(select, {"k": k}, (LOGITS,)))(torch.tensor([1, 3]))
    assert (gates > 0).sum(-1).tolist() == [[1] * 3, [3] * 3]


def test_noise_is_added_in_training_alone():
    select = TopK(4, 4, noise=1.0)
    assert not torch.allclose(select(LOGITS), select(LOGITS))
    torch.testing.assert_close(select.eval()(LOGITS), LOGITS.softmax(-1))


@pytest.mark.parametrize("k", [0, 5])
def test_k_is_within_the_number_of_experts(k):
    with pytest.raises(InputError, match=f"top_k is {k}, expected 1 to 4, the number of experts"):
        TopK(4, k)


def test_ranking_counts_what_is_larger_and_ties_go_to_the_smaller_number():
    assert ranking(torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.0, 5.0, 5.0]])).tolist() == [[0, 2, 1], [0, 1, 2], [2, 0, 1]]


def test_squared_variation_is_zero_for_equal_load_and_n_for_one_expert_alone():
    even, alone = torch.full((4, 15), 1 / 15), torch.eye(15)[:1].expand(4, 15)
    assert squared_variation(even).item() == pytest.approx(0, abs=1e-6)
    assert squared_variation(alone).item() == pytest.approx(15)
    assert squared_variation(torch.eye(15)).item() == pytest.approx(0, abs=1e-6)


def test_squared_variation_takes_token_gates():
    gates = torch.rand(2, 5, 4)
    torch.testing.assert_close(squared_variation(gates), squared_variation(gates.flatten(0, 1)))
