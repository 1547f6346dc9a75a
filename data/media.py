"""Decoding of media files: any container, codec, sample rate and channel count to mono float32 at 16 kHz, and segments of it.

ffmpeg (through PyAV) decodes and soxr resamples; both are imported when the first file is decoded. Encoder delay that ffmpeg knows
about (mp3, aac, opus) is removed. Where the timestamps of a recording have gaps or begin late, silence takes the place of the sound
that is not there (`data.timeline`). Where a stream changes its rate or its channels, each part is converted from its own format. The
same file gives the same bits with any number of threads; both libraries release the GIL.

A medium that cannot be used raises `MediaError`. `data.containers` names the containers that are read and detects truncated files;
`data.probe` examines all media of a corpus and detects silence.
"""

import errno
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.chunks import is_riff, wav_codec
from data.containers import CONTAINERS, after_id3, counts_samples, wrong_length
from data.errors import InputError, UnreadableError
from data.files import read_head, unreadable
from data.timeline import Timeline

SAMPLE_RATE_HZ = 16_000

DECODER: Mapping[str, str | int] = {
    "decoder": "ffmpeg via PyAV",
    "stream": "first audio",
    "timestamps": "gaps and a late start are silence",
    "downmix": "mean of channels",
    "resampler": "soxr HQ",
    "sample_rate_hz": SAMPLE_RATE_HZ,
}
"""Facts that determine the decoded samples of a file. They are part of the key of features."""

END_TOLERANCE_S = 0.5
"""Seconds by which a segment may end after its recording; it is then shortened. The times of MOSEI are off by up to 0.49 s."""

_SHORTER_S = 0.1
"""A file is truncated if it decodes to so many seconds less than its header states. Encoder delay and padding are shorter."""

_SHORTER_FLAC_S = 0.005
"""The same for FLAC, which has neither delay nor padding: a frame that ffmpeg leaves out because it is damaged is longer."""

_FLAC_OPTIONS = {"err_detect": "crccheck+explode"}
"""The decoder compares the checksum of every frame. Otherwise ffmpeg takes some of the damaged frames, which are noise."""

_MOST_SILENCE_S = 3600.0
"""Longest silence that gaps are filled with. Longer ones are errors of the timestamps, and would take all memory."""

_OPTIONS = {
    "format_whitelist": ",".join(dict.fromkeys(CONTAINERS.values())),
    "protocol_whitelist": "file",
    "skip_frame": "all",
}
"""Only these containers are opened, because ffmpeg would otherwise follow playlists (ffconcat, m3u8) to other files. `skip_frame`
keeps it from decoding pictures when it opens a file, which takes half the time of a video clip; audio is not affected."""

_RIFF_OPTIONS = {"probesize": "4096"}
"""The header of a wav file is sufficient. ffmpeg would also search it for hidden DTS audio, which takes 3 to 5 ms a clip, not 0.2."""

_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")

_SAMPLE_BYTES = 4
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


class Recording(NamedTuple):
    """The decoded audio of a file."""

    waveform: np.ndarray  # (S,) float32 at `SAMPLE_RATE_HZ`, mean of the channels, full scale ±1
    timestamps: str  # the silence put into gaps of its timestamps, in a sentence; empty if there is none


def decode(path: Path) -> np.ndarray:
    """Return the waveform of `read_recording`."""
    return read_recording(path).waveform


