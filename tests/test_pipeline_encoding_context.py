"""Context: which utterances precede another, how an encoder reads them with it, and that only the own rows remain."""

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tiny_checkpoints import AUDIO, WORDS, write_audio_checkpoint, write_model, write_text_checkpoint, write_tokenizer
from tiny_checkpoints import TEXT as TEXT_MODELS
from tokenizers.pre_tokenizers import ByteLevel

from data.errors import InputError
from data.probe import SHORTEST_S
from pipeline.encoding.audio_encoder import AudioEncoder
from pipeline.encoding.checkpoints import Source
from pipeline.encoding.context import (
    SpeechBefore,
    audio_inputs,
    expect_whole_recordings,
    expect_whole_videos,
    most_clips,
    pair_layout,
    preceding,
    text_inputs,
)
from pipeline.encoding.text_encoder import SentenceEncoder, TextEncoder
from pipeline.settings import SAMPLE, EncoderSettings

LAYOUTS = {"bert": (1, 1), "roberta": (1, 2), "mpnet": (1, 2), "xlnet": (0, 1)}
"""Architecture → special tokens before the context, and between context and text."""
SETTINGS = EncoderSettings("x", context=3)
TINY_AUDIO = Source("tiny-data2vec", SAMPLE / "tiny-data2vec", "", False)
HOP = 320
SOME_WORDS = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return {name: write_text_checkpoint(tmp_path_factory.mktemp(name), name) for name in LAYOUTS}


@pytest.fixture(scope="module")
def tokenizers(sources):
    return {name: transformers.AutoTokenizer.from_pretrained(source.folder) for name, source in sources.items()}


def text_encoder(source, settings):
    return TextEncoder(source, settings, "cpu", "float32")


def table(*rows):
    return pd.DataFrame(rows, columns=["video_id", "position", "speaker"])


def words(seed, count):
    return " ".join(np.random.default_rng(seed).choice(WORDS, size=count))


def test_the_nearest_utterances_of_the_same_video_precede_an_utterance():
    utterances = table(("a", 0, ""), ("b", 0, ""), ("a", 2, ""), ("a", 1, ""), ("b", 1, ""), ("a", 3, ""))
    assert list(preceding(utterances, 2)) == [(), (), (0, 3), (0,), (1,), (3, 2)]
    assert list(preceding(utterances, 1)) == [(), (), (3,), (0,), (1,), (2,)]
    assert list(preceding(utterances, 9))[5] == (0, 3, 2)
    assert list(preceding(utterances, 0)) == [()] * 6
    assert list(preceding(utterances.iloc[:0], 2)) == []


def test_utterances_of_another_speaker_are_passed_over_and_unknown_speakers_fit_to_all():
    utterances = table(("a", 0, "ann"), ("a", 1, "bob"), ("a", 2, "ann"), ("a", 3, ""), ("a", 4, "bob"), ("a", 5, ""))
    assert list(preceding(utterances, 2)) == [(), (), (0,), (1, 2), (1, 3), (3, 4)]
    assert list(preceding(utterances, 9)) == [(), (), (0,), (0, 1, 2), (1, 3), (0, 1, 2, 3, 4)]


@given(
    rows=st.lists(st.tuples(st.sampled_from("vw"), st.integers(0, 5), st.sampled_from(["", "ann", "bob"])), max_size=12),
    limit=st.integers(0, 4),
)
def test_preceding_utterances_are_those_that_a_search_backwards_finds(rows, limit):
    expected = []
    for place, (video, position, speaker) in enumerate(rows):
        earlier = sorted((other[1], n) for n, other in enumerate(rows) if other[0] == video and (other[1], n) < (position, place))
        fitting = [n for _, n in earlier if speaker in ("", rows[n][2]) or not rows[n][2]]
        expected.append(tuple(fitting[len(fitting) - min(limit, len(fitting)) :]))
    assert list(preceding(table(*rows), limit)) == expected


def test_a_video_in_two_splits_is_refused_by_name():
    utterances = pd.DataFrame({"video_id": ["a", "b", "a", "b"], "split": ["train", "train", "train", "test"]})
    expect_whole_videos(utterances.iloc[:3], "mosi", "context")
    with pytest.raises(InputError) as caught:
        expect_whole_videos(utterances, "mosi", "context")
    assert str(caught.value) == (
        "mosi: video 'b' is in several splits (train, test), so context would bring utterances of one split into another. Put each"
        " video into one split, or set context = 0 in luigi.cfg."
    )


