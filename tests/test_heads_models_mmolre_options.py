"""What can be chosen of MMoLRE and its ablations, each option beside what it must do."""

from dataclasses import replace

import pytest
import torch
from batches import LENGTHS, pad, random_batch
from test_heads_models_mmolre import DIMS, FAMILY, SMALL, UNITSE, joined, loss, make, names, random, reached

from data.errors import InputError
from heads.models.mixtures.mod_squad import ModSquad, ModSquadOptions
from heads.models.mixtures.unitse import UniTSEOptions
from heads.models.mmolre import FamilyOptions, MMoLRE, MMoLREOptions, PostFusion, PreFusion, adapter
from heads.models.parts.fusion import FusionOptions


@pytest.fixture(params=FAMILY)
def name(request):
    return request.param


@pytest.mark.parametrize(
    "options", [{"adapter": "linear"}, {"adapter": "norm"}, {"unimodal_losses": True}, {"share_modalities": True}, {"audio_pool": 5}]
)
def test_every_parameter_of_an_option_gets_a_gradient(name, options):
    head = make(name, **options)
    output = head(random())
    assert names(head) <= reached(head, loss(output) + sum(loss(alone) for alone in output.aux.unimodal.values()))


@pytest.mark.parametrize("options", [{"adapter": "linear"}, {"adapter": "norm"}, {"audio_pool": 5}, {"audio_pool": 40}])
def test_padding_does_not_matter_with_any_option(name, options):
    head, batch = make(name, **options).eval(), random()
    torch.testing.assert_close(joined(head(pad(batch, 4, 100.0))), joined(head(batch)), rtol=0, atol=1e-5)


def test_the_width_is_that_of_the_widest_modality_unless_chosen(name):
    head = make(name, dims={"text": 6, "audio": 9}, dim=None)
    assert head.outputs["msa"][1].in_features == 2 * 9
    assert [type(layer).__name__ for layer in head.adapters.values()] == ["Linear", "Identity"]


@pytest.mark.parametrize(
    ("kind", "width", "layers"),
    [
        ("none", 12, ["Identity"]),
        ("none", 10, ["Linear"]),
        ("norm", 12, ["LayerNorm", "Identity"]),
        ("norm", 10, ["LayerNorm", "Linear"]),
        ("linear", 12, ["Linear", "LayerNorm"]),
        ("linear", 10, ["Linear", "LayerNorm"]),
    ],
)
def test_adapters_bring_features_to_the_width(kind, width, layers):
    made = adapter(kind, width, 12)
    assert [type(layer).__name__ for layer in made.modules() if not list(layer.children())] == layers
    assert made(torch.zeros(2, 3, width)).shape == (2, 3, 12)


def test_unimodal_predictions_are_from_one_modality_alone(name):
    head, batch = make(name, unimodal_losses=True).eval(), random()
    changed = batch._replace(features={**batch.features, "audio": batch.features["audio"] + 1})
    before, after = head(batch).aux.unimodal, head(changed).aux.unimodal
    assert list(before) == ["text", "audio"]
    assert torch.equal(joined(before["text"]), joined(after["text"]))
    assert not torch.isclose(joined(before["audio"]), joined(after["audio"])).any()
    assert not make(name)(batch).aux.unimodal


def test_unimodal_predictions_are_linear_in_the_mean_of_the_features():
    head = make("pre-fusion", dims={"text": 12, "audio": 12}, unimodal_losses=True).eval()
    batch = random_batch(LENGTHS, {"text": 12, "audio": 12})
    mean = batch.features["text"].sum(1) / batch.masks["text"].sum(1, keepdim=True)
    linear = head.unimodal["text"]["mer"][1]
    torch.testing.assert_close(head(batch).aux.unimodal["text"].emotion_logits, mean @ linear.weight.T + linear.bias)


