"""Clips that are no corpus: files and folders that a user names, made into a folder that `data.corpora.folder` reads.

A table may say what is spoken in the clips: a CSV file with `text`, and `media`, `id`, or `video_id` with `clip_id`, which name the
file of a row. A name fits a file if it is its path or the end of it, with or without its suffix. Optional columns are `video_id`,
`clip_id`, `speaker`, and `start_s` with `end_s`, which cut a file into clips. Other columns are not read. An apostrophe before a text
that begins like a formula is taken away, as `data.spreadsheets` puts it there.

Media are not copied: the folder holds links to them, whose names no reader can misunderstand.
"""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from data.atomic import atomic_path
from data.containers import MEDIA_SUFFIXES
from data.corpora import mmsa
from data.corpora.media_files import list_all_media, list_media
from data.csv_tables import numbers, read_table, unique
from data.errors import InputError, listed, shown
from data.spreadsheets import unescape_cells

_LINKS = "media"
_TIMES = ("start_s", "end_s")
_COLUMNS = ("id", "text", "video_id", "clip_id", "speaker", *_TIMES, "media")


class Clip(NamedTuple):
    """A file, a part of one, or a text alone."""

    name: str  # its utterance id: from the table, or the path of its file below the folder that all files have in common
    file: Path | None  # None for a text alone
    text: str = ""  # empty if nobody knows what is spoken
    video: str = ""  # clips of one video follow each other
    number: str = ""  # its clip_id, if the table has one
    speaker: str = ""
    start_s: float = np.nan  # with end_s, the part of the file; NaN: the whole
    end_s: float = np.nan


class OwnClips(NamedTuple):
    """All clips in their order, and the lines of the table that name no given file."""

    clips: tuple[Clip, ...]
    strangers: tuple[int, ...]


def list_files(paths: Sequence[Path]) -> dict[str, Path]:
    """List the media among files and below folders, each once: name → absolute path, sorted, numbers in names by their value.

    Raises:
        InputError: A path does not exist, a file has a suffix that is not read, a folder holds no media, or a name is not UTF-8.
    """
    found: dict[str, Path] = {}
    for path in map(Path.absolute, paths):
        for file in _media_of(path):
            found.setdefault(os.path.realpath(file), file)
    files = list(found.values())
    if unnamed := [file for file in files if not _is_utf8(str(file))]:
        raise InputError(f"{str(unnamed[0])!a}: its name is not UTF-8. Rename it.")
    top = os.path.commonpath([path if path.is_dir() else path.parent for path in map(Path.absolute, paths)])
    names = {PurePosixPath(os.path.relpath(file, top)).as_posix(): file for file in files}
    return dict(sorted(names.items(), key=lambda pair: _by_numbers(pair[0])))


