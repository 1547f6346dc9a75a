"""Turns utterances into features: decodes beside the encoder, batches similar lengths, and holds a bounded amount in memory.

The encoders are in `pipeline.encoding.encoders`; `pipeline.plan` decides which utterances make a shard.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from data.errors import InputError
from data.media import SAMPLE_RATE_HZ, cut
from pipeline.encoding.context import SpeechBefore
from pipeline.encoding.decoding import recordings
from pipeline.encoding.encoder import Prepared

T = TypeVar("T")

WINDOW_BYTES = 128 << 20
"""Prepared input held at a time. Batches are composed inside this window, so memory does not grow with the corpus."""
_LOOK_AHEAD = 64
"""Largest number of utterances that are decoded ahead of the encoder."""
_ERROR_SAMPLE = 8
"""Number of utterances of a shard on which the error of bfloat16 is measured."""


def extract(
    encoder: Any,
    items: Iterable[tuple[int, Prepared]],
    write: Callable[[int, np.ndarray], None],
    progress: Callable[[int], None] = lambda count: None,
) -> None:
    """Encodes utterances and passes the features of each to `write`, in the order in which they are computed.

    Args:
        encoder: An encoder of text or of speech; see `pipeline.encoding.encoder`.
        items: (index, utterance), see `prepare`; consumed in a thread of its own, so that the encoder does not wait for decoding.
        write: Is called with (index, (T, D) float32).
        progress: Is called with the number of utterances finished since the last call.

    Raises:
        InputError: `items` raises it, or the device has too little memory for an utterance.
    """
    for window in _windows(_prefetch(items, _LOOK_AHEAD)):
        for batch in batches([item.cost for _, item in window], encoder.budget):
            for position, features in zip(batch, encode(encoder, [window[i][1] for i in batch]), strict=True):
                write(window[position][0], features)
            progress(len(batch))


def prepare(encoder: Any, inputs: Iterable[tuple[Any, ...]], names: Sequence[str]) -> Iterator[tuple[int, Prepared]]:
    """Prepares (index, text or waveform) or (index, text or waveform, its context) for the encoder, one utterance at a time.

    Raises:
        InputError: An utterance cannot be encoded; the message names it, `names[index]`.
    """
    for index, *given in inputs:
        try:
            item = encoder.prepare(*given)
        except InputError as error:
            raise InputError(f"{names[index]}: {error}") from error
        yield index, item


def encode(encoder: Any, batch: Sequence[Prepared]) -> list[np.ndarray]:
    """Calls `encoder.encode`, and halves the batch as long as the device has too little memory for it."""
    import torch

    try:
        return encoder.encode(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise InputError(
                f"The {encoder.device} device has too little memory for one utterance of {batch[0].cost} tokens."
            ) from None
    half = len(batch) // 2
    return encode(encoder, batch[:half]) + encode(encoder, batch[half:])


def batches(costs: Sequence[int], budget: int) -> list[list[int]]:
    """Groups indexes of similar cost, so that little is padded: count × largest ≤ `budget`; largest first.

    Args:
        costs: Tokens or frames of each utterance.
        budget: Largest cost of a padded batch. An utterance above it is a batch of its own; if it is 0, every utterance is.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        if groups and (len(groups[-1]) + 1) * costs[groups[-1][0]] <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def waveforms(root: Path, table: pd.DataFrame, decoders: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (row, samples (S,) float32 at 16 kHz) of each utterance of a manifest. A recording is decoded once for all its clips.

    Args:
        root: The folder that `media` is relative to.
        table: The utterances.
        decoders: Number of recordings that are decoded at the same time, see `pipeline.encoding.decoding`.

    Raises:
        InputError: A medium has changed since the manifest was made.
    """
    return ((row, samples) for row, _, _, samples in _decoded(root, table, decoders))


def waveforms_in_context(
    root: Path, table: pd.DataFrame, context_s: float, decoders: int = 1
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields (row, samples (S,), the up to `context_s` seconds of speech before them (C,)), as `waveforms`.

    Videos must be whole, but for clips that cannot be used, and in the order of the manifest; see `pipeline.encoding.context`.
    """
    speech_before = SpeechBefore(context_s)
    for row, utterance, recording, samples in _decoded(root, table, decoders):
        yield row, samples, speech_before(utterance, recording, samples)


def _decoded(root: Path, table: pd.DataFrame, decoders: int) -> Iterator[tuple[int, Any, np.ndarray, np.ndarray]]:
    """Yields (row, utterance, samples of its whole medium, its own samples)."""
    media = [medium for medium, _ in itertools.groupby(table["media"])]
    decoded = recordings([root / medium for medium in media], decoders)
    rows: Any = enumerate(table.itertuples())  # pandas-stubs have no type for the fields of a row
    for recording, (medium, clips) in zip(decoded, itertools.groupby(rows, lambda clip: clip[1].media), strict=True):
        for row, utterance in clips:
            samples = cut(recording, utterance.start_s, utterance.end_s, utterance.utterance_id)
            if len(samples) != round(utterance.duration_s * SAMPLE_RATE_HZ):
                raise InputError(
                    f"{root / medium}: {utterance.utterance_id} has {len(samples)} samples, the manifest says "
                    f"{utterance.duration_s:g} s: the file has changed during the build. Run BuildFeatures again."
                )
            yield row, utterance, recording, samples


def precision_error(encoder: Any, reference: Any, items: Iterable[tuple[int, Prepared]]) -> dict[str, float]:
    """Measures the error of an encoder in short arithmetic against the same encoder in float32, on the first utterances of `items`."""
    worst, squares, total, count = 0.0, 0.0, 0.0, 0
    for _, item in itertools.islice(items, _ERROR_SAMPLE):
        exact, short = reference.encode([item])[0].astype(np.float64), encoder.encode([item])[0]
        worst = max(worst, float(np.abs(short - exact).max()))
        squares, total, count = squares + float(((short - exact) ** 2).sum()), total + float((exact**2).sum()), count + 1
    return {"max_abs": worst, "relative_l2": (squares / total) ** 0.5 if total else 0.0, "utterances": count}


def _windows(items: Iterable[tuple[int, Prepared]]) -> Iterator[list[tuple[int, Prepared]]]:
    window, held = [], 0
    for index, item in items:
        window.append((index, item))
        held += item.values.nbytes
        if held >= WINDOW_BYTES:
            yield window
            window, held = [], 0
    if window:
        yield window


def _prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """Runs an iterator in a thread, at most `depth` items ahead, and raises its exception here."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def offer(kind: str, value: Any) -> None:
        while not stop.is_set():
            try:
                return ready.put((kind, value), timeout=0.1)
            except queue.Full:
                continue

    def run() -> None:
        try:
            for item in items:
                offer("item", item)
                if stop.is_set():
                    return
        except BaseException as error:  # of any kind: the consumer raises it
            offer("error", error)
        else:
            offer("end", None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join()
