"""The clips that an encoder learns from, ready for it: token ids in memory, waveforms in a file, so that memory stays bounded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.media import SAMPLE_RATE_HZ
from pipeline.encoding.encoder import Prepared


@dataclass(frozen=True)
class Labels:
    """The labels of N clips."""

    sentiment: np.ndarray  # (N,) float32, NaN where unlabelled
    emotions: np.ndarray  # (N, C) float32, 1 where present, else 0, NaN where unlabelled

    def labelled(self, task: str) -> np.ndarray:
        """Returns (N,) bool: True where a clip has the labels of "msa" or "mer"; one missing emotion makes a clip unlabelled."""
        missing = np.isnan(self.sentiment[:, None] if task == "msa" else self.emotions)
        return np.logical_not(missing.any(axis=1))

    def taken(self, rows: np.ndarray) -> Labels:
        """Returns the labels of some clips."""
        return Labels(self.sentiment[rows], self.emotions[rows])


@dataclass(frozen=True)
class Clips:
    """The N clips of one split."""

    ids: tuple[str, ...]  # "corpus/utterance_id"
    items: Sequence[Prepared]
    labels: Labels
    costs: tuple[int, ...]  # tokens or frames of each

    def __len__(self) -> int:
        return len(self.ids)


def in_memory(items: Iterable[tuple[int, Prepared]]) -> list[Prepared]:
    """Collects prepared texts."""
    return [item for _, item in items]


class OnDisk(Sequence[Prepared]):
    """Prepared waveforms in a file. What is read of it stays in the system's cache as long as there is memory."""

    def __init__(self, path: Path, parts: Sequence[tuple[int, Prepared]]) -> None:
        """Args:
        path: float32 samples, clip after clip.
        parts: (first sample, clip without its samples) of each clip.
        """
        self._samples = np.memmap(path, np.float32, "r")
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: Any) -> Any:
        start, item = self._parts[index]
        stop = self._parts[index + 1][0] if index + 1 < len(self._parts) else len(self._samples)
        return replace(item, values=np.array(self._samples[start:stop]))


@contextlib.contextmanager
def on_disk(path: Path, items: Iterable[tuple[int, Prepared]]) -> Iterator[OnDisk]:
    """Writes prepared waveforms into a file, yields them, and removes the file at the end."""
    parts: list[tuple[int, Prepared]] = []
    start, nothing = 0, np.zeros(0, np.float32)
    try:
        with path.open("wb") as file:
            for _, item in items:
                file.write(np.ascontiguousarray(item.values, np.float32).data)
                parts.append((start, replace(item, values=nothing)))
                start += len(item.values)
        yield OnDisk(path, parts)
    finally:
        path.unlink(missing_ok=True)


def shortened(encoder: Any, items: Iterable[tuple[int, Prepared]], seconds: float) -> Iterator[tuple[int, Prepared]]:
    """Cuts waveforms to their first seconds, as MMML does, after they were normalised as a whole.

    The speech before a clip, its context, is kept whole and does not count.
    """
    return ((index, encoder.shortened(item, seconds * SAMPLE_RATE_HZ)) for index, item in items)