def read_recording(path: Path) -> Recording:
    """Decode the first audio stream of a file.

    The file is streamed: apart from the result, about a second of it is in memory.

    Args:
        path: The file. Its suffix does not matter.

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
        timeline = Timeline(container.format.name, stream.codec_context.name, (container.start_time or 0) / 1e6)
        waveform = _waveform(_frames(container, stream, _decoder(stream, path, head), path), timeline, path)
        declared_s = _declared_s(path, head, stream, timeline.start_s)
    if not len(waveform):
        raise MediaError("unreadable", f"{path}: no samples in its audio stream.")
    if not np.isfinite([waveform.min(), waveform.max()]).all():
        raise MediaError("unreadable", f"{path}: some of its samples are NaN or infinite. Convert it again.")
    length_s = len(waveform) / SAMPLE_RATE_HZ
    tolerance_s = _SHORTER_FLAC_S if container.format.name == "flac" else _SHORTER_S
    if length_s < declared_s - tolerance_s:
        raise MediaError("truncated", f"{path}: {length_s:.2f} s, its header says {declared_s:.2f} s. Get the file again.")
    return Recording(waveform, timeline.describe())


def has_sound(path: Path) -> bool:
    """Return True if a file has an audio stream, False if it has none. A file that cannot be opened raises MediaError."""
    with _open(path, _head(path)) as container:
        return bool(container.streams.audio)


def _declared_s(path: Path, head: bytes, stream: Any, start_s: float) -> float:
    """Return the length that a file states for its audio; 0 if it states none, or one that was estimated from the file's size."""
    if stated := _CLOCK.fullmatch(stream.metadata.get("DURATION", "")):  # of Matroska, on the clock of the recording
        return sum(float(part) * unit for part, unit in zip(stated.groups(), (3600, 60, 1), strict=True))
    if not stream.duration or not counts_samples(after_id3(path, head)):
        return 0.0
    return float(stream.duration * stream.time_base) - start_s


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
    if said := wrong_length(path, head):
        raise MediaError("truncated", f"{path}: {said}. Get the file again.")
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
        kinds = " ".join(suffix.removeprefix(".") for suffix in CONTAINERS)
        said = f"not a media file of a kind that is read ({error.strerror}). Convert it to one of: {kinds}."
        raise MediaError("unreadable", f"{path}: {said}") from error


def _decoder(stream: Any, path: Path, head: bytes) -> Any:
    """Return the decoder of a stream; for wav files with fewer valid bits than stored ones not the one that ffmpeg chooses."""
    if stream.codec_context.name == "flac":
        stream.codec_context.options = _FLAC_OPTIONS
    with path.open("rb") as file:
        name = wav_codec(file, head)
    given = stream.codec_context
    if name in ("", given.name):
        return given
    import av

    decoder: Any = av.CodecContext.create(name, "r")
    decoder.sample_rate, decoder.layout = given.sample_rate, given.layout
    return decoder


def _frames(container: Any, stream: Any, decoder: Any, path: Path) -> Iterator[Any]:
    """Yield decoded frames. An error at the last packet means a truncated file, an earlier error a damaged one."""
    from av.error import FFmpegError

    decoded_s = 0.0
    try:
        for packet in container.demux(stream):
            for frame in decoder.decode(packet):
                yield frame
                decoded_s += frame.samples / frame.sample_rate
    except FFmpegError as error:
        try:
            goes_on = any(packet.size for packet in container.demux(stream))
        except FFmpegError:
            goes_on = True
        kind, what = ("unreadable", "damaged") if goes_on else ("truncated", "cut off")
        raise MediaError(kind, f"{path}: {what} after {decoded_s:.2f} s ({error.strerror}). Get the file again.") from error


def _waveform(frames: Iterable[Any], timeline: Timeline, path: Path) -> np.ndarray:
    samples = bytearray()  # grows in place; joining a list of arrays needs twice the memory
    filled = 0
    for (gaps, name, rate_hz, channels), alike in itertools.groupby(frames, key=lambda frame: (timeline.place(frame), *_form(frame))):
        if gaps > filled:
            filled = gaps
            samples += _silence(timeline, path, len(samples) // _SAMPLE_BYTES)
        for block in _resample(_blocks(alike, name, rate_hz, channels), rate_hz):
            samples += block.data
    return np.frombuffer(samples, dtype=np.float32)


def _form(frame: Any) -> tuple[str, int, int]:
    return frame.format.name, frame.sample_rate, frame.layout.nb_channels


def _silence(timeline: Timeline, path: Path, decoded: int) -> bytes:
    """Return the silence of the last gap, `decoded` being the number of samples before it."""
    if timeline.filled_s() > _MOST_SILENCE_S:
        said = f"its timestamps leave {timeline.filled_s():.2f} s without sound, expected at most {_MOST_SILENCE_S:.0f} s"
        raise MediaError("unreadable", f"{path}: {said}. Convert it to wav, and check the times of its utterances.")
    gap = timeline.gaps[-1]
    return bytes(_SAMPLE_BYTES * max(round((gap.at_s + gap.length_s) * SAMPLE_RATE_HZ) - decoded, 0))


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
