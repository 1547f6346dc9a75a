"""The media of an utterance table, each decoded once in threads, with their durations and problems.

All judgements about media are made here, both for the doctor and for the manifests of a build. `data.media` decodes a single file.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data.findings import Finding
from data.media import SAMPLE_RATE_HZ, MediaError, Recording, cut, read_recording

SILENT_DBFS = -70.0
"""Level relative to full scale below which an utterance counts as silent. Quiet speech is at -45, the noise of a room at -60, dithered
16-bit silence at -96. A constant has no level, although its root mean square is high: it is what a dead microphone gives."""

LOUDEST = 16.0
"""Largest plausible peak, where full scale is 1. Recorders of 32-bit floats exceed full scale by up to 20 dB (10); floats in the range
of 16-bit integers have peaks of hundreds or more even if the speech is quiet."""

SHORTEST_S = 0.025
"""Shortest usable audio in seconds: one frame of a speech encoder (400 samples, the receptive field of wav2vec 2.0 and Data2Vec)."""


class Segment(NamedTuple):
    """The part of a medium that belongs to an utterance; NaN as a time means the start or the end of the medium."""

    row: int  # its position in the utterance table
    start_s: float
    end_s: float


class Sound(NamedTuple):
    """The decoded audio of an utterance in numbers. The fields are the columns that `probe` returns beside `utterance_id`."""

    duration_s: float = np.nan  # decoded; NaN if there is no medium or it does not decode
    problem: str = ""  # a key of FINDING_KINDS; empty if the audio can be used
    message: str = ""  # the problem in a sentence
    content: str = ""  # hash of the samples; empty if there are none
    notes: tuple[Finding, ...] = ()  # about its medium; they do not keep the audio from being used


def probe(root: Path, utterances: pd.DataFrame, workers: int, progress: Callable[[int], object] | None = None) -> pd.DataFrame:
    """Decode the media of utterances. A recording with several segments is decoded once.

    Utterances that have no medium or are excluded are skipped. At any time, one recording per worker is in memory.

    Args:
        root: The folder that `media` is relative to.
        utterances: `schema.COLUMNS`.
        workers: Number of threads.
        progress: Called with the number of utterances finished since the last call; skipped utterances are not counted.

    Returns:
        `utterance_id` and the fields of `Sound`, in the order of `utterances`.
    """
    media = by_medium(utterances)
    sounds = [Sound()] * len(utterances)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            futures = [pool.submit(_listen, root, medium, segments) for medium, segments in media.items()]
            for future in as_completed(futures):
                found = future.result()
                for row, sound in found:
                    sounds[row] = sound
                if progress is not None:
                    progress(len(found))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for the rest of the corpus
            raise
    result = pd.DataFrame(sounds, columns=list(Sound._fields)).astype({"duration_s": "float64"})
    result.insert(0, "utterance_id", utterances["utterance_id"].to_numpy())
    return result


def media_notes(sounds: pd.DataFrame) -> list[Finding]:
    """Return the notes of a result of `probe`, each once although a recording may have many segments."""
    return list(dict.fromkeys(note for notes in sounds["notes"] for note in notes))


def by_medium(utterances: pd.DataFrame) -> dict[str, list[Segment]]:
    """Group the utterances that have a medium and are not excluded by their medium."""
    usable = (utterances["media"] != "") & (utterances["excluded"] == "")
    columns = (utterances.loc[usable, name] for name in ("media", "start_s", "end_s"))
    media: dict[str, list[Segment]] = {}
    for row, medium, *segment in zip(np.flatnonzero(usable), *columns, strict=True):
        media.setdefault(medium, []).append(Segment(int(row), *segment))
    return media


def _listen(root: Path, medium: str, segments: Sequence[Segment]) -> list[tuple[int, Sound]]:
    try:
        recording = read_recording(root / medium)
    except MediaError as error:
        return [(segment.row, Sound(problem=error.kind, message=str(error))) for segment in segments]
    notes = tuple(_notes(medium, recording))
    return [(row, sound._replace(notes=notes)) for row, sound in _sounds(root / medium, recording.waveform, segments)]


def _notes(medium: str, recording: Recording) -> Iterator[Finding]:
    if recording.timestamps:
        yield Finding("gap", medium, recording.timestamps)
    peak = float(max(recording.waveform.max(), -recording.waveform.min()))
    if peak > LOUDEST:
        said = f"its peak is {peak:.0f} times full scale: probably floats in the range of integers; expected at most {LOUDEST:.0f}"
        yield Finding("too-loud", medium, said)


def _sounds(path: Path, waveform: np.ndarray, segments: Sequence[Segment]) -> Iterator[tuple[int, Sound]]:
    for row, start_s, end_s in segments:
        try:
            piece = cut(waveform, start_s, end_s, str(path))
        except MediaError as error:
            yield row, Sound(problem=error.kind, message=str(error))
            continue
        kind, said = _judge(piece)
        content = hashlib.blake2b(piece.data, digest_size=16).hexdigest()
        yield row, Sound(len(piece) / SAMPLE_RATE_HZ, kind, f"{path}: {said}" if kind else "", content)


def _judge(piece: np.ndarray) -> tuple[str, str]:
    """Return the kind and a description of the problem of decoded samples; both are empty if there is none."""
    if len(piece) < SHORTEST_S * SAMPLE_RATE_HZ:
        return "truncated", f"{len(piece) / SAMPLE_RATE_HZ:.4f} s, expected at least {SHORTEST_S} s, one frame of a speech encoder."
    level_dbfs = _level_dbfs(piece)
    if level_dbfs < SILENT_DBFS:
        mean = float(piece.mean(dtype=np.float64))
        constant = f" around a constant of {mean:.2f}" if abs(mean) >= 0.005 else ""
        return "silent", f"no sound in it: {level_dbfs:.0f} dBFS{constant}, expected at least {SILENT_DBFS:.0f} dBFS."
    return "", ""


def _level_dbfs(piece: np.ndarray) -> float:
    """Return the level in frames of 25 ms, each around its own mean, without the loudest two: a constant that begins is in no more."""
    width = round(SHORTEST_S * SAMPLE_RATE_HZ)
    frames = piece[: len(piece) // width * width].reshape(-1, width)
    frames = frames - frames.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    powers = np.sort(np.einsum("ij,ij->i", frames, frames))[: max(len(frames) - 2, 1)] / width
    return float(10 * np.log10(max(powers.mean(), 1e-20)))
