"""A folder of own clips: a `label.csv` and media files anywhere below the same folder.

Required columns, in any order: `text`, and `id` or `video_id` with `clip_id`. Optional columns: labels, `mode` or `split`, `start_s`
with `end_s`, `speaker`, and `media` (a path below the folder). An empty cell means "not known", but not for a class. Other columns are
reported and ignored; a name that looks like a misspelling of one of these is an error, and so is a column of other labels (`valence`),
which would be lost.

Labels: `label` or `sentiment`, in [-3, 3] or on the scale that stands behind the name, `sentiment [-1, 1]`. The six emotions, all or
none; or other emotions, in columns `emotion:calm`, `emotion:proud`, …; or one class for each utterance, in the column `emotion`. What
a setting states about labels (`data.label_sets`) goes before the header.

The medium of a row is the file that `media` names; or a file called `<video_id>/<clip_id>`, `<video_id>_<clip_id>` or `<id>`; or, if
the row has times, a recording called `<video_id>`, which is cut at these times. Files may be in any folder and have any suffix of
`MEDIA_SUFFIXES`. A file that `media` names is also cut if the row has times.
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from data.containers import MEDIA_SUFFIXES
from data.corpora import mmsa
from data.corpora.assemble import assemble
from data.corpora.base import Corpus
from data.corpora.label_columns import refuse_unread_labels
from data.corpora.media_files import Name, has_any_media, list_media
from data.csv_tables import (
    LABEL_TOLERANCE,
    expect_classes,
    expect_wide_scale,
    line_names,
    numbers,
    onto_scale,
    read_table,
    require_columns,
    splits,
    unique,
)
from data.errors import InputError, listed, shown
from data.findings import Finding
from data.label_sets import CLASS_COLUMN, EMOTION_PREFIX, OPEN, Statement, read_scale
from data.labels import EMOTIONS, MOSEI_LABELS, LabelSet
from data.spreadsheets import unescape_cells

_COLUMNS = (
    "id", "video_id", "clip_id", "text", "label", "sentiment", *EMOTIONS, "mode", "split", "start_s", "end_s", "speaker", "media",
)  # fmt: skip
_NOT_READ = ("label_T", "label_A", "label_V", "index", "")
_LEFT = (*_NOT_READ, "annotation")
"""Columns of MMSA's label.csv that add no information. The column without a name is a row number written by pandas."""

_SLIP = 0.75
"""Smallest similarity (difflib's ratio) at which a column name counts as a misspelling of one of `_COLUMNS`."""


def read_folder(name: str, root: Path, has_media: bool = True, is_escaped: bool = False, statement: Statement = OPEN) -> Corpus:
    """Read a folder of clips.

    Args:
        name: The corpus name for the manifest.
        root: The folder that contains `label.csv`.
        has_media: True to search for media. If False, every utterance is text only, even if there are media in the folder.
        is_escaped: True if `data.spreadsheets` wrote `label.csv`, with apostrophes before cells that begin like a formula.
        statement: What a setting says about the labels.

    Raises:
        InputError: There is no `label.csv`, its content is invalid, or contradicts the statement.
    """
    path = root / mmsa.LABEL_FILE
    rows = read_table(path, ("text",))
    rows = unescape_cells(rows) if is_escaped else rows
    rows, labels = _read_header(rows, statement, path)
    findings = _other_columns(rows, labels, path)
    table = _identify(rows, path).assign(text=rows["text"], speaker=rows.get("speaker", ""), line=line_names(rows, path))
    for column in ("start_s", "end_s"):
        table[column] = numbers(rows[column], path, empty=True) if column in rows else np.nan
    half = table["start_s"].isna() != table["end_s"].isna()
    if half.any():
        raise InputError(f"{path}:{half.idxmax()}: start_s and end_s: one of them is empty; expected both or none.")
    table["order"] = _order(table)
    table, label_findings = _label(table, rows, labels, path)
    table, split_findings = _split(table, rows, path)
    media_findings: list[Finding] = []
    if has_media:
        table, media_findings = _find_media(table, rows, root, path)
    else:
        table = table.assign(media="", whole=False, expected="")
    everything = [*findings, *label_findings, *split_findings, *media_findings]
    return assemble(name, root, "folder with label.csv", table, [path], everything, labels=labels)


