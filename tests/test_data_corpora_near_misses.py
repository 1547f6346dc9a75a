"""Media whose names nearly fit are named with the name that was expected and the difference; they are never used."""

import unicodedata
from pathlib import PurePosixPath

import pytest

from data.corpora import read_corpus
from data.corpora.media_files import Name, list_all_media
from data.corpora.near_misses import NearMisses


def put(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def nearest(names, *files):
    found = NearMisses(map(PurePosixPath, files)).nearest([Name(*name) for name in names])
    return None if found is None else (found[0].path, *found[1:])


@pytest.mark.parametrize(
    ("own", "file", "difference"),
    [
        ("v/1", "Raw/v/0001.mp4", "leading zeros"),
        ("v/0001", "Raw/v/1.mp4", "leading zeros"),
        ("video_7/3", "Raw/video_0007/3.mp4", "leading zeros"),
        ("v/1.mp4", "Raw/v/1.mp4", "a suffix in the id"),
        ("v/1", "Raw/v/1.wav.mp4", "a suffix in the id"),
        ("v/1", "Release/Raw/v/1.mp4", "another folder"),
        ("v/1", "Raw/v/clips/1.mp4", "another folder"),
        ("v/1", "v_1.mp4", "'_' in place of '/'"),
        ("v_1", "v/1.mp4", "'_' in place of '/'"),
        ("v/é", f"Raw/v/{unicodedata.normalize('NFD', 'é')}.mp4", "Unicode form (NFC or NFD)"),
        ("v/1", "Raw\\v\\1.mp4", "a backslash in place of '/'"),
        ("v\\1", "Raw/v/1.mp4", "a backslash in place of '/'"),
        ("v /1", "Raw/v/1.mp4", "a space at an end"),
        ("v/1", "Raw/v/1 .mp4", "a space at an end"),
        ("v/1", "Raw/v/1.mp4 ", "suffix '.mp4 ', which is not read"),
        ("v/1", "Raw/v/1.sph", "suffix '.sph', which is not read"),
        ("V/a", "Raw/v/A.mp4", "upper and lower case"),
        ("v/1\u200b", "Raw/v/1.mp4", "an invisible character or an unusual space"),
        ("\ufeffv/1", "Raw/v/1.mp4", "an invisible character or an unusual space"),
        ("v 1/1", "Raw/v\xa01/1.mp4", "an invisible character or an unusual space"),
        ("clip_1", "clip-1.wav", "'-' or a space in place of '_'"),
        ("clip 1", "Raw/clip_1.mp4", "'-' or a space in place of '_'"),
        ("v$_$1", "Raw/v/1.mp4", "'$_$' or brackets in place of '/'"),
        ("v[1]", "Raw/v/1.mp4", "'$_$' or brackets in place of '/'"),
        ("V/1", "Raw/v/01.mp4", "upper and lower case and leading zeros"),
    ],
)
def test_each_difference_is_named(own, file, difference):
    assert nearest([(f"Raw/{own}.mp4", own)], file) == (f"Raw/{own}.mp4", file, difference)


@pytest.mark.parametrize(
    ("own", "file"),
    [("v/1", "Raw/v/10.mp4"), ("v/1", "Raw/w/1.mp4"), ("v/1", "Raw/1/v.mp4"), ("v/2", "Raw/v/1.mp4"), ("", "Raw/1.mp4")],
)
def test_the_file_of_another_utterance_is_no_near_miss(own, file):
    assert nearest([(f"Raw/{own}.mp4", own)], file) is None


def test_of_several_pairs_the_most_similar_is_named():
    names = [("wav/train/d0.wav", "train/d0"), ("train/clips/d0.mp4", "train/clips/d0")]
    assert nearest(names, "x/train/d0.mp4", "x/train/clips/d0.mp4")[:2] == ("train/clips/d0.mp4", "x/train/clips/d0.mp4")


def test_media_of_any_kind_are_listed_without_dot_files_and_a_circle_of_links_ends(tmp_path):
    put(tmp_path, "a.wav", "b/c.MOV", "b/d.mp4 ", "b/.e.wav", ".f/g.wav", "label.csv", "v.txt", "b/features.npy")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    assert list(map(str, list_all_media(tmp_path))) == ["a.wav", "b/c.MOV", "b/d.mp4 "]


def write(root, reader):
    """A corpus of two clips, and the path of the first in its layout."""
    if reader == "meld":
        header = "Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID"
        (root / "dev_sent_emo.csv").write_text(f"{header}\nA tram.,Bo,joy,positive,0,0\nNo tram.,Bo,joy,positive,0,1\n")
        return "dev_splits_complete/dia0_utt0.mp4"
    if reader == "iemocap":
        folder = root / "Session1" / "dialog" / "transcriptions"
        folder.mkdir(parents=True)
        lines = [f"Ses01F_impro09_F00{n} [00{n}.0000-00{n}.9000]: A tram.\n" for n in range(2)]
        (folder / "Ses01F_impro09.txt").write_text("".join(lines))
        return "Session1/sentences/wav/Ses01F_impro09/Ses01F_impro09_F000.wav"
    (root / "label.csv").write_text("video_id,clip_id,text,label,mode\nv,1,A tram.,2,train\nv,2,No tram.,-2,train\n")
    return "Raw/v/1.mp4"


READERS = ("mosi", "mosei", "meld", "iemocap", "folder")


@pytest.mark.parametrize("reader", READERS)
def test_media_without_any_match_are_one_finding_with_an_expected_and_a_found_name(tmp_path, reader):
    expected = write(tmp_path, reader)
    found = f"unpacked/{expected}" if reader != "folder" else "unpacked/v/0001.mp4"
    put(tmp_path, found)
    corpus = read_corpus(reader, tmp_path)
    assert not corpus.has_media
    assert corpus.no_match.where == found
    assert "no media file in the folder (1 found) belongs to an utterance: " in corpus.no_match.message
    usual = expected if reader != "folder" else "v/1.wav"
    assert f" expects {usual}, found {found} (" in corpus.no_match.message


@pytest.mark.parametrize("reader", READERS)
def test_media_that_resemble_nothing_are_one_finding_too(tmp_path, reader):
    write(tmp_path, reader)
    put(tmp_path, "elsewhere/Interview of Monday.mov")
    finding = read_corpus(reader, tmp_path).no_match
    assert finding.where == "elsewhere/Interview of Monday.mov"
    assert "found elsewhere/Interview of Monday.mov. Rename" in finding.message


@pytest.mark.parametrize("reader", READERS)
def test_a_corpus_without_media_has_no_such_finding(tmp_path, reader):
    write(tmp_path, reader)
    corpus = read_corpus(reader, tmp_path)
    assert (corpus.has_media, corpus.no_match) == (False, None)


@pytest.mark.parametrize("reader", READERS)
def test_a_clip_that_is_missing_beside_others_names_its_near_miss(tmp_path, reader):
    first = PurePosixPath(write(tmp_path, reader))
    second = first.with_name(first.name.replace("1.", "2.") if "1." in first.name else first.name.replace("0.", "1."))
    put(tmp_path, str(first), f"copy/{str(second).upper()}")
    corpus = read_corpus(reader, tmp_path)
    assert corpus.utterances["media"].tolist() == [str(first), ""]
    expected = str(second) if reader != "folder" else "v/2.wav"
    said = f"expected {expected}, found copy/{str(second).upper()} (upper and lower case)"
    assert corpus.utterances["excluded"].tolist()[1] == f"missing media: {said}"
    assert [f.message for f in corpus.findings if f.kind == "missing" and f.where.endswith(("2]", "utt1", "F001"))] == [
        f"{said}: excluded"
    ]


def test_a_name_in_the_column_media_has_near_misses_too(tmp_path):
    (tmp_path / "label.csv").write_text("id,text,media,mode\na,A tram.,clips\\a.wav,train\n")
    put(tmp_path, "clips/a.wav")
    assert "a expects clips\\a.wav, found clips/a.wav (a backslash" in read_corpus("folder", tmp_path).no_match.message
    (tmp_path / "label.csv").write_text("id,text,media,mode\na,A tram.,clips/a.WAV,train\n")
    assert "a expects clips/a.WAV, found clips/a.wav (suffix '.wav')" in read_corpus("folder", tmp_path).no_match.message


def test_an_upper_case_suffix_is_found(tmp_path):
    write(tmp_path, "mosi")
    put(tmp_path, "Raw/v/1.MP4", "Raw/v/2.Wav")
    assert read_corpus("mosi", tmp_path).utterances["media"].tolist() == ["Raw/v/1.MP4", "Raw/v/2.Wav"]
