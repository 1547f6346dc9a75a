"""Clips a second that are decoded ahead of an encoder: in one thread, in several threads, in several processes.

    python tests/benchmarks/bench_decoding.py [--clips 96] [--seconds 4] [--rounds 7] [--decoders 2] [--folder DISK]

Clips of synthetic voice, as 16 kHz wav (MOSI) and as wav, flac, mp3 and m4a (AAC) of 44.1 kHz, stereo. All ways decode the same files
in every round, in an order drawn anew; their samples are compared first. Ratios are medians of the ratios of single rounds. The last
column is what the encoder's process spends a clip on its decoders: handing over orders and samples.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
from timing import spread

from data.media import decode
from pipeline.encoding.decoding import recordings

KINDS = {"wav16k.wav": ("pcm_s16le", 16_000), "wav.wav": ("pcm_s16le", 44_100), "flac.flac": ("flac", 44_100)}
KINDS |= {"mp3.mp3": ("libmp3lame", 44_100), "m4a.m4a": ("aac", 44_100)}


def voice(seconds: float, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """(2, S) int16: harmonics of a wandering pitch, and a little noise."""
    count = round(seconds * rate_hz)
    pitch_hz = 120 + 30 * np.sin(np.linspace(0, 9 * seconds, count) + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    sound = np.sum([np.sin(order * phase) / order for order in range(1, 12)], axis=0) + rng.normal(0, 0.05, count)
    return (6_000 * np.stack([sound, 0.8 * sound])).astype(np.int16)


def write(path: Path, samples: np.ndarray, codec: str, rate_hz: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T).reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = rate_hz
        size = stream.codec_context.frame_size or None
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=rate_hz, frame_size=size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def in_threads(paths: Sequence[Path], count: int) -> list[np.ndarray]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(decode, paths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=4.0, help="mean length of a clip (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--decoders", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=tempfile.gettempdir())
    options = parser.parse_args()
    count = options.decoders
    ways: dict[str, Callable[[Sequence[Path]], list[np.ndarray]]] = {
        "1 thread": lambda paths: list(recordings(paths)),
        f"{count} threads": lambda paths: in_threads(paths, count),
        f"{count} processes": lambda paths: list(recordings(paths, count)),
    }
    first, *others = ways
    print(f"{options.clips} clips of {options.seconds:g} s on average, {options.rounds} rounds: clips/s, multiples of one thread")
    print(
        f"{'':<8}"
        + "".join(f"{name:>24}" for name in ways)
        + "".join(f"{'× ' + name:>14}" for name in others)
        + f"{'hand-over ms':>14}"
    )
    rng, order = np.random.default_rng(0), random.Random(0)
    for name, (codec, rate_hz) in KINDS.items():
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            paths = [Path(folder) / f"{number}{Path(name).suffix}" for number in range(options.clips)]
            for path in paths:
                write(path, voice(options.seconds * rng.uniform(0.3, 1.7), rate_hz, rng), codec, rate_hz)
            decoded = [way(paths) for way in ways.values()]
            assert all(a.tobytes() == b.tobytes() for other in decoded[1:] for a, b in zip(decoded[0], other, strict=True))
            rates: dict[str, list[float]] = {way: [] for way in ways}
            spent = []
            for _ in range(options.rounds):
                for way in order.sample(list(ways), len(ways)):
                    wall, cpu = time.perf_counter(), time.process_time()
                    ways[way](paths)
                    rates[way].append(options.clips / (time.perf_counter() - wall))
                    if way == others[-1]:
                        spent.append(1e3 * (time.process_time() - cpu) / options.clips)
        ratios = (statistics.median(a / b for a, b in zip(rates[way], rates[first], strict=True)) for way in others)
        cells = [f"{spread(rates[way], 0):>24}" for way in ways] + [f"{ratio:>14.2f}" for ratio in ratios]
        print(f"{name.partition('.')[0]:<8}{''.join(cells)}{statistics.median(spent):>14.3f}", flush=True)


if __name__ == "__main__":
    main()
