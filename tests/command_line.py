"""`python -m heads` called in this process, and what its tables must say, from what is in metrics.json."""

import itertools
import re
from pathlib import Path

import pytest

from data.labels import EMOTIONS
from heads.__main__ import main
from heads.evaluation.metrics import EMOTION_METRICS, SENTIMENT_METRICS

Row = dict[str, str]
"""Header of a column → what is printed there."""


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Runs a command; its exit status, and what it printed to the standard output and error."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Name → time and bytes of each file."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def printed(out: str, title: str) -> dict[str, Row]:
    """Name → row of the table that has this title over its first column."""
    lines = [re.split(r" {2,}", line) for line in out.splitlines()]
    (_, *header), *rows = itertools.takewhile(any, itertools.dropwhile(lambda cells: cells[0] != title, lines))
    return {name: dict(zip(header, cells, strict=True)) for name, *cells in rows}


def sentiment_row(values: dict) -> Row:
    """What is to be printed of the sentiment metrics of a run."""
    return {metric: _shown(values[metric]) for metric in SENTIMENT_METRICS}


def emotion_rows(values: dict) -> dict[str, Row]:
    """What is to be printed of the emotion metrics of a run."""
    return {name: {metric: _shown(values[f"{name}_{metric}"]) for metric in EMOTION_METRICS} for name in (*EMOTIONS, "mean")}


def interval_row(intervals: dict) -> Row:
    """What is to be printed of the intervals of the sentiment metrics of a run."""
    pairs = {metric: intervals[metric] for metric in SENTIMENT_METRICS}
    return {metric: "–" if None in pair else "–".join(map(_shown, pair)) for metric, pair in pairs.items()}


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
