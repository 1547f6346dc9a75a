"""The join that CMU-MOSEI needs and nobody ships: clips of a `label.csv` ↔ transcript lines ↔ labelled intervals of the `.csd`.

First chance: a clip and a transcript line have the same video and clip number, the line and an interval of the same video begin
and end at the same time. Second chance, for clips and intervals left over: the same video and the same sentiment, in order, and
only if as many clips as intervals have it there. (With unequal numbers the order does not say which is which: on videos whose
truth the times tell, with one or two clips hidden at random, matching in order anyway was wrong for 7 to 12 % of the clips, the
rule of equal numbers for none.) What finds no partner stays without: a wrong emotion is worse than none.

Pure functions over tables; reading the files and reporting is `data.corpora.mosei`.
"""

import numpy as np
import pandas as pd

TOLERANCE_S = 0.02
"""How far the ends of a line and of an interval may lie apart. The public files agree to 2e-5 s; rounded to 0.01 s is fine."""

_SENTIMENT_DECIMALS = 2
"""Sentiments are multiples of 1/6 or 1/3, written as float32 or rounded to two decimals."""


def match_times(lines: pd.DataFrame, intervals: pd.DataFrame) -> np.ndarray:
    """Matches transcript lines and intervals one to one, the nearest first.

    Args:
        lines: `video_id`, `start_s`, `end_s`.
        intervals: The same.

    Returns:
        (len(lines),) int64: the row of `intervals`, or -1.
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
    """Matches clips and intervals of equal sentiment in order, where a video has as many of the ones as of the others.

    Args:
        clips: `video_id`, `order`, `sentiment`; only those still without partner.
        intervals: `video_id`, `start_s`, `sentiment`; likewise.

    Returns:
        (len(clips),) int64: the row of `intervals`, or -1.
    """
    left, right = _ranked(clips, "order"), _ranked(intervals, "start_s")
    keys = ["video_id", "sentiment", "rank", "count"]
    joined = left.merge(right, "left", keys, suffixes=("", "_interval"))
    return joined.sort_values("row")["row_interval"].fillna(-1).to_numpy("int64")


def join(clips: pd.DataFrame, lines: pd.DataFrame, intervals: pd.DataFrame) -> pd.DataFrame:
    """Joins the three tables.

    Args:
        clips: `video_id`, `order` (the clip number), `sentiment`.
        lines: `video_id`, `order`, `start_s`, `end_s`; unique by video and order; may be empty.
        intervals: `video_id`, `start_s`, `end_s`, `sentiment`.

    Returns:
        One row a clip, in order: `line` and `interval`, rows of those tables or -1, and `way`, "times", "sentiment" or "".
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
    """`row`, `video_id`, rounded `sentiment`, and within those two the `rank` by `order` and the `count`."""
    ranked = pd.DataFrame({"row": np.arange(len(table)), "video_id": table["video_id"].to_numpy(dtype=object)})
    ranked["sentiment"] = table["sentiment"].to_numpy("float64").round(_SENTIMENT_DECIMALS)
    ranked = ranked.iloc[np.argsort(table[order].to_numpy(), kind="stable")]
    groups = ranked.groupby(["video_id", "sentiment"])
    return ranked.assign(rank=groups.cumcount(), count=groups["row"].transform("size"))
