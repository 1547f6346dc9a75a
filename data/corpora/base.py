"""The result of a corpus reader, the entry of a reader in `CORPORA`, and a step that several readers share.

No layout of a corpus is known here. `data.corpora.assemble` makes a `Corpus` from a reader's table; findings are in `data.findings`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from data.findings import Finding
from data.labels import MOSEI_LABELS, LabelSet


@dataclass(frozen=True)
class Corpus:
    """A corpus as its reader found it. No medium has been opened yet."""

    name: str
    root: Path
    layout: str  # in words, e.g. "MMSA label.csv", "CMU raw"
    utterances: pd.DataFrame  # schema.columns; duration_s is NaN, or the segment's length where a table gives times
    sources: tuple[Path, ...]  # the label and transcript files that were read
    findings: tuple[Finding, ...] = field(default=())
    labels: LabelSet = MOSEI_LABELS

    @property
    def has_media(self) -> bool:
        """True if any utterance has a medium. A corpus without media can still serve as a donor of pseudo-labels."""
        return bool((self.utterances["media"] != "").any())

    @property
    def no_match(self) -> Finding | None:
        """The finding that there are media, but none belongs to an utterance; None if that is not so."""
        return next((finding for finding in self.findings if finding.kind == "no-match"), None)


def never(root: Path) -> bool:
    """Return False: the files in `root` do not tell which corpus it is."""
    return False


class Reader(NamedTuple):
    """A corpus layout: how it is read, and how a folder in this layout is recognised."""

    read: Callable[..., Corpus]  # (corpus name, root) → corpus
    has_own_files: Callable[[Path], bool] = never  # True if the root holds files that only this corpus has
    has_shared_files: Callable[[Path], bool] = never  # True if the root fits, but its files could belong to another corpus, too
    options: tuple[str, ...] = ()  # further arguments of `read`: "statement" (about labels), "test_session"


def holds(root: Path, name: str) -> bool:
    """Return True if a file or folder `name` is in `root` or in one of its immediate folders."""
    return (root / name).exists() or any(root.glob(f"*/{name}"))
