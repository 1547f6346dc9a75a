"""Sounds of players: links with spans, embedded spans that decode to the sound they were cut from, limits, and what has no player."""

import base64
import io
import math
import wave

import av
import numpy as np
import pytest

from data.media import SAMPLE_RATE_HZ
from data.reporting.audio import EMBED, LINK, NONE, Clip, link, players


@pytest.fixture
def recording(tmp_path):
    """Three seconds: 300 Hz, 600 Hz, 1200 Hz."""
    times = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    samples = np.concatenate([0.4 * np.sin(2 * np.pi * hertz * times) for hertz in (300, 600, 1200)])
    path = tmp_path / "media" / "a b.wav"
    path.parent.mkdir()
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def played(address: str) -> np.ndarray:
    content = base64.b64decode(address.removeprefix("data:audio/ogg;base64,"))
    with av.open(io.BytesIO(content)) as container:
        assert container.streams.audio[0].codec_context.name == "opus"
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def test_a_link_is_relative_below_the_page_and_has_the_span(recording, tmp_path):
    assert link(Clip(recording), tmp_path) == "media/a%20b.wav"
    assert link(Clip(recording, 1.5, 2.25), tmp_path) == "media/a%20b.wav#t=1.5,2.25"
    assert link(Clip(recording, end_s=2.0), tmp_path) == "media/a%20b.wav#t=0,2"
    assert link(Clip(recording, 1.0), tmp_path / "elsewhere") == f"{recording.as_uri()}#t=1"


def test_an_embedded_sound_is_that_of_the_span(recording, tmp_path):
    """Its pitch by zero crossings, at the 48 kHz to which Opus decodes."""
    found = players({"whole": Clip(recording), "second": Clip(recording, 1.0, 2.0)}, EMBED, tmp_path)
    assert (list(found.addresses), found.note) == (["whole", "second"], "Players of 2 of 2 clips.")
    sound = played(found.addresses["second"])
    assert len(sound) / 48_000 == pytest.approx(1.0, abs=0.03)
    crossings = np.count_nonzero(np.diff(np.signbit(sound[4800:-4800])))
    assert crossings / 2 / ((len(sound) - 9600) / 48_000) == pytest.approx(600, rel=0.01)
    assert played(found.addresses["whole"]).shape[0] / 48_000 == pytest.approx(3.0, abs=0.03)
    assert found == players({"whole": Clip(recording), "second": Clip(recording, 1.0, 2.0)}, EMBED, tmp_path)


@pytest.mark.parametrize("duration_s", [1.0, math.nan, 0.1], ids=["known", "not known", "stated too short"])
def test_the_first_clips_are_embedded_up_to_the_limit(recording, tmp_path, duration_s):
    clips = {str(number): Clip(recording, 0.0 if number else 2.0, 1.0 if number else 3.0, duration_s) for number in range(5)}
    found = players(clips, EMBED, tmp_path, limit_bytes=10_000)
    assert list(found.addresses) == ["0", "1"]
    assert sum(map(len, found.addresses.values())) < 10_000
    assert found.note == "Players of 2 of 5 clips: limit 10.0 kB."


def test_what_has_no_player_is_counted_with_the_reason(recording, tmp_path):
    (tmp_path / "x.avi").write_bytes(b"RIFF")
    clips = {"a": Clip(recording), "b": Clip(tmp_path / "x.avi"), "c": Clip(tmp_path / "gone.wav"), "d": Clip(recording, 7.0, 9.0)}
    linked, embedded = (players(clips, source, tmp_path) for source in (LINK, EMBED))
    assert list(linked.addresses) == ["a", "d"]
    assert linked.note == (
        "Players of 2 of 4 clips: browsers do not play the files of 1 (.avi), which can be embedded; the media of 1 are not there."
    )
    assert list(embedded.addresses) == ["a"]
    assert embedded.note == "Players of 1 of 4 clips: 2 cannot be read; the media of 1 are not there."
    assert players(clips, NONE, tmp_path) == players({}, LINK, tmp_path)
    assert players({}, LINK, tmp_path).note == ""
