"""Labels of a folder of own clips: emotions of any name, one class for each clip, and the scale of the sentiment."""

import numpy as np
import pytest

from data.__main__ import main
from data.corpora import read_corpus
from data.errors import InputError
from data.label_sets import OPEN, parse
from data.labels import EMOTIONS, LabelSet


def read(root, *lines, labels=""):
    (root / "label.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_corpus("folder", root, statement=parse(labels, "labels of clips") if labels else OPEN)


def values(corpus):
    return corpus.utterances[["sentiment", *corpus.labels.emotions]].to_numpy().tolist()


def test_a_column_of_classes_makes_them_the_labels_in_the_order_of_their_names(tmp_path):
    corpus = read(tmp_path, "id,text,emotion", "a,hi,proud", "b,ho,calm", "c,hu,proud")
    assert corpus.labels == LabelSet(("calm", "proud"), is_exclusive=True)
    np.testing.assert_array_equal(values(corpus), [[np.nan, 0, 1], [np.nan, 1, 0], [np.nan, 0, 1]])
    assert corpus.utterances["label_source"].tolist() == ["label.csv"] * 3


def test_a_column_of_classes_beside_the_six_emotions_is_not_read_unless_it_is_stated(tmp_path):
    lines = [f"id,text,emotion,{','.join(EMOTIONS)}", "a,hi,happy,1,0,0,0,0,0", "b,ho,sad,0,1,0,0,0,0"]
    assert read(tmp_path, *lines).labels == LabelSet()
    assert read(tmp_path, *lines, labels="one of happy, sad").labels == LabelSet(("happy", "sad"), is_exclusive=True)


def test_a_setting_gives_the_classes_their_order_and_may_have_more_of_them(tmp_path):
    corpus = read(tmp_path, "id,text,emotion", "a,hi,proud", "b,ho,calm", labels="one of proud, calm, awed")
    assert corpus.labels.emotions == ("proud", "calm", "awed")
    np.testing.assert_array_equal(values(corpus), [[np.nan, 1, 0, 0], [np.nan, 0, 1, 0]])


def test_emotions_of_any_name_have_columns_of_their_own(tmp_path):
    corpus = read(tmp_path, "id,text,emotion:calm,emotion:awed", "a,hi,0,1.5", "b,ho,,")
    assert corpus.labels == LabelSet(("calm", "awed"))
    np.testing.assert_array_equal(values(corpus), [[np.nan, 0, 1.5], [np.nan, np.nan, np.nan]])
    stated = read(tmp_path, "id,text,awed,calm", "a,hi,1.5,0", "b,ho,,", labels="calm, awed")
    assert stated.labels == corpus.labels
    np.testing.assert_array_equal(values(stated), values(corpus))


@pytest.mark.parametrize(("header", "labels"), [('"sentiment [-1, 1]"', ""), ("label", "[-1, 1]"), ('"label [-1,1]"', "[-1.0, 1]")])
def test_a_stated_scale_is_that_of_the_sentiment(tmp_path, header, labels):
    corpus = read(tmp_path, f"id,text,{header}", "a,hi,-0.8", "b,ho,0.2", "c,hu,1.1", "d,ha,0.4", "e,he,0.6", labels=labels)
    assert corpus.labels == LabelSet(EMOTIONS, scale=(-1.0, 1.0))
    assert corpus.utterances["sentiment"].tolist() == [-0.8, 0.2, 1, 0.4, 0.6]
    assert ("out-of-range", "c") in [(one.kind, one.where) for one in corpus.findings]


@pytest.mark.parametrize(
    ("lines", "labels", "message"),
    [
        (
            ["id,text,emotion", "a,hi,calm", "b,ho, "],
            "",
            "label.csv:3: emotion is ' ', expected a class, as all other rows have one. Name it, or remove the row.",
        ),
        (
            ["id,text,emotion", "a,hi,clam", "b,ho,calm"],
            "one of calm, proud",
            "label.csv:2: emotion is 'clam', expected one of calm, proud.",
        ),
        (["id,text,emotion", "a,hi,1", "b,ho,0"], "", "label.csv: Emotion '0' cannot have this name: expected a letter, then"),
        (["id,text,emotion", "a,hi,calm", "b,ho,calm"], "", "label.csv: 1 classes (['calm']), expected 2 to 100."),
        (["id,text,label", "a,hi,1.3"], "[-1, 1]", "label.csv: a: sentiment is 1.3, its scale -1 to 1. Is the label on another scale?"),
        (['id,text,"label [-3, 3]"', "a,hi,1"], "[-1, 1]", "label.csv:1: the scale is [-3.0, 3.0], but [-1.0, 1.0] is stated."),
        (
            ['id,text,"label [1, 5]"', "a,hi,1"],
            "",
            "label.csv:1: column 'label [1, 5]': The scale of the sentiment is 1 to 5, expected one with 0",
        ),
        (
            ["id,text,calm", "a,hi,1"],
            "one of calm, proud",
            "label.csv:1: no column 'emotion', but one of calm, proud; [-3, 3] is stated. Columns found: id, text, calm.",
        ),
        (
            ["id,text,emotion", "a,hi,calm"],
            "calm, proud",
            "label.csv:1: column 'emotion' seems to hold emotions, which would be lost.",
        ),
        (["id,text,calm", "a,hi,1"], "calm, proud", "label.csv:1: emotions calm without proud; expected all 2 or none."),
        (["id,text,emotion,emotion:awe", "a,hi,calm,1"], "", "label.csv:1: columns 'emotion' and 'emotion:awe' both hold emotions"),
        (["id,text,emotion,anger", "a,hi,calm,1"], "", "label.csv:1: emotions anger without disgust, fear"),
        (["id,text,calm,emotion:calm", "a,hi,1,1"], "", "label.csv:1: columns 'calm' and 'emotion:calm' are the same emotion"),
        (["id,text,calm", "a,hi,1"], "", "label.csv:1: column 'calm' seems to hold an emotion, which would be lost."),
    ],
)
def test_labels_that_cannot_be_meant_are_one_line(tmp_path, lines, labels, message):
    with pytest.raises(InputError) as refused:
        read(tmp_path, *lines, labels=labels)
    assert str(refused.value).startswith(f"{tmp_path}/{message}")
    assert "\n" not in str(refused.value)


def test_ch_sims_is_read_with_its_scale(tmp_path, capsys):
    """The columns and folders of CH-SIMS, with made-up lines."""
    (tmp_path / "Raw" / "video_0001").mkdir(parents=True)
    (tmp_path / "Raw" / "video_0001" / "0002.mp4").touch()
    lines = [
        "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode",
        "video_0001,0002,你好,-0.6,0.2,-0.4,-0.8,Negative,train",
        "video_0001,0003,再见,0.8,0.0,0.2,1.0,Positive,valid",
    ]
    corpus = read(tmp_path, *lines, labels="[-1, 1]")
    assert corpus.utterances["sentiment"].tolist() == [-0.6, 0.8]
    assert corpus.utterances["media"].tolist() == ["Raw/video_0001/0002.mp4", ""]
    assert corpus.utterances["split"].tolist() == ["train", "valid"]
    assert main(["doctor", str(tmp_path), "--corpus", "folder"]) == 1  # a file without content, and so few labels that no scale is seen
    assert "labels:" not in capsys.readouterr().out
    main(["doctor", str(tmp_path), "--corpus", "folder", "--labels", "[-1, 1]"])
    assert capsys.readouterr().out.splitlines()[1].endswith("; labels: happiness, sadness, anger, surprise, disgust, fear; [-1, 1]")
    assert main(["doctor", str(tmp_path), "--labels", "[1, 5]"]) == 2
    assert capsys.readouterr().err.startswith("error: --labels is '[1, 5]': The scale of the sentiment is 1 to 5, expected one with 0")
