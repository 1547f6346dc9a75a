"""The head of UniMSE: how audio gets into the text, the contrast, and what the tasks share."""

import math
from dataclasses import replace

import pytest
import torch
from batches import DIMS, random_batch
from torch import Tensor
from torch.nn import functional

from data.errors import InputError
from data.tensors import Batch
from heads.models.baselines.unimse import FusionAdapter, UniMSEHead, UniMSEHeadOptions, info_nce
from heads.models.parts.layers import masked_mean

SMALL = UniMSEHeadOptions(heads=2, ffn=16, audio_dim=5, bottleneck=4, contrast_dim=3)


def make(task: str = "both", **options: object) -> UniMSEHead:
    torch.manual_seed(0)
    return UniMSEHead(replace(SMALL, **options), DIMS, task)


def other_audio(batch: Batch) -> Batch:
    return batch._replace(features={**batch.features, "audio": batch.features["audio"].roll(1, -1)})


def vectors(seed: int) -> Tensor:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))


def test_the_contrast_of_aligned_orthonormal_rows_is_small():
    assert info_nce(torch.eye(4), torch.eye(4), 0.1).item() == pytest.approx(math.log1p(3 * math.exp(-10)), rel=1e-3)
    assert info_nce(torch.eye(4), torch.eye(4).roll(1, 0), 0.1).item() == pytest.approx(10, abs=1e-3)


def test_the_contrast_of_one_utterance_is_zero():
    assert info_nce(vectors(1)[:1], vectors(2)[:1], 0.1).item() == 0


def test_the_contrast_is_cross_entropy_of_cosines_whatever_the_lengths():
    cosines = functional.cosine_similarity(vectors(1)[:, None], vectors(2)[None], dim=-1)
    expected = functional.cross_entropy(cosines / 0.2, torch.arange(6))
    torch.testing.assert_close(info_nce(vectors(1), vectors(2), 0.2), expected)
    torch.testing.assert_close(info_nce(7 * vectors(1), 0.1 * vectors(2), 0.2), expected)


def test_an_adapter_starts_near_a_linear_layer_of_text_and_audio():
    torch.manual_seed(0)
    adapter, text, audio = FusionAdapter(64, 32, 64), torch.randn(2, 5, 64), torch.randn(2, 32)
    linear = adapter.back(torch.cat([text, audio[:, None].expand(2, 5, 32)], -1))
    apart = (adapter(text, audio) - linear).abs()
    assert 0 < apart.max() < 0.02
    assert adapter.down.weight.std().item() == pytest.approx(1e-3, rel=0.1)
    assert adapter.up.weight.std().item() == pytest.approx(1e-3, rel=0.1)
    assert not adapter.down.bias.any()
    assert not adapter.up.bias.any()


def test_an_adapter_adds_its_bottleneck_before_it_goes_back():
    adapter, text, audio = FusionAdapter(8, 5, 4), torch.randn(1, 1, 8), torch.randn(1, 5)
    for layer in (adapter.down, adapter.up):
        layer.reset_parameters()
    u = torch.cat([text[0, 0], audio[0]])
    inner = 1 / (1 + (-(adapter.down.weight @ u + adapter.down.bias)).exp())
    expected = adapter.back.weight @ (u + adapter.up.weight @ inner + adapter.up.bias) + adapter.back.bias
    torch.testing.assert_close(adapter(text, audio)[0, 0], expected)


def test_audio_reaches_predictions_through_adapters_alone():
    head, batch = make().eval(), random_batch()
    assert (head(other_audio(batch)).sentiment - head(batch).sentiment).abs().min() > 1e-6
    with torch.no_grad():
        for adapter in head.adapters:
            adapter.down.weight[:, 8:] = 0
            adapter.back.weight[:, 8:] = 0
    for field in ("sentiment", "emotion_logits"):
        assert torch.equal(getattr(head(other_audio(batch)), field), getattr(head(batch), field))


def test_an_adapter_follows_each_layer_and_the_mean_of_the_tokens_answers():
    head, batch = make().eval(), random_batch()
    mask = batch.masks["text"]
    _, last = head.audio(batch.features["audio"], batch.masks["audio"])
    summary = last @ head.summary[1].weight.t() + head.summary[1].bias
    hidden = batch.features["text"]
    for layer, adapter in zip(head.layers, head.adapters, strict=True):
        hidden = adapter(layer(hidden, mask), summary)
    assert len(head.layers) == 3
    torch.testing.assert_close(head(batch).emotion_logits, head.outputs["mer"](masked_mean(hidden, mask)))


def test_the_contrast_is_between_the_means_of_what_enters_the_last_layer_and_of_audio():
    head, batch = make(dropout=0, audio_dropout=0), random_batch()
    steps, last = head.audio(batch.features["audio"], batch.masks["audio"])
    hidden = batch.features["text"]
    for layer, adapter in zip(head.layers, head.adapters, strict=True):
        before, hidden = hidden, adapter(layer(hidden, batch.masks["text"]), head.summary(last))
    text = head.contrast["text"](masked_mean(before, batch.masks["text"]))
    audio = head.contrast["audio"](masked_mean(steps, batch.masks["audio"]))
    losses = head(batch).aux.losses
    assert list(losses) == ["contrast"]
    torch.testing.assert_close(losses["contrast"], 0.5 * info_nce(text, audio, 0.1))
    assert (text.shape, head.contrast["text"].bias) == ((3, 3), None)


@pytest.mark.parametrize(("field", "other"), [("sentiment", "mer"), ("emotion_logits", "msa")])
def test_tasks_share_all_but_their_last_layer(field, other):
    head = make()
    getattr(head(random_batch()), field).square().sum().backward()
    untouched = {name for name, p in head.named_parameters() if p.grad is None}
    assert untouched == {f"outputs.{other}.weight", f"outputs.{other}.bias", "contrast.text.weight", "contrast.audio.weight"}


@pytest.mark.parametrize("factor", [3.0, 1.0])
def test_transformer_layers_have_a_learning_rate_of_their_own(factor):
    head = make(encoder_lr_factor=factor)
    faster = {name.split(".")[0] for name, _ in head.named_parameters() if head.lr_factor(name) == 3.0}
    assert faster == ({"layers"} if factor == 3 else set())
    assert {head.lr_factor(name) for name, _ in head.named_parameters()} == {factor, 1.0}


def test_options_out_of_range_and_text_alone_are_refused():
    with pytest.raises(InputError, match=r"temperature is 0, expected more than 0"):
        make(temperature=0)
    with pytest.raises(InputError, match=r"^unimse-head needs text and audio features, got text"):
        UniMSEHead(SMALL, {"text": 8}, "msa")
