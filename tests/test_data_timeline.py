"""Sound lies where the clock of its recording puts it: silence in gaps and before a late start, in every container with timestamps."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tones import encode, problem, tone

import data.media
from data.media import SAMPLE_RATE_HZ, cut, decode, read_recording
from data.timeline import Timeline

TIMED = [  # file name, codec, sample rate, picture
    ("a.mkv", "aac", 44_100, False),
    ("v.mkv", "pcm_s16le", 16_000, True),
    ("a.webm", "libopus", 48_000, False),
    ("a.mp4", "aac", 44_100, False),
    ("v.mp4", "aac", 48_000, True),
    ("v.mov", "aac", 44_100, True),
    ("a.3gp", "aac", 16_000, False),
    ("a.flv", "aac", 44_100, False),
    ("v.ts", "aac", 44_100, True),
    ("v.wmv", "wmav2", 44_100, True),
]


def place(*frames: tuple[float, int], demuxer: str = "matroska,webm", start_s: float = 0.0) -> Timeline:
    """A timeline of frames (time in seconds, samples) at 1000 Hz."""
    timeline = Timeline(demuxer, "pcm_s16le", start_s)
    for time_s, samples in frames:
        timeline.place(SimpleNamespace(pts=round(time_s * 1000), time_base=Fraction(1, 1000), samples=samples, sample_rate=1000))
    return timeline


def test_gaps_and_a_late_start_are_silence_to_the_sample(tmp_path: Path) -> None:
    pieces = ((0.256, 0.64), (1.28, 9.0))  # whole packets of 64 ms
    path = encode(tmp_path / "a.mkv", "pcm_s16le", SAMPLE_RATE_HZ, 1, duration_s=1.92, pieces_s=pieces)
    whole = decode(encode(tmp_path / "whole.mkv", "pcm_s16le", SAMPLE_RATE_HZ, 1, duration_s=1.92))
    recording = read_recording(path)
    expected = whole.copy()
    expected[:4_096] = expected[10_240:20_480] = 0
    np.testing.assert_array_equal(recording.waveform, expected)
    assert recording.timestamps == (
        "0.26 s of silence before its first sample; 0.64 s of silence in gaps of its timestamps (1), the first at 0.64 s"
    )


@pytest.mark.parametrize(("name", "codec", "rate_hz", "picture"), TIMED)
def test_words_behind_a_late_start_and_a_gap_are_cut_at_their_times(
    tmp_path: Path, name: str, codec: str, rate_hz: int, picture: bool
) -> None:
    pieces = ((0.8, 1.8), (2.8, 9.0))
    waveform = decode(encode(tmp_path / name, codec, rate_hz, 1, 4.0, picture, pieces_s=pieces))
    assert len(waveform) / SAMPLE_RATE_HZ == pytest.approx(4.0, abs=0.12)
    for begin_s, end_s, has_sound in ((0.0, 0.75, False), (1.1, 1.7, True), (2.1, 2.7, False), (3.1, 3.9, True)):
        level = np.sqrt(2 * np.mean(cut(waveform, begin_s, end_s, "u") ** 2))
        assert level == pytest.approx(0.5 if has_sound else 0.0, abs=0.1), (begin_s, end_s)


def test_many_short_gaps_add_up(tmp_path: Path) -> None:
    lost_s = [number * 0.32 for number in range(1, 12)]  # one packet of 64 ms of every five is lost
    pieces = [(begin_s + 0.064, begin_s + 0.32) for begin_s in [0.0, *lost_s]]
    recording = read_recording(encode(tmp_path / "a.mkv", "pcm_s16le", SAMPLE_RATE_HZ, 1, duration_s=3.84, pieces_s=pieces))
    assert len(recording.waveform) / SAMPLE_RATE_HZ == pytest.approx(3.84, abs=0.1)
    assert "gaps of its timestamps" in recording.timestamps


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "aac"), ("a.webm", "libopus"), ("a.mp4", "aac"), ("a.ts", "aac"), ("a.flv", "aac"), ("a.mp3", "libmp3lame")],
)
def test_a_recording_without_gaps_has_nothing_filled(tmp_path: Path, name: str, codec: str) -> None:
    assert read_recording(encode(tmp_path / name, codec, 48_000, 2)).timestamps == ""


def test_streams_cut_out_of_a_longer_one_begin_with_their_first_frame(tmp_path: Path) -> None:
    for name, codec in (("a.ts", "mp2"), ("a.ogg", "libopus")):
        recording = read_recording(encode(tmp_path / name, codec, 48_000, 1, 4.0, pieces_s=((2.0, 9.0),)))
        assert len(recording.waveform) / SAMPLE_RATE_HZ == pytest.approx(2.0, abs=0.06)
        assert recording.timestamps == ""


def test_timestamps_that_would_take_all_memory_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.media, "_MOST_SILENCE_S", 1.0)
    path = encode(tmp_path / "a.mkv", "pcm_s16le", SAMPLE_RATE_HZ, 1, duration_s=2.0, pieces_s=((1.28, 9.0),))
    error = problem(path)
    assert error.kind == "unreadable"
    assert "its timestamps leave 1.28 s without sound, expected at most 1 s" in str(error)


def test_jitter_is_no_gap_and_early_frames_are_not_cut() -> None:
    timeline = place((0.02, 100), (0.05, 100), (0.29, 100), (0.1, 100))
    assert (timeline.gaps, timeline.set_back, timeline.describe()) == ([], [], "")


def test_a_gap_begins_where_the_samples_end() -> None:
    timeline = place((0.0, 1_000), (3.0, 1_000), (4.0, 1_000))
    assert timeline.gaps == [(1.0, 2.0)]
    assert timeline.filled_s() == 2.0


def test_a_clock_that_is_set_back_goes_on() -> None:
    timeline = place((0.0, 1_000), (1.0, 1_000), (0.0, 1_000), (2.0, 1_000))
    assert timeline.set_back == [(2.0, -2.0)]
    assert timeline.gaps == [(3.0, 1.0)]
    assert timeline.describe().endswith("its timestamps are set back (1), first at 2.00 s; the sound goes on there")


@pytest.mark.parametrize(
    ("demuxer", "gaps"),
    [
        ("mov,mp4,m4a,3gp,3g2,mj2", [(0.0, 5.0), (6.0, 1.0)]),
        ("avi", [(0.0, 5.0)]),
        ("mpegts", [(0.0, 2.0), (3.0, 1.0)]),
        ("wav", []),
    ],
)
def test_each_kind_of_container_has_its_clock(demuxer: str, gaps: list) -> None:
    assert place((5.0, 1_000), (7.0, 1_000), demuxer=demuxer, start_s=3.0).gaps == gaps


def test_tone_behind_a_gap_has_its_own_phase(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", "pcm_s16le", 48_000, 1, duration_s=2.0, pieces_s=((0.0, 0.6), (1.2, 9.0)))
    exact = tone(SAMPLE_RATE_HZ, 2.0)[24_000:31_000]
    assert np.abs(decode(path)[24_000:31_000] - exact).max() < 0.1  # within half a millisecond
