"""Media files for tests: a tone in any container and codec, wav files by the standard library, and the problem of a file."""

import math
import struct
import wave
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from data.findings import FINDING_KINDS
from data.media import SAMPLE_RATE_HZ, MediaError, decode

TONE_HZ = 440.0
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def tone(rate_hz: int, duration_s: float, frequency_hz: float = TONE_HZ) -> np.ndarray:
    times_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def add_picture(container: av.container.OutputContainer) -> av.VideoStream:
    video = container.add_stream("mpeg4", rate=10)
    video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
    return video


def draw(container: av.container.OutputContainer, video: av.VideoStream, pictures: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for number in range(pictures):
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.roll(noise, number, axis=1), format="rgb24")))
    container.mux(video.encode(None))


def encode(
    path: Path,
    codec: str,
    rate_hz: int,
    channels: int,
    duration_s: float = 2.0,
    picture: bool = False,
    options: dict | None = None,
    pieces_s: Sequence[tuple[float, float]] = ((-1.0, math.inf),),
) -> Path:
    """Write a tone, the same in every channel, optionally with a moving picture. Only packets within `pieces_s` are written."""
    samples = np.ascontiguousarray(np.stack([tone(rate_hz, duration_s)] * channels))
    with av.open(str(path), "w", options=options or {}) as container:
        video = add_picture(container) if picture else None
        stream = container.add_stream(codec, rate=rate_hz, layout=LAYOUTS[channels])
        if codec == "wmav2":
            stream.bit_rate = 64_000
        if video:
            draw(container, video, round(10 * duration_s))
        resampler = av.AudioResampler(stream.codec_context.format, LAYOUTS[channels], rate_hz, stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=LAYOUTS[channels])
        frame.sample_rate, frame.pts = rate_hz, 0
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            for packet in stream.encode(part):
                if any(begin <= float(packet.pts * packet.time_base) < end for begin, end in pieces_s):
                    container.mux(packet)
    return path


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = SAMPLE_RATE_HZ) -> Path:
    """`samples`: (S,) or (S, channels) int16; with the standard library, to have a writer that is not ffmpeg."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def write_floats(path: Path, samples: np.ndarray) -> None:
    """Write a wav file of 32-bit floats, mono at 16 kHz."""
    content = samples.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, SAMPLE_RATE_HZ, 4 * SAMPLE_RATE_HZ, 4, 32)
    body = b"".join(name + struct.pack("<I", len(part)) + part for name, part in ((b"fmt ", form), (b"data", content)))
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)


def shorten(path: Path, part: float = 0.6) -> Path:
    path.write_bytes(path.read_bytes()[: math.floor(path.stat().st_size * part)])
    return path


def problem(path: Path) -> MediaError:
    with pytest.raises(MediaError) as caught:
        decode(path)
    assert caught.value.kind in FINDING_KINDS
    assert str(path) in str(caught.value)
    return caught.value
