"""Emotions and polarities: one order, one table, nothing mapped by accident."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import InputError
from data.labels import CATEGORIES, CATEGORY_POLARITY, EMOTIONS, POLARITIES, emotions_of_category, polarity_of_sentiment


def test_the_order_of_the_emotions_is_that_of_the_design():
    assert EMOTIONS == ("happiness", "sadness", "anger", "surprise", "disgust", "fear")


@pytest.mark.parametrize(
    ("emotion", "categories"),
    [
        ("happiness", ["joy", "happiness", "hap", "exc"]),
        ("sadness", ["sad", "sadness"]),
        ("anger", ["ang", "anger"]),
        ("surprise", ["sur", "surprise"]),
        ("disgust", ["dis", "disgust"]),
        ("fear", ["fea", "fear"]),
    ],
)
def test_a_category_is_its_emotion_and_no_other(emotion, categories):
    for category in categories:
        assert emotions_of_category(category) == {name: float(name == emotion) for name in EMOTIONS}


@pytest.mark.parametrize("category", ["neutral", "neu"])
def test_neutral_is_all_zero(category):
    assert emotions_of_category(category) == dict.fromkeys(EMOTIONS, 0.0)


@pytest.mark.parametrize("category", ["fru", "oth", "xxx"])
def test_a_category_without_a_counterpart_is_unlabelled(category):
    assert np.isnan(list(emotions_of_category(category).values())).all()


def test_a_category_may_be_mapped_by_a_setting():
    assert emotions_of_category("fru", {"fru": "anger"})["anger"] == 1
    assert emotions_of_category("oth", {"oth": "neutral"}) == dict.fromkeys(EMOTIONS, 0.0)
    assert emotions_of_category("joy", {"fru": "anger"})["happiness"] == 1


def test_a_misspelt_setting_does_not_pass_for_neutral():
    with pytest.raises(InputError, match="Unknown emotion 'angry'"):
        emotions_of_category("fru", {"fru": "angry"})


def test_an_unknown_category_is_named():
    with pytest.raises(InputError, match=r"Unknown emotion category 'suprise'\. Did you mean 'surprise'\?"):
        emotions_of_category("suprise")


def test_every_category_has_an_emotion_with_a_polarity_or_none():
    emotions = {emotion for emotion in CATEGORIES.values() if emotion}
    assert emotions == set(CATEGORY_POLARITY) == {"neutral", *EMOTIONS}
    assert set(CATEGORY_POLARITY.values()) == {*POLARITIES, None}
    assert CATEGORY_POLARITY["surprise"] is None


@given(sentiment=st.floats(-3, 3))
def test_polarity_is_the_sign_and_zero_is_neutral(sentiment):
    expected = "neutral" if sentiment == 0 else "positive" if sentiment > 0 else "negative"
    assert polarity_of_sentiment(sentiment) == expected


def test_an_unlabelled_utterance_has_no_polarity():
    assert polarity_of_sentiment(float("nan")) == ""
