"""Sounds of the examples in the build report: those of clips and of donors, where they have media."""

import numpy as np
from reports import ledger, manifest

from data.labels import EMOTIONS
from data.reporting.audio import LINK, NONE, Players
from pipeline.report.sounds import sounds


def test_clips_and_donors_have_the_sounds_of_their_media_and_times(tmp_path):
    (tmp_path / "mosi" / "a").mkdir(parents=True)
    (tmp_path / "mosi" / "a" / "1.mp4").touch()
    (tmp_path / "mosei.wav").touch()
    starts = {"start_s": np.arange(4) * 2.0, "end_s": np.arange(4) * 2.0 + 1.5}
    mosi = manifest("mosi", 4, media=["a/1.mp4", "", "gone.mp4", "a/1.mp4"])
    mosei = manifest("mosei", 4, media=["mosei.wav", "mosei.wav", "mosei.wav", ""], **starts, **dict.fromkeys(EMOTIONS, 1.0))
    given = ledger(mosi, mosei, abstained=["", "", "", "no donor"]), {"mosi": mosi, "mosei": mosei}
    roots = {"mosi": tmp_path / "mosi", "mosei": tmp_path}
    found = sounds("mosi", *given, roots, LINK, tmp_path)
    assert found.addresses == {
        "mosi/mosi-00": "mosi/a/1.mp4",
        "mosei/mosei-00": "mosei.wav#t=0,1.5",
        "mosei/mosei-01": "mosei.wav#t=2,3.5",
        "mosei/mosei-02": "mosei.wav#t=4,5.5",
    }
    assert found.note == "Players of 4 of 5 clips: the media of 1 are not there."
    assert sounds("mosi", *given, roots, NONE, tmp_path) == Players()
    alone = sounds("mosi", given[0], {"mosi": mosi}, roots, LINK, tmp_path)  # the donors' manifest is not part of the build
    assert list(alone.addresses) == ["mosi/mosi-00"]
