"""What the raw releases of CMU-MOSI and CMU-MOSEI share: the `.csd` of labels, where folders lie, and splits by video.

CMU's releases hold no split. Put a `splits.csv` with the columns `video_id,split` (train, valid or test) into the corpus root
to give one; without it every split is empty, which is reported. The transcripts differ: they are read in `data.corpora.mosi`
and `data.corpora.mosei`.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from data.corpora.base import Finding
from data.csv_tables import onto_scale, read_table, splits, unique
from data.errors import InputError
from data.interchange.csd import read_csd
from data.labels import EMOTIONS, SENTIMENT_RANGE

SPLITS_FILE = "splits.csv"

_EMOTION_RANGE = (0.0, 3.0)
_DIMENSIONS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")
"""Columns of the features of CMU_MOSEI_Labels.csd, if its metadata "dimension names" says nothing else."""
_OURS = {"happy": "happiness", "sad": "sadness"}


def find_files(root: Path, folder: str, suffix: str) -> list[Path]:
    """The files with `suffix` in `Raw/<folder>`, or where there are none in `<folder>`, sorted; dot files are skipped."""
    for here in (root / "Raw" / folder, root / folder):
        found = sorted(path for path in here.glob(f"*{suffix}") if not path.name.startswith("."))
        if found:
            return found
    return []


def find_label_csd(root: Path, usual: str) -> Path | None:
    """The label file of a corpus: the `.csd` named `usual`, or the only one with "label" in its name.

    Args:
        root: Looked through, with its immediate folders.
        usual: The public name.

    Raises:
        InputError: Several could be it.
    """
    found = sorted(
        path
        for path in itertools.chain(root.glob("*.csd"), root.glob("*/*.csd"))
        if "label" in path.name.lower() and not path.name.startswith(".")
    )
    exact = [path for path in found if path.name == usual]
    if len(exact or found) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in exact or found)
        raise InputError(f"{root}: several label files: {names}. Keep one, named {usual}.")
    return next(iter(exact or found), None)


def read_intervals(path: Path, emotions: bool) -> tuple[pd.DataFrame, list[Finding]]:
    """Reads a `.csd` of labels.

    Args:
        path: The file.
        emotions: Whether the six emotions are needed beside the sentiment.

    Returns:
        One row an interval: `video_id`, `number` (from 0, in the order of the file), `start_s`, `end_s`, `sentiment` and, if
        needed, the emotions; and the labels that were outside their scale.

    Raises:
        InputError: The file cannot be read, or its features are not labels.
    """
    sequence = read_csd(path)
    if not sequence.entries:
        raise InputError(f"{path}: no entry in it. Download it again.")
    videos, entries = list(sequence.entries), list(sequence.entries.values())
    widths = sorted({np.atleast_2d(entry.features).shape[-1] if entry.features.ndim == 2 else 0 for entry in entries})
    wanted = ("sentiment", *EMOTIONS) if emotions else ("sentiment",)
    columns = _columns(path, widths, sequence.metadata.get("dimension names"), wanted)
    features = np.concatenate([entry.features for entry in entries]).astype("float64")
    times = np.concatenate([entry.intervals for entry in entries]).astype("float64")
    counts = [len(entry.features) for entry in entries]
    table = pd.DataFrame({"video_id": np.repeat(np.array(videos, dtype=object), counts)})
    table["number"] = np.concatenate([np.arange(count) for count in counts])
    table["start_s"], table["end_s"] = times[:, 0], times[:, 1]
    where = segment_names(table)
    findings = []
    for name in wanted:
        values = pd.Series(features[:, columns.index(name)], name=name)
        _refuse_infinite(values, where, path)
        table[name], outside = onto_scale(values, _EMOTION_RANGE if name in EMOTIONS else SENTIMENT_RANGE, path, where)
        findings += outside
    return table, findings


def segment_names(intervals: pd.DataFrame) -> list[str]:
    """How a message names an interval: by its number in the file (from 0) and its times."""
    columns = (intervals[name] for name in ("video_id", "number", "start_s", "end_s"))
    return [f"{video} interval {n} ({start:.3f} to {end:.3f} s)" for video, n, start, end in zip(*columns, strict=True)]


def split_by_video(table: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, list[Path], list[Finding]]:
    """Fills `split` from `splits.csv`, if there is one.

    Returns:
        The table; the file read, if any; findings of videos without split and splits without video.

    Raises:
        InputError: `splits.csv` is there but not as described above.
    """
    path = root / SPLITS_FILE
    if not path.exists():
        hint = f"no {SPLITS_FILE} (columns video_id,split): the release has no split, so all are empty"
        return table.assign(split=""), [], [Finding("unsplit", SPLITS_FILE, hint)]
    rows = read_table(path, ("video_id", "split"))
    by_video = dict(zip(unique(rows["video_id"], path), splits(rows["split"], path), strict=True))
    videos = list(dict.fromkeys(table["video_id"]))
    findings = [Finding("unsplit", video, f"not in {SPLITS_FILE}: its split is empty") for video in videos if video not in by_video]
    known = set(videos)
    findings += [
        Finding("unused", f"{SPLITS_FILE}:{line}", f"video {video!r} has no utterance")
        for line, video in rows["video_id"].items()
        if video not in known
    ]
    return table.assign(split=table["video_id"].map(by_video).fillna("")), [path], findings


def _columns(path: Path, widths: list[int], named: object, wanted: tuple[str, ...]) -> list[str]:
    """What the columns of the features are, in our names."""
    width = widths[0]
    public = {1: _DIMENSIONS[:1], len(_DIMENSIONS): _DIMENSIONS}.get(width, ())
    given = named if width > 1 and isinstance(named, list) and len(named) == width else public
    columns = [_OURS.get(str(name), str(name)) for name in given]
    if len(widths) != 1 or not set(wanted) <= set(columns):
        raise InputError(
            f"{path}: features have {' or '.join(map(str, widths))} columns named {named}; expected labels "
            f"({', '.join(_DIMENSIONS) if len(wanted) > 1 else 'sentiment'})."
        )
    return columns


def _refuse_infinite(values: pd.Series, where: list[str], path: Path) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(f"{path}: {where[bad[0]]}: {values.name} is {values.iloc[bad[0]]}, expected a number.")
