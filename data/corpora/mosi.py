"""CMU-MOSI: spoken film reviews, 2,199 clips of 93 videos, sentiment in [-3, 3], no emotions.

Layouts, the first that is there:

* MMSA: `label.csv`, full or reduced (`data.corpora.mmsa`), clips in any place below.
* CMU raw: `Raw/Transcript/Segmented/<video>.annotprocessed`, a line a segment, `<n>_DELIM_<TEXT>` with n from 1, and the labels
  in a `.csd` that counts from 0 (n = k + 1). Splits: `splits.csv` (`data.corpora.cmu`).

Clips: as MMSA keeps them, or `Raw/Audio/WAV_16000/Segmented/<video>_<n>.wav`, `Raw/Video/Segmented/<video>_<n>.mp4`. All folders
of the CMU layout are also found without `Raw/`.
"""

import re
from pathlib import Path

import pandas as pd

from data.corpora import mmsa
from data.corpora.assemble import assemble
from data.corpora.base import Corpus, Finding
from data.corpora.cmu import find_files, find_label_csd, read_intervals, segment_names, split_by_video
from data.corpora.media_files import Place
from data.csv_tables import read_lines, unique
from data.errors import InputError

LABELS = "CMU_MOSI_Opinion_Labels.csd"

PLACES = (
    *mmsa.PLACES,
    Place("Raw/Audio/WAV_16000/Segmented/{video_id}_{clip_id}", ".wav"),
    Place("Audio/WAV_16000/Segmented/{video_id}_{clip_id}", ".wav"),
    Place("Raw/Video/Segmented/{video_id}_{clip_id}", ".mp4"),
    Place("Video/Segmented/{video_id}_{clip_id}", ".mp4"),
)

_LINE = re.compile(r"(?P<number>\d+)_DELIM_(?P<text>.*)")


def read_mosi(name: str, root: Path) -> Corpus:
    """Reads CMU-MOSI.

    Args:
        name: The corpus name for the manifest.
        root: The folder that holds `label.csv`, or `Raw/` and the `.csd`.

    Raises:
        InputError: No layout is there, or a file does not hold what it should.
    """
    if (root / mmsa.LABEL_FILE).exists():
        table, layout, findings = mmsa.read_labels(root)
        return assemble(name, root, layout, table, [root / mmsa.LABEL_FILE], findings, PLACES)
    transcripts, labels = find_files(root, "Transcript/Segmented", ".annotprocessed"), find_label_csd(root, LABELS)
    if not transcripts or labels is None:
        raise InputError(
            f"{root}: neither {mmsa.LABEL_FILE} nor the CMU raw layout (Raw/Transcript/Segmented/*.annotprocessed: "
            f"{len(transcripts)} found; {LABELS}: {labels.name if labels else 'not found'})."
        )
    return _read_raw(name, root, transcripts, labels)


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
    lines = read_lines(path)
    matches = [_LINE.fullmatch(line) for _, line in lines]
    for (number, line), match in zip(lines, matches, strict=True):
        if match is None:
            raise InputError(f"{path}:{number}: line is {line[:60]!r}, expected '<n>_DELIM_<TEXT>'.")
    table = pd.DataFrame({"clip_id": [match["number"] for match in matches], "text": [match["text"] for match in matches]})
    table = table.set_index(pd.Index([number for number, _ in lines])).assign(video_id=path.stem).astype(object)
    table["utterance_id"] = unique(mmsa.clip_ids(table), path)
    return table.assign(order=table["clip_id"].astype("int64"))