def test_a_recording_in_two_splits_is_refused_if_it_is_cut():
    utterances = pd.DataFrame({"media": ["a", "a"], "start_s": [0.0, 1.0], "end_s": [1.0, 2.0], "split": ["train", "test"]})
    with pytest.raises(InputError, match=r"^mine: recording 'a' is in several splits \(train, test\), .* or set context_s = 0"):
        expect_whole_recordings(utterances, "mine", "context_s")
    expect_whole_recordings(utterances.assign(start_s=np.nan, end_s=np.nan), "mine", "context_s")
    expect_whole_recordings(utterances.assign(split=""), "mine", "context_s")


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_the_encoding_of_a_pair_is_found_out(tokenizers, architecture):
    assert pair_layout(tokenizers[architecture], "x") == LAYOUTS[architecture]


def test_the_tokenizers_of_transformers_encode_pairs_as_the_tiny_ones_do():
    letters = {letter: 3 + number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    pieces = ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "\N{LOWER ONE EIGHTH BLOCK}a", "\N{LOWER ONE EIGHTH BLOCK}b")
    own = {
        "bert": transformers.BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "b": 5}),
        "roberta": transformers.RobertaTokenizer(vocab={"<s>": 0, "<pad>": 1, "</s>": 2} | letters, merges=[]),
        "mpnet": transformers.MPNetTokenizer(vocab={"<s>": 0, "<pad>": 1, "</s>": 2, "[UNK]": 3, "a": 4, "b": 5}),
        "xlnet": transformers.XLNetTokenizer(vocab=[(piece, -float(number)) for number, piece in enumerate(pieces)]),
    }
    found = {name: pair_layout(tokenizer, name) for name, tokenizer in own.items()}
    assert found == LAYOUTS
    made = {name: text_inputs(tokenizer, found[name], "a", ["b"], 40) for name, tokenizer in own.items()}
    assert {name: one.own.tolist() for name, one in made.items()} == {
        "bert": [0, 3, 4], "roberta": [0, 4, 5], "mpnet": [0, 4, 5], "xlnet": [2, 3, 4]
    }  # fmt: skip
    assert {name: one.types.tolist() for name, one in made.items()} == {
        "bert": [0, 0, 0, 1, 1], "roberta": [0] * 6, "mpnet": [0] * 6, "xlnet": [0, 0, 1, 1, 2]
    }  # fmt: skip


@pytest.mark.parametrize("pair", ["$A $B:1", "[CLS] $A $B:1", "[CLS] $A [SEP] $B [SEP] [SEP]"])
def test_a_tokenizer_without_an_encoding_of_pairs_is_refused(tmp_path, pair):
    source = write_model(tmp_path, TEXT_MODELS["bert"]())
    write_tokenizer(tmp_path, pair=pair)
    assert text_encoder(source, EncoderSettings("x")).dim == 32
    with pytest.raises(InputError, match=rf"^{tmp_path}: its tokenizer does not encode two texts as one .* context = 0 in luigi\.cfg"):
        text_encoder(source, SETTINGS)


