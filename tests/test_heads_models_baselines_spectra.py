"""SPECTRA: one attention over both modalities, vectors that tell them apart, and the one position that is read."""

from dataclasses import replace

import pytest
import torch
from batches import DIMS, random_batch
from torch import Tensor, nn

from data.tensors import Batch
from heads.models.baselines.spectra import SPECTRA, SPECTRAOptions
from heads.models.parts.layers import Attention

SMALL = SPECTRAOptions(heads=2, ffn=16)


def make(task: str = "both", seed: int = 0, dims: dict[str, int] = DIMS, **options: object) -> SPECTRA:
    torch.manual_seed(seed)
    return SPECTRA(replace(SMALL, **options), dims, task)


def changed(batch: Batch, modality: str, values: Tensor) -> Batch:
    return batch._replace(features={**batch.features, modality: values})


def test_one_attention_reads_text_and_audio_in_one_softmax():
    head, batch, seen = make().eval(), random_batch(), []
    attentions = [layer for layer in head.modules() if isinstance(layer, Attention)]
    attentions[0].register_forward_pre_hook(lambda _, given: seen.extend(given))
    head(batch)
    _, source, mask = seen
    assert len(attentions) == 1
    assert source.shape == (3, 2 * 12, 8)
    assert torch.equal(mask[:, :10:2], batch.masks["text"])
    assert not mask[:, 10::2].any()
    assert torch.equal(mask[:, 1::2], batch.masks["audio"])


@pytest.mark.parametrize("modality", ["text", "audio"])
def test_steps_of_each_modality_attend_to_the_other(modality):
    head, batch = make().eval(), random_batch({"text": (5,), "audio": (9,)})
    outputs = [head.layers[0](*head.sequence(each)) for each in (batch, changed(batch, modality, -batch.features[modality]))]
    other = slice(1, None, 2) if modality == "text" else slice(0, 10, 2)
    assert (outputs[0] - outputs[1])[:, other].abs().amax(-1).min() > 1e-5


def test_each_modality_carries_its_vector():
    head, batch = make(), random_batch({"text": (5,), "audio": (9,)})
    sequence, _ = head.sequence(batch)
    torch.testing.assert_close(sequence[0, :10:2], batch.features["text"][0] + head.types[0])
    torch.testing.assert_close(sequence[0, 1::2], batch.features["audio"][0] + head.types[1])


def test_swapping_the_vectors_changes_the_output():
    head, batch = make().eval(), random_batch()
    expected = head(batch).sentiment
    head.types = nn.Parameter(head.types.flip(0))
    assert (head(batch).sentiment - expected).abs().min() > 1e-5


@pytest.mark.parametrize("layers", [1, 2])
def test_the_prediction_is_that_of_the_first_position(layers):
    head, batch = make(layers=layers).eval(), random_batch()
    hidden, mask = head.sequence(batch)
    for layer in head.layers:
        hidden = layer(hidden, mask)
    inner = nn.functional.gelu(hidden[:, 0] @ head.hidden[0].weight.t() + head.hidden[0].bias)
    torch.testing.assert_close(head(batch).sentiment, head.outputs["msa"](inner)[:, 0])
    torch.testing.assert_close(head(batch).emotion_logits, head.outputs["mer"](inner))


def test_the_order_of_frames_and_of_tokens_behind_the_first_does_not_matter():
    head, batch = make().eval(), random_batch({"text": (5, 5), "audio": (9, 9)})
    text, audio = batch.features["text"], batch.features["audio"]
    expected = head(batch).sentiment
    torch.testing.assert_close(head(changed(batch, "audio", audio.flip(1))).sentiment, expected)
    torch.testing.assert_close(head(changed(batch, "text", torch.cat([text[:, :1], text[:, 1:].flip(1)], 1))).sentiment, expected)
    assert (head(changed(batch, "text", text.flip(1))).sentiment - expected).abs().min() > 1e-5


def test_modalities_of_unlike_width_are_brought_to_that_of_text():
    dims = {"text": 8, "audio": 5}
    head, batch = make(dims=dims), random_batch({"text": (5,), "audio": (9,)}, dims)
    sequence, _ = head.sequence(batch)
    layer = head.project["audio"]
    torch.testing.assert_close(sequence[0, :10:2], batch.features["text"][0] + head.types[0])
    torch.testing.assert_close(sequence[0, 1::2], batch.features["audio"][0] @ layer.weight.t() + layer.bias + head.types[1])
