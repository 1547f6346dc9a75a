"""The join of clips, transcript lines and intervals: nothing is lost, nothing is used twice, nothing is guessed."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpora.emotion_join import TOLERANCE_S, join, match_sentiments, match_times

TIMES = ["video_id", "start_s", "end_s"]


def table(columns, *rows):
    frame = pd.DataFrame(list(rows), columns=columns)
    return frame.astype({column: "float64" for column in columns if column.endswith("_s") or column == "sentiment"})


def test_times_match_within_the_tolerance_in_the_same_video():
    lines = table(TIMES, ("a", 1.0, 2.0), ("a", 2.0, 3.0), ("a", 5.0, 6.0), ("b", 1.0, 2.0), ("c", 1.0, 2.0))
    near, far = TOLERANCE_S * 0.9, TOLERANCE_S * 1.1
    intervals = table(TIMES, ("b", 1.0, 2.0), ("a", 5.0, 6.0 + far), ("a", 2.0 - near, 3.0), ("a", 1.0, 2.0 + near))
    assert match_times(lines, intervals).tolist() == [3, 2, -1, 0, -1]


def test_of_several_intervals_within_the_tolerance_the_nearest_is_taken_once():
    lines = table(TIMES, ("a", 1.0, 2.0), ("a", 1.01, 2.0))
    intervals = table(TIMES, ("a", 1.01, 2.0), ("a", 1.001, 2.0))
    assert match_times(lines, intervals).tolist() == [1, 0]


SENTIMENTS = ["video_id", "order", "sentiment"]
FELT = ["video_id", "start_s", "sentiment"]


def test_equal_numbers_of_a_sentiment_match_in_order_of_time():
    clips = table(SENTIMENTS, ("a", 7, 1 / 3), ("a", 2, 0.33), ("a", 3, -1.0), ("b", 2, 1 / 3))
    intervals = table(FELT, ("a", 30.0, np.float32(1 / 3)), ("a", 10.0, 1 / 3), ("a", 5.0, -1.0), ("b", 0.0, 1 / 3))
    assert match_sentiments(clips, intervals).tolist() == [0, 1, 2, 3]


def test_unequal_numbers_of_a_sentiment_match_nothing():
    clips = table(SENTIMENTS, ("a", 1, 0.0), ("a", 2, 0.0), ("a", 3, 1.0))
    intervals = table(FELT, ("a", 1.0, -0.0), ("a", 2.0, 0.0), ("a", 3.0, 0.0), ("a", 4.0, 1.0))
    assert match_sentiments(clips, intervals).tolist() == [-1, -1, 3]


def test_the_second_chance_sees_only_what_the_first_left():
    clips = table(SENTIMENTS, ("a", 1, 0.0), ("a", 2, 0.0))
    lines = table(["video_id", "order", "start_s", "end_s"], ("a", 1, 8.0, 9.0), ("a", 9, 4.0, 5.0))
    intervals = table([*TIMES, "sentiment"], ("a", 1.0, 2.0, 0.0), ("a", 4.0, 5.0, 0.0), ("a", 8.0, 9.0, 0.0))
    joined = join(clips, lines, intervals)
    assert joined["interval"].tolist() == [2, 0]  # interval 1 is the partner of a line that is no clip
    assert joined["line"].tolist() == [0, -1]
    assert joined["way"].tolist() == ["times", "sentiment"]


videos = st.sampled_from("ab")
numbers = st.integers(0, 6)
felt = st.sampled_from([-1.0, 0.0, 1 / 3])


@settings(max_examples=40, deadline=None)
@given(
    clips=st.lists(st.tuples(videos, numbers, felt), max_size=8, unique_by=lambda row: row[:2]),
    lines=st.lists(st.tuples(videos, numbers, numbers), max_size=8, unique_by=lambda row: row[:2]),
    intervals=st.lists(st.tuples(videos, numbers, felt), max_size=8),
)
def test_every_match_is_one_to_one_and_follows_the_rule(clips, lines, intervals):
    clips = table(SENTIMENTS, *clips)
    lines = table(["video_id", "order", "start_s", "end_s"], *((video, n, start, start + 1) for video, n, start in lines))
    intervals = table([*TIMES, "sentiment"], *((video, start, start + 1.01, value) for video, start, value in intervals))
    joined = join(clips, lines, intervals)
    used = joined.loc[joined["interval"] >= 0, "interval"]
    assert len(joined) == len(clips)
    assert used.is_unique
    assert ((joined["way"] != "") == (joined["interval"] >= 0)).all()
    for clip, (line, interval, way) in zip(clips.itertuples(), joined.itertuples(index=False), strict=True):
        same_number = lines[(lines["video_id"] == clip.video_id) & (lines["order"] == clip.order)].index.tolist()
        assert same_number == ([line] if line >= 0 else [])
        if way:
            partner = intervals.loc[interval]
            assert partner["video_id"] == clip.video_id
            if way == "times":
                assert partner["start_s"] == lines["start_s"][line]
            else:
                assert partner["sentiment"] == clip.sentiment
    left = clips[(joined["interval"] < 0).to_numpy()]
    free_lines = match_times(lines, intervals)
    free = intervals[~intervals.index.isin(used) & ~intervals.index.isin(free_lines)]
    for key, rows in left.groupby(["video_id", "sentiment"]):
        like = free[(free["video_id"] == key[0]) & (free["sentiment"] == key[1])]
        assert len(like) != len(rows)  # else they would have matched