def test_modalities_may_share_a_mixture():
    apart, shared = make("mmolre"), make("mmolre", share_modalities=True)
    assert shared.mixtures["text"] is shared.mixtures["audio"]
    assert apart.mixtures["text"] is not apart.mixtures["audio"]
    assert reached(shared, shared(random()).sentiment.sum()) >= {"mixtures.text.blocks.0.shared.down"}
    count = {head: sum(p.numel() for p in head.parameters()) for head in (apart, shared, apart.mixtures["text"])}
    assert count[apart] - count[shared] == count[apart.mixtures["text"]]


def test_routing_and_losses_are_named_by_modality(name):
    options = {"mixture": replace(UNITSE, balance=0.1)} if name == "mmolre" else {}
    aux = make(name, **options)(random()).aux
    routed = [f"{m}/block{n}/{t}" for m in DIMS for n in (1, 2) for t in ("msa", "mer")] if name == "mmolre" else []
    assert list(aux.routing) == routed
    assert all(gates.shape == (3, 4) for gates in aux.routing.values())
    assert list(aux.losses) == (["text/balance", "audio/balance"] if name == "mmolre" else [])


def test_averaged_audio_is_audio_that_was_averaged_before(name):
    head, plain, batch = make(name, audio_pool=2).eval(), make(name).eval(), random()
    means = [
        [row[step : min(step + 2, n)].mean(0) for step in range(0, n, 2)]
        for row, n in zip(batch.features["audio"], LENGTHS["audio"], strict=True)
    ]
    audio = torch.nn.utils.rnn.pad_sequence([torch.stack(steps) for steps in means], batch_first=True)
    mask = torch.arange(audio.shape[1]) < torch.tensor([len(steps) for steps in means])[:, None]
    averaged = batch._replace(features={**batch.features, "audio": audio}, masks={**batch.masks, "audio": mask})
    torch.testing.assert_close(joined(head(batch)), joined(plain(averaged)), rtol=0, atol=1e-5)


def test_dropout_of_the_input_is_of_all_adapted_features():
    quiet = {"output_dropout": 0.0, "fusion": replace(SMALL["fusion"], dropout=0.0, attention_dropout=0.0)}
    batch = random()
    assert torch.equal(*(joined(make("pre-fusion", **quiet)(batch)) for _ in range(2)))
    head = make("pre-fusion", **quiet, input_dropout=0.5)
    assert not torch.isclose(joined(head(batch)), joined(head(batch))).any()
    assert torch.equal(*(joined(head.eval()(batch)) for _ in range(2)))


def test_gates_of_time_steps_are_reported_as_their_mean_over_the_real_ones():
    class Squad(PreFusion):
        mixture = ModSquad

        def _mixture(self, options, dim):
            return ModSquad(ModSquadOptions(experts=4, top_k=2), dim, self.tasks)

    torch.manual_seed(0)
    head, batch = Squad(FamilyOptions(**SMALL, audio_pool=5), DIMS, "both").eval(), random()
    routing = head(batch).aux.routing
    text = head.mixtures["text"](head.adapters["text"](batch.features["text"]), batch.masks["text"])
    for key, gates in text.routing.items():
        means = [row[:steps].mean(0) for row, steps in zip(gates, LENGTHS["text"], strict=True)]
        torch.testing.assert_close(routing[f"text/{key}"], torch.stack(means))
    assert routing["audio/block1/msa"].shape == (3, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": "liner"}, "Unknown adapter 'liner'. Did you mean 'linear'"),
        ({"audio_pool": 0}, "audio_pool is 0, expected 1 or more"),
        ({"fusion": replace(SMALL["fusion"], layers=0)}, "layers is 0, expected 1 or more"),
        ({"dim": 11}, "3 attention heads do not divide the width 11"),
    ],
)
def test_impossible_options_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        make(name, **options)


def test_the_defaults_are_the_papers():
    options = MMoLREOptions()
    assert options == MMoLREOptions(mixture=UniTSEOptions(), fusion=FusionOptions())
    assert (options.adapter, options.share_modalities, options.unimodal_losses) == ("none", False, False)
    assert (options.audio_pool, options.input_dropout) == (1, 0.0)
    assert (options.output, options.output_dropout) == ((768, 512), 0.3)
    assert MMoLRE.Options is MMoLREOptions
    assert PreFusion.Options is PostFusion.Options is FamilyOptions
