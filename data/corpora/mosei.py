"""CMU-MOSEI: videos of opinions, with sentiment in [-3, 3] and six emotions with intensities in [0, 3].

Layouts; the first one found is read:

* MMSA: `label.csv` (`data.corpora.mmsa`) contains text, sentiment and split. The emotions are joined from `CMU_MOSEI_Labels.csd`,
  using the transcripts if they exist (`data.corpora.emotion_join`).
* CMU raw: every transcript line is an utterance and has the labels of the interval with the same times. Splits come from
  `splits.csv` (`data.corpora.cmu`).

Transcripts: `Raw/Transcript/Segmented/Combined/<video>.txt`, one line per segment,
`<video>___<n>___<start>___<end>___<text>`. Media: one file per clip, as in MMSA's layout, or one recording per video,
`Raw/Audio/Full/WAV_16000/<video>.wav`, which is cut at the times of the segments. CMU's folders are also found without `Raw/`.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from data.corpora import mmsa
from data.corpora.assemble import assemble
from data.corpora.base import Corpus, holds
from data.corpora.cmu import find_files, find_label_csd, read_intervals, segment_names, split_by_video
from data.corpora.emotion_join import join, match_times
from data.corpora.media_files import Place
from data.csv_tables import line_names, read_lines
from data.errors import InputError, shown
from data.findings import Finding
from data.labels import EMOTIONS

LABELS = "CMU_MOSEI_Labels.csd"

PLACES = (
    *mmsa.PLACES,
    Place("Raw/Audio/Full/WAV_16000/{video_id}", ".wav", whole=True),
    Place("Audio/Full/WAV_16000/{video_id}", ".wav", whole=True),
)

_SEPARATOR = "___"
_NUMBER = re.compile("[0-9]{1,18}")
_SAME_SENTIMENT = 0.05
"""Largest difference between the sentiments of the two label files that rounding explains."""


def read_mosei(name: str, root: Path) -> Corpus:
    """Read CMU-MOSEI.

    Args:
        name: The corpus name for the manifest.
        root: The folder that contains `label.csv` and the `.csd`, or `Raw/` and the `.csd`.

    Raises:
        InputError: The folder has neither layout, or the content of a file is invalid.
    """
    transcripts = find_files(root, "Transcript/Segmented/Combined", ".txt")
    labels = find_label_csd(root, LABELS)
    if (root / mmsa.LABEL_FILE).exists():
        return _read_mmsa(name, root, transcripts, labels)
    if not transcripts or labels is None:
        raise InputError(
            f"{root}: neither {mmsa.LABEL_FILE} nor the CMU raw layout (Raw/Transcript/Segmented/Combined/*.txt: "
            f"{len(transcripts)} found; {LABELS}: {labels.name if labels else 'not found'})."
        )
    return _read_raw(name, root, transcripts, labels)


def has_own_files(root: Path) -> bool:
    """Return True if `root` contains MOSEI's transcripts or its label file."""
    return bool(find_files(root, "Transcript/Segmented/Combined", ".txt")) or holds(root, LABELS)


def read_transcripts(paths: list[Path]) -> pd.DataFrame:
    """Read transcript files.

    Returns:
        A table with one row per line: `video_id`, `clip_id`, `order`, `start_s`, `end_s`, `text`, `where` (file and line).

    Raises:
        InputError: A line is not as described above, or its video and number appear twice.
    """
    rows, seen = [], {}
    for path in paths:
        for number, line in read_lines(path):
            row = _parse_line(path, number, line)
            before = seen.setdefault(row[:2], f"{path.name}:{number}")
            if before != f"{path.name}:{number}":
                raise InputError(f"{path}:{number}: segment {row[1]} of {shown(row[0])} is already at {before}; expected it once.")
            rows.append((*row, f"{path.name}:{number}"))
    table = pd.DataFrame(rows, columns=["video_id", "clip_id", "start_s", "end_s", "text", "where"])
    return table.assign(order=table["clip_id"].astype("int64"))


def _parse_line(path: Path, number: int, line: str) -> tuple[str, str, float, float, str]:
    own = path.stem + _SEPARATOR  # a video id may contain the separator
    video, rest = (path.stem, line[len(own) :]) if line.startswith(own) else line.partition(_SEPARATOR)[::2]
    fields = rest.split(_SEPARATOR, 3)
    try:
        clip, start, end, text = fields
        start_s, end_s = float(start), float(end)
        if not (_NUMBER.fullmatch(clip) and np.isfinite([start_s, end_s]).all()):
            raise ValueError
    except ValueError:
        expected = "'<video>___<n>___<start>___<end>___<text>' with n and times in seconds"
        raise InputError(f"{path}:{number}: line is {line[:60]!r}, expected {expected}.") from None
    return video, str(int(clip)), start_s, end_s, text


