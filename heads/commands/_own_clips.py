"""The part of `predict` for clips that are in no corpus: check them, transcribe them, compute their features, predict.

What is said of them on the way goes to the standard error. This module imports torch: the command imports it in `run`.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout

from data.corpora import read_corpus
from data.corpora.own_files import Clip, gather, list_files, write_folder
from data.csv_tables import read_table
from data.doctor import Diagnosis, examine
from data.errors import InputError
from data.findings import Finding
from data.fingerprint import digest
from data.manifest import read_manifest
from data.media import MediaError, has_sound
from data.reporting.tables import aligned
from data.spreadsheets import unescape_cells
from heads.evaluation.console import progress_bar
from heads.runs import pipeline_process
from heads.runs.evaluate import predict as predict_rows
from heads.runs.folder import RunFolder
from heads.runs.own_clips import Reader, cut_clips, has_words, open_clips, sort_clips, with_words
from heads.runs.run_data import choose_device

_NOTES = ("bad-time", "overlap", "duplicate", "garbled", "gap", "too-loud", "speech-rate", "same-media")
"""Kinds of findings that are worth a line though the clip can be used."""

_SHOWN_ROWS, _SHOWN_CHARACTERS = 20, 44


@dataclass(frozen=True)
class Request:
    """What the flags of the command say."""

    run: Path
    media: tuple[Path, ...]
    text: Path | None
    whisper: Path | None
    language: str | None
    encoders: tuple[str, ...]  # SET=FOLDER
    by_folder: bool
    cache: Path | None
    work: Path | None
    device: str


@dataclass(frozen=True)
class Found:
    """The predictions, one row a clip, and the number of clips that have none."""

    table: pd.DataFrame
    failed: int

    def page(self) -> str:
        """Return the first rows as a table for the terminal."""
        rows = [_cells(row) for row in self.table.head(_SHOWN_ROWS).to_dict("records")]
        names = {
            "utterance_id": "clip",
            "sentiment": "sentiment",
            "sentiment_class": "",
            "emotions": "emotions",
            "emotion": "emotion",
            "text": "text",
        }
        columns = [name for name in names if name in self.table]
        width = max(len(row["text"]) for row in rows)
        rows = [row | {"text": row["text"].ljust(width)} for row in rows]
        page = aligned([[row[name] for name in columns] for row in rows], [names[name] for name in columns])
        more = len(self.table) - len(rows)
        return page + (f"\n… and {more:,} more" if more else "")


def predict(request: Request) -> Found | None:
    """Predict the clips of a request; None if `pipeline` has said why their features cannot be computed.

    Raises:
        InputError: The run, the files, the texts or the device cannot be used, or no clip can be predicted.
    """
    reader = Reader.of(RunFolder(request.run))
    _expect_enough(reader, request)
    pipeline_process.expect_packages()
    device = choose_device(request.device)
    files = list_files(request.media) if request.media else {}
    own = gather(files, request.text, request.by_folder)
    if own.strangers:
        _say(f"note  {len(own.strangers):,} rows of {request.text} name no given file, the first on line {own.strangers[0]}")
    work = request.work or _usual_place(reader, request)
    given = [*map(str, files.values())] or str(request.text)
    identities = {name: made["identity"] for name, made in reader.encoders.items()}
    folder = work.absolute() / f"clips-{digest([given, request.by_folder, identities])}"
    folder.mkdir(parents=True, exist_ok=True)
    _say(f"Features and transcripts are kept in {work}.")
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say("Another process predicts the same clips; this one waits for it.")
        lock.acquire()
    try:
        return _predict(reader, request, own.clips, list(files.values()), folder, device)
    finally:
        lock.release()


def _predict(
    reader: Reader, request: Request, clips: Sequence[Clip], files: Sequence[Path], folder: Path, device: torch.device
) -> Found | None:
    """Predict clips in a folder that is this process's alone."""
    faults, soundless = _checked(reader, request, clips, files, folder)
    if request.whisper is not None:
        texts = _transcribed(request, [clip for clip in clips if clip.name not in {*faults, *soundless}], files, folder)
        if texts is None:
            return None
        clips = [clip if has_words(clip.text) else clip._replace(text=texts.get(clip.name, "")) for clip in clips]
    found = sort_clips(reader, clips, faults, soundless)
    for name, why in found.failed.items():
        _say(f"failed  {name}: {why}")
    if not found.usable:
        raise InputError(f"None of {len(clips):,} clips can be predicted.")
    _say_what_is_missing(reader, found.lacking)
    write_folder(folder, found.usable, files)
    cache = folder.parent / "cache"
    present = [modality for modality in reader.modalities if len(found.lacking[modality]) < len(found.usable)]
    sets = [name for modality in present for name in reader.sets(modality)]
    if pipeline_process.run("encode", *_encode_arguments(reader, request, folder, cache, sets)) is None:
        return None
    run_data = open_clips(reader, cache, folder.name, {name: ids for name, ids in found.lacking.items() if ids}, device)
    for modality, count in cut_clips(run_data).items():
        _say(f"note  {count:,} clips are longer than the run reads of {modality} (data.{modality}_limit): only the beginning counts")
    table = with_words(predict_rows(run_data, reader.folder, request.cache), clips, reader.labels)
    lost = _lost(run_data.corpus.manifest, [clip.name for clip in found.usable], table)
    return Found(table, len(found.failed) + lost)


