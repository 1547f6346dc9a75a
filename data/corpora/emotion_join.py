"""The join of CMU-MOSEI's tables: clips of a `label.csv` ↔ transcript lines ↔ labelled intervals of the `.csd`.

No public file contains this join. Its first step matches a clip with the transcript line of the same video and clip number, and that
line with an interval of the same video that begins and ends at the same time. The second step matches the remaining clips and
intervals that have the same video and the same sentiment, in order, provided that the video has as many such clips as intervals.
(With unequal numbers, the order is not reliable. This was tested on videos whose matches are known from times, with one or two clips
removed at random: matching in order regardless was wrong for 7 to 12 % of the clips, and the rule of equal numbers for none.) Clips
without a match get no emotions, because a wrong emotion is worse than none.

All functions here are pure and take tables; `data.corpora.mosei` reads the files and reports the result.
"""

import numpy as np
import pandas as pd

TOLERANCE_S = 0.02
"""Largest difference between the times of a line and of an interval. The public files agree to 2e-5 s; 0.02 s allows for times
that were rounded to 0.01 s."""

_SENTIMENT_DECIMALS = 2
"""Sentiments are multiples of 1/6 or 1/3, written as float32 or rounded to two decimals."""


def match_times(lines: pd.DataFrame, intervals: pd.DataFrame) -> np.ndarray:
    """Match transcript lines and intervals one to one, the nearest first.

    Args:
        lines: A table of `video_id`, `start_s`, `end_s`.
        intervals: A table of the same columns.

    Returns:
        (len(lines),) int64: the matching row of `intervals`, or -1.
    """
    partner = np.full(len(lines), -1, dtype="int64")
    line_times, interval_times = (table[["start_s", "end_s"]].to_numpy("float64") for table in (lines, intervals))
    by_video = intervals.groupby("video_id").indices
    for video, rows in lines.groupby("video_id").indices.items():
        candidates = by_video.get(video, np.empty(0, dtype="int64"))
        apart = np.abs(line_times[rows, None] - interval_times[None, candidates]).max(axis=2, initial=0)  # (lines, intervals)
        line, interval = np.nonzero(apart <= TOLERANCE_S)
        free = np.ones(len(candidates), dtype=bool)
        for i in np.argsort(apart[line, interval], kind="stable"):
            if free[interval[i]] and partner[rows[line[i]]] < 0:
                partner[rows[line[i]]] = candidates[interval[i]]
                free[interval[i]] = False
    return partner


def match_sentiments(clips: pd.DataFrame, intervals: pd.DataFrame) -> np.ndarray:
    """Match clips and intervals of equal sentiment in order, if a video has as many of these clips as of these intervals.

    Args:
        clips: A table of `video_id`, `order`, `sentiment`, with only the clips that have no match yet.
        intervals: A table of `video_id`, `start_s`, `sentiment`, with only the intervals that have no match yet.

    Returns:
        (len(clips),) int64: the matching row of `intervals`, or -1.
    """
    left, right = _ranked(clips, "order"), _ranked(intervals, "start_s")
    keys = ["video_id", "sentiment", "rank", "count"]
    joined = left.merge(right, "left", keys, suffixes=("", "_interval"))
    return joined.sort_values("row")["row_interval"].fillna(-1).to_numpy("int64")


def join(clips: pd.DataFrame, lines: pd.DataFrame, intervals: pd.DataFrame) -> pd.DataFrame:
    """Join the three tables.

    Args:
        clips: A table of `video_id`, `order` (the clip number), `sentiment`.
        lines: A table of `video_id`, `order`, `start_s`, `end_s`, unique by video and order; may be empty.
        intervals: A table of `video_id`, `start_s`, `end_s`, `sentiment`.

    Returns:
        A table with one row per clip, in order: `line` and `interval`, the matching rows of those tables or -1, and `way`, the step
        that found the interval: "times", "sentiment" or "".
    """
    row_of = pd.Series(np.arange(len(lines)), index=pd.MultiIndex.from_frame(lines[["video_id", "order"]]), dtype="int64")
    line = row_of.reindex(pd.MultiIndex.from_frame(clips[["video_id", "order"]]), fill_value=-1).to_numpy()
    interval_of_line = match_times(lines, intervals)
    interval = np.append(interval_of_line, -1)[line]
    way = np.where(interval >= 0, "times", "").astype(object)
    open_clips = np.flatnonzero(interval < 0)
    open_intervals = np.setdiff1d(np.arange(len(intervals)), interval_of_line)
    second = match_sentiments(clips.iloc[open_clips], intervals.iloc[open_intervals])
    found = second >= 0
    interval[open_clips[found]] = open_intervals[second[found]]
    way[open_clips[found]] = "sentiment"
    return pd.DataFrame({"line": line, "interval": interval, "way": way})


def _ranked(table: pd.DataFrame, order: str) -> pd.DataFrame:
    """Return `row`, `video_id`, the rounded `sentiment`, and among rows that share both, the `rank` by `order` and the `count`."""
    ranked = pd.DataFrame({"row": np.arange(len(table)), "video_id": table["video_id"].to_numpy(dtype=object)})
    ranked["sentiment"] = table["sentiment"].to_numpy("float64").round(_SENTIMENT_DECIMALS)
    ranked = ranked.iloc[np.argsort(table[order].to_numpy(), kind="stable")]
    groups = ranked.groupby(["video_id", "sentiment"])
    return ranked.assign(rank=groups.cumcount(), count=groups["row"].transform("size"))
