"""Steps for the raw releases of CMU-MOSI and CMU-MOSEI: the `.csd` file of labels, the folders, and splits by video.

CMU's releases contain no split. A file `splits.csv` in the corpus root, with the columns `video_id,split` (train, valid or test),
provides one; without it, every split is empty, which is reported. The two corpora have different transcripts, which
`data.corpora.mosi` and `data.corpora.mosei` read; `data.csd` reads the `.csd` format.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from data.csd import read_csd
from data.csv_tables import onto_scale, read_table, splits, unique
from data.errors import InputError, shown
from data.findings import Finding
from data.labels import EMOTIONS, SENTIMENT_RANGE

SPLITS_FILE = "splits.csv"

_EMOTION_RANGE = (0.0, 3.0)
_DIMENSIONS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")
"""Columns of the features of CMU_MOSEI_Labels.csd, unless its metadata "dimension names" names others."""
_OURS = {"happy": "happiness", "sad": "sadness"}


def find_files(root: Path, folder: str, suffix: str) -> list[Path]:
    """List the files with `suffix` in `Raw/<folder>`, or else in `<folder>`, sorted and without dot files."""
    for here in (root / "Raw" / folder, root / folder):
        found = sorted(path for path in here.glob(f"*{suffix}") if not path.name.startswith("."))
        if found:
            return found
    return []


def find_label_csd(root: Path, usual: str) -> Path | None:
    """Find the label file of a corpus: the `.csd` named `usual`, or the only one with "label" in its name.

    Args:
        root: The folder that is searched, together with its immediate folders.
        usual: The public name of the file.

    Raises:
        InputError: Several files match.
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
    """Read a `.csd` file of labels.

    Args:
        path: The file.
        emotions: True if the six emotions are needed beside the sentiment.

    Returns:
        A table with one row per interval: `video_id`, `number` (from 0, in the order of the file), `start_s`, `end_s`, `sentiment`
        and, if needed, the emotions; and findings about labels outside their scale.

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
    """Return the names of intervals for messages: the number in the file (from 0) and the times."""
    columns = (intervals[name] for name in ("video_id", "number", "start_s", "end_s"))
    return [f"{video} interval {n} ({start:.3f} to {end:.3f} s)" for video, n, start, end in zip(*columns, strict=True)]


def split_by_video(table: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, list[Path], list[Finding]]:
    """Fill the column `split` from `splits.csv`, if that exists.

    Returns:
        The table, the file that was read (if any), and findings about videos without split and splits without video.

    Raises:
        InputError: `splits.csv` exists but is not as described above.
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
        Finding("unused", f"{SPLITS_FILE}:{line}", f"video {shown(video)} has no utterance")
        for line, video in rows["video_id"].items()
        if video not in known
    ]
    return table.assign(split=table["video_id"].map(by_video).fillna("")), [path], findings


def _columns(path: Path, widths: list[int], named: object, wanted: tuple[str, ...]) -> list[str]:
    """Return the names of the feature columns, with the emotions named as in `EMOTIONS`."""
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
