"""An utterance's features are what the untouched transformers model gives for it alone and unpadded, whatever batch it was in.

For audio the reference runs in float64: in float32 transformers' own rounding takes up most of the 1e-5 that ours may be off."""

import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from pipeline.encoding import encoders
from pipeline.encoding.audio_encoder import AudioEncoder
from pipeline.encoding.checkpoints import Source
from pipeline.encoding.text_encoder import SentenceEncoder, TextEncoder
from pipeline.settings import SAMPLE, EncoderSettings

TINY_AUDIO = Source("tiny-data2vec", SAMPLE / "tiny-data2vec", "", False)
SENTENCE = "the quick brown fox jumps over a lazy dog while nobody in this quiet town looks up from lunch"
WORDS = SENTENCE.split()


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return _text_checkpoint(tmp_path_factory.mktemp("bert"), transformers.BertConfig, transformers.BertModel)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return _text_checkpoint(
        tmp_path_factory.mktemp("roberta"),
        transformers.RobertaConfig,
        transformers.RobertaModel,
        pad_token_id=0,
        max_position_embeddings=40,
    )


def _text_checkpoint(folder: Path, config: type, model: type, **more: int) -> Source:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": len(vocabulary)}
    model(config(**size, **more)).save_pretrained(folder)
    return Source(folder.name, folder, "", True)


def _reference(source: Source) -> torch.nn.Module:
    return transformers.AutoModel.from_pretrained(source.folder).eval()


@pytest.fixture(scope="module")
def audio_encoder() -> AudioEncoder:
    return AudioEncoder(TINY_AUDIO, EncoderSettings("tiny-data2vec"), "cpu", "float32")


@pytest.fixture(scope="module")
def audio_reference() -> torch.nn.Module:
    return _reference(TINY_AUDIO).double()


def _alone(reference: torch.nn.Module, waveform: np.ndarray) -> np.ndarray:
    extractor = transformers.AutoFeatureExtractor.from_pretrained(TINY_AUDIO.folder)
    values = extractor(waveform, sampling_rate=16_000, return_tensors="pt")["input_values"]
    with torch.no_grad():
        return reference(values.double()).last_hidden_state[0].numpy()


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(400, 20_000), min_size=1, max_size=6), seed=st.integers(0, 2**31))
def test_audio_features_do_not_depend_on_batch_mates_or_order(audio_encoder, audio_reference, lengths, seed):
    generator = np.random.default_rng(seed)
    waveforms = [generator.normal(0, 0.1, length).astype(np.float32) for length in lengths]
    batch = [audio_encoder.prepare(waveform) for waveform in waveforms]
    for waveform, features in zip(waveforms, audio_encoder.encode(batch), strict=True):
        expected = _alone(audio_reference, waveform)
        assert features.shape == expected.shape
        np.testing.assert_allclose(features, expected, atol=1e-5, rtol=0)


def test_padding_leaks_without_our_hook_so_the_hook_is_what_keeps_the_contract(audio_reference):
    generator = np.random.default_rng(0)
    short, long = (generator.normal(0, 1, length).astype(np.float32) for length in (4_000, 20_000))
    values, mask = torch.zeros(2, 20_000, dtype=torch.float64), torch.zeros(2, 20_000, dtype=torch.long)
    for row, waveform in enumerate((short, long)):
        values[row, : len(waveform)], mask[row, : len(waveform)] = torch.from_numpy(waveform), 1
    with torch.no_grad():
        batched = audio_reference(values, attention_mask=mask).last_hidden_state[0]
        alone = audio_reference(values[:1, :4_000]).last_hidden_state[0]
    assert (batched[: len(alone)] - alone).abs().max() > 1e-2


def test_clips_of_a_few_frames_are_as_exact_as_others(audio_encoder, audio_reference):
    """In float32 some of these differ from float64 by more than 1e-5, because the model amplifies the rounding."""
    generator = np.random.default_rng(0)
    for samples in [400] * 200 + [720, 1_040] * 20:
        waveform = generator.normal(0, 0.1, samples).astype(np.float32)
        (features,) = audio_encoder.encode([audio_encoder.prepare(waveform)])
        np.testing.assert_allclose(features, _alone(audio_reference, waveform), atol=1e-6, rtol=0)


def test_frame_count_follows_the_convolution_arithmetic(audio_encoder):
    assert [audio_encoder.frames(samples) for samples in (96_000, 400, 719, 720)] == [299, 1, 1, 2]
    waveform = np.random.default_rng(0).normal(0, 0.1, 96_000).astype(np.float32)
    item = audio_encoder.prepare(waveform)
    assert item.length == 299 == len(audio_encoder.encode([item])[0])


def test_too_short_audio_is_refused(audio_encoder):
    with pytest.raises(InputError, match="399 samples at 16000 Hz are too short"):
        audio_encoder.prepare(np.ones(399, np.float32))


