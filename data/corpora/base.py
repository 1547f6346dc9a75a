"""What every corpus reader returns, and the few steps that readers share. No layout of any corpus is known here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Finding:
    """Something worth telling the user about a corpus, found while reading its tables or its media."""

    kind: str  # one of FINDING_KINDS
    where: str  # utterance id, or file[:line], or video
    message: str  # what was found, what was expected


FINDING_KINDS: Mapping[str, str] = {
    "missing": "labelled clips whose media file is not there",
    "unlabelled": "utterances that found no label",
    "unsplit": "utterances that belong to no split",
    "conflict": "two label files that say different things",
    "unmatched": "labels or intervals that found no utterance",
    "duplicate": "the same id, or the same text and times, twice",
    "out-of-range": "labels outside their scale",
    "overlap": "segments of a video that overlap",
    "bad-time": "negative starts, empty or reversed segments",
    "empty-text": "utterances without a word",
    "known-bad": "clips known to be damaged in the public distribution",
    "unused": "media or rows that belong to no utterance",
    "unreadable": "media that cannot be decoded",
    "truncated": "media shorter than its header or its segment says",
    "silent": "media without a sound",
    "speech-rate": "text and audio that do not fit: words per second out of bounds",
    "same-media": "different utterances with the same media content",
}


@dataclass(frozen=True)
class Corpus:
    """One corpus as its reader found it; no medium has been opened yet."""

    name: str
    root: Path
    layout: str  # in words, e.g. "MMSA label.csv", "CMU raw"
    utterances: pd.DataFrame  # schema.COLUMNS; duration_s is NaN, or the segment's length where a table gives times
    sources: tuple[Path, ...]  # the label and transcript files that were read
    findings: tuple[Finding, ...] = field(default=())

    @property
    def has_media(self) -> bool:
        """Whether any utterance has a medium; a text-only corpus is a good donor of pseudo labels."""
        return bool((self.utterances["media"] != "").any())