def _read_mmsa(name: str, root: Path, transcripts: list[Path], labels: Path | None) -> Corpus:
    clips, layout, findings = mmsa.read_labels(root, has_emotions=True)
    clips = clips.assign(line=line_names(clips, root / mmsa.LABEL_FILE)).reset_index(drop=True)
    lines = read_transcripts(transcripts)
    sources = [root / mmsa.LABEL_FILE, *transcripts]
    if labels is None:
        empty = pd.DataFrame(columns=["video_id", "start_s", "end_s", "sentiment", *EMOTIONS])
        clips, _ = _joined(clips, lines, empty)
        findings.append(Finding("unlabelled", mmsa.LABEL_FILE, f"no emotions for any clip: {LABELS} is not in {root}"))
    else:
        intervals, outside = read_intervals(labels, emotions=True)
        clips, partners = _joined(clips, lines, intervals)
        findings += [*outside, *_report(clips, lines, intervals, partners, labels.name)]
        clips["label_source"] = np.where(partners["way"] == "", mmsa.LABEL_FILE, f"{mmsa.LABEL_FILE} + {labels.name}")
        sources.append(labels)
        ways = partners["way"].value_counts()
        layout += (
            f" + {labels.name}: emotions for {int((partners['way'] != '').sum())} of {len(clips)} clips "
            f"({ways.get('times', 0)} by times, {ways.get('sentiment', 0)} by sentiment)"
        )
    return assemble(name, root, layout, clips, sources, findings, PLACES)


def _joined(clips: pd.DataFrame, lines: pd.DataFrame, intervals: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give `clips` the times and emotions of their matches; return the clips and the matches."""
    partners = join(clips, lines, intervals)
    by_line = lines.reindex(partners["line"]).reset_index(drop=True)  # there is no row -1: NaN
    by_interval = intervals.reindex(partners["interval"]).reset_index(drop=True)
    for column in ("start_s", "end_s"):
        clips[column] = by_line[column].astype("float64").fillna(by_interval[column].astype("float64"))
    return clips.assign(**{emotion: by_interval[emotion] for emotion in EMOTIONS}), partners


def _report(clips: pd.DataFrame, lines: pd.DataFrame, intervals: pd.DataFrame, partners: pd.DataFrame, labels: str) -> list[Finding]:
    """Report every clip without interval, interval without clip, line without clip, and pair with different sentiments."""
    findings = [
        Finding("unlabelled", utterance, f"no emotions: no interval of {labels} has its times, nor certainly its sentiment")
        for utterance in clips.loc[partners["interval"] < 0, "utterance_id"]
    ]
    free = ~np.isin(np.arange(len(intervals)), partners["interval"])
    said = f"interval of {labels} that no clip of {mmsa.LABEL_FILE} matches"
    findings += [Finding("unmatched", where, said) for where in segment_names(intervals[free])]
    spare = ~np.isin(np.arange(len(lines)), partners["line"])
    said = f"transcript line of no clip of {mmsa.LABEL_FILE}"
    findings += [Finding("unused", where, said) for where in lines.loc[spare, "where"]]
    pairs = clips[["utterance_id", "sentiment"]].assign(theirs=intervals["sentiment"].reindex(partners["interval"]).to_numpy())
    pairs = pairs[(pairs["sentiment"] - pairs["theirs"]).abs() > _SAME_SENTIMENT]
    findings += [
        Finding("conflict", utterance, f"sentiment {ours:.3g} in {mmsa.LABEL_FILE}, {theirs:.3g} in {labels}")
        for utterance, ours, theirs in pairs.itertuples(index=False)
    ]
    return findings


def _read_raw(name: str, root: Path, transcripts: list[Path], labels: Path) -> Corpus:
    lines = read_transcripts(transcripts)
    intervals, findings = read_intervals(labels, emotions=True)
    partner = match_times(lines, intervals)
    own = intervals.reindex(partner).reset_index(drop=True)  # there is no row -1: NaN
    table = lines.assign(utterance_id=mmsa.clip_ids(lines), **{column: own[column] for column in ("sentiment", *EMOTIONS)})
    table["line"] = lines["where"]
    table["label_source"] = np.where(partner < 0, "", labels.name)
    findings += [
        Finding("unlabelled", utterance, f"no interval of {labels.name} has the times of its transcript line")
        for utterance in table.loc[partner < 0, "utterance_id"]
    ]
    free = ~np.isin(np.arange(len(intervals)), partner)
    said = f"interval of {labels.name} with the times of no transcript line"
    findings += [Finding("unmatched", where, said) for where in segment_names(intervals[free])]
    table, split_sources, split_findings = split_by_video(table, root)
    return assemble(name, root, "CMU raw", table, [*transcripts, labels, *split_sources], [*findings, *split_findings], PLACES)
