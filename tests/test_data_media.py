"""A tone in any container and codec is decoded correctly; each problem of a file has its message."""

import itertools
import math
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from tones import TONE_HZ, add_picture, draw, encode, problem, tone, write_wav

from data.containers import CONTAINERS, MEDIA_SUFFIXES
from data.media import SAMPLE_RATE_HZ, MediaError, cut, decode

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
    ("a.w64", "pcm_s24le", 16_000, 2),
    ("a.aiff", "pcm_s16be", 44_100, 2),
    ("a.au", "pcm_s16be", 16_000, 1),
    ("a.caf", "pcm_s16le", 48_000, 2),
    ("a.oga", "flac", 44_100, 1),
    ("a.mka", "libopus", 48_000, 1),
    ("a.ac3", "ac3", 48_000, 2),
    ("a.wma", "wmav2", 44_100, 2),
    ("a.mov", "pcm_s16le", 44_100, 2),
    ("a.m4v", "aac", 44_100, 1),
    ("a.3gp", "aac", 16_000, 1),
    ("a.flv", "aac", 44_100, 2),
]
LOSSY = ("libmp3lame", "libopus", "aac", "ac3", "wmav2")


def loudest_hz(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 1 << 18))
    return float(spectrum.argmax() * SAMPLE_RATE_HZ / (1 << 18))


@pytest.mark.parametrize(("name", "codec", "rate_hz", "channels"), ENCODED)
def test_tone_survives_every_container_and_codec(tmp_path: Path, name: str, codec: str, rate_hz: int, channels: int) -> None:
    waveform = decode(encode(tmp_path / name, codec, rate_hz, channels))
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert len(waveform) / SAMPLE_RATE_HZ == pytest.approx(2.0, abs=0.08 if codec in LOSSY else 1e-4)
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


def test_memory_is_the_result_and_a_little(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.zeros((120 * 44_100, 2)), 44_100)
    decode(path)
    tracemalloc.start()
    try:
        waveform = decode(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(waveform) == 120 * SAMPLE_RATE_HZ
    assert peak < 1.5 * waveform.nbytes


@pytest.mark.parametrize("suffix", MEDIA_SUFFIXES)
def test_every_suffix_that_is_looked_for_is_read(tmp_path: Path, suffix: str) -> None:
    codecs = {"wav": "pcm_s16le", "w64": "pcm_s16le", "aiff": "pcm_s16be", "au": "pcm_s16be", "caf": "pcm_s16be", "flac": "flac"}
    codecs |= {"ogg": "libopus", "mp3": "libmp3lame", "matroska": "libopus", "avi": "libmp3lame", "asf": "wmav2", "ac3": "ac3"}
    rate_hz, codec = 48_000, codecs.get(CONTAINERS[suffix], "aac")
    if suffix == ".amr":
        rate_hz, codec = 8_000, "libopencore_amrnb"
    path = encode(tmp_path / f"a{suffix}", codec, rate_hz, 1)
    with av.open(str(path)) as container:
        assert CONTAINERS[suffix] in container.format.name.split(",")
    assert len(decode(path)) / SAMPLE_RATE_HZ == pytest.approx(2.0, abs=0.08)


def test_a_container_that_is_not_read_is_told_what_is(tmp_path: Path) -> None:
    error = problem(encode(tmp_path / "a.mpg", "mp2", 48_000, 1))
    assert error.kind == "unreadable"
    assert "not a media file of a kind that is read" in str(error)
    assert "Convert it to one of: wav flac" in str(error)


def test_suffix_does_not_matter(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.flac", "flac", 44_100, 1)
    renamed = path.rename(tmp_path / "b: 50% é.wav")
    assert len(decode(renamed)) == 2 * SAMPLE_RATE_HZ


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_damaged_frames_of_flac_are_refused_and_never_heard(tmp_path, rate_hz):
    path = encode(tmp_path / "a.flac", "flac", rate_hz, 2, duration_s=0.5)
    content, whole, refused = path.read_bytes(), decode(path), 0
    frames = content.index(b"\xff\xf8")
    for number in range(200):
        damaged = bytearray(content)
        damaged[frames + number * (len(content) - frames) // 200] ^= 1 << number % 8
        path.write_bytes(damaged)
        try:
            assert decode(path).tobytes() == whole.tobytes()
        except MediaError:
            refused += 1
    assert refused >= 190


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


def test_codec_that_nobody_knows(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.full(20_000, 1_000))
    content = bytearray(path.read_bytes())
    content[20:22] = b"\x34\x12"
    path.write_bytes(content)
    assert "no decoder" in str(problem(path))


def test_samples_that_are_no_numbers(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", "pcm_f32le", 16_000, 1)
    content = bytearray(path.read_bytes())
    content[-400:-396] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    assert "NaN or infinite" in str(problem(path))


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


@pytest.mark.parametrize("name", ["a.webm", "a.mkv"])
def test_a_damaged_place_where_ffmpeg_ends_a_matroska_file(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, "libopus", 48_000, 1, duration_s=4.0)
    assert len(decode(path)) == pytest.approx(4.0 * SAMPLE_RATE_HZ, abs=0.02 * SAMPLE_RATE_HZ)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3_000] = bytes(3_000)
    path.write_bytes(content)
    error = problem(path)
    assert error.kind == "truncated"
    assert "its header says 4.01 s. Get the file again." in str(error)


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
