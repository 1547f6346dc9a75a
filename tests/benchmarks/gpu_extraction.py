"""Extraction, for `gpu.py`: full-size encoders with random weights on clips of MOSI's lengths, and decoding beside them."""

import importlib.util
import statistics
import time
import wave
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bench_extraction
import numpy as np
import torch
from gpu_inputs import checkpoints, recordings
from gpu_rows import Rows, Setting, at_least, equal, figure, skipped
from mmml import Recordings
from timing import in_turns, peak_gflops

from data.media import SAMPLE_RATE_HZ, decode
from pipeline.encoding import encoders, extract
from pipeline.encoding.checkpoints import locate
from pipeline.settings import EncoderSettings

CLIPS = 1000
ALONE = 24
"""Clips that are also encoded one at a time."""

TOLERANCE = 1e-5
"""Largest absolute difference of a feature to that of the clip alone, in float32."""


def load(setting: Setting, precision: str) -> dict[str, Any]:
    """Modality → encoder."""
    paths = checkpoints(setting)
    return {
        name: encoders.make(name, locate(name, EncoderSettings(str(path))), EncoderSettings(str(path)), setting.device, precision)
        for name, path in paths.items()
    }


def prepared(loaded: Mapping[str, Any], clips: Recordings) -> dict[str, list[Any]]:
    """Modality → prepared clips."""
    ids = [str(row) for row in range(len(clips.texts))]
    inputs = {"text": enumerate(clips.texts), "audio": ((row, clips.wave(row)) for row in range(len(ids)))}
    return {name: list(extract.prepare(loaded[name], found, ids)) for name, found in inputs.items()}


def encode(loaded: Mapping[str, Any], items: Mapping[str, Sequence[Any]]) -> dict[str, list[np.ndarray]]:
    """Modality → features of prepared clips, on the host."""
    features: dict[str, list[Any]] = {name: [None] * len(found) for name, found in items.items()}
    for name, found in items.items():
        extract.extract(loaded[name], iter(found), features[name].__setitem__)
    return features


def in_memory(clips: Recordings) -> Iterator[tuple[int, np.ndarray]]:
    """(row, waveform) of clips that need no decoding."""
    return ((row, clips.wave(row)) for row in range(len(clips.texts)))


def extraction(setting: Setting) -> Rows:
    """Clips a second and share of the peak of a matrix product; then equality with clips alone."""
    clips = recordings(setting.small_or(3, CLIPS))
    for precision in ("bfloat16", "float32"):
        loaded = load(setting, precision)
        yield from _speed(setting, precision, loaded, clips)
        if precision == "float32":
            yield from _equal_to_alone(setting, loaded, clips)


def _speed(setting: Setting, precision: str, loaded: Mapping[str, Any], clips: Recordings) -> Rows:
    """With clips that were prepared before, and that are prepared in a thread beside the encoder."""
    items, dtype = prepared(loaded, clips), getattr(torch, precision)
    features = encode(loaded, items)  # warms up
    work = bench_extraction.useful_gflop(checkpoints(setting), clips.seconds.tolist(), features)
    ways = {
        "prepared before": lambda: encode(loaded, items),
        "prepared beside": lambda: bench_extraction.ours(loaded, clips.texts, in_memory(clips)),
    }
    peaks = [peak_gflops(setting.device, dtype, setting.is_small)]
    times = in_turns(ways, setting.small_or(1, 3), setting.device)
    peaks.append(peak_gflops(setting.device, dtype, setting.is_small))
    facts = f"{len(clips.texts):,} clips of {clips.seconds.mean():.1f} s"
    for name, values in times.items():
        what, seconds = f"extraction, {precision}, {name}", statistics.median(values)
        yield figure(what, len(clips.texts) / seconds, "clips/s", facts)
        share, note = 100 * work / seconds / max(peaks), f"peak {max(peaks):,.0f} GFLOP/s, useful work {work:,.0f} GFLOP"
        has_goal = (precision, name) == ("bfloat16", "prepared before")
        yield at_least(f"{what}: of the peak", share, "%", 40, note) if has_goal else figure(f"{what}: of the peak", share, "%", note)


def _equal_to_alone(setting: Setting, loaded: Mapping[str, Any], clips: Recordings) -> Rows:
    """Batches in float32 against transformers' own model, one clip at a time."""
    count = min(len(clips.texts), ALONE)
    fewer = Recordings(clips.texts[:count], clips.seconds[:count], clips.wave)
    reference = bench_extraction.Reference(checkpoints(setting), setting.device, "sdpa")
    alone = reference.one_at_a_time(fewer)
    together = encode(loaded, prepared(loaded, fewer))
    for name, found in together.items():
        worst, _ = bench_extraction.largest_difference(found, alone[name])
        yield equal(f"extraction, float32: {name} in batches = alone", worst, TOLERANCE, "absolute", f"{count} clips")


def decoding(setting: Setting) -> Rows:
    """Decoding alone, and extraction from files, which decodes beside the encoder, against extraction from memory."""
    if missing := [name for name in ("av", "soxr") if importlib.util.find_spec(name) is None]:
        yield skipped("decoding", f"not installed: {', '.join(missing)} (pip install av soxr)")
        return
    clips = recordings(setting.small_or(3, 400))
    folder = setting.folder / "clips"
    folder.mkdir()
    paths = [folder / f"{row}.wav" for row in range(len(clips.texts))]
    for row, path in enumerate(paths):
        write_wav(path, clips.wave(row))
    began = time.perf_counter()
    for path in paths:
        decode(path)
    yield figure("decoding wav files", len(paths) / (time.perf_counter() - began), "clips/s", "one thread, nothing else")
    loaded = load(setting, "bfloat16")
    ways = {
        "memory": lambda: bench_extraction.ours(loaded, clips.texts, in_memory(clips)),
        "files": lambda: bench_extraction.ours(loaded, clips.texts, ((row, decode(path)) for row, path in enumerate(paths))),
    }
    ways["memory"]()
    times = {name: statistics.median(values) for name, values in in_turns(ways, setting.small_or(1, 3), setting.device).items()}
    yield figure(
        "extraction from files", len(paths) / times["files"], "clips/s", f"{times['files'] / times['memory']:.2f}× from memory"
    )


def write_wav(path: Path, samples: np.ndarray) -> None:
    """16 bits, one channel."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
