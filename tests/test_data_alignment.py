"""Sets of features are joined by width only if their rows are the same tokens or frames."""

import pytest
from caches import make_cache
from feature_sets import BERT, add_set

from data.alignment import difference
from data.cache import open_corpus
from data.targets import load_targets

SPEECH = {"files": {"config.json": "c"}, "decoder": "1", "truncation": "none"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"))


def reason(cache, *names):
    corpus = open_corpus(cache, "mosi")
    return difference({name: corpus.features[name] for name in names}, load_targets(corpus).ids)


def with_files(**files):
    return BERT | {"files": {"config.json": "other", **{name.replace("_", "."): value for name, value in files.items()}}}


@pytest.mark.parametrize(
    ("name", "identity", "expected"),
    [
        ("other-model", BERT | {"files": {"config.json": "d", "model.safetensors": "w", "tokenizer.json": "bert"}, "layer": 3}, None),
        ("other-tokenizer", with_files(tokenizer_json="gpt"), "the tokenizers of text.bert and text.other-tokenizer differ"),
        ("no-tokenizer", with_files(vocab_txt="v"), "the tokenizers of text.bert and text.no-tokenizer differ"),
        ("lower", BERT | {"case": "lower"}, "case is 'sentence' for text.bert and 'lower' for text.lower"),
        ("cut", BERT | {"max_tokens": 9}, "max_tokens is 0 for text.bert and 9 for text.cut"),
        (
            "glove",
            {"imported": "joined features"},
            "the features text.glove are of another tool and do not say what their rows are",
        ),
    ],
)
def test_rows_are_the_same_tokens_if_the_facts_say_so(cache, name, identity, expected):
    add_set(cache, "text.bert")
    add_set(cache, f"text.{name}", identity=identity)
    assert reason(cache, "text.bert", f"text.{name}") == expected


@pytest.mark.parametrize(("vocabulary", "is_same"), [("v", True), ("w", False)])
def test_without_a_tokenizer_json_the_vocabulary_counts(cache, vocabulary, is_same):
    add_set(cache, "text.one", identity=with_files(vocab_txt="v"))
    add_set(cache, "text.two", identity=with_files(vocab_txt=vocabulary, tokenizer_json="t"))
    assert (reason(cache, "text.one", "text.two") is None) is is_same


def test_equal_facts_with_other_lengths_are_not_believed(cache):
    add_set(cache, "text.bert")
    add_set(cache, "text.longer", longer=2)
    assert (found := reason(cache, "text.bert", "text.longer")) is not None
    last = load_targets(open_corpus(cache, "mosi")).ids[-1]
    assert found.startswith(f"1 of 24 utterances have other numbers of rows, first {last!r}: ")
    assert found.endswith(" in text.longer")


def test_every_set_is_compared_and_audio_goes_by_its_waveform(cache):
    for number, name in enumerate(("audio.a", "audio.b", "audio.c")):
        add_set(cache, name, identity=SPEECH | {"files": {"config.json": f"{number}"}, "decoder": "2" if name == "audio.c" else "1"})
    assert reason(cache, "audio.a", "audio.b") is None
    assert reason(cache, "audio.a", "audio.b", "audio.c") == "decoder is '1' for audio.a and '2' for audio.c"
