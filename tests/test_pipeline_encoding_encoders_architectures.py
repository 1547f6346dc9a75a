"""Contract of every architecture: in a batch, alone and in the untouched transformers model, an utterance has the same features.

The reference for audio runs in float64: in float32 transformers' own rounding takes up much of the 1e-5 that ours may be off."""

import numpy as np
import pytest
import torch
import transformers
from tiny_checkpoints import (
    AUDIO,
    POSITIONS,
    SIZES,
    TEXT,
    WORDS,
    write_audio_checkpoint,
    write_extractor,
    write_model,
    write_text_checkpoint,
)

from data.errors import InputError
from pipeline.encoding import encoders
from pipeline.settings import EncoderSettings

POSITIONS_OF = dict.fromkeys(TEXT, POSITIONS) | {"roberta": 38, "xlm-roberta": 38, "mpnet": 38, "ibert": 38, "xlnet": 200}
"""Longest text of each: two of 40 rows belong to padding where positions begin behind the padding index; XLNet has no limit."""
SETTINGS = EncoderSettings("x")


def texts(counts):
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, size=count)) for count in counts]


def noise(lengths):
    generator = np.random.default_rng(0)
    return [generator.normal(0, 0.1, length).astype(np.float32) for length in lengths]


@pytest.mark.parametrize("architecture", TEXT)
def test_text_in_a_batch_is_as_alone_and_as_in_transformers(tmp_path, architecture):
    source = write_text_checkpoint(tmp_path, architecture)
    encoder = encoders.make("text", source, SETTINGS)
    batch = [encoder.prepare(text) for text in texts([1, 3, 17, 198])]
    assert [item.truncated for item in batch] == [False, False, False, architecture != "xlnet"]
    assert batch[-1].length == POSITIONS_OF[architecture]
    reference = transformers.AutoModel.from_pretrained(source.folder).eval()
    for item, together in zip(batch, encoder.encode(batch), strict=True):
        with torch.no_grad():
            expected = reference(torch.from_numpy(item.values)[None]).last_hidden_state[0].numpy()
        np.testing.assert_allclose(together, expected, atol=1e-5, rtol=0)
        np.testing.assert_allclose(encoder.encode([item])[0], expected, atol=1e-5, rtol=0)


def test_architectures_that_mix_padding_into_words_are_not_batched(tmp_path):
    budgets = {
        name: encoders.make("text", write_text_checkpoint(tmp_path / name, name), SETTINGS).budget
        for name in ("bert", "fnet", "convbert")
    }
    assert budgets == {"bert": 1024, "fnet": 0, "convbert": 0}


