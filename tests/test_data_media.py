"""Every container and codec comes out as the tone that went in; whatever is wrong with a file is said."""

import itertools
import math
import os
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpora.base import FINDING_KINDS
from data.media import SAMPLE_RATE_HZ, MediaError, cut, decode

TONE_HZ = 440.0
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
ENCODED = [  # file name, codec, sample rate, channels
    ("a.wav", "pcm_u8", 8_000, 1),
    ("a.wav", "pcm_s16le", 16_000, 1),
    ("a.wav", "pcm_s16le", 22_050, 2),
    ("a.wav", "pcm_s24le", 48_000, 2),
    ("a.wav", "pcm_s32le", 44_100, 6),
    ("a.wav", "pcm_f32le", 44_100, 6),
    ("a.wav", "pcm_f64le", 32_000, 1),
    ("a.flac", "flac", 44_100, 2),
    ("a.mp3", "libmp3lame", 44_100, 2),
    ("a.ogg", "libopus", 48_000, 2),
    ("a.ogg", "flac", 16_000, 1),
    ("a.opus", "libopus", 48_000, 1),
    ("a.m4a", "aac", 44_100, 1),
    ("a.mp4", "aac", 48_000, 6),
    ("a.mkv", "aac", 44_100, 2),
    ("a.mkv", "flac", 96_000, 1),
    ("a.webm", "libopus", 48_000, 2),
    ("a.avi", "libmp3lame", 44_100, 2),
    ("a.ts", "aac", 44_100, 2),
    ("a.aac", "aac", 44_100, 1),
]
LOSSY = ("libmp3lame", "libopus", "aac")


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
    path: Path, codec: str, rate_hz: int, channels: int, duration_s: float = 2.0, picture: bool = False, options: dict | None = None
) -> Path:
    """Writes a tone, the same in every channel, with a moving picture beside it if asked."""
    samples = np.ascontiguousarray(np.stack([tone(rate_hz, duration_s)] * channels))
    with av.open(str(path), "w", options=options or {}) as container:
        video = add_picture(container) if picture else None
        stream = container.add_stream(codec, rate=rate_hz, layout=LAYOUTS[channels])
        if video:
            draw(container, video, round(10 * duration_s))
        resampler = av.AudioResampler(stream.codec_context.format, LAYOUTS[channels], rate_hz, stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=LAYOUTS[channels])
        frame.sample_rate, frame.pts = rate_hz, 0
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = SAMPLE_RATE_HZ) -> Path:
    """`samples`: (S,) or (S, channels) int16; with the standard library, to have a writer that is not ffmpeg."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def loudest_hz(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 1 << 18))
    return float(spectrum.argmax() * SAMPLE_RATE_HZ / (1 << 18))


def shorten(path: Path, part: float = 0.6) -> Path:
    path.write_bytes(path.read_bytes()[: math.floor(path.stat().st_size * part)])
    return path


def problem(path: Path) -> MediaError:
    with pytest.raises(MediaError) as caught:
        decode(path)
    assert caught.value.kind in FINDING_KINDS
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize(("name", "codec", "rate_hz", "channels"), ENCODED)
def test_tone_survives_every_container_and_codec(tmp_path: Path, name: str, codec: str, rate_hz: int, channels: int) -> None:
    waveform = decode(encode(tmp_path / name, codec, rate_hz, channels))
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert len(waveform) / SAMPLE_RATE_HZ == pytest.approx(2.0, abs=0.06 if codec in LOSSY else 1e-4)
    middle = waveform[4_000:-4_000]
    assert loudest_hz(middle) == pytest.approx(TONE_HZ, abs=0.5)
    amplitude = 0.5 * 5 / 6 if (codec, channels) == ("aac", 6) else 0.5  # aac keeps only the bass of the sixth channel
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(amplitude, rel=0.1 if codec in LOSSY else 0.01)


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "aac"), ("v.mov", "aac"), ("v.mkv", "libopus"), ("v.avi", "libmp3lame")])
def test_sound_of_a_video_is_that_of_the_same_audio_file(tmp_path: Path, name: str, codec: str) -> None:
    with_picture = decode(encode(tmp_path / name, codec, 48_000, 2, picture=True))
    alone = decode(encode(tmp_path / f"alone{Path(name).suffix}", codec, 48_000, 2))
    np.testing.assert_array_equal(with_picture, alone)


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.opus", "libopus"), ("a.m4a", "aac"), ("a.mkv", "aac")])
def test_encoder_delay_is_left_out(tmp_path: Path, name: str, codec: str) -> None:
    waveform = decode(encode(tmp_path / name, codec, 48_000, 1))[8_000:24_000]
    exact = tone(SAMPLE_RATE_HZ, 2.0)[8_000:24_000]
    assert np.median(np.abs(waveform - exact)) < 0.03  # a tone that is 3 samples late is off by 0.18


def test_samples_of_a_wav_at_16_khz_are_exact(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(-(2**15), 2**15, 40_000)
    waveform = decode(write_wav(tmp_path / "a.wav", samples))
    np.testing.assert_array_equal(waveform, (samples / 2**15).astype(np.float32))


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = np.random.default_rng(2).integers(-(2**15), 2**15, (40_000, 2))
    waveform = decode(write_wav(tmp_path / "a.wav", samples))
    np.testing.assert_allclose(waveform, samples.mean(axis=1) / 2**15, atol=1e-7)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_resampling_in_a_stream_is_resampling_at_once(tmp_path: Path, rate_hz: int) -> None:
    samples = np.random.default_rng(3).integers(-(2**14), 2**14, 3 * rate_hz + 17)  # not a whole number of blocks
    waveform = decode(write_wav(tmp_path / "a.wav", samples, rate_hz))
    at_once = soxr.resample((samples / 2**15).astype(np.float32), rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    np.testing.assert_allclose(waveform, at_once, atol=1e-6)


def test_the_same_file_gives_the_same_bits(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "aac", 44_100, 2)
    assert decode(path).tobytes() == decode(path).tobytes()


def test_suffix_does_not_matter(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.flac", "flac", 44_100, 1)
    renamed = path.rename(tmp_path / "b: 50% é.wav")
    assert len(decode(renamed)) == 2 * SAMPLE_RATE_HZ


def test_wav_written_into_a_pipe_has_no_length_and_decodes(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.full(20_000, 1_000))
    content = path.read_bytes()
    for length in (0, 0x7FFFF000, 0xFFFFFFFF):
        path.write_bytes(content[:40] + length.to_bytes(4, "little") + content[44:])
        assert len(decode(path)) == 20_000


def test_missing_file(tmp_path: Path) -> None:
    error = problem(tmp_path / "a.wav")
    assert error.kind == "missing"
    assert str(error).endswith("no such file.")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html></html>", "HTML page"),
        (b"not a medium at all\n" * 50, "not a media file"),
        (bytes(range(256)) * 50, "not a media file"),
        (b"ffconcat version 1.0\nfile other.wav\n", "not a media file"),
        (b"#EXTM3U\n#EXTINF:2,\nother.wav\n#EXT-X-ENDLIST\n", "not a media file"),
    ],
    ids=["empty", "lfs", "html", "text", "bytes", "ffconcat", "playlist"],
)
def test_what_is_no_medium_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    write_wav(tmp_path / "other.wav", np.full(20_000, 1_000))
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    error = problem(path)
    assert error.kind == "unreadable"
    assert said in str(error)


def test_folder_is_no_medium(tmp_path: Path) -> None:
    assert "cannot be read" in str(problem(tmp_path))


def test_video_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        draw(container, add_picture(container), 5)
    error = problem(path)
    assert error.kind == "unreadable"
    assert "no audio stream" in str(error)


def test_wav_without_samples(tmp_path: Path) -> None:
    assert "no samples" in str(problem(write_wav(tmp_path / "a.wav", np.zeros(0))))


def test_samples_that_are_no_numbers(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", "pcm_f32le", 16_000, 1)
    content = bytearray(path.read_bytes())
    content[-400:-396] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    assert "NaN or infinite" in str(problem(path))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.wav", "pcm_s16le", None),
        ("a.avi", "libmp3lame", None),
        ("a.flac", "flac", None),
        ("a.mp3", "libmp3lame", None),
        ("a.ogg", "libopus", None),
        ("a.mp4", "aac", None),
        ("fast.mp4", "aac", {"movflags": "faststart"}),
        ("a.mkv", "aac", None),
        ("a.webm", "libopus", None),
        ("a.aac", "aac", None),
    ],
)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_cut_files_are_truncated(tmp_path: Path, name: str, codec: str, options: dict | None, part: float) -> None:
    path = encode(tmp_path / name, codec, 48_000, 2, options=options)
    decode(path)
    assert problem(shorten(path, part)).kind == "truncated"


def test_cut_message_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.full(32_000, 1_000))
    os.truncate(path, 44 + 40_000)
    assert str(problem(path)) == f"{path}: cut off, its data chunk ends 24000 bytes after the file. Get the file again."


def test_mp3_is_compared_with_its_header_behind_a_large_tag(tmp_path: Path) -> None:
    path = shorten(encode(tmp_path / "a.mp3", "libmp3lame", 44_100, 2))
    content = path.read_bytes()
    tag = b"ID3\x04\x00\x00" + bytes([0, 1, 0, 0]) + bytes(1 << 14)
    path.write_bytes(tag + content[content.index(b"\xff\xfb") :])
    error = problem(path)
    assert error.kind == "truncated"
    assert "its header says 2.00 s" in str(error)


def test_mp3_without_a_header_is_taken_as_it_is(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", "libmp3lame", 44_100, 2, options={"write_xing": "0"})
    assert len(decode(path)) / SAMPLE_RATE_HZ == pytest.approx(2.0, abs=0.06)


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mp3", "libmp3lame"), ("a.aac", "aac")])
def test_damage_in_the_middle_is_an_error_with_its_place(tmp_path: Path, name: str, codec: str) -> None:
    path = encode(tmp_path / name, codec, 44_100, 2, duration_s=4.0)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3_000] = np.random.default_rng(4).bytes(3_000)
    path.write_bytes(content)
    error = problem(path)
    assert error.kind == "unreadable"
    assert "damaged after" in str(error)
    assert 1.5 < float(str(error).partition("damaged after ")[2].split()[0]) < 2.5


def test_a_change_of_rate_within_a_stream_is_followed(tmp_path: Path) -> None:
    parts = [encode(tmp_path / f"{rate_hz}.aac", "aac", rate_hz, channels) for rate_hz, channels in ((44_100, 1), (48_000, 2))]
    path = tmp_path / "joined.aac"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    waveform = decode(path)
    assert len(waveform) == pytest.approx(sum(len(decode(part)) for part in parts), abs=2)
    for begin_s in (0.5, 2.5):
        piece = waveform[round(begin_s * SAMPLE_RATE_HZ) :][:SAMPLE_RATE_HZ]
        assert loudest_hz(piece) == pytest.approx(TONE_HZ, abs=0.5)


def test_cut_without_times_is_the_whole() -> None:
    waveform = np.arange(16_000, dtype=np.float32)
    np.testing.assert_array_equal(cut(waveform, math.nan, math.nan, "u"), waveform)
    np.testing.assert_array_equal(cut(waveform, 0.25, math.nan, "u"), waveform[4_000:])
    np.testing.assert_array_equal(cut(waveform, math.nan, 0.25, "u"), waveform[:4_000])


@settings(max_examples=50, deadline=None)
@given(bounds=st.lists(st.integers(0, 48_000), min_size=2, max_size=8, unique=True))
def test_adjacent_segments_share_no_sample_and_lose_none(bounds: list[int]) -> None:
    waveform = np.arange(48_000, dtype=np.float32)
    bounds = sorted(bounds)
    times_s = [bound / SAMPLE_RATE_HZ for bound in bounds]
    pieces = [cut(waveform, start_s, end_s, "u") for start_s, end_s in itertools.pairwise(times_s)]
    np.testing.assert_array_equal(np.concatenate(pieces), waveform[bounds[0] : bounds[-1]])


def test_segment_may_end_a_little_after_its_recording() -> None:
    waveform = np.zeros(32_000, np.float32)
    assert len(cut(waveform, 1.0, 2.5, "u")) == 16_000


@pytest.mark.parametrize(("start_s", "end_s"), [(1.0, 2.6), (2.0, 2.4), (2.2, 2.4), (-0.1, 1.0), (1.0, 1.0), (1.5, 1.0), (-2.0, -1.0)])
def test_segment_outside_its_recording_is_an_error(start_s: float, end_s: float) -> None:
    with pytest.raises(MediaError, match=rf"^here: the segment from {start_s:.3f} to {end_s:.3f} s .* recording of 2\.000 s") as caught:
        cut(np.zeros(32_000, np.float32), start_s, end_s, "here")
    assert caught.value.kind == "truncated"