def _media_of(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.")
    if not path.is_dir():
        if path.suffix.lower() not in MEDIA_SUFFIXES:
            raise InputError(f"{path}: expected a folder, or a file with one of {' '.join(MEDIA_SUFFIXES)}.")
        yield path
        return
    media = [path / file for file in list_media(path, "")]
    if not media:
        others = list_all_media(path) or sorted(one.name for one in path.iterdir())
        found = listed(others) or "no files"
        raise InputError(f"{path}: no media file in it (there are: {found}). {' '.join(MEDIA_SUFFIXES)} are read.")
    yield from media


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _by_numbers(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return what sorts "clip 2" before "clip 10"."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts], name


def gather(files: Mapping[str, Path], table: Path | None = None, by_folder: bool = False) -> OwnClips:
    """Join files with the table of their texts.

    Args:
        files: As `list_files` returns them; empty if there are texts alone.
        table: The CSV file; None if no text is known.
        by_folder: Whether the files of one folder are one video, in the order of their names; else each file is one, unless the table
            has a column `video_id`.

    Raises:
        InputError: The table cannot be read, a row names several files, rows of one file do not say which part of it is theirs, or no
            row names a file.
    """
    rows = [] if table is None else list(_rows(files, table))
    strangers = tuple(line for line, clip in rows if clip is None)
    told = [clip for _, clip in rows if clip is not None]
    if rows and not told:
        raise InputError(
            f"{table}: none of its {len(rows):,} rows names a given file, such as {shown(next(iter(files)))}."
            " Name the files in a column 'media'."
        )
    known = {clip.file for clip in told}
    silent = [Clip(name, file) for name, file in files.items() if file not in known]
    name_of = {file: name for name, file in files.items()}
    place = {file: number for number, file in enumerate(files.values())}
    clips = sorted([*told, *silent], key=lambda clip: (place[clip.file] if clip.file else len(place), np.nan_to_num(clip.start_s)))
    counts = Counter(clip.name for clip in clips)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InputError(f"{table}: id {shown(twice[0])} is also the name of a file without a row. Rename one of the two.")
    return OwnClips(tuple(clip if clip.video else clip._replace(video=_video(clip, name_of, by_folder)) for clip in clips), strangers)


def _video(clip: Clip, name_of: Mapping[Path, str], by_folder: bool) -> str:
    if clip.file is None:
        return clip.name
    name = name_of[clip.file]
    return str(PurePosixPath(name).parent) if by_folder else name


class _Row(NamedTuple):
    """A row of the table."""

    line: int
    cells: Mapping[str, str]
    start_s: float
    end_s: float

    def cell(self, column: str) -> str:
        return self.cells.get(column, "").strip()

    @property
    def names(self) -> Iterator[str]:
        """What may name its file, the most exact first."""
        yield from filter(None, (self.cell("media"), self.cell("id")))
        if self.cell("video_id") and self.cell("clip_id"):
            yield f"{self.cell('video_id')}/{self.cell('clip_id')}"
            yield f"{self.cell('video_id')}_{self.cell('clip_id')}"


def _rows(files: Mapping[str, Path], path: Path) -> Iterator[tuple[int, Clip | None]]:
    """Yield the line and the clip of each row of the table; None instead of a clip for a row that names no given file."""
    rows, by_end = _read(path), _ends(files)
    found = [_file_of(row, by_end, path) for row in rows]
    _expect_parts(rows, found, path)
    for row, file, name in zip(rows, found, _ids(rows, found, files, path), strict=True):
        is_text_alone = not files or ("media" in row.cells and not row.cell("media"))
        if file is None and not is_text_alone:
            yield row.line, None
        else:
            number = row.cell("clip_id") if row.cell("video_id") else ""
            yield (
                row.line,
                Clip(name, file, row.cell("text"), row.cell("video_id"), number, row.cell("speaker"), row.start_s, row.end_s),
            )


def _read(path: Path) -> list[_Row]:
    table = read_table(path, ("text",))
    if not {"media", "id"} & {*table} and not {"video_id", "clip_id"} <= {*table}:
        raise InputError(f"{path}:1: no column 'media' or 'id', which names the file of a text. Columns found: {listed(table)}.")
    table["text"] = unescape_cells(table[["text"]])["text"]
    starts, ends = (numbers(table[name], path, empty=True).tolist() if name in table else [np.nan] * len(table) for name in _TIMES)
    cells = ({str(name): str(cell) for name, cell in row.items()} for row in table.to_dict("records"))
    return [_Row(*row) for row in zip(map(int, table.index), cells, starts, ends, strict=True)]


def _ids(rows: Sequence[_Row], found: Sequence[Path | None], files: Mapping[str, Path], path: Path) -> list[str]:
    """Return the utterance id of each row: the column `id`, else made of video_id and clip_id, else the name of its file."""
    lines = pd.Index([row.line for row in rows], name="line")
    if rows and "id" in rows[0].cells:
        return unique(pd.Series([row.cell("id") for row in rows], lines, name="id", dtype=object), path).tolist()
    if rows and {"video_id", "clip_id"} <= {*rows[0].cells}:
        return unique(mmsa.clip_ids(pd.DataFrame([dict(row.cells) for row in rows], index=lines)), path).tolist()
    name_of = {file: name for name, file in files.items()}
    given = [
        name_of[file] if file is not None else row.cell("media") or f"line {row.line}" for row, file in zip(rows, found, strict=True)
    ]
    counts, so_far = Counter(given), Counter[str]()
    for place, name in enumerate(given):
        so_far[name] += 1
        given[place] = f"{name}[{so_far[name]}]" if counts[name] > 1 else name
    return given


def _ends(files: Mapping[str, Path]) -> dict[str, list[Path]]:
    """Return every end of the path of a file, with and without its suffix → the files that it fits."""
    found: dict[str, list[Path]] = {}
    for file in files.values():
        path = PurePosixPath(file)
        for whole in (path, path.with_suffix("")):
            parts = whole.parts[1:]
            for end in [str(whole), *("/".join(parts[start:]) for start in range(len(parts)))]:
                found.setdefault(end, []).append(file)
    return found


def _file_of(row: _Row, by_end: Mapping[str, Sequence[Path]], path: Path) -> Path | None:
    """Return the file that a row names; None if it names no given file."""
    for name in row.names:
        fitting = by_end.get(PurePosixPath(name).as_posix(), ())
        if len(fitting) > 1:
            where = f"{path}:{row.line}: {shown(name)} fits {fitting[0]} and {fitting[1]}"
            raise InputError(f"{where}. Give more of its path in a column 'media'.")
        if fitting:
            return fitting[0]
    return None


def _expect_parts(rows: Sequence[_Row], found: Sequence[Path | None], path: Path) -> None:
    """Raise InputError for a row with one time, and for rows of one file of which one is the whole file."""
    first: dict[Path, _Row] = {}
    for row, file in zip(rows, found, strict=True):
        if np.isnan(row.start_s) != np.isnan(row.end_s):
            raise InputError(f"{path}:{row.line}: start_s and end_s: one of them is empty; expected both or none.")
        before = row if file is None else first.setdefault(file, row)
        if before is not row and np.isnan([row.start_s, before.start_s]).any():
            which = f"{file} is also on line {before.line}"
            raise InputError(f"{path}:{row.line}: {which}. Say in start_s and end_s which part of it each row is.")


def write_folder(folder: Path, clips: Iterable[Clip], files: Iterable[Path]) -> None:
    """Write `label.csv` and the links to the media.

    Args:
        folder: Becomes a folder that `data.corpora.folder` reads. Links that are right already stay.
        clips: What `label.csv` lists.
        files: All files, also of clips that are left out: the name of a link depends on its place among them.
    """
    link_of = {file: f"{_LINKS}/clip~{number:06}{file.suffix}" for number, file in enumerate(files, 1)}
    (folder / _LINKS).mkdir(parents=True, exist_ok=True)
    present = {path: os.readlink(path) for path in (folder / _LINKS).iterdir() if path.is_symlink()}
    wanted = {folder / link: str(file) for file, link in link_of.items()}
    for path in present.keys() - {path for path, file in wanted.items() if present.get(path) == file}:
        path.unlink()
    for path in wanted.keys() - {path for path, file in present.items() if wanted.get(path) == file}:
        path.symlink_to(wanted[path])
    rows = [
        (clip.name, clip.text, clip.video, clip.number, clip.speaker, *map(_seconds, (clip.start_s, clip.end_s)), _link(clip, link_of))
        for clip in clips
    ]
    with atomic_path(folder / mmsa.LABEL_FILE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([_COLUMNS, *rows])


def _link(clip: Clip, link_of: Mapping[Path, str]) -> str:
    return "" if clip.file is None else link_of[clip.file]


def _seconds(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))