@pytest.mark.parametrize("checkpoint", ["bert", "roberta"])
@settings(max_examples=10, deadline=None)
@given(texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), min_size=1, max_size=6))
def test_text_features_do_not_depend_on_batch_mates_or_order(request_checkpoint, checkpoint, texts):
    encoder, reference = request_checkpoint[checkpoint]
    batch = [encoder.prepare(text) for text in texts]
    for item, features in zip(batch, encoder.encode(batch), strict=True):
        with torch.no_grad():
            expected = reference(torch.from_numpy(item.values)[None]).last_hidden_state[0].numpy()
        np.testing.assert_allclose(features, expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def request_checkpoint(bert: Source, roberta: Source) -> dict[str, tuple[TextEncoder, torch.nn.Module]]:
    return {
        name: (TextEncoder(source, EncoderSettings("x"), "cpu", "float32"), _reference(source))
        for name, source in (("bert", bert), ("roberta", roberta))
    }


def test_layer_setting_gives_that_hidden_state(bert):
    encoder = TextEncoder(bert, EncoderSettings("x", layers="1"), "cpu", "float32")
    item = encoder.prepare("the quick fox")
    with torch.no_grad():
        states = _reference(bert)(torch.from_numpy(item.values)[None], output_hidden_states=True).hidden_states
    np.testing.assert_allclose(encoder.encode([item])[0], states[1][0].numpy(), atol=1e-5)
    with pytest.raises(InputError, match=r"layers is '3', expected 0 \(embeddings\) to 2 for bert\d+, or -1 \(the last\) to -3"):
        TextEncoder(bert, EncoderSettings("x", layers="3"), "cpu", "float32")


def test_text_is_cased_as_asked_before_it_is_tokenised(bert):
    ids = {
        case: TextEncoder(bert, EncoderSettings("x", case=case), "cpu", "float32").prepare("THE QUICK fox").values.tolist()
        for case in ("keep", "lower", "sentence")
    }
    the, quick, fox, unknown = 4, 5, 7, 3
    assert ids == {"keep": [1, unknown, unknown, fox, 2], "lower": [1, the, quick, fox, 2], "sentence": [1, unknown, quick, fox, 2]}


def test_a_text_longer_than_the_model_is_cut_and_marked(roberta):
    encoder = TextEncoder(roberta, EncoderSettings("x"), "cpu", "float32")
    assert encoder.max_tokens == 39  # 40 positions, of which the first belongs to padding
    item = encoder.prepare(" ".join(["fox"] * 50))
    assert (item.truncated, item.length, item.values[-1]) == (True, 39, 2)
    assert encoder.encode([item])[0].shape == (39, 32)
    assert not encoder.prepare("fox").truncated


def test_sentence_embedding_is_the_mean_over_real_tokens(bert):
    encoder = SentenceEncoder(bert, EncoderSettings("x"), "cpu", "float32")
    batch = [encoder.prepare(text) for text in ("the dog", "a lazy dog looks up from lunch in town")]
    for item, embedding in zip(batch, encoder.encode(batch), strict=True):
        with torch.no_grad():
            expected = _reference(bert)(torch.from_numpy(item.values)[None]).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(embedding[0], expected.numpy(), atol=1e-5)


def test_a_pooler_without_weights_in_the_checkpoint_is_refused(bert, tmp_path):
    folder = tmp_path / "poolerless"
    shutil.copytree(bert.folder, folder)
    transformers.BertModel.from_pretrained(bert.folder, add_pooling_layer=False).save_pretrained(folder)
    source = Source("poolerless", folder, "", True)
    assert TextEncoder(source, EncoderSettings("x"), "cpu", "float32").dim == 32
    with pytest.raises(InputError, match=r"lacks weights of its own architecture \(pooler"):
        SentenceEncoder(source, EncoderSettings("x", pooling="pooler"), "cpu", "float32")


def test_a_checkpoint_that_lacks_weights_is_refused(bert, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "partial"
    shutil.copytree(bert.folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"they would be random.*complete checkpoint"):
        TextEncoder(Source("partial", folder, "", True), EncoderSettings("x"), "cpu", "float32")


def test_architectures_that_cannot_be_batched_exactly_run_one_at_a_time(tmp_path):
    torch.manual_seed(0)
    size = {"conv_dim": (16,) * 7, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**size, num_conv_pos_embedding_groups=4)).eval()
    model.save_pretrained(tmp_path)
    shutil.copy(TINY_AUDIO.folder / "preprocessor_config.json", tmp_path)
    encoder = AudioEncoder(Source("w2v", tmp_path, "", True), EncoderSettings("x"), "cpu", "float32")
    generator = np.random.default_rng(0)
    batch = [encoder.prepare(generator.normal(0, 0.1, length).astype(np.float32)) for length in (2_000, 9_000)]
    for item, features in zip(batch, encoder.encode(batch), strict=True):
        with torch.no_grad():
            expected = model(torch.from_numpy(item.values)[None]).last_hidden_state[0].numpy()
        np.testing.assert_allclose(features, expected, atol=1e-5)


def test_bfloat16_is_close_but_not_equal(audio_encoder):
    short = AudioEncoder(TINY_AUDIO, EncoderSettings("tiny-data2vec"), "cpu", "bfloat16")
    item = audio_encoder.prepare(np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32))
    exact, rounded = audio_encoder.encode([item])[0], short.encode([item])[0]
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.1


def test_an_encoder_is_kept_until_another_one_is_loaded(bert):
    text = EncoderSettings(str(bert.folder))
    encoders.drop()
    assert encoders.kept_on() == ""
    one, short = (encoders.load("text", text, "cpu", precision) for precision in ("float32", "bfloat16"))
    assert encoders.load("text", text, "cpu", "float32") is one
    assert encoders.load("text", text, "cpu", "bfloat16") is short
    assert encoders.kept_on() == "cpu"
    models = [weakref.ref(encoder.model) for encoder in (one, short)]
    del one, short
    speech = weakref.ref(encoders.load("audio", EncoderSettings("tiny-data2vec"), "cpu", "float32").model)
    assert [model() for model in models] == [None, None]
    assert speech() is not None
    encoders.drop()
    assert speech() is None
