"""A folder of own clips: all columns but two are optional, media are found by name, misspellings are pointed out."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpora import read_corpus
from data.errors import InputError
from data.labels import EMOTIONS


def put(root, path, text=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def label(root, *lines):
    put(root, "label.csv", "\n".join(lines) + "\n")


def column(corpus, name):
    return corpus.utterances[name].tolist()


def kinds(corpus):
    return [(finding.kind, finding.where) for finding in corpus.findings]


def test_id_and_text_are_enough(tmp_path):
    label(tmp_path, "text,id", "Good morning.,007", "NA,b_c")
    corpus = read_corpus("folder", tmp_path, "mine")
    assert column(corpus, "utterance_id") == ["007", "b_c"]
    assert column(corpus, "video_id") == ["007", "b_c"]
    assert column(corpus, "text") == ["Good morning.", "NA"]
    assert column(corpus, "corpus") == ["mine", "mine"]
    assert column(corpus, "split") == column(corpus, "label_source") == column(corpus, "media") == ["", ""]
    assert corpus.utterances[["sentiment", *EMOTIONS]].isna().all(axis=None)
    assert kinds(corpus) == [("unsplit", "label.csv")]


def test_every_column_is_used(tmp_path):
    names = ",".join(EMOTIONS)
    label(
        tmp_path,
        f"video_id,clip_id,text,sentiment,{names},split,speaker,index",
        "v,10,Last.,1.5,1,0,0,0.5,0,0,dev,Ada,0",
        "v,2,First.,,,,,,,,train,,1",
        "w,1,Other.,-3,,,,,,,test,Bo,2",
    )
    corpus = read_corpus("folder", tmp_path)
    assert column(corpus, "utterance_id") == ["v[2]", "v[10]", "w[1]"]
    assert column(corpus, "position") == [0, 1, 0]
    np.testing.assert_array_equal(column(corpus, "sentiment"), [np.nan, 1.5, -3])
    np.testing.assert_array_equal(column(corpus, "surprise"), [np.nan, 0.5, np.nan])
    assert column(corpus, "split") == ["train", "valid", "test"]
    assert column(corpus, "speaker") == ["", "Ada", "Bo"]
    assert column(corpus, "label_source") == ["", "label.csv", "label.csv"]
    assert corpus.findings == ()


optional = st.one_of(st.none(), st.floats(-3, 3))


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.text("ab_-1é ", min_size=1), st.text(st.characters(exclude_categories=["Cs"])), optional, st.text("AB")),
        min_size=1,
        max_size=6,
        unique_by=lambda row: row[0],
    ).filter(lambda rows: all(row[0].strip() for row in rows)),
    columns=st.permutations(["id", "text", "label", "speaker"]),
)
def test_any_label_file_comes_back_whole(tmp_path_factory, rows, columns):
    root = tmp_path_factory.mktemp("folder")
    with (root / "label.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for name, text, value, speaker in rows:
            writer.writerow({"id": name, "text": text, "label": "" if value is None else repr(value), "speaker": speaker})
    table = read_corpus("folder", root).utterances
    got = zip(table["utterance_id"], table["text"], table["sentiment"], table["speaker"], strict=True)
    assert [(name, text, None if math.isnan(value) else value, speaker) for name, text, value, speaker in got] == rows


def test_media_are_found_by_name_anywhere_below(tmp_path):
    label(tmp_path, "video_id,clip_id,text,mode", "v,1,a,train", "v,2,b,train", "v,3,c,train", "v,4,d,train")
    for path in ("clips/day one/v/1.wav", "clips/v/1.mp4", "v_2.ogg", "x/v[3].mp3", "x/._v_4.wav", ".cache/v_4.wav", "x/notes.wav"):
        put(tmp_path, path)
    corpus = read_corpus("folder", tmp_path)
    assert column(corpus, "media") == ["clips/day one/v/1.wav", "v_2.ogg", "x/v[3].mp3", ""]
    assert column(corpus, "excluded") == ["", "", "", "missing media: expected v/4.wav"]
    assert kinds(corpus) == [("unused", "x/notes.wav"), ("missing", "v[4]")]


def test_two_files_of_the_same_name_are_for_the_user_to_tell_apart(tmp_path):
    label(tmp_path, "id,text", "a,words")
    put(tmp_path, "x/a.wav")
    put(tmp_path, "y/a.wav")
    with pytest.raises(InputError, match=r"label\.csv:2: both x/a\.wav and y/a\.wav are called 'a'; name one in a column 'media'"):
        read_corpus("folder", tmp_path)
    label(tmp_path, "id,text,media,mode", "a,words,y/a.wav,test")
    corpus = read_corpus("folder", tmp_path)
    assert column(corpus, "media") == ["y/a.wav"]
    assert kinds(corpus) == [("unused", "x/a.wav")]


def test_times_cut_a_recording_of_the_video_or_the_file_named(tmp_path):
    label(
        tmp_path,
        "video_id,clip_id,text,start_s,end_s,media,mode",
        "v,a,one,4.5,6,,train",
        "v,b,two,0,4,,train",
        "w,a,three,1,2,long.flac,train",
        "w,b,four,,,long.flac,train",
        "v,c,five,8,9,,train",
        "v,d,six,5,5,,train",
    )
    for path in ("v.wav", "long.flac", "v/c.wav"):
        put(tmp_path, path)
    corpus = read_corpus("folder", tmp_path)
    rows = corpus.utterances.set_index("text")
    assert rows["media"].to_dict() == {
        **{"one": "v.wav", "two": "v.wav", "three": "long.flac", "four": "long.flac", "five": "v/c.wav", "six": "v.wav"}
    }
    np.testing.assert_array_equal(rows.loc[["one", "two", "three", "four", "five"], "start_s"], [4.5, 0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(rows.loc[["one", "five"], "duration_s"], [1.5, 1])
    assert rows["excluded"]["six"] == "bad time: the segment has no length (5.000 to 5.000 s)"
    assert kinds(corpus) == [("bad-time", "v[d]")]


def test_clips_without_numbers_are_ordered_by_time_or_as_in_the_file(tmp_path):
    label(tmp_path, "video_id,clip_id,text,start_s,end_s", "v,x,late,5,6", "v,y,early,1,2")
    assert column(read_corpus("folder", tmp_path), "text") == ["early", "late"]
    label(tmp_path, "video_id,clip_id,text", "v,x,late", "v,b,early")
    assert column(read_corpus("folder", tmp_path), "text") == ["late", "early"]


def test_a_column_that_nobody_knows_is_reported(tmp_path):
    label(tmp_path, "id,text,split,weather,label_T", "a,words,train,rain,1")
    assert kinds(read_corpus("folder", tmp_path)) == [("unused", "label.csv:1")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("id,txt", "a,b"), r"label\.csv:1: no column 'text'\. Did you mean 'txt'"),
        (("video_id,clip,text", "v,1,b"), r"no column 'clip_id'|unknown column 'clip'"),
        (("text,label", "b,1"), r"no column 'video_id'"),
        (("id,text,sentimnt", "a,b,1"), r"label\.csv:1: unknown column 'sentimnt'\. Did you mean 'sentiment'\?"),
        (("id,text,Label", "a,b,1"), r"unknown column 'Label'\. Did you mean 'label'\?"),
        (("id,text,label,sentiment", "a,b,1,1"), "columns 'label' and 'sentiment' say the same thing"),
        (("id,text,mode,split", "a,b,train,test"), "columns 'mode' and 'split' say the same thing"),
        (("id,text,joyful,fear", "a,b,1,1"), "emotions fear without anger, disgust, happiness, sadness, surprise; expected all six"),
        (("id,text,label", "a,b,good"), r"label\.csv:2: label is 'good', expected a number"),
        (("id,text,label", "a,b,5"), r"label\.csv: a: sentiment is 5, its scale -3 to 3"),
        (("id,text,mode", "a,b,training"), r"label\.csv:2: mode is 'training', expected one of train"),
        (("id,text", "a,b", "a,c"), r"label\.csv:3: id 'a' is already on line 2"),
        (("id,text", ",b"), r"label\.csv:2: id is '', expected an id"),
        (("id,text,start_s,end_s", "a,b,1,2", "c,d,1,"), r"label\.csv:3: start_s and end_s: one of them is empty"),
        (("id,text,start_s", "a,b,1"), r"label\.csv:2: start_s and end_s: one of them is empty"),
        (("id,text,media", "a,b,/etc/a.wav"), r"label\.csv:2: media is '/etc/a\.wav', expected a path below the folder"),
        (("id,text,media", "a,b,../a.wav"), r"label\.csv:2: media is '\.\./a\.wav', expected a path below"),
        (("id,text,media", "a,b,a.pdf"), r"label\.csv:2: media is 'a\.pdf', expected a file with one of \.wav \.flac"),
    ],
)
def test_a_slip_is_named_with_what_was_expected(tmp_path, lines, message):
    label(tmp_path, *lines)
    with pytest.raises(InputError, match=message):
        read_corpus("folder", tmp_path)


def test_a_folder_without_label_file_names_it(tmp_path):
    with pytest.raises(InputError, match=r"label\.csv: cannot be read \(No such file or directory\)"):
        read_corpus("folder", tmp_path)
