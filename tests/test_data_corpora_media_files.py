"""Media are found by one scan of their folders, in a fixed order of places and suffixes; files of no utterance are reported."""

import pandas as pd
import pytest

from data.containers import MEDIA_SUFFIXES
from data.corpora.media_files import Place, by_stem, find_media, list_media


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


PLACES = (Place("wav/{v}/{c}", ".wav"), Place("Raw/{v}/{c}", ".mp4"), Place("Full/{v}", ".wav", whole=True))
CLIPS = pd.DataFrame({"v": ["a", "a", "b"], "c": ["1", "2", "1"]})


def test_the_first_place_wins_and_the_usual_one_is_expected(tmp_path):
    touch(tmp_path, "Raw/a/1.mp4", "Raw/b/1.mp4", "wav/a/1.wav")
    table, findings = find_media(CLIPS, tmp_path, PLACES)
    assert table["media"].tolist() == ["wav/a/1.wav", "", "Raw/b/1.mp4"]
    assert table["expected"].tolist()[1] in ("wav/a/2.wav", "Raw/a/2.mp4")
    assert findings == []


def test_a_recording_is_for_all_clips_without_a_file(tmp_path):
    touch(tmp_path, "Full/a.flac", "Raw/a/2.webm")
    table, _ = find_media(CLIPS, tmp_path, PLACES)
    assert table["media"].tolist() == ["Full/a.flac", "Raw/a/2.webm", ""]
    assert table["whole"].tolist() == [True, False, False]


def test_nothing_is_expected_of_a_corpus_without_media(tmp_path):
    touch(tmp_path, "Raw/a/1.txt", "Raw/a/._1.mp4", "Raw/.b/1.mp4", "elsewhere/a/1.mp4", "Raw/1.mp4", "Raw/a/deep/1.mp4")
    table, findings = find_media(CLIPS, tmp_path, PLACES)
    assert table["media"].tolist() == table["expected"].tolist() == ["", "", ""]
    assert findings == []


def test_names_are_kept_for_utterances_without_a_medium_and_only_if_there_is_one_to_be_near(tmp_path):
    touch(tmp_path, "label.csv")
    assert find_media(CLIPS, tmp_path, PLACES)[0]["names"].tolist() == [(), (), ()]
    touch(tmp_path, "wav/a/1.wav")
    names = find_media(CLIPS, tmp_path, PLACES)[0]["names"].tolist()
    assert names[0] == ()
    assert [(name.path, name.own) for name in names[1]] == [("wav/a/2.wav", "a/2"), ("Raw/a/2.mp4", "a/2"), ("Full/a.wav", "a")]


def test_files_of_no_utterance_are_reported(tmp_path):
    touch(tmp_path, "Raw/a/1.mp4", "Raw/a/9.mp4", "Full/c.wav", "Full/b.wav", "wav/a/1.wav")
    _, findings = find_media(CLIPS, tmp_path, PLACES)
    assert [(finding.kind, finding.where) for finding in findings] == [("unused", "Full/c.wav"), ("unused", "Raw/a/9.mp4")]


@pytest.mark.parametrize("worse", range(1, len(MEDIA_SUFFIXES)))
def test_suffixes_have_one_fixed_order_whatever_their_case(tmp_path, worse):
    touch(tmp_path, f"1{MEDIA_SUFFIXES[worse]}", f"1{MEDIA_SUFFIXES[worse - 1].upper()}")
    assert by_stem(list_media(tmp_path, "")) == {"1": f"1{MEDIA_SUFFIXES[worse - 1].upper()}"}


def test_folders_that_hang_on_a_field_are_scanned_where_told(tmp_path):
    touch(tmp_path, "S1/wav/a/1.wav", "S2/wav/b/1.wav", "S1/other/a/1.wav")
    place = Place("{s}/wav/{v}/{c}", ".wav", within=("S1/wav", "S2/wav"))
    table, findings = find_media(CLIPS.assign(s=["S1", "S1", "S2"]), tmp_path, [place])
    assert table["media"].tolist() == ["S1/wav/a/1.wav", "", "S2/wav/b/1.wav"]
    assert table["expected"][1] == "S1/wav/a/2.wav"
    assert findings == []


def test_braces_in_an_id_are_only_letters(tmp_path):
    touch(tmp_path, "wav/{v}/1.wav")
    table, _ = find_media(pd.DataFrame({"v": ["{v}"], "c": ["1"]}), tmp_path, PLACES)
    assert table["media"].tolist() == ["wav/{v}/1.wav"]
