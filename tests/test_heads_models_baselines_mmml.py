"""MMML: learned [cls], cross-modal layers without positions, and three predictions with the same loss."""

import pytest
import torch
from batches import random_batch
from torch import Tensor
from torch.nn import functional

from data.tensors import Batch
from heads.models.baselines.mmml import MMML, MMMLOptions
from heads.models.losses import LossOptions, total_loss
from heads.models.parts.fusion import FusionOptions

DIMS = {"text": 8, "audio": 8}
LENGTHS = {"text": (5, 3, 4), "audio": (9, 12, 7)}
CALM = FusionOptions(layers=2, heads=2, ffn=16, dropout=0.0, attention_dropout=0.0)


def a_batch() -> Batch:
    return random_batch(LENGTHS, DIMS)


def make(task: str = "msa", dims: dict[str, int] = DIMS, **options: object) -> MMML:
    torch.manual_seed(0)
    return MMML(MMMLOptions(**{"output": (7, 5), "output_dropout": 0.0, "fusion": CALM} | options), dims, task)


def with_step(batch: Batch, modality: str, step: int, value: float) -> Batch:
    """The same batch with one time step of a modality set to a value."""
    changed = batch.features[modality].index_fill(1, torch.tensor([step]), value)
    return batch._replace(features=batch.features | {modality: changed})


def reached(head: MMML, value: Tensor) -> set[str]:
    """The parts of the head that a value depends on."""
    head.zero_grad()
    value.sum().backward()
    return {name.split(".")[0] for name, p in head.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-12}


def test_three_l1_losses_on_the_same_sentiment():
    head, batch = make(), a_batch()
    output = head(batch)
    loss = total_loss(output, batch, LossOptions(), LossOptions().weights())
    three = [output.sentiment, output.aux.unimodal["text"].sentiment, output.aux.unimodal["audio"].sentiment]
    assert output.aux.unimodal.keys() == {"text", "audio"}
    assert output.aux.losses == {}
    assert loss.item() == pytest.approx(sum(functional.l1_loss(one, batch.sentiment).item() for one in three), rel=1e-5)


def test_emotions_get_the_three_losses_too():
    head, batch = make("both"), a_batch()
    output = head(batch)
    loss = total_loss(output, batch, LossOptions(), LossOptions().weights())
    three = [output, *output.aux.unimodal.values()]
    expected = [functional.l1_loss(one.sentiment, batch.sentiment) for one in three]
    expected += [functional.binary_cross_entropy_with_logits(one.emotion_logits, batch.emotions) for one in three]
    assert loss.item() == pytest.approx(sum(expected).item(), rel=1e-5)


def test_the_text_alone_is_pooled_from_its_first_token():
    head, batch = make(), a_batch()
    pooled = head.pooler[0](batch.features["text"][:, 0]).tanh()
    expected = head.unimodal["text"]["msa"](pooled)[:, 0]
    assert torch.allclose(head(batch).aux.unimodal["text"].sentiment, expected, atol=1e-6)
    changed = head(with_step(batch, "text", 1, 9.0)).aux.unimodal["text"].sentiment
    assert torch.equal(changed, head(batch).aux.unimodal["text"].sentiment)


def test_the_audio_alone_is_the_mean_of_its_real_frames():
    head, batch = make(), a_batch()
    means = torch.stack([frames[:length].mean(0) for frames, length in zip(batch.features["audio"], LENGTHS["audio"], strict=True)])
    expected = head.unimodal["audio"]["msa"](means)[:, 0]
    assert torch.allclose(head(batch).aux.unimodal["audio"].sentiment, expected, atol=1e-6)


def test_the_predictions_share_no_trainable_part():
    head = make()
    output = head(a_batch())
    assert reached(head, output.sentiment) == {"fusions", "outputs"}
    assert reached(head, output.aux.unimodal["text"].sentiment) == {"pooler", "unimodal"}
    assert reached(head, output.aux.unimodal["audio"].sentiment) == {"unimodal"}


def test_the_losses_of_the_modalities_can_be_left_out():
    head = make(unimodal_losses=False)
    assert head(a_batch()).aux.unimodal == {}
    assert not hasattr(head, "pooler")


def test_each_direction_of_the_cross_attention_has_parameters_of_its_own():
    for layer in make().fusions["shared"].layers:
        text, audio = ({id(p) for p in layer.cross[modality].parameters()} for modality in ("text", "audio"))
        assert len(text) == len(audio) == 8
        assert not text & audio


def test_both_directions_read_what_the_layer_was_given():
    head, batch = make(), a_batch()
    layer = head.fusions["shared"].layers[0]
    seen: dict[str, Tensor] = {}
    for modality in DIMS:
        layer.cross[modality].register_forward_pre_hook(lambda _, inputs, name=modality: seen.update({name: inputs}))
    head(batch)
    (text, from_audio, _), (audio, from_text, _) = seen["text"], seen["audio"]
    assert torch.equal(text, from_text)
    assert torch.equal(audio, from_audio)


def test_there_is_a_learned_cls_for_each_modality_and_the_main_prediction_reads_only_them():
    head, batch = make(), a_batch()
    cls = head.fusions["shared"].cls
    assert {name: value.shape for name, value in cls.items()} == {"text": (8,), "audio": (8,)}
    fused = head.fusions["shared"](batch.features, batch.masks)
    assert fused.shape == (3, 16)
    assert torch.allclose(head.outputs["msa"](fused)[:, 0], head(batch).sentiment, atol=1e-6)
    before = head(batch).sentiment
    with torch.no_grad():
        cls["audio"] += 1
    assert not torch.allclose(head(batch).sentiment, before)


@pytest.mark.parametrize("modality", ["text", "audio"])
def test_the_order_of_time_steps_does_not_matter(modality):
    head, batch = make().eval(), a_batch()
    order = torch.randperm(batch.features[modality].shape[1], generator=torch.Generator().manual_seed(1))
    features, masks = ({**part, modality: part[modality][:, order]} for part in (batch.features, batch.masks))
    assert torch.allclose(head(batch._replace(features=features, masks=masks)).sentiment, head(batch).sentiment, atol=1e-6)
    assert not torch.allclose(head(batch._replace(features=features)).sentiment, head(batch).sentiment, atol=1e-4)


def test_the_tasks_share_the_fusion():
    head = make("both")
    assert list(head.fusions) == ["shared"]
    assert set(head.outputs) == {"msa", "mer"}


def test_the_defaults_have_the_size_of_the_original():
    with torch.device("meta"):
        head = MMML(MMMLOptions(), {"text": 768, "audio": 768}, "msa")
    attention, norm = 4 * (768 * 768 + 768), 2 * 768
    feed_forward = 768 * 3072 + 3072 + 3072 * 768 + 768
    fusion = 2 * 768 + 5 * 2 * (2 * attention + feed_forward + 3 * norm)
    output = (1536 * 768 + 768) + (768 * 512 + 512) + (512 + 1)
    alone = (768 * 768 + 768) + 2 * (768 + 1)
    assert sum(parameter.numel() for parameter in head.parameters()) == fusion + output + alone == 96_686_083


def test_features_of_two_widths_are_brought_to_the_wider():
    batch = random_batch(LENGTHS, {"text": 8, "audio": 6})
    assert make(dims={"text": 8, "audio": 6})(batch).aux.unimodal["audio"].sentiment.shape == (3,)
