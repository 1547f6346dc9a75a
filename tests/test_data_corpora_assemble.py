"""A corpus is assembled in order, its times are checked, its media settled, and each of its findings names an utterance."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpora.assemble import assemble, exclude
from data.findings import Finding
from data.schema import COLUMNS


def corpus(rows, **columns):
    """Assemble rows of (video, order, start, end) without media, unless `columns` says otherwise."""
    table = pd.DataFrame(rows, columns=["video_id", "order", "start_s", "end_s"])
    table["utterance_id"] = [f"{video}{order}" for video, order, *_ in rows]
    named = {"clip_id": "", "text": [f"words {i}" for i in range(len(rows))], "media": "", "whole": False, "expected": ""}
    return assemble("mine", Path("root"), "words", table.assign(**named | columns), [Path("label.csv")], [Finding("unused", "x", "y")])


def said(corpus):
    return [(finding.kind, finding.where, finding.message) for finding in corpus.findings[1:]]


def test_a_table_gets_all_columns_and_the_findings_of_its_reader_stay_first():
    made = corpus([("v", 0, np.nan, np.nan)])
    assert tuple(made.utterances) == COLUMNS
    assert made.utterances.loc[0, ["corpus", "speaker", "split", "category", "excluded"]].tolist() == ["mine", "", "", "", ""]
    assert made.utterances[["sentiment", "happiness", "fear", "duration_s"]].isna().all(axis=None)
    assert (made.name, made.root, made.layout, made.sources) == ("mine", Path("root"), "words", (Path("label.csv"),))
    assert made.findings == (Finding("unused", "x", "y"),)


@settings(max_examples=25, deadline=None)
@given(places=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=9, unique=True))
def test_videos_stay_in_order_of_appearance_and_clips_are_sorted_inside_them(places):
    table = corpus([(video, order, np.nan, np.nan) for video, order in places]).utterances
    videos = list(dict.fromkeys(video for video, _ in places))
    expected = sorted(places, key=lambda place: (videos.index(place[0]), place[1]))
    assert table["utterance_id"].tolist() == [f"{video}{order}" for video, order in expected]
    ranks = [sum(other[0] == video for other in expected[:i]) for i, (video, _) in enumerate(expected)]
    assert table["position"].tolist() == ranks


@pytest.mark.parametrize(
    ("start", "end", "excluded", "message"),
    [
        (-0.5, 2.0, "", "starts at -0.500 s: taken as 0"),
        (-1.5, 2.0, "bad time: the segment starts long before its recording (-1.500 to 2.000 s)",
         "the segment starts long before its recording (-1.500 to 2.000 s): excluded"),
        (2.0, 2.0, "bad time: the segment has no length (2.000 to 2.000 s)", "the segment has no length (2.000 to 2.000 s): excluded"),
        (3.0, 2.0, "bad time: the segment has no length (3.000 to 2.000 s)", "the segment has no length (3.000 to 2.000 s): excluded"),
    ],
)  # fmt: skip
def test_bad_times_are_corrected_or_excluded_and_reported(start, end, excluded, message):
    made = corpus([("v", 0, start, end)], media="v.wav", whole=True)
    assert made.utterances["excluded"].tolist() == [excluded]
    assert said(made) == [("bad-time", "v0", message)]
    if not excluded:
        assert made.utterances.loc[0, ["start_s", "end_s", "duration_s"]].tolist() == [0.0, 2.0, 2.0]


def test_repeated_and_overlapping_segments_are_reported_once():
    rows = [("v", 0, 0.0, 2.0), ("v", 1, 0.0, 2.0), ("v", 2, 1.5, 3.0), ("w", 0, 1.0, 2.0), ("w", 1, 2.0, 3.0)]
    made = corpus(rows, text=["same", "same", "other", "same", "same"])
    assert said(made) == [
        ("duplicate", "v1", "same text and times as v0"),
        ("overlap", "v", "2 segments begin before an earlier one ends, by up to 2.00 s (v1)"),
    ]


def test_times_stay_only_where_a_recording_is_cut():
    rows = [("v", 0, 0.0, 1.0), ("v", 1, 1.0, 2.0), ("v", 2, np.nan, np.nan), ("v", 3, 3.0, 4.0)]
    made = corpus(rows, media=["v.wav", "1.wav", "v.wav", ""], whole=[True, False, True, False], expected=[*"abc", "v/3.wav"])
    table = made.utterances
    np.testing.assert_array_equal(table["start_s"], [0.0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(table["duration_s"], [1.0, 1.0, np.nan, 1.0])
    assert table["excluded"].tolist() == ["", "", "no times: no table says where in v.wav it is", "missing media: expected v/3.wav"]
    assert said(made) == [
        ("bad-time", "v2", "no table says where in v.wav it is: excluded"),
        ("missing", "v3", "expected v/3.wav: excluded"),
    ]


def test_a_text_without_a_word_is_reported_and_kept():
    made = corpus([("v", i, np.nan, np.nan) for i in range(4)], text=[" ...", "", "NA", "é"])
    assert said(made) == [("empty-text", "v0", "no word in its text"), ("empty-text", "v1", "no word in its text")]
    assert made.utterances["text"].tolist() == [" ...", "", "NA", "é"]
    assert set(made.utterances["excluded"]) == {""}


def test_a_second_reason_is_added_behind_the_first():
    table = pd.DataFrame({"excluded": ["", "a", "", "a"]})
    assert exclude(table, pd.Series(["", "", "b", "b"]))["excluded"].tolist() == ["", "a", "b", "a; b"]
    assert table["excluded"].tolist() == ["", "a", "", "a"], "the given table stays as it was"