def _expect_enough(reader: Reader, request: Request) -> None:
    """Raise InputError if a run cannot predict any clip with what is given."""
    if reader.can_lack:
        return
    run, why = reader.folder.path, "It was trained without train.modality_dropout, so that it cannot do without."
    for modality in reader.modalities:
        if not reader.is_computed(modality):
            raise InputError(f"{run} reads {modality} features that another tool computed: clips have none. {why}")
    if "text" in reader.modalities and request.text is None and request.whisper is None:
        raise InputError(f"{run} reads text: give it with --text CSV, or --transcribe with the folder of a Whisper checkpoint. {why}")
    if "audio" in reader.modalities and not request.media:
        raise InputError(f"{run} reads audio: give the recordings with --media. {why}")


def _usual_place(reader: Reader, request: Request) -> Path:
    for cache in (request.cache, reader.cache):
        if cache is not None and cache.is_dir() and os.access(cache, os.W_OK):
            return cache / "predict"
    return Path(tempfile.gettempdir()) / f"mmolre-predict-{os.getuid()}"


def _checked(
    reader: Reader, request: Request, clips: Sequence[Clip], files: Sequence[Path], folder: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Decode the clips as the doctor does, if anything listens to them.

    Returns:
        Name → why its sound cannot be used; name → why it has none.
    """
    faults, soundless = dict[str, str](), {clip.name: "no file" for clip in clips if clip.file is None}
    heard = [clip for clip in clips if clip.file is not None]
    if not heard or ("audio" not in reader.modalities and request.whisper is None):
        return faults, soundless
    write_folder(folder, heard, files)
    corpus = read_corpus("folder", folder, folder.name)
    with progress_bar(total=len(heard), desc="checking", unit="clip", leave=False) as bar:
        diagnosis = examine(corpus, os.cpu_count() or 1, bar.update)
    by_name = {clip.name: clip for clip in heard}
    said = _plain(diagnosis, by_name)
    for finding in diagnosis.problems:
        file = by_name[finding.where].file
        if finding.kind == "unreadable" and file is not None and _is_soundless(file):
            soundless[finding.where] = f"no sound track in {file}"
        else:
            faults.setdefault(finding.where, said(finding))
    for finding in diagnosis.notes:
        if finding.kind in _NOTES:
            _say(f"note  {said(finding)}" if finding.kind in ("gap", "too-loud") else f"note  {finding.where}: {said(finding)}")
    return faults, soundless


def _plain(diagnosis: Diagnosis, by_name: Mapping[str, Clip]) -> Callable[[Finding], str]:
    """Return a function that words a finding with the names of the user's files in the place of links."""
    table = diagnosis.corpus.utterances
    link_of = dict(zip(table["utterance_id"], table["media"], strict=True))
    media = {link: by_name[name].file for name, link in link_of.items()}

    def said(finding: Finding) -> str:
        link = link_of.get(finding.where, finding.where)
        text = finding.message.replace(str(diagnosis.corpus.root / link), str(media.get(link)))
        return f"{media[link]}: {text}" if finding.where in media else text

    return said


def _is_soundless(file: Path) -> bool:
    try:
        return not has_sound(file)
    except MediaError:
        return False


def _transcribed(request: Request, clips: Sequence[Clip], files: Sequence[Path], folder: Path) -> dict[str, str] | None:
    """Return name → text of the clips that have sound and no text; None if `pipeline` has said why there are none."""
    wordless = [clip._replace(text="") for clip in clips if not has_words(clip.text)]
    if not wordless:
        return {}
    write_folder(folder, wordless, files)
    language = ["--language", request.language] if request.language else []
    printed = pipeline_process.run(
        "transcribe", str(folder), "--model", str(request.whisper), *language, "--device", _kind(request.device)
    )
    if printed is None:
        return None
    path = Path(printed.strip().splitlines()[-1])
    _say(f"Transcripts: {path} (correct them and give the file as --text)")
    table = unescape_cells(read_table(path, ("id", "text")))
    return dict(zip(table["id"], table["text"], strict=True))


def _encode_arguments(reader: Reader, request: Request, folder: Path, cache: Path, sets: Sequence[str]) -> Iterator[str]:
    yield from (str(reader.folder.path / "config.json"), str(folder), "--into", str(cache), "--device", _kind(request.device))
    known = [reader.cache, *([request.cache] if request.cache is not None else [])]
    given = [text for text in request.encoders if (name := text.partition("=")[0]) in sets or name not in reader.encoders]
    for flag, values in (("--cache", known), ("--only", sets), ("--encoder", given)):
        for value in values:
            yield from (flag, str(value))


def _kind(device: str) -> str:
    """Return the kind of a device: "cuda" for "cuda:1"."""
    return device.partition(":")[0]


def _say_what_is_missing(reader: Reader, lacking: Mapping[str, Sequence[str]]) -> None:
    for modality, names in lacking.items():
        if names:
            _say(f"note  {len(names):,} clips have no {modality}: what the run learned for a missing modality stands for it")
    if reader.reads_before:
        _say("note  this run reads what is before a clip in its video: see --videos, and the columns video_id and clip_id of --text")


def _lost(manifest: Path, names: Sequence[str], table: pd.DataFrame) -> int:
    """Name the clips that became unusable while their features were computed, and return their number."""
    lost = set(names) - set(table["utterance_id"])
    if lost:
        reasons = read_manifest(manifest).set_index("utterance_id")["excluded"]
        for name in sorted(lost):
            _say(f"failed  {name}: {reasons[name]}")
    return len(lost)


def _cells(row: Mapping[Any, Any]) -> dict[str, str]:
    cells = {str(name): str(value) for name, value in row.items()}
    if "sentiment" in row:
        cells["sentiment"] = f"{row['sentiment']:+.2f}"
    for column in {"emotions", "emotion"} & set(cells):
        present = [name for name in cells[column].split(", ") if name in row]
        cells[column] = ", ".join(f"{name} {row[name]:.2f}" for name in present) or cells[column]
    text = " ".join(cells["text"].split())
    cells["text"] = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return cells


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
