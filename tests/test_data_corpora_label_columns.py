"""Labels under a name, or on a scale, that is not read stop the reading of a corpus; columns that hold no labels do not."""

import pickle

import numpy as np
import pytest

from data.corpora import read_corpus
from data.errors import InputError
from data.interchange.mmsa import read_mmsa
from data.labels import EMOTIONS

SIX = ",".join(EMOTIONS)


def label(root, *lines):
    (root / "label.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("column", "values", "what"),
    [
        ("Emotion", ("happy", "calm"), "emotions"),
        ("Emotion", ("3", "5"), "emotions"),
        ("emotion_label", ("a", "b"), "emotions"),
        ("EmotionClass", ("1", ""), "emotions"),
        ("category", ("joy", "neutral"), "emotions"),
        ("gold", ("Angry", "sad"), "emotions"),
        ("gold", ("angry; sad", "neutral"), "emotions"),
        ("calm", ("0", "1"), "an emotion"),
        ("contempt", ("x", ""), "an emotion"),
        ("neutral", ("0", "1"), "emotions"),
        ("polarity", ("1", "-1"), "sentiment"),
        ("valence", ("4.5", "2"), "sentiment"),
        ("annotation", ("Positive", "Negative"), "sentiment"),
        ("gold", ("positive", "neutral"), "sentiment"),
        ("category", ("1", "2"), "labels"),
        ("class", ("a", "b"), "labels"),
        ("score", ("0.1", "0.2"), "labels"),
        ("senti", ("1", "-2"), "sentiment"),
        ("情感", ("1", "-2"), "sentiment"),
        ("emo_id", ("1", "4"), "emotions"),
        ("gt", ("1", "2"), "labels"),
        ("y", ("1", "0"), "labels"),
    ],
)
def test_labels_that_would_be_lost_are_named_with_what_is_read(tmp_path, column, values, what):
    label(tmp_path, f"id,text,mode,{column}", f"a,A tram.,train,{values[0]}", f"b,No tram.,test,{values[1]}")
    with pytest.raises(InputError) as caught:
        read_corpus("folder", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'label.csv'}:1: column {column!r} seems to hold {what}, which would be lost. Sentiment is read from 'label' or"
        f" 'sentiment' (-3 to 3), emotions from the columns {', '.join(EMOTIONS)} (0: absent). Convert the column, or remove it."
    )


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (f"label,{SIX},emotion", "1,1,0,0,0,0,0,joy"),
        (f"{SIX},neutral", "0,0,0,0,0,0,1"),
        (f"{SIX},calm", "0,1,0,0,0,0,0"),
        ("label,annotation,valence", "1,Positive,2"),
        ("label,class,score", "1,a,7"),
        ("emotion,calm", ","),
        ("weather,camera", "joyous rain,left"),
    ],
)
def test_columns_that_repeat_labels_or_hold_none_are_no_error(tmp_path, header, row):
    label(tmp_path, f"id,text,mode,{header}", f"a,A tram.,train,{row}")
    assert len(read_corpus("folder", tmp_path).utterances) == 1


def test_an_emotion_beyond_the_six_is_lost_even_beside_them(tmp_path):
    label(tmp_path, f"id,text,mode,{SIX},calm", "a,A tram.,train,0,0,0,0,0,0,1")
    with pytest.raises(InputError, match="column 'calm' seems to hold an emotion"):
        read_corpus("folder", tmp_path)


def test_emotions_in_the_table_of_mmsa_are_lost_for_mosi_and_read_elsewhere_for_mosei(tmp_path):
    label(tmp_path, "video_id,clip_id,text,label,annotation,mode,emotion", "v,1,A tram.,1,Positive,train,happy")
    with pytest.raises(InputError, match="column 'emotion' seems to hold emotions"):
        read_corpus("mosi", tmp_path)
    assert len(read_corpus("mosei", tmp_path).utterances) == 1


SIMS = (-1.0, -0.6, 0.2, 0.8, 0.0)
SCORES = tuple(np.linspace(0.03, 0.97, 12).round(3))


def write_scores(root, reader, values):
    if reader == "folder":
        label(root, "id,text,mode,sentiment", *(f"c{n},A tram.,train,{value}" for n, value in enumerate(values)))
    else:
        label(root, "video_id,clip_id,text,label,mode", *(f"v,{n},A tram.,{value},train" for n, value in enumerate(values)))


@pytest.mark.parametrize("reader", ["folder", "mosi", "mosei"])
@pytest.mark.parametrize("values", [SIMS, SCORES])
def test_scores_of_a_narrower_scale_are_refused(tmp_path, reader, values):
    write_scores(tmp_path, reader, values)
    said = f"all {len(values)} sentiments are between {min(values):g} and {max(values):g}, as on a scale of -1 to 1"
    with pytest.raises(InputError, match=f"{said} .*Multiply them by 3"):
        read_corpus(reader, tmp_path)


@pytest.mark.parametrize("values", [(*SIMS, 1.2), (*SCORES, -1.5), (1, -1, 0, 1), (0.5, -0.5, 1, 0), (0.2, 0.4), tuple(SCORES[:8])])
def test_labels_beyond_one_or_too_few_to_tell_are_read(tmp_path, values):
    write_scores(tmp_path, "folder", values)
    assert read_corpus("folder", tmp_path).utterances["sentiment"].tolist() == list(values)


@pytest.mark.parametrize("reader", ["folder", "mosi"])
def test_numbers_of_two_classes_are_no_sentiment(tmp_path, reader):
    write_scores(tmp_path, reader, (0, 1) * 5)
    with pytest.raises(InputError, match=r"all 10 sentiments are 0 or 1, as the numbers of two classes .*Write the sentiment of each"):
        read_corpus(reader, tmp_path)


@pytest.mark.parametrize("values", [(0,) * 12, (1,) * 12, (0, 1) * 4, (*(0, 1) * 6, -1)])
def test_zeros_and_ones_that_may_be_sentiments_are_read(tmp_path, values):
    write_scores(tmp_path, "folder", values)
    assert read_corpus("folder", tmp_path).utterances["sentiment"].tolist() == list(values)


def test_scores_of_a_narrower_scale_in_a_pickle_of_mmsa_are_refused(tmp_path):
    count = len(SIMS)
    part = {
        "raw_text": np.array(["A tram."] * count, object),
        "id": np.array([f"v$_${n}" for n in range(count)], object),
        "text": np.ones((count, 2, 3), np.float32),
        "regression_labels": np.array(SIMS, np.float32),
    }
    path = tmp_path / "sims.pkl"
    path.write_bytes(pickle.dumps({"train": part}))
    with pytest.raises(InputError, match=r"sims\.pkl: all 5 sentiments are between -1 and 0\.8, as on a scale of -1 to 1"):
        read_mmsa(path, "sims")