@pytest.mark.parametrize("architecture", LAYOUTS)
@given(context=st.lists(SOME_WORDS, max_size=3), text=SOME_WORDS, max_tokens=st.integers(4, 40))
def test_inputs_are_those_of_transformers_with_the_context_cut_on_its_left(tokenizers, architecture, context, text, max_tokens):
    tokenizer = tokenizers[architecture]
    lead, between = LAYOUTS[architecture]
    made = text_inputs(tokenizer, pair_layout(tokenizer, "x"), text, context, max_tokens)
    before = " ".join(one for one in context if one and text)
    alone = tokenizer(text)["input_ids"]
    if len(alone) + between >= max_tokens or not before:
        expected = tokenizer(text, truncation=True, max_length=max_tokens, return_token_type_ids=True)
        assert made.own.tolist() == list(range(min(len(alone), max_tokens)))
    else:
        tokenizer.truncation_side = "left"
        expected = tokenizer(before, text, truncation="only_first", max_length=max_tokens, return_token_type_ids=True)
        tokenizer.truncation_side = "right"
        assert made.ids[made.own].tolist() == alone
        assert made.own.tolist() == [*range(lead), *range(len(made.ids) - len(alone) + lead, len(made.ids))]
    assert (made.ids.tolist(), made.types.tolist()) == (expected["input_ids"], expected["token_type_ids"])
    assert made.is_cut == (len(alone) > max_tokens)
    assert made.is_context_cut == (bool(before) and len(alone) + between + len(before.split()) > max_tokens)


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_own_rows_in_a_batch_are_as_alone_and_as_in_transformers(sources, tokenizers, architecture):
    encoder = text_encoder(sources[architecture], SETTINGS)
    reference = transformers.AutoModel.from_pretrained(sources[architecture].folder).eval()
    lead, _ = LAYOUTS[architecture]
    given = [(words(0, 5), []), (words(1, 1), [words(2, 2)]), (words(3, 9), [words(4, 3), "", words(5, 6)]), ("", [words(6, 20)])]
    batch = [encoder.prepare(text, context) for text, context in given]
    for (text, context), item, together in zip(given, batch, encoder.encode(batch), strict=True):
        texts = [" ".join(one for one in context if one), text] if context and text else [text]
        inputs = tokenizers[architecture](*texts, return_token_type_ids=True, return_tensors="pt")
        with torch.no_grad():
            hidden = reference(**inputs).last_hidden_state[0].numpy()
        tail = len(text.split()) + 2 - lead
        expected = np.concatenate([hidden[:lead], hidden[len(hidden) - tail :]])
        assert item.length == len(expected) == len(text.split()) + 2
        np.testing.assert_allclose(together, expected, atol=1e-5, rtol=0)
        np.testing.assert_allclose(encoder.encode([item])[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_context_changes_the_features_of_the_own_tokens(sources, architecture):
    encoder = text_encoder(sources[architecture], SETTINGS)
    alone, one, other = (encoder.encode([encoder.prepare("word1 word2", context)])[0] for context in ([], ["word3"], ["word4"]))
    assert alone.shape == one.shape == other.shape == (4, 32)
    assert min(np.abs(alone - one).max(), np.abs(one - other).max()) > 1e-3


def test_token_types_are_given_to_models_that_have_them(sources):
    has_types = {name: text_encoder(source, SETTINGS)._has_types for name, source in sources.items()}
    assert has_types == {"bert": True, "roberta": True, "mpnet": False, "xlnet": True}
    item = text_encoder(sources["bert"], SETTINGS).prepare("word1 word2", ["word3"])
    assert item.types.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_model_with_one_type_gets_none(tmp_path):
    source = write_model(tmp_path, transformers.RobertaConfig(**TEXT_MODELS["roberta"]().to_dict() | {"type_vocab_size": 1}))
    write_tokenizer(tmp_path)  # types 0 and 1
    encoder = text_encoder(source, SETTINGS)
    assert encoder.prepare("word1", ["word2"]).types is None
    assert np.isfinite(encoder.encode([encoder.prepare("word1", ["word2"])])[0]).all()


def test_every_text_of_a_context_is_cased_like_the_text_itself(sources):
    settings = EncoderSettings("x", case="lower", context=1)
    encoder = text_encoder(sources["bert"], settings)
    cased, plain = encoder.prepare("WORD1", ["WORD2 Word3", "WORD4"]), encoder.prepare("word1", ["word2 word3", "word4"])
    assert cased.values.tolist() == plain.values.tolist() == [1, 6, 7, 8, 2, 5, 2]


def test_without_the_setting_a_context_is_not_read(sources):
    encoder = text_encoder(sources["bert"], EncoderSettings("x"))
    assert encoder.prepare("word1", ["word2"]).values.tolist() == [1, 5, 2]


def test_sentence_embeddings_have_no_context(sources):
    encoders = [SentenceEncoder(sources["bert"], settings, "cpu", "float32") for settings in (SETTINGS, EncoderSettings("x"))]
    one, other = (encoder.encode([encoder.prepare("word1 word2")])[0] for encoder in encoders)
    np.testing.assert_array_equal(one, other)
    assert encoders[0].context == 0


@pytest.fixture(scope="module")
def audio_encoder():
    return AudioEncoder(TINY_AUDIO, EncoderSettings("tiny-data2vec"), "cpu", "float32")


def noise(seed, samples):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def clip(video="v", speaker="", start_s=np.nan, end_s=np.nan):
    return pd.Series({"video_id": video, "speaker": speaker, "start_s": start_s, "end_s": end_s})


@pytest.mark.parametrize("architecture", AUDIO)
def test_own_frames_are_as_many_as_those_of_the_clip_alone_in_every_architecture(tmp_path, architecture):
    encoder = AudioEncoder(write_audio_checkpoint(tmp_path, architecture), EncoderSettings("x"), "cpu", "float32")
    for before, samples in ((0, 1_000), (319, 1_039), (320, 1_040), (5_000, 9_001)):
        item = encoder.prepare(noise(0, samples), noise(1, before))
        assert item.length == encoder.frames(samples)
        assert item.cost == before // HOP + item.length
        assert len(item.values) == before // HOP * HOP + samples
        assert encoder.encode([item])[0].shape == (item.length, encoder.dim)


@given(before=st.integers(0, 50_000), samples=st.integers(400, 50_000))
def test_own_frames_read_the_samples_that_they_read_alone(audio_encoder, before, samples):
    inputs = audio_inputs(np.arange(samples), np.arange(-before, 0), audio_encoder.frames, HOP)
    first = before // HOP * HOP
    np.testing.assert_array_equal(inputs.samples, np.arange(-first, samples))
    total = audio_encoder.frames(len(inputs.samples))
    assert inputs.own.tolist() == list(range(total - audio_encoder.frames(samples), total))
    assert inputs.samples[inputs.own[0] * HOP] == 0


def test_the_front_end_gives_own_frames_what_it_gives_alone():
    front_end = transformers.AutoModel.from_pretrained(TINY_AUDIO.folder).eval().feature_extractor
    waveform, before = noise(0, 8_000), noise(1, 3_333)
    inputs = audio_inputs(waveform, before, lambda samples: (samples - 400) // 320 + 1, HOP)
    with torch.no_grad():
        together, alone = (front_end(torch.from_numpy(one)[None])[0].T.numpy() for one in (inputs.samples, waveform))
    np.testing.assert_allclose(together[inputs.own], alone, atol=1e-5, rtol=0)


def test_own_frames_in_a_batch_are_as_alone_and_as_in_transformers(audio_encoder):
    extractor = transformers.AutoFeatureExtractor.from_pretrained(TINY_AUDIO.folder)
    reference = transformers.AutoModel.from_pretrained(TINY_AUDIO.folder).eval().double()
    given = [(8_000, 0), (6_000, 9_600), (20_000, 4_000), (400, 640), (500, 321)]
    parts = [(noise(seed, samples), noise(100 + seed, before)) for seed, (samples, before) in enumerate(given)]
    batch = [audio_encoder.prepare(*part) for part in parts]
    for (waveform, before), item, together in zip(parts, batch, audio_encoder.encode(batch), strict=True):
        joined = np.concatenate([before[len(before) % HOP :], waveform])
        values = extractor(joined, sampling_rate=16_000, return_tensors="pt")["input_values"]
        with torch.no_grad():
            expected = reference(values.double()).last_hidden_state[0].numpy()[len(before) // HOP :]
        assert item.length == len(expected)
        np.testing.assert_allclose(together, expected, atol=1e-5, rtol=0)
        np.testing.assert_allclose(audio_encoder.encode([item])[0], expected, atol=1e-5, rtol=0)


def test_of_a_recording_the_sound_before_the_start_is_the_context():
    recording, before = np.arange(100_000, dtype=np.float32), SpeechBefore(1.0)
    for start_s, end_s, first in ((0.0, 0.5, 0), (0.25, 2.0, 0), (1.5, 2.0, 8_000), (np.nan, 1.0, 0), (4.0, np.nan, 48_000)):
        start = 0 if np.isnan(start_s) else round(start_s * 16_000)
        found = before(clip(start_s=start_s, end_s=end_s), recording, recording[start : start + 8_000])
        np.testing.assert_array_equal(found, recording[first:start])


def test_clips_of_a_video_are_joined_in_order_up_to_the_seconds_of_context():
    before = SpeechBefore(0.0005)  # 8 samples
    pieces = [np.full(length, number, np.float32) for number, length in enumerate((3, 4, 5, 20, 1))]
    found = [before(clip("v"), piece, piece).tolist() for piece in pieces]
    assert found == [[], [0] * 3, [0] * 3 + [1] * 4, [1] * 3 + [2] * 5, [3] * 8]
    assert before(clip("w"), pieces[0], pieces[0]).tolist() == []


@given(
    clips=st.lists(st.tuples(st.sampled_from("vw"), st.sampled_from(["", "ann", "bob"]), st.integers(1, 30)), max_size=20),
    limit=st.integers(1, 40),
)
def test_speech_before_is_that_of_preceding_clips_and_bounded(clips, limit):
    clips = sorted(clips, key=lambda one: one[0])
    utterances = pd.DataFrame(clips, columns=["video_id", "speaker", "samples"])
    utterances["position"] = utterances.groupby("video_id").cumcount()
    pieces = [np.full(samples, number, np.float32) for number, samples in enumerate(utterances["samples"])]
    before = SpeechBefore(limit / 16_000)
    for places, (video, speaker, _), piece in zip(preceding(utterances, len(clips)), clips, pieces, strict=True):
        expected = np.concatenate([np.zeros(0), *(pieces[place] for place in places)])[-limit:]
        assert before(clip(video, speaker), piece, piece).tolist() == expected.tolist()
        assert sum(len(one) for _, one in before._clips) < 2 * limit * 3


def test_no_more_clips_count_than_the_seconds_can_reach_into():
    assert most_clips(1.0) == 1 / SHORTEST_S == 40
    assert most_clips(0.51) == 21
