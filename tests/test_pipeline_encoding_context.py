"""Context: which utterances precede another, how an encoder reads them with it, and that only the own rows remain."""

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tiny_checkpoints import TEXT as TEXT_MODELS
from tiny_checkpoints import WORDS, write_model, write_text_checkpoint, write_tokenizer

from data.errors import InputError
from pipeline.encoding.context import expect_whole_videos, pair_layout, preceding, text_inputs
from pipeline.encoding.encoders import SentenceEncoder, TextEncoder
from pipeline.settings import EncoderSettings

LAYOUTS = {"bert": (1, 1), "roberta": (1, 2), "mpnet": (1, 2), "xlnet": (0, 1)}
"""Architecture → special tokens before the context, and between context and text."""
SETTINGS = EncoderSettings("x", context=3)
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
    assert preceding(utterances, 2) == [(), (), (0, 3), (0,), (1,), (3, 2)]
    assert preceding(utterances, 1) == [(), (), (3,), (0,), (1,), (2,)]
    assert preceding(utterances, 9)[5] == (0, 3, 2)
    assert preceding(utterances, 0) == [()] * 6
    assert preceding(utterances.iloc[:0], 2) == []


def test_utterances_of_another_speaker_are_passed_over_and_unknown_speakers_fit_to_all():
    utterances = table(("a", 0, "ann"), ("a", 1, "bob"), ("a", 2, "ann"), ("a", 3, ""), ("a", 4, "bob"), ("a", 5, ""))
    assert preceding(utterances, 2) == [(), (), (0,), (1, 2), (1, 3), (3, 4)]
    assert preceding(utterances, 9) == [(), (), (0,), (0, 1, 2), (1, 3), (0, 1, 2, 3, 4)]


def test_a_video_in_two_splits_is_refused_by_name():
    utterances = pd.DataFrame({"video_id": ["a", "b", "a", "b"], "split": ["train", "train", "train", "test"]})
    expect_whole_videos(utterances.iloc[:3], "mosi", "context")
    with pytest.raises(InputError) as caught:
        expect_whole_videos(utterances, "mosi", "context")
    assert str(caught.value) == (
        "mosi: video 'b' is in several splits (train, test), so context would bring utterances of one split into another. Put each"
        " video into one split, or set context = 0 in luigi.cfg."
    )


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_the_encoding_of_a_pair_is_found_out(tokenizers, architecture):
    assert pair_layout(tokenizers[architecture], "x") == LAYOUTS[architecture]


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