@pytest.mark.parametrize("architecture", AUDIO)
def test_audio_in_a_batch_is_as_alone_and_as_in_transformers(tmp_path, architecture):
    source = write_audio_checkpoint(tmp_path, architecture)
    encoder = encoders.make("audio", source, SETTINGS)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(source.folder)
    reference = transformers.AutoModel.from_pretrained(source.folder).eval().double()
    waveforms = noise([3_000, 16_000, 50_000])
    batch = [encoder.prepare(waveform) for waveform in waveforms]
    for waveform, item, together in zip(waveforms, batch, encoder.encode(batch), strict=True):
        values = extractor(waveform, sampling_rate=16_000, return_tensors="pt")["input_values"]
        with torch.no_grad():
            expected = reference(values.double()).last_hidden_state[0].numpy()
        np.testing.assert_allclose(together, expected, atol=1e-5, rtol=0)
        np.testing.assert_allclose(encoder.encode([item])[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            lambda: transformers.WhisperConfig(
                vocab_size=60, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
                pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            ),
            r"a whisper model is an encoder with a decoder; expected is an encoder of waveforms",
        ),
        (lambda: transformers.Wav2Vec2BertConfig(**SIZES), r"a wav2vec2-bert model reads input_features; expected is an encoder"),
        (TEXT["bert"], r"a bert model reads input_ids; expected is an encoder of waveforms, like Data2Vec or wav2vec 2.0"),
        (
            lambda: transformers.Wav2Vec2Config(**SIZES, conv_dim=(16,) * 7, num_conv_pos_embedding_groups=4, add_adapter=True),
            r"this wav2vec2 model gives features of shape \(1, 3, 32\) where 24 rows are expected",
        ),
    ],
    ids=["whisper", "spectrograms", "text", "adapter"],
)  # fmt: skip
def test_audio_models_that_cannot_be_exact_are_refused_in_one_line(tmp_path, config, message):
    source = write_model(tmp_path, config())
    write_extractor(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        encoders.make("audio", source, SETTINGS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            lambda: transformers.T5Config(vocab_size=60, d_model=32, num_layers=2, num_heads=2, d_ff=64, d_kv=16),
            r"a t5 model is an encoder with a decoder; expected is an encoder of texts, like BERT or RoBERTa",
        ),
        (AUDIO["data2vec-audio"], r"a data2vec-audio model reads input_values; expected is an encoder of texts"),
        (lambda: transformers.ViTConfig(**SIZES, image_size=32), r"a vit model reads pixel_values; expected is an encoder of texts"),
        (
            lambda: transformers.CLIPConfig(text_config=SIZES, vision_config={**SIZES, "image_size": 32, "patch_size": 16}),
            r"a clip model (reads|cannot be used as this encoder)",
        ),
    ],
    ids=["t5", "audio", "images", "images and text"],
)
def test_models_that_read_no_text_are_refused_in_one_line(tmp_path, config, message):
    with pytest.raises(InputError, match=message) as caught:
        encoders.make("text", write_model(tmp_path, config()), SETTINGS)
    assert "\n" not in str(caught.value)


def test_scaled_dot_product_attention_is_used_where_there_is_one(tmp_path):
    made = {
        name: encoders.make("text", write_text_checkpoint(tmp_path / name, name), SETTINGS)
        for name in ("bert", "mpnet", "deberta-v2", "xlnet")
    }
    assert {name: encoder.config._attn_implementation for name, encoder in made.items()} == {
        "bert": "sdpa", "mpnet": "eager", "deberta-v2": "eager", "xlnet": "eager"
    }  # fmt: skip
    assert made["mpnet"].products.endswith(", eager attention")
    assert "attention" not in made["bert"].products


def test_a_hidden_layer_that_is_shorter_than_the_clip_is_refused(tmp_path):
    """SEW's blocks run at half the frame rate; only its last hidden state has a row for each frame."""
    source = write_audio_checkpoint(tmp_path, "sew")
    with pytest.raises(InputError, match=r"this sew model gives features of shape \(1, 12, 32\) where 24 rows are expected"):
        encoders.make("audio", source, EncoderSettings("x", layers="1"))


def test_a_model_without_a_pooler_is_refused_for_that_pooling_only(tmp_path):
    source = write_text_checkpoint(tmp_path, "distilbert")
    with pytest.raises(InputError, match=r"a distilbert model has no pooler. Set pooling = mean or cls"):
        encoders.make("sentence", source, EncoderSettings("x", pooling="pooler"))
    encoder = encoders.make("sentence", source, EncoderSettings("x", pooling="mean"))
    batch = [encoder.prepare(text) for text in texts([2, 9])]
    reference = transformers.AutoModel.from_pretrained(source.folder).eval()
    for item, embedding in zip(batch, encoder.encode(batch), strict=True):
        with torch.no_grad():
            expected = reference(torch.from_numpy(item.values)[None]).last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(embedding[0], expected, atol=1e-5, rtol=0)


def test_a_text_without_any_token_is_refused(tmp_path):
    source = write_text_checkpoint(tmp_path, "gpt2")
    encoder = encoders.make("text", source, SETTINGS)
    encoder.tokenizer._tokenizer.post_processor = None
    with pytest.raises(InputError, match=r"makes no token of this text"):
        encoder.prepare("")
