"""Several parts in one pass: values, gradients and random numbers are those of one part after another."""

import copy
from dataclasses import replace

import pytest
import torch
from batches import LENGTHS, random_batch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from heads.models import mmolre
from heads.models.losses import total_loss
from heads.models.mixtures import unitse
from heads.models.mixtures.unitse import UniTSEBlock, UniTSEOptions
from heads.models.mmolre import MMoLRE, MMoLREOptions
from heads.models.parts.fusion import CrossModalFusion, FusionOptions
from heads.models.parts.joint import joint, pays
from heads.models.parts.randomness import Dropout, drawing_from, drawing_in_parts
from heads.models.tasks import LossOptions

DIMS = {"text": 10, "audio": 6}
BATCH = random_batch(LENGTHS, DIMS, dtype=torch.float64)
FUSION = FusionOptions(layers=2, heads=3, ffn=16)
UNITSE = UniTSEOptions(experts=4, rank=(1, 2, 3, 2), task_rank=3, top_k=3)
SMALL = MMoLREOptions(dim=12, output=(7, 5), fusion=FUSION, mixture=UNITSE)
OPTIONS = {
    "the defaults": SMALL,
    "everything that draws, and all other layers": replace(
        SMALL,
        input_dropout=0.2,
        adapter="linear",
        mixture=replace(UNITSE, dropout=0.4, noise=0.3, balance=0.1, residual=True, block_post="mlore", kernel2=3, router="A", rank=2),
    ),
    "shared weights, and attention that keeps all": replace(
        SMALL,
        share_modalities=True,
        fusion=replace(FUSION, share_directions=True, attention_dropout=0.0),
        mixture=replace(UNITSE, block_post="ln", activation="gelu", renormalise=True),
    ),
}


@pytest.fixture(params=OPTIONS)
def heads(request) -> list[MMoLRE]:
    """Two heads that differ in their weights."""
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made.append(MMoLRE(OPTIONS[request.param], DIMS, "both").double())
    return made


@pytest.fixture
def together(monkeypatch):
    """Makes heads compute both tasks in one pass, and counts the calls of layers that are apart otherwise."""

    def switch() -> list[object]:
        calls: list[object] = []
        for module in (mmolre, unitse):
            monkeypatch.setattr(module, "pays", lambda device: True)
        for layer in (CrossModalFusion, UniTSEBlock):
            name = "forward" if layer is CrossModalFusion else "step"
            method = getattr(layer, name)
            monkeypatch.setattr(layer, name, lambda *args, method=method: calls.append(args[0]) or method(*args))
        return calls

    return switch


def loss(head: nn.Module, parameters: dict[str, Tensor], buffers: dict[str, Tensor], key: Tensor) -> Tensor:
    with drawing_from(key):
        output = functional_call(head, (parameters, buffers), (BATCH,))
        final = Dropout(0.5)(torch.ones(5, dtype=torch.float64)).sum()  # the draw after all others
    return final + total_loss(output, BATCH, LossOptions(), LossOptions().weights())


def alone(head: MMoLRE, key: int) -> tuple[Tensor, list[Tensor]]:
    value = loss(head, dict(head.named_parameters()), dict(head.named_buffers()), torch.tensor(key))
    return value, list(torch.autograd.grad(value, list(head.parameters()), materialize_grads=True))


def packed(heads: list[MMoLRE]) -> tuple[Tensor, list[Tensor]]:
    parameters, buffers = stack_module_state(heads)
    base = copy.deepcopy(heads[0]).to("meta")
    with sdpa_kernel(SDPBackend.MATH):  # as in packs
        values = vmap(lambda *state: loss(base, *state))(parameters, buffers, torch.tensor([5, 6]))
    return values, list(torch.autograd.grad(values.sum(), list(parameters.values()), materialize_grads=True))


def close(found: tuple[Tensor, list[Tensor]], expected: tuple[Tensor, list[Tensor]]) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=1e-11, atol=0)
    for one, other in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_both_tasks_in_one_pass_are_one_after_the_other(heads, together):
    """With all that is drawn, alone and in a pack."""
    expected, expected_pack = alone(heads[0], 5), packed(heads)
    calls = together()
    close(alone(heads[0], 5), expected)
    fusions, modalities = 1, len(DIMS)
    assert len(calls) == fusions + 2 * modalities  # blocks
    close(packed(heads), expected_pack)


def test_an_evaluation_and_a_single_task_are_as_before(heads, together):
    calls = together()
    assert torch.isfinite(alone(heads[0].eval(), 5)[0])
    assert len(calls) == 2 + 2 * 2 * 2  # each task has a fusion, and steps in two blocks of each modality
    single = MMoLRE(SMALL, DIMS, "msa").double()
    assert torch.isfinite(single(BATCH).sentiment).all()
    assert len(calls) == 2 * (2 + 2 * 2 * 2) - (1 + 2 * 2)


def test_layers_without_bias_or_weights_can_be_joint():
    parts = [
        [nn.Sequential(nn.Linear(3, 4, bias=False), nn.LayerNorm(4, elementwise_affine=False), nn.GELU(), nn.Linear(4, 2))]
        for _ in range(3)
    ]
    (made,) = joint(parts)
    inputs = torch.randn(3, 5, 3)
    torch.testing.assert_close(made(inputs), torch.stack([part(one) for (part,), one in zip(parts, inputs, strict=True)]))
    same = made(inputs[:1])
    torch.testing.assert_close(same, torch.stack([part(inputs[0]) for (part,) in parts]))


def test_parts_that_draw_otherwise_than_announced_are_a_fault():
    def drawn(announced: int) -> None:
        with drawing_in_parts(2, announced, torch.device("cpu")):
            for _ in range(2):
                Dropout(0.5)(torch.ones(2, 4))

    drawn(2)
    for announced in (1, 3):
        with pytest.raises(RuntimeError, match=f"^A part draws 2 times, not {announced}\\.$"):
            drawn(announced)


def test_a_cpu_passes_one_task_after_another():
    assert not pays(torch.device("cpu"))
    assert pays(torch.device("cuda"))
