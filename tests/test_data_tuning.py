"""The three words for what features owe to the task, and the notes that explain them."""

import pytest

from data.tuning import adapted_on, encoder_words, note, tunings

FROZEN = {"name": "minilm", "revision": "", "trained": True}
ADAPTED = {"name": "minilm-adapted-1", "trained": True, "tuning": "adapted on mosi+mosei"}
ELSEWHERE = {"name": "mine", "trained": True, "tuning": "tuned elsewhere"}
UNTRAINED = {"name": "tiny", "trained": False, "tuning": "adapted on mosi"}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (FROZEN, "minilm"),
        ({"name": "tiny", "trained": False}, "tiny (untrained)"),
        ({"name": "clip.pkl", "revision": None, "trained": None}, "clip.pkl"),
        (ADAPTED, "minilm-adapted-1 (adapted on mosi+mosei)"),
        (ELSEWHERE, "mine (tuned elsewhere)"),
        (UNTRAINED, "tiny (untrained, adapted on mosi)"),
        ("made up", "made up"),
        (None, "None"),
    ],
)
def test_a_name_says_what_sets_the_encoder_apart(facts, words):
    assert encoder_words(facts) == words


@pytest.mark.parametrize(
    ("before", "word"),
    [
        ("frozen", "adapted on mosi"),
        ("adapted on mosei+meld", "adapted on mosei+meld, then on mosi"),
        ("tuned elsewhere", "tuned elsewhere, then adapted on mosi"),
        ("tuned elsewhere, then adapted on mosei", "tuned elsewhere, then adapted on mosei, then on mosi"),
    ],
)
def test_what_the_weights_learned_before_an_adaptation_stays_in_its_word(before, word):
    assert adapted_on("mosi", before) == word
    words = encoder_words({"name": "x", "tuning": word})
    assert tunings([words]) == {word: ["x"]}
    assert note([words]).startswith(f"The features are {word}: the ")


def test_encoders_are_grouped_by_their_words_frozen_ones_first():
    names = [encoder_words(facts) for facts in (ADAPTED, ELSEWHERE, UNTRAINED, FROZEN)]
    assert tunings([*names, "tiny (untrained)"]) == {
        "frozen": ["minilm", "tiny (untrained)"],
        "adapted on mosi": ["tiny"],
        "adapted on mosi+mosei": ["minilm-adapted-1"],
        "tuned elsewhere": ["mine"],
    }


def test_the_note_explains_one_word_for_all_features_or_each_with_its_encoders():
    assert note([]) == note(["minilm"])
    assert note(["minilm"]).startswith("The features are frozen: the encoders ran once and learn nothing further. The paper fine-tunes")
    assert note([encoder_words(ADAPTED)]).startswith(
        "The features are adapted on mosi+mosei: the encoder learned the task once, on the"
    )
    both = note([encoder_words(ELSEWHERE), "minilm"])
    assert both.startswith("The features of minilm are frozen: ")
    assert "The features of mine are tuned elsewhere: the weights were in a folder of the user." in both