def has_shared_files(root: Path) -> bool:
    """Return True if `root` has a `label.csv` that is not laid out as MMSA's."""
    return (root / mmsa.LABEL_FILE).exists() and not mmsa.is_layout(root)


def _read_header(rows: pd.DataFrame, statement: Statement, path: Path) -> tuple[pd.DataFrame, LabelSet]:
    """Return the rows with plain names of columns, `sentiment [-1, 1]` as `sentiment` and `emotion:calm` as `calm`, and the label set.

    Raises:
        InputError: The header contradicts itself or the statement, or a class has no name that it can have.
    """
    rows, scale = _without_scale(rows, path)
    if scale is not None and statement.scale not in (None, scale):
        raise InputError(f"{path}:1: the scale is {list(scale)}, but {list(statement.scale or ())} is stated. Change one of them.")
    own = [str(column).removeprefix(EMOTION_PREFIX).strip() for column in rows if str(column).startswith(EMOTION_PREFIX)]
    has_classes = statement.is_exclusive or (statement.emotions is None and _has_classes(rows))
    if own and has_classes:
        raise InputError(f"{path}:1: columns {CLASS_COLUMN!r} and {EMOTION_PREFIX + own[0]!r} both hold emotions; expected one kind.")
    if has_classes and CLASS_COLUMN not in rows:
        raise InputError(f"{path}:1: no column {CLASS_COLUMN!r}, but {statement.label_set()} is stated. Columns found: {listed(rows)}.")
    if twice := next((name for name in own if name in rows), None):
        raise InputError(f"{path}:1: columns {twice!r} and {EMOTION_PREFIX + twice!r} are the same emotion; expected one of them.")
    rows = rows.rename(columns={column: str(column).removeprefix(EMOTION_PREFIX).strip() for column in rows})
    emotions = _classes(rows, path, statement) if has_classes else tuple(own) or EMOTIONS
    try:
        header = LabelSet(emotions, has_classes, scale or MOSEI_LABELS.scale)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return rows, statement.label_set(header)


def _without_scale(rows: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, tuple[float, float] | None]:
    """Return the rows with the scale behind the name of the sentiment taken away, and the scale, if there is one."""
    for column in map(str, rows):
        name, bracket, rest = column.partition("[")
        if bracket and name.strip() in ("label", "sentiment"):
            try:
                return rows.rename(columns={column: name.strip()}), read_scale(bracket + rest)
            except InputError as error:
                raise InputError(f"{path}:1: column {shown(column)}: {error}") from None
    return rows, None


def _has_classes(rows: pd.DataFrame) -> bool:
    """Return True if a column holds classes: the emotions of the clips, unless the six have columns of their own."""
    return CLASS_COLUMN in rows and set(EMOTIONS).isdisjoint(rows) and bool(rows[CLASS_COLUMN].str.strip().any())


def _classes(rows: pd.DataFrame, path: Path, statement: Statement) -> tuple[str, ...]:
    """Return the stated classes, or those of the cells by name; each cell has to be one of them."""
    if statement.emotions is not None:
        expect_classes(rows[CLASS_COLUMN], statement.emotions, path)
        return statement.emotions
    expect_classes(rows[CLASS_COLUMN], None, path)
    return tuple(sorted(rows[CLASS_COLUMN].str.strip().unique()))


def _other_columns(rows: pd.DataFrame, labels: LabelSet, path: Path) -> list[Finding]:
    findings, known = [], (*_COLUMNS, *_label_columns(labels))
    for column in map(str, rows):
        if column in known or column in _LEFT:
            continue
        near = difflib.get_close_matches(column.casefold(), _COLUMNS, n=1, cutoff=_SLIP)
        if near and near[0] not in rows:
            raise InputError(
                f"{path}:1: unknown column {shown(column)}. Did you mean {shown(near[0])}? Known columns: {', '.join(_COLUMNS)}."
            )
        findings.append(Finding("unused", f"{path.name}:1", f"column {shown(column)} is not read; known: {', '.join(_COLUMNS)}"))
    return findings


