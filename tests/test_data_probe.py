"""The durations, problems and contents that `probe` finds for an utterance table, decoding each medium once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tones import encode, write_floats, write_wav

import data.probe
from data.findings import Finding
from data.media import read_recording
from data.probe import media_notes, probe

RATE_HZ = 16_000


def noise(seconds: float, seed: int = 0, peak: float = 0.3) -> np.ndarray:
    return (np.random.default_rng(seed).uniform(-peak, peak, round(seconds * RATE_HZ)) * 2**15).round()


def table(*rows: tuple[str, str, float, float]) -> pd.DataFrame:
    """`utterance_id`, `media`, `start_s`, `end_s`; nothing excluded."""
    return pd.DataFrame(rows, columns=["utterance_id", "media", "start_s", "end_s"]).assign(excluded="")


def test_rows_come_back_in_order_with_lengths_and_problems(tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", noise(5.0))
    write_wav(tmp_path / "clip.wav", noise(1.5, seed=1))
    (tmp_path / "page.wav").write_text("<html></html>")
    write_wav(tmp_path / "quiet.wav", noise(1.0, peak=2e-4))
    write_wav(tmp_path / "tiny.wav", noise(0.02))
    utterances = table(
        ("b", "long.wav", 1.0, 2.25),
        ("text", "", np.nan, np.nan),
        ("clip", "clip.wav", np.nan, np.nan),
        ("gone", "gone.wav", np.nan, np.nan),
        ("a", "long.wav", 0.0, 1.0),
        ("late", "long.wav", 4.0, 6.0),
        ("page", "page.wav", np.nan, np.nan),
        ("quiet", "quiet.wav", np.nan, np.nan),
        ("tiny", "tiny.wav", np.nan, np.nan),
    )
    found = probe(tmp_path, utterances, workers=3).set_index("utterance_id")
    assert list(found.index) == list(utterances["utterance_id"])
    lengths = {
        "b": 1.25,
        "text": np.nan,
        "clip": 1.5,
        "gone": np.nan,
        "a": 1.0,
        "late": np.nan,
        "page": np.nan,
        "quiet": 1.0,
        "tiny": 0.02,
    }
    np.testing.assert_array_equal(found["duration_s"], list(lengths.values()))
    problems = {"gone": "missing", "late": "truncated", "page": "unreadable", "quiet": "silent", "tiny": "truncated"}
    assert found["problem"][found["problem"] != ""].to_dict() == problems
    assert found["message"]["gone"] == f"{tmp_path / 'gone.wav'}: no such file."
    assert found["message"]["quiet"] == f"{tmp_path / 'quiet.wav'}: no sound in it: -79 dBFS, expected at least -70 dBFS."
    assert "expected at least 0.025 s" in found["message"]["tiny"]
    assert (found.loc[["a", "b", "clip", "text"], "message"] == "").all()


def test_excluded_utterances_are_not_looked_at(tmp_path: Path) -> None:
    utterances = table(("a", "gone.wav", np.nan, np.nan)).assign(excluded="known bad")
    found = probe(tmp_path, utterances, workers=1)
    assert found["problem"].tolist() == [""]
    assert np.isnan(found["duration_s"][0])


def test_result_does_not_depend_on_the_number_of_threads_or_the_index(tmp_path: Path) -> None:
    for number in range(6):
        write_wav(tmp_path / f"{number}.wav", noise(0.5 + number / 10, seed=number))
    utterances = table(*((str(number), f"{number}.wav", np.nan, np.nan) for number in range(6)))
    one = probe(tmp_path, utterances, workers=1)
    pd.testing.assert_frame_equal(one, probe(tmp_path, utterances.set_axis(range(50, 56)), workers=4))


def test_a_recording_is_decoded_once_for_all_its_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wav(tmp_path / "a.wav", noise(5.0))
    decoded = []
    monkeypatch.setattr(data.probe, "read_recording", lambda path: decoded.append(path) or read_recording(path))
    done = []
    utterances = table(*((str(number), "a.wav", number, number + 1.0) for number in range(5)))
    found = probe(tmp_path, utterances, workers=2, progress=done.append)
    assert decoded == [tmp_path / "a.wav"]
    assert sum(done) == 5
    assert (found["duration_s"] == 1.0).all()


def test_equal_samples_have_equal_content_whatever_the_file(tmp_path: Path) -> None:
    samples = noise(3.0)
    write_wav(tmp_path / "whole.wav", samples)
    write_wav(tmp_path / "clip.wav", samples[16_000:32_000])
    utterances = table(("cut", "whole.wav", 1.0, 2.0), ("clip", "clip.wav", np.nan, np.nan), ("next", "whole.wav", 2.0, 3.0))
    cut, clip, following = probe(tmp_path, utterances, workers=2)["content"]
    assert cut == clip != following


def test_an_interrupted_probe_leaves_the_rest(tmp_path: Path) -> None:
    for number in range(20):
        write_wav(tmp_path / f"{number}.wav", noise(0.5, seed=number))
    utterances = table(*((str(number), f"{number}.wav", np.nan, np.nan) for number in range(20)))
    seen = []

    def interrupt(count: int) -> None:
        seen.append(count)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(tmp_path, utterances, workers=1, progress=interrupt)
    assert seen == [1]


def whole(root: Path, name: str) -> pd.Series:
    return probe(root, table(("a", name, np.nan, np.nan)), workers=1).loc[0]


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize(
    ("samples", "mean"),
    [
        (lambda rate_hz: np.full(2 * rate_hz, 9_830), "0.30"),
        (lambda rate_hz: np.full(rate_hz, -32_768), "-1.00"),
        (lambda rate_hz: np.append(np.zeros(rate_hz), np.full(3 * rate_hz, 9_830)), "0.22"),
        (lambda rate_hz: 9_830 + np.random.default_rng(0).integers(-1, 2, 2 * rate_hz), "0.30"),
    ],
    ids=["constant", "full-scale", "step", "dither"],
)
def test_a_constant_is_no_sound(tmp_path: Path, samples, mean: str, rate_hz: int) -> None:
    write_wav(tmp_path / "a.wav", samples(rate_hz), rate_hz)
    found = whole(tmp_path, "a.wav")
    assert found["problem"] == "silent"
    assert f"dBFS around a constant of {mean}, expected at least -70 dBFS." in found["message"]


def test_sound_on_a_constant_is_sound(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 9_830 + noise(1.0, peak=0.002))
    assert whole(tmp_path, "a.wav")["problem"] == ""


@pytest.mark.parametrize(("scale", "said"), [(1.0, ""), (12.0, ""), (127.0, "38 times"), (32_767.0, "9830 times")])
def test_floats_in_the_range_of_integers_are_noted(tmp_path: Path, scale: float, said: str) -> None:
    samples = 0.3 * np.sin(np.arange(RATE_HZ) / 5)
    samples[100] = -0.3
    write_floats(tmp_path / "a.wav", scale * samples)
    found = whole(tmp_path, "a.wav")
    assert found["problem"] == ""
    assert [note.message.partition(" full scale")[0] for note in found["notes"]] == ([f"its peak is {said}"] if said else [])
    assert all((note.kind, note.where) == ("too-loud", "a.wav") for note in found["notes"])


def test_a_recording_with_a_gap_is_noted_once(tmp_path: Path) -> None:
    encode(tmp_path / "a.mkv", "pcm_s16le", RATE_HZ, 1, duration_s=3.84, pieces_s=((0.0, 1.28), (2.56, 9.0)))
    write_wav(tmp_path / "b.wav", noise(1.0))
    utterances = table(("1", "a.mkv", 0.0, 1.0), ("2", "a.mkv", 1.4, 2.4), ("3", "a.mkv", 2.6, 3.8), ("b", "b.wav", np.nan, np.nan))
    found = probe(tmp_path, utterances, workers=2)
    assert found["problem"].tolist() == ["", "silent", "", ""]
    said = "1.28 s of silence in gaps of its timestamps (1), the first at 1.28 s"
    assert media_notes(found) == [Finding("gap", "a.mkv", said)]
