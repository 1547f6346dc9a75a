"""A `Corpus` assembled from a reader's table: order and positions, segment times, media, and the findings common to all corpora.

The readers know the layouts; `data.schema` defines a valid table; `data.corpora.media_files` finds media.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from data.corpora.base import Corpus
from data.corpora.media_files import Name, Place, find_media, list_all_media
from data.corpora.near_misses import NearMisses
from data.findings import Finding
from data.garbled import garbling
from data.labels import MOSEI_LABELS, LabelSet
from data.schema import columns, validate

EARLIEST_START_S = -1.0
"""Earliest start that is set to 0. Segments of MOSEI begin up to 0.5 s before their recording; an earlier start is a mistake."""

_OVERLAP_S = 1e-3
_DEFAULTS = {
    **dict.fromkeys(("speaker", "split", "category", "polarity", "label_source", "excluded"), ""),
    **dict.fromkeys(("start_s", "end_s", "sentiment"), np.nan),
}


def assemble(
    name: str,
    root: Path,
    layout: str,
    table: pd.DataFrame,
    sources: Sequence[Path],
    findings: Sequence[Finding] = (),
    places: Sequence[Place] = (),
    labels: LabelSet = MOSEI_LABELS,
) -> Corpus:
    """Return the corpus. Its rows are sorted by the first appearance of their video and, inside a video, by `order`.

    Args:
        name: Value of the column `corpus`.
        root: The corpus root.
        layout: The layout in words.
        table: A table with `utterance_id`, `video_id`, `clip_id`, `text`, `order` (a number, inside the video), and any other column of
            the schema; with `line` ("label.csv:12") if the text is from a file with lines. `start_s` and `end_s` are those of the
            corpus's tables, even if the media need no cutting. If the reader has found the media itself, the table has the columns
            `media`, `whole`, `expected` and `names` that `find_media` describes; without `names`, the corpus has no media, whatever
            lies in its folder.
        sources: The files that were read.
        findings: The findings of the reader.
        places: The places to search for media.
        labels: What the utterances are labelled with; emotions without a column are unlabelled.
    """
    defaults = _DEFAULTS | dict.fromkeys(labels.emotions, np.nan)
    table = table.assign(corpus=name, **{column: value for column, value in defaults.items() if column not in table})
    table = _in_order(table)
    table, time_findings = _check_times(table)
    media_findings: list[Finding] = []
    if "media" not in table:
        table, media_findings = find_media(table, root, places)
    table, missing = _settle_media(table, root)
    utterances = validate(table.loc[:, list(columns(labels))], str(root), labels)
    everything = (*findings, *_empty_texts(table), *_garbled_texts(table), *time_findings, *missing, *media_findings)
    return Corpus(name, root, layout, utterances, tuple(sources), everything, labels)


def exclude(table: pd.DataFrame, reasons: pd.Series) -> pd.DataFrame:
    """Add the reasons that are not empty to `excluded`, after any reason that is already there."""
    both = (table["excluded"] != "") & (reasons != "")
    return table.assign(excluded=table["excluded"] + np.where(both, "; ", "") + reasons)


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    videos = pd.factorize(table["video_id"])[0]
    table = table.iloc[np.lexsort((table["order"], videos))].reset_index(drop=True)
    return table.assign(position=table.groupby("video_id").cumcount())


def _check_times(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Set slightly negative starts to 0 and exclude segments without length; report both, and repeated or overlapping segments."""
    start, end, ids = table["start_s"].astype("float64"), table["end_s"].astype("float64"), table["utterance_id"]
    slight = (start < 0) & (start >= EARLIEST_START_S)
    findings = [Finding("bad-time", ids[i], f"starts at {start[i]:.3f} s: taken as 0") for i in start.index[slight]]
    start = start.mask(slight, 0.0)
    reasons = pd.Series("", index=table.index, dtype=object)
    for i in start.index[(start < EARLIEST_START_S) | (end <= start)]:
        what = "starts long before its recording" if start[i] < EARLIEST_START_S else "has no length"
        reasons[i] = f"bad time: the segment {what} ({start[i]:.3f} to {end[i]:.3f} s)"
        findings.append(Finding("bad-time", ids[i], f"{reasons[i].removeprefix('bad time: ')}: excluded"))
    table = exclude(table.assign(start_s=start, end_s=end, duration_s=(end - start).clip(lower=0)), reasons)
    timed = table[table["end_s"].notna() & (reasons == "")]
    return table, [*findings, *_repeated(timed), *_overlaps(timed)]


def _repeated(table: pd.DataFrame) -> list[Finding]:
    same = ["video_id", "text", "start_s", "end_s"]
    table = table.loc[table.duplicated(same, keep=False), [*same, "utterance_id"]]  # usually none
    first = table.groupby(same, sort=False)["utterance_id"].transform("first")
    return [
        Finding("duplicate", again, f"same text and times as {once}")
        for again, once in zip(table["utterance_id"], first, strict=True)
        if again != once
    ]