def _label_columns(labels: LabelSet) -> tuple[str, ...]:
    """List the columns of emotions that are read."""
    return (CLASS_COLUMN,) if labels.is_exclusive else labels.emotions


def _one_of(rows: pd.DataFrame, names: tuple[str, str], path: Path) -> str | None:
    """Return the one of two names of a column that the table has, or None if it has neither."""
    found = [name for name in names if name in rows]
    if len(found) > 1:
        raise InputError(f"{path}:1: columns {names[0]!r} and {names[1]!r} say the same thing; expected one of them.")
    return found[0] if found else None


def _identify(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    if "id" not in rows:
        require_columns(rows, ("video_id", "clip_id"), path)
    if "video_id" not in rows:
        rows = rows.assign(video_id=rows["id"], clip_id=rows.get("clip_id", ""))
    elif "clip_id" not in rows:
        rows = rows.assign(clip_id="")
    ids = rows["id"] if "id" in rows else mmsa.clip_ids(rows)
    return rows[["video_id", "clip_id"]].assign(utterance_id=unique(ids, path))


def _order(table: pd.DataFrame) -> pd.Series:
    """Return the clip numbers if all clip ids are numbers, else the start times if all are known, else the order of the file."""
    if table["clip_id"].str.fullmatch(r"[0-9]{1,18}").all():
        return table["clip_id"].astype("int64")
    return table["start_s"] if table["start_s"].notna().all() else pd.Series(table.index, index=table.index)


def _label(table: pd.DataFrame, rows: pd.DataFrame, labels: LabelSet, path: Path) -> tuple[pd.DataFrame, list[Finding]]:
    given = [] if labels.is_exclusive else [emotion for emotion in labels.emotions if emotion in rows]
    if given and len(given) < len(labels.emotions):
        absent = ", ".join(sorted(set(labels.emotions) - set(given)))
        count = "six" if labels.emotions == EMOTIONS else len(labels.emotions)
        raise InputError(f"{path}:1: emotions {', '.join(given)} without {absent}; expected all {count} or none.")
    sentiment = _one_of(rows, ("label", "sentiment"), path)
    scales = {emotion: (emotion, (0.0, np.inf)) for emotion in given}
    if sentiment:
        scales["sentiment"] = (sentiment, labels.scale)
    findings = []
    for ours, (column, scale) in scales.items():
        values = numbers(rows[column], path, empty=True)
        if ours == "sentiment" and labels.scale == MOSEI_LABELS.scale:
            expect_wide_scale(values, path)
        tolerance = labels.tolerance if ours == "sentiment" else LABEL_TOLERANCE
        table[ours], outside = onto_scale(values.rename(ours), scale, path, table["utterance_id"].tolist(), tolerance)
        findings += outside
    others = [str(column) for column in rows if column not in (*_COLUMNS, *_label_columns(labels), *_NOT_READ)]
    refuse_unread_labels(rows, others, path, bool(sentiment), bool(given) or labels.is_exclusive)
    labelled = table[list(scales)].notna().any(axis=1) | labels.is_exclusive
    if labels.is_exclusive:
        classes = rows[CLASS_COLUMN].str.strip()
        table = table.assign(**{name: (classes == name).astype(float) for name in labels.emotions})
    return table.assign(label_source=np.where(labelled, path.name, "")), findings


def _split(table: pd.DataFrame, rows: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[Finding]]:
    column = _one_of(rows, ("mode", "split"), path)
    table["split"] = splits(rows[column], path, empty=True) if column else ""
    unsplit = int((table["split"] == "").sum())
    said = f"{unsplit} of {len(table)} utterances have no split; a column 'split' gives one"
    return table, [Finding("unsplit", path.name, said)] if unsplit else []


def _find_media(table: pd.DataFrame, rows: pd.DataFrame, root: Path, path: Path) -> tuple[pd.DataFrame, list[Finding]]:
    """Add `media`, `whole`, `expected` and `names` as `find_media` describes them, and report files that belong to no row."""
    files = list(list_media(root, ""))
    by_tail: dict[str, list[PurePosixPath]] = {}
    for file in files:
        for tail in _tails(file):
            by_tail.setdefault(tail, []).append(file)
    columns = [table[name].tolist() for name in ("video_id", "clip_id", "utterance_id")]
    named = rows["media"].str.strip().tolist() if "media" in rows else [""] * len(rows)
    can_be_near = bool(files) or has_any_media(root)
    known, claimed, given = set(map(str, files)), set(), dict[str, tuple[Name, ...]]()
    media, whole, expected = [], table["end_s"].notna().tolist(), []
    for place, (line, cell, *ids) in enumerate(zip(table.index, named, *columns, strict=True)):
        if cell:
            if cell not in given:
                _refuse_unusable(cell, path, line)
                given[cell] = _names_of(cell)
            names, medium = given[cell], given[cell][0].path
            claimed.add(medium)
            media.append(medium if medium in known else "")
        elif can_be_near:
            possible = list(_possible(*ids, timed=whole[place]))
            claimed.update(stem for stem, _ in possible if stem in by_tail)
            names = tuple(Name(f"{stem}.wav", stem) for stem, _ in possible)
            hit, is_whole = next((one for one in possible if one[0] in by_tail), ("", False))
            media.append(str(_only(by_tail[hit], hit, path, line)) if hit else "")
            whole[place] = is_whole
        else:
            names = ()
            media.append("")
        expected.append(names if can_be_near and not media[-1] else ())
    table["media"], table["whole"] = media, whole
    table["expected"] = [names[0].path if names else "" for names in expected]
    table["names"] = pd.Series(expected, index=table.index, dtype=object)
    unused = [file for file in files if str(file) not in claimed and claimed.isdisjoint(_tails(file))]
    return table, [Finding("unused", str(file), "media file of no utterance") for file in unused]


def _names_of(medium: str) -> tuple[Name, ...]:
    """Return the names of a file that a cell of the column `media` gives: as it stands there, and without its folder."""
    path = PurePosixPath(medium)
    own = path.with_suffix("")
    return Name(str(path), str(own)), Name(str(path), own.name)


def _possible(video: str, clip: str, utterance: str, timed: bool) -> Iterator[tuple[str, bool]]:
    """Yield possible names of a row's media file, without suffix, each with True if that file is a recording to be cut."""
    if clip:
        yield f"{video}/{clip}", False
        yield f"{video}_{clip}", False
    yield utterance, False
    if timed:
        yield video, True


def _tails(file: PurePosixPath) -> list[str]:
    """Return the path without suffix, and all its shorter forms that leave out leading folders."""
    parts = file.with_suffix("").parts
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _only(candidates: list[PurePosixPath], stem: str, path: Path, line: int) -> PurePosixPath:
    """Return the file whose suffix comes first in `MEDIA_SUFFIXES`. If two have the same suffix, the user must choose one."""
    ranks: Mapping[str, int] = {suffix: rank for rank, suffix in enumerate(MEDIA_SUFFIXES)}
    first, *rest = sorted(candidates, key=lambda file: ranks[file.suffix.lower()])
    if rest and rest[0].suffix.lower() == first.suffix.lower():
        raise InputError(f"{path}:{line}: both {first} and {rest[0]} are called {shown(stem)}; name one in a column 'media'.")
    return first


def _refuse_unusable(medium: str, path: Path, line: int) -> None:
    if medium.startswith("/") or ".." in PurePosixPath(medium).parts:
        raise InputError(f"{path}:{line}: media is {shown(medium)}, expected a path below the folder of {path.name}.")
    if PurePosixPath(medium).suffix.lower() not in MEDIA_SUFFIXES:
        raise InputError(f"{path}:{line}: media is {shown(medium)}, expected a file with one of {' '.join(MEDIA_SUFFIXES)}.")
