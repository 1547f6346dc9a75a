"""CMU-MOSI: spoken film reviews, 2,199 clips of 93 videos, with sentiment in [-3, 3] and no emotions.

Layouts; the first one found is read:

* MMSA: `label.csv`, full or reduced (`data.corpora.mmsa`), with clips in any of the places below.
* CMU raw: `Raw/Transcript/Segmented/<video>.annotprocessed`, one line per segment, `<n>_DELIM_<TEXT>` with n from 1, and the labels
  in a `.csd` that counts from k = 0 (n = k + 1). Splits come from `splits.csv` (`data.corpora.cmu`).

Clips: as in MMSA's layout, or `Raw/Audio/WAV_16000/Segmented/<video>_<n>.wav`, `Raw/Video/Segmented/<video>_<n>.mp4`. All folders of
the CMU layout are also found without `Raw/`.
"""

import re
from pathlib import Path

import pandas as pd

from data.corpora import mmsa
from data.corpora.assemble import assemble
from data.corpora.base import Corpus, holds
from data.corpora.cmu import find_files, find_label_csd, read_intervals, segment_names, split_by_video
from data.corpora.media_files import Place
from data.csv_tables import line_names, read_lines, unique
from data.errors import InputError
from data.findings import Finding

LABELS = "CMU_MOSI_Opinion_Labels.csd"

PLACES = (
    *mmsa.PLACES,
    Place("Raw/Audio/WAV_16000/Segmented/{video_id}_{clip_id}", ".wav"),
    Place("Audio/WAV_16000/Segmented/{video_id}_{clip_id}", ".wav"),
    Place("Raw/Video/Segmented/{video_id}_{clip_id}", ".mp4"),
    Place("Video/Segmented/{video_id}_{clip_id}", ".mp4"),
)

_LINE = re.compile(r"(?P<number>[0-9]{1,18})_DELIM_(?P<text>.*)")


def read_mosi(name: str, root: Path) -> Corpus:
    """Read CMU-MOSI.

    Args:
        name: The corpus name for the manifest.
        root: The folder that contains `label.csv`, or `Raw/` and the `.csd`.

    Raises:
        InputError: The folder has neither layout, or the content of a file is invalid.
    """
    if (root / mmsa.LABEL_FILE).exists():
        path = root / mmsa.LABEL_FILE
        table, layout, findings = mmsa.read_labels(root)
        return assemble(name, root, layout, table.assign(line=line_names(table, path)), [path], findings, PLACES)
    transcripts, labels = find_files(root, "Transcript/Segmented", ".annotprocessed"), find_label_csd(root, LABELS)
    if not transcripts or labels is None:
        raise InputError(
            f"{root}: neither {mmsa.LABEL_FILE} nor the CMU raw layout (Raw/Transcript/Segmented/*.annotprocessed: "
            f"{len(transcripts)} found; {LABELS}: {labels.name if labels else 'not found'})."
        )
    return _read_raw(name, root, transcripts, labels)


def has_own_files(root: Path) -> bool:
    """Return True if `root` contains MOSI's transcripts or its label file."""
    return bool(find_files(root, "Transcript/Segmented", ".annotprocessed")) or holds(root, LABELS)


def has_shared_files(root: Path) -> bool:
    """Return True if `root` is laid out as MMSA's, which MOSEI may be, too."""
    return mmsa.is_layout(root)


def _read_raw(name: str, root: Path, transcripts: list[Path], labels: Path) -> Corpus:
    table = pd.concat([_read_transcript(path) for path in transcripts], ignore_index=True)
    intervals, findings = read_intervals(labels, emotions=False)
    intervals["order"] = intervals["number"] + 1
    unmatched = intervals.merge(table[["video_id", "order"]], "left", indicator=True)["_merge"] == "left_only"
    findings += [
        Finding("unmatched", where, f"label in {labels.name}, but no line n = k + 1 in the transcript of the video")
        for where in segment_names(intervals[unmatched.to_numpy()])
    ]
    table = table.merge(intervals.drop(columns="number"), "left", ["video_id", "order"])
    unlabelled = table["sentiment"].isna()
    findings += [
        Finding("unlabelled", utterance, f"no interval k = n - 1 of its video in {labels.name}")
        for utterance in table.loc[unlabelled, "utterance_id"]
    ]
    table["label_source"] = pd.Series(labels.name, index=table.index, dtype=object).mask(unlabelled, "")
    table, split_sources, split_findings = split_by_video(table, root)
    sources = [labels, *transcripts, *split_sources]
    return assemble(name, root, "CMU raw", table, sources, [*findings, *split_findings], PLACES)


def _read_transcript(path: Path) -> pd.DataFrame:
    lines, matches = read_lines(path), []
    for number, line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path}:{number}: line is {line[:60]!r}, expected '<n>_DELIM_<TEXT>'.")
        matches.append(match)
    table = pd.DataFrame({"clip_id": [match["number"] for match in matches], "text": [match["text"] for match in matches]})
    table = table.set_index(pd.Index([number for number, _ in lines])).assign(video_id=path.stem).astype(object)
    table["utterance_id"] = unique(mmsa.clip_ids(table), path)
    order = table["clip_id"].astype("int64")
    unique(mmsa.clip_ids(table.assign(clip_id=order.astype(str))), path)  # 01 is 1
    return table.assign(order=order, line=line_names(table, path))
