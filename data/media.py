"""Decoding of media files: any container, codec, sample rate and channel count to mono float32 at 16 kHz, and segments of it.

ffmpeg (through PyAV) decodes and soxr resamples; both are imported when the first file is decoded. Encoder delay that ffmpeg knows
about (mp3, aac, opus) is removed. Gaps in the timestamps are not filled. Where a stream changes its rate or its channels, each part
is converted from its own format. The same file gives the same bits with any number of threads; both libraries release the GIL.

A medium that cannot be used raises `MediaError`. `data.containers` detects truncated files; `data.probe` examines all media of a
corpus and detects silence.
"""

import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from data.containers import after_id3, counts_samples, cut_short, is_riff
from data.errors import InputError, UnreadableError
from data.files import read_head, unreadable

SAMPLE_RATE_HZ = 16_000

DECODER: Mapping[str, str | int] = {
    "decoder": "ffmpeg via PyAV",
    "stream": "first audio",
    "downmix": "mean of channels",
    "resampler": "soxr HQ",
    "sample_rate_hz": SAMPLE_RATE_HZ,
}
"""Facts that determine the decoded samples of a file. They are part of the key of features."""

END_TOLERANCE_S = 0.5
"""Seconds by which a segment may end after its recording; it is then shortened. The times of MOSEI are off by up to 0.49 s."""

_SHORTER_S = 0.1
"""A file is truncated if it decodes to so many seconds less than its header states. Encoder delay and padding are shorter."""

_OPTIONS = {
    "format_whitelist": "wav,w64,flac,mp3,ogg,mov,matroska,avi,aac,ac3,mpegts,asf,aiff,au,amr,flv",
    "protocol_whitelist": "file",
    "skip_frame": "all",
}
"""Only these containers are opened, because ffmpeg would otherwise follow playlists (ffconcat, m3u8) to other files. `skip_frame`
keeps it from decoding pictures when it opens a file, which takes half the time of a video clip; audio is not affected."""

_RIFF_OPTIONS = {"probesize": "4096"}
"""The header of a wav file is sufficient. ffmpeg would also search it for hidden DTS audio, which takes 3 to 5 ms a clip, not 0.2."""

_SCALES = {"u8": 2**7, "s16": 2**15, "s32": 2**31, "s64": 2**63, "flt": 1, "dbl": 1}
_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


