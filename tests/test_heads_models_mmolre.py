"""MMoLRE and its ablations as whole heads: what the tasks share, what an utterance depends on, and packs of heads."""

import copy
from dataclasses import replace

import pytest
import torch
from batches import LENGTHS, pad, random_batch, select, trim
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from data.tensors import Batch
from heads.models.base import HeadOutput
from heads.models.mixtures.unitse import UniTSEOptions
from heads.models.mmolre import FusionHead, MMoLRE, PostFusion, PreFusion
from heads.models.parts.fusion import FusionOptions
from heads.models.parts.randomness import drawing_from

FAMILY = {"mmolre": MMoLRE, "pre-fusion": PreFusion, "post-fusion": PostFusion}
DIMS = {"text": 10, "audio": 6}
SMALL = {"dim": 12, "output": (7, 5), "fusion": FusionOptions(layers=2, heads=3, ffn=16)}
UNITSE = UniTSEOptions(experts=4, rank=(1, 2, 3, 2), task_rank=3, top_k=3)


def make(name: str, task: str = "both", dims: dict[str, int] = DIMS, seed: int = 0, **options: object) -> FusionHead:
    mixture = {"mixture": options.pop("mixture", UNITSE)} if name == "mmolre" else {}
    torch.manual_seed(seed)
    return FAMILY[name](FAMILY[name].Options(**{**SMALL, **mixture, **options}), dims, task)


def random() -> Batch:
    return random_batch(LENGTHS, DIMS)


def joined(output: HeadOutput) -> Tensor:
    """(B, 7): sentiment and the six emotions."""
    return torch.cat([output.sentiment[:, None], output.emotion_logits], 1)


def loss(output: HeadOutput) -> Tensor:
    return joined(output).square().sum() + sum(output.aux.losses.values())


def reached(head: FusionHead, value: Tensor) -> set[str]:
    """Names of the parameters that a value depends on."""
    head.zero_grad()
    value.backward()
    return {name for name, p in head.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-12}


def names(head: FusionHead) -> set[str]:
    """Of all parameters but the biases of keys, which softmax cancels."""
    return {name for name, _ in head.named_parameters() if not name.endswith("key.bias")}


@pytest.fixture(params=FAMILY)
def name(request):
    return request.param


def test_output_is_one_sentiment_and_six_emotions_an_utterance(name):
    output = make(name)(random())
    assert (output.sentiment.shape, output.emotion_logits.shape) == ((3,), (3, 6))
    assert (output.sentiment.dtype, output.emotion_logits.dtype) == (torch.float32, torch.float32)