def _overlaps(table: pd.DataFrame) -> list[Finding]:
    """Return one finding per video, because segments of MOSEI commonly overlap by up to a second."""
    table = table[["utterance_id", "video_id", "start_s", "end_s"]].sort_values(["video_id", "start_s"], kind="stable")
    before = table.groupby("video_id")["end_s"].cummax().groupby(table["video_id"]).shift()
    table = table.assign(by_s=np.minimum(before, table["end_s"]) - table["start_s"])
    overlapping = table[table["by_s"] > _OVERLAP_S]
    by_video: dict[str, list[tuple[float, str]]] = {}
    for video, by_s, utterance in zip(*(overlapping[name] for name in ("video_id", "by_s", "utterance_id")), strict=True):
        by_video.setdefault(video, []).append((by_s, utterance))
    findings = []
    for video, segments in by_video.items():
        by_s, worst = max(segments, key=lambda segment: segment[0])
        said = f"{len(segments)} segments begin before an earlier one ends, by up to {by_s:.2f} s ({worst})"
        findings.append(Finding("overlap", video, said))
    return findings


def _settle_media(table: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, list[Finding]]:
    """Keep times only where a recording must be cut; exclude utterances without medium or times, unless no utterance has a medium."""
    has_media = table["media"] != ""
    if "names" not in table:
        table = table.assign(names=pd.Series([()] * len(table), index=table.index, dtype=object))
    strangers = _strangers(table, root) if table["names"][~has_media].map(bool).any() else []
    near_misses = NearMisses(strangers)
    if not has_media.any():
        table = table.assign(start_s=np.nan, end_s=np.nan)
        return table, [_no_match(table, strangers, near_misses)] if strangers else []
    cut = table["whole"].astype(bool) & has_media
    untimed = cut & table["end_s"].isna()
    reasons = pd.Series("", index=table.index, dtype=object)
    lacking = zip(table["names"][~has_media], table["expected"][~has_media], strict=True)
    said = [f"missing media: expected {_expected(names, near_misses, usual)}" for names, usual in lacking]
    reasons[~has_media] = np.array(said, dtype=object)
    reasons = reasons.mask(untimed, "no times: no table says where in " + table["media"] + " it is")
    excluded = reasons != ""
    findings = [
        Finding("bad-time" if is_there else "missing", utterance, f"{reason.partition(': ')[2]}: excluded")
        for is_there, utterance, reason in zip(has_media[excluded], table["utterance_id"][excluded], reasons[excluded], strict=True)
    ]
    table = table.assign(start_s=table["start_s"].where(cut), end_s=table["end_s"].where(cut))
    return exclude(table, reasons), findings


def _strangers(table: pd.DataFrame, root: Path) -> list[PurePosixPath]:
    """List the media below `root` that no utterance uses."""
    used = set(table["media"])
    return [file for file in list_all_media(root) if str(file) not in used]


def _expected(names: tuple[Name, ...], near_misses: NearMisses, usual: str) -> str:
    """Describe the file that was expected, with the near miss if there is one."""
    nearest = near_misses.nearest(names)
    if nearest is None:
        return usual
    name, file, difference = nearest
    return f"{name.path}, found {file} ({difference})"


def _no_match(table: pd.DataFrame, strangers: Sequence[PurePosixPath], near_misses: NearMisses) -> Finding:
    """Report media of which none has the name of an utterance, with one pair of an expected and a found name."""
    rows = list(zip(table["utterance_id"], table["names"], strict=True))
    near = ((utterance, near_misses.nearest(names)) for utterance, names in rows)
    utterance, nearest = next((pair for pair in near if pair[1]), (rows[0][0], None))
    if nearest is None:
        expected = min((name.path for name in rows[0][1] if name.own), key=len)
        file, difference = str(strangers[0]), ""
    else:
        expected, file, difference = nearest[0].path, nearest[1], f" ({nearest[2]})"
    said = (
        f"no media file in the folder ({len(strangers):,} found) belongs to an utterance: {utterance} expects {expected}, found {file}"
        f"{difference}. Rename the files or the ids; to use the texts only, move the files to another folder"
    )
    return Finding("no-match", file, said)


def _garbled_texts(table: pd.DataFrame) -> list[Finding]:
    lines = table["line"] if "line" in table else [""] * len(table)
    found = (
        (utterance, line, garbling(text)) for utterance, line, text in zip(table["utterance_id"], lines, table["text"], strict=True)
    )
    return [Finding("garbled", utterance, f"{line}: {what}" if line else what) for utterance, line, what in found if what]


def _empty_texts(table: pd.DataFrame) -> list[Finding]:
    wordless = table["utterance_id"][~table["text"].str.contains(r"\w", regex=True)]
    return [Finding("empty-text", utterance, "no word in its text") for utterance in wordless]