class MediaError(InputError):
    """A medium that cannot be used.

    Attributes:
        kind: A key of `data.findings.FINDING_KINDS`: "missing", "unreadable", "truncated" or "silent".
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def decode(path: Path) -> np.ndarray:
    """Decode the first audio stream of a file.

    The file is streamed: apart from the result, about a second of it is in memory.

    Args:
        path: The file. Its suffix does not matter.

    Returns:
        (S,) float32 at `SAMPLE_RATE_HZ`, mean of the channels, full scale ±1.

    Raises:
        MediaError: The file is missing, empty, truncated or not a media file, has no audio, or does not decode.
    """
    head = _head(path)
    container = _open(path, head)
    with container:
        if not container.streams.audio:
            raise MediaError("unreadable", f"{path}: no audio stream in it. Use a version with sound.")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise MediaError("unreadable", f"{path}: ffmpeg has no decoder for its audio. Convert it to wav or flac.")
        waveform = _waveform(_frames(container, stream, path))
        declared_s = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if not len(waveform):
        raise MediaError("unreadable", f"{path}: no samples in its audio stream.")
    if not np.isfinite([waveform.min(), waveform.max()]).all():
        raise MediaError("unreadable", f"{path}: some of its samples are NaN or infinite. Convert it again.")
    length_s = len(waveform) / SAMPLE_RATE_HZ
    if length_s < declared_s - _SHORTER_S and counts_samples(after_id3(path, head)):
        raise MediaError("truncated", f"{path}: {length_s:.2f} s, its header says {declared_s:.2f} s. Get the file again.")
    return waveform


def cut(waveform: np.ndarray, start_s: float, end_s: float, where: str) -> np.ndarray:
    """Cut a segment out of a recording.

    Args:
        waveform: (S,) at `SAMPLE_RATE_HZ`.
        start_s: Start in seconds; NaN means the start of the recording.
        end_s: End in seconds, at most `END_TOLERANCE_S` after the end of the recording; NaN means that end.
        where: The utterance, for the message.

    Returns:
        (S',) view of `waveform`, at least one sample.

    Raises:
        MediaError: The segment does not lie inside the recording (kind "truncated").
    """
    length_s = len(waveform) / SAMPLE_RATE_HZ
    start_s = 0.0 if np.isnan(start_s) else start_s
    end_s = length_s if np.isnan(end_s) else end_s
    piece = waveform[round(max(start_s, 0) * SAMPLE_RATE_HZ) : round(max(end_s, 0) * SAMPLE_RATE_HZ)]
    if start_s < 0 or end_s > length_s + END_TOLERANCE_S or not len(piece):
        raise MediaError(
            "truncated", f"{where}: the segment from {start_s:.3f} to {end_s:.3f} s is not in the recording of {length_s:.3f} s."
        )
    return piece


def _head(path: Path) -> bytes:
    if not os.path.exists(path):
        raise MediaError("missing", f"{path}: no such file.")
    try:
        head = read_head(path)
    except UnreadableError:  # says nothing about the medium, which must not be excluded for it
        raise
    except InputError as error:
        raise MediaError("unreadable", str(error)) from error
    missing = cut_short(path, head)
    if missing:
        raise MediaError("truncated", f"{path}: cut off, {missing}. Get the file again.")
    return head


def _open(path: Path, head: bytes) -> Any:
    import av
    from av.error import FFmpegError

    options = _OPTIONS | (_RIFF_OPTIONS if is_riff(head) else {})
    try:
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except FFmpegError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # ffmpeg also reports damage as an I/O error, or as a lack of memory
            raise unreadable(path, error) or error from error
        raise MediaError("unreadable", f"{path}: not a media file that ffmpeg can read ({error.strerror}).") from error


def _frames(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """Yield decoded frames. An error at the last packet means a truncated file, an earlier error a damaged one."""
    from av.error import FFmpegError

    decoded_s = 0.0
    try:
        for frame in container.decode(stream):
            yield frame
            decoded_s += frame.samples / frame.sample_rate
    except FFmpegError as error:
        try:
            goes_on = any(packet.size for packet in container.demux(stream))
        except FFmpegError:
            goes_on = True
        kind, what = ("unreadable", "damaged") if goes_on else ("truncated", "cut off")
        raise MediaError(kind, f"{path}: {what} after {decoded_s:.2f} s ({error.strerror}). Get the file again.") from error


def _waveform(frames: Iterable[Any]) -> np.ndarray:
    samples = bytearray()  # grows in place; joining a list of arrays needs twice the memory
    for (name, rate_hz, channels), alike in itertools.groupby(frames, key=_form):
        for block in _resample(_blocks(alike, name, rate_hz, channels), rate_hz):
            samples += block.data
    return np.frombuffer(samples, dtype=np.float32)


def _form(frame: Any) -> tuple[str, int, int]:
    return frame.format.name, frame.sample_rate, frame.layout.nb_channels


def _blocks(frames: Iterable[Any], name: str, rate_hz: int, channels: int) -> Iterator[np.ndarray]:
    """Join frames of one format to mono blocks of about a second, because a call of numpy or soxr takes longer than one frame."""
    planar = name.endswith("p")
    kind = name.removesuffix("p")
    width = np.dtype(_DTYPES[kind]).itemsize * (1 if planar else channels)
    planes = [bytearray() for _ in range(channels if planar else 1)]
    for frame in frames:
        for plane, part in zip(planes, frame.planes, strict=True):
            plane += memoryview(part)[: frame.samples * width]
        if len(planes[0]) >= rate_hz * width:
            yield _downmix(planes, kind, channels)
            planes = [bytearray() for _ in planes]
    yield _downmix(planes, kind, channels)


def _downmix(planes: list[bytearray], kind: str, channels: int) -> np.ndarray:
    """Return the mean of the channels as float32, full scale ±1; `planes` holds one channel each, or all channels interleaved."""
    parts = [np.frombuffer(plane, _DTYPES[kind]) for plane in planes]
    if len(parts) < channels:
        parts = [parts[0][channel::channels] for channel in range(channels)]
    mono = reduce(np.add, (part.astype(np.float32) for part in parts))
    mono *= np.float32(1 / (channels * _SCALES[kind]))
    return mono - np.float32(1) if kind == "u8" else mono


def _resample(blocks: Iterable[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    if rate_hz == SAMPLE_RATE_HZ:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, num_channels=1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)
