"""Findings: observations about a corpus that its user should know, and the kinds that they have.

Corpus readers, `data.csv_tables` and `data.probe` make findings; `data.doctor` and the report of a build show them. The manifest key
of a corpus contains its findings, so a changed message changes that key.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """An observation about a corpus, made while reading its tables or its media."""

    kind: str  # a key of FINDING_KINDS
    where: str  # utterance id, or file[:line], or video
    message: str  # what was found, what was expected


FINDING_KINDS: Mapping[str, str] = {
    "missing": "labelled clips whose media file is not there",
    "no-match": "media files of which none belongs to an utterance",
    "unlabelled": "utterances without a label",
    "unsplit": "utterances that belong to no split",
    "conflict": "two label files that contradict each other",
    "unmatched": "labels or intervals without an utterance",
    "duplicate": "the same id, or the same text and times, twice",
    "out-of-range": "labels outside their scale",
    "overlap": "segments of a video that overlap",
    "bad-time": "negative starts, empty or reversed segments",
    "empty-text": "utterances without a word",
    "garbled": "texts with traces of a wrong encoding",
    "known-bad": "clips known to be damaged in the public distribution",
    "unused": "media or rows that belong to no utterance",
    "unreadable": "media that cannot be decoded",
    "truncated": "media shorter or longer than their header or their segment says",
    "silent": "media without sound",
    "gap": "recordings with gaps in their timestamps, filled with silence",
    "too-loud": "media far beyond full scale",
    "speech-rate": "text and audio that do not fit: words per second out of bounds",
    "same-media": "different utterances with the same media content",
}
"""Kind of a finding → description. Lists of findings follow this order."""
