"""Transcripts of clips by a local Whisper checkpoint, for predictions of clips of which no text is known.

Whisper reads 30 s at a time. Longer clips are cut into windows of at most that, each at the quietest place of its last seconds, so that
words stay whole. Source: Radford et al. 2022, https://arxiv.org/abs/2212.04356.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from data.atomic import atomic_path
from data.corpora import read_corpus
from data.errors import InputError, reason, shown
from data.fingerprint import FileDigests, digest
from data.media import SAMPLE_RATE_HZ, cut, decode
from data.spreadsheets import escape_cells
from pipeline.encoding import devices
from pipeline.encoding.pretrained import load_whisper

REVISION = 1
"""Revision of the computation, part of the key. Increase it when the code writes other texts for the same clips."""

WINDOW_S = 30.0
_SEARCHED_S, _QUIET_S = 5.0, 0.1
"""Seconds at the end of a window in which the place to cut is looked for, and length of what has to be quiet there."""

_BATCH = 8
"""Windows that are transcribed at a time."""

_COLUMNS = ("id", "media", "start_s", "end_s", "text")


class Window(NamedTuple):
    """A part of a clip that Whisper reads at a time."""

    row: int
    samples: np.ndarray  # (S,) float32 at 16 kHz, at most 30 s


def transcribe(folder: Path, model: Path, language: str | None, device: str) -> Path:
    """Writes the transcripts of the clips of a folder that have a medium and no text, unless they are there, and returns their file.

    Args:
        folder: In the layout of `data.corpora.folder`.
        model: Folder of a Whisper checkpoint.
        language: That is spoken; None: Whisper guesses it.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: The folder, a clip, the checkpoint or the language cannot be used.
    """
    table = read_corpus("folder", folder).utterances
    table = table[(table["media"] != "") & (table["excluded"] == "") & ~table["text"].str.contains(r"\w", regex=True)]
    if not model.is_dir():
        raise InputError(f"{model}: no such folder; the folder of a Whisper checkpoint is expected.")
    digests = FileDigests(folder / ".fingerprints.json")
    files = sorted(path for path in model.iterdir() if path.suffix in (".json", ".txt", ".safetensors", ".bin"))
    heard = dict(zip(media := table["media"].unique().tolist(), digests.digests([folder / name for name in media]), strict=True))
    cells = table[["utterance_id", "start_s", "end_s"]].astype(str).to_numpy().tolist()
    clips = [[*own, heard[medium]] for own, medium in zip(cells, table["media"], strict=True)]
    key = digest([REVISION, dict(zip((path.name for path in files), digests.digests(files), strict=True)), language, clips])
    path = folder / f"transcripts-{key}.csv"
    if not path.exists():
        texts = _transcripts(folder, table, model, language, device)
        _write(path, folder, table.assign(text=texts))
    return path


def _write(path: Path, folder: Path, table: pd.DataFrame) -> None:
    """Writes the table with the real places of media that are links."""
    real = [os.path.realpath(folder / name) for name in table["media"]]
    table = table.assign(id=table["utterance_id"], media=real)[list(_COLUMNS)]
    with atomic_path(path) as temporary:
        escape_cells(table).to_csv(temporary, index=False)


def _transcripts(folder: Path, table: pd.DataFrame, model: Path, language: str | None, device: str) -> list[str]:
    with devices.claim(device) as claimed:
        whisper = _Whisper(model, language, claimed)
        parts: dict[int, list[str]] = {row: [] for row in range(len(table))}
        is_shown = sys.stderr.isatty()
        with tqdm(total=len(table), desc="transcribing", unit=" clips", disable=not is_shown, leave=False) as bar:
            done = 0
            for batch in _batches(_windows(folder, table)):
                for window, text in zip(batch, whisper([window.samples for window in batch]), strict=True):
                    parts[window.row].append(text)
                bar.update(batch[-1].row - done)
                done = batch[-1].row
    return [" ".join(filter(None, found)) for found in parts.values()]


def _windows(folder: Path, table: pd.DataFrame) -> Iterator[Window]:
    """Yields the windows of all clips in order; a recording is decoded once for clips that follow each other."""
    rows: Any = enumerate(table.itertuples())
    for medium, clips in itertools.groupby(rows, lambda clip: clip[1].media):
        recording = decode(folder / medium)
        for row, clip in clips:
            samples = cut(recording, clip.start_s, clip.end_s, clip.utterance_id)
            yield from (Window(row, part) for part in windows(samples))


def windows(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Cuts (S,) samples at 16 kHz into parts of at most `WINDOW_S`, at quiet places."""
    size, searched, quiet = (round(seconds * SAMPLE_RATE_HZ) for seconds in (WINDOW_S, _SEARCHED_S, _QUIET_S))
    while len(samples) > size:
        last = samples[size - searched : size].astype(np.float64) ** 2
        sums = np.concatenate([[0.0], np.cumsum(last)])
        power = sums[quiet:] - sums[:-quiet]
        place = size - searched + int(power.argmin()) + quiet // 2
        yield samples[:place]
        samples = samples[place:]
    yield samples


def _batches(items: Iterable[Window]) -> Iterator[list[Window]]:
    items = iter(items)
    while batch := list(itertools.islice(items, _BATCH)):
        yield batch


class _Whisper:
    """A Whisper model on a device."""

    def __init__(self, folder: Path, language: str | None, device: str) -> None:
        """Raises InputError if the checkpoint cannot be used, or does not know the language."""
        self.model, self.processor = load_whisper(folder)
        self.model.to(device)
        self.device, self.options = device, dict[str, str]()
        if getattr(self.model.generation_config, "is_multilingual", False):
            self.options["task"] = "transcribe"
            if language:
                self.options["language"] = language
                self._expect_language(folder, language)
        elif language not in (None, "en", "english"):
            raise InputError(f"{folder}: this checkpoint knows English only, not {shown(language)}. Leave out --language.")

    def _expect_language(self, folder: Path, language: str) -> None:
        from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

        known = sorted(token.strip("<|>") for token in getattr(self.model.generation_config, "lang_to_id", {}))
        if TO_LANGUAGE_CODE.get(language.lower(), language.lower()) not in known:
            raise InputError(f"{folder}: --language is {shown(language)}, expected one of {', '.join(known)}.")

    def __call__(self, samples: list[np.ndarray]) -> list[str]:
        """Returns the text of each window."""
        import torch

        extractor = self.processor.feature_extractor
        inputs = extractor(samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", return_attention_mask=True).to(self.device)
        try:
            with torch.inference_mode():
                tokens = self.model.generate(inputs.input_features, attention_mask=inputs.attention_mask, **self.options)
        except ValueError as error:
            raise InputError(f"Whisper cannot transcribe with this checkpoint ({reason(error)}).") from error
        return [text.strip() for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]