def test_output_is_float32_whatever_computed_it(name):
    batch = random()
    head = make(name).to(torch.bfloat16)
    output = head(batch._replace(features={m: x.bfloat16() for m, x in batch.features.items()}))
    assert (output.sentiment.dtype, output.emotion_logits.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize(("task", "missing"), [("msa", "emotion_logits"), ("mer", "sentiment")])
def test_a_task_that_is_not_learned_has_no_output_and_no_parameters(name, task, missing):
    head = make(name, task)
    output = head(random())
    assert [field for field in ("sentiment", "emotion_logits") if getattr(output, field) is None] == [missing]
    other = {"msa": "mer", "mer": "msa"}[task]
    assert not any(f".{other}." in parameter for parameter, _ in head.named_parameters())


def test_every_parameter_gets_a_gradient(name):
    head = make(name)
    assert names(head) <= reached(head, loss(head(random())))


def test_pre_fusion_shares_nothing_between_the_tasks():
    head = make("pre-fusion", dims={"text": 12, "audio": 12})
    batch = random_batch(LENGTHS, {"text": 12, "audio": 12})
    found = reached(head, head(batch).sentiment.sum())
    assert found & names(head) == {parameter for parameter in names(head) if ".msa." in parameter}


def test_pre_fusion_is_two_baselines_side_by_side():
    dims = {"text": 12, "audio": 12}
    both, batch = make("pre-fusion", dims=dims).eval(), random_batch(LENGTHS, dims)
    for task, field in (("msa", "sentiment"), ("mer", "emotion_logits")):
        baseline = make("pre-fusion", task, dims, seed=1).eval()
        baseline.load_state_dict({key: value for key, value in both.state_dict().items() if f".{task}." in key})
        assert torch.equal(getattr(baseline(batch), field), getattr(both(batch), field))


def test_an_adapter_gives_pre_fusion_something_to_share():
    head = make("pre-fusion", adapter="linear")
    both = [reached(head, output) for output in (head(random()).sentiment.sum(), head(random()).emotion_logits.sum())]
    assert {parameter.split(".")[0] for parameter in both[0] & both[1]} == {"adapters"}
    assert sum(parameter.startswith("adapters") for parameter in both[0] & both[1]) == 2 * 4


def test_post_fusion_shares_the_fusion_and_nothing_behind_it():
    head = make("post-fusion")
    found = reached(head, head(random()).sentiment.sum())
    assert {parameter for parameter in names(head) if parameter.startswith("fusions.shared")} <= found
    assert not any(parameter.startswith("outputs.mer") for parameter in found)


def test_mmolre_shares_its_shared_experts_and_nothing_else():
    dims = {"text": 12, "audio": 12}
    head, batch = make("mmolre", dims=dims), random_batch(LENGTHS, dims)
    found = reached(head, head(batch).sentiment.sum())
    assert found & names(head) == {parameter for parameter in names(head) if ".msa." in parameter or ".shared." in parameter}
    assert sum(".shared." in parameter for parameter in found) == 2 * 2 * 4


def test_mmolre_without_a_mixture_is_pre_fusion():
    """They have one fusion and one output layer per task in common."""
    mmolre, ablated = make("mmolre"), make("pre-fusion", seed=1)
    weights = {key: value.shape for key, value in mmolre.state_dict().items() if not key.startswith("mixtures")}
    assert weights == {key: value.shape for key, value in ablated.state_dict().items()}


def test_padding_does_not_matter(name):
    head, batch = make(name).eval(), random()
    torch.testing.assert_close(joined(head(pad(batch, 4, 100.0))), joined(head(batch)), rtol=0, atol=1e-5)


def test_an_utterance_does_not_depend_on_its_company(name):
    head, batch = make(name, unimodal_losses=True).eval(), random()
    together = head(batch)
    for row in range(3):
        alone = head(trim(select(batch, row)))
        torch.testing.assert_close(joined(alone), joined(together)[row : row + 1], rtol=0, atol=1e-5)
        for modality, output in alone.aux.unimodal.items():
            torch.testing.assert_close(joined(output), joined(together.aux.unimodal[modality])[row : row + 1], rtol=0, atol=1e-5)


def test_the_order_of_modalities_in_a_batch_does_not_matter(name):
    head, batch = make(name).eval(), random()
    turned = batch._replace(features=dict(reversed(batch.features.items())), masks=dict(reversed(batch.masks.items())))
    assert torch.equal(joined(head(turned)), joined(head(batch)))


def test_a_batch_of_one_can_be_trained_on(name):
    options = {"mixture": replace(UNITSE, balance=0.1)} if name == "mmolre" else {}
    head = make(name, **options)
    assert names(head) - reached(head, loss(head(trim(select(random(), 1))))) <= {
        parameter for parameter in names(head) if parameter.startswith("mixtures")
    }
    assert joined(head(trim(select(random(), 1)))).isfinite().all()


def test_shuffled_audio_changes_every_output(name):
    head, batch = make(name).eval(), random()
    order = torch.tensor([1, 2, 0])
    features = {**batch.features, "audio": batch.features["audio"][order]}
    shuffled = batch._replace(features=features, masks={**batch.masks, "audio": batch.masks["audio"][order]})
    assert ((joined(head(shuffled)) - joined(head(batch))).abs() > 1e-6).all()


def test_dropout_is_on_in_training_alone(name):
    head, batch = make(name), random()
    assert not torch.equal(joined(head(batch)), joined(head(batch)))
    head.eval()
    assert torch.equal(joined(head(batch)), joined(head(batch)))


def test_one_modality_is_enough(name):
    head = make(name, dims={"text": 10})
    assert joined(head(random())).shape == (3, 7)
    assert head.outputs["msa"][1].in_features == 12


def test_three_modalities_are_fused(name):
    dims = {**DIMS, "vision": 5}
    batch = random_batch({**LENGTHS, "vision": (2, 3, 1)}, dims)
    head = make(name, dims=dims)
    assert names(head) <= reached(head, loss(head(batch)))


PACKS = {
    "mmolre": [{"mixture": replace(UNITSE, noise=0.5, balance=0.1, top_k=k)} for k in (2, 3)],
    "mmolre, modalities and directions shared": [
        {"share_modalities": True, "fusion": replace(SMALL["fusion"], share_directions=True), "adapter": "linear"}
    ]
    * 2,
    "pre-fusion": [{"output_dropout": rate} for rate in (0.2, 0.4)],
    "post-fusion": [{"unimodal_losses": True}] * 2,
}


@pytest.mark.parametrize("pack", PACKS)
def test_a_pack_trains_each_head_as_if_it_were_alone(pack):
    """Predictions and gradients with dropout on, of heads that differ in their weights, seeds and whatever is a buffer."""
    heads = [make(pack.partition(",")[0], seed=seed, **options) for seed, options in enumerate(PACKS[pack])]
    batch, base = random(), copy.deepcopy(heads[0])

    def run(parameters, buffers, key):
        with drawing_from(key):
            output = functional_call(base, (parameters, buffers), (batch,))
        return loss(output), joined(output)

    gradients, outputs = vmap(grad(run, has_aux=True), randomness="error")(*stack_module_state(heads), torch.tensor([5, 6]))
    for number, head in enumerate(heads):
        with drawing_from(torch.tensor(5 + number)):
            output = head(batch)
        loss(output).backward()
        torch.testing.assert_close(outputs[number], joined(output), rtol=1e-4, atol=1e-5)
        for parameter, value in head.named_parameters():
            if value.grad is not None:
                torch.testing.assert_close(gradients[parameter][number], value.grad, rtol=1e-3, atol=1e-4)
