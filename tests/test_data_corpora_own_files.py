"""Files that a user names and the table of their texts become clips, and a folder that the reader `folder` understands."""

import os
from pathlib import Path

import numpy as np
import pytest
from projects import write_wav

from data.corpora import read_corpus
from data.corpora.own_files import gather, list_files, write_folder
from data.doctor import examine
from data.errors import InputError

NAMES = ["a b/ça va 10.wav", "a b/ça va 2.WAV", "other/ça va 2.wav", "other/x.mp4", "00001.wav"]


@pytest.fixture
def root(tmp_path) -> Path:
    for number, name in enumerate(NAMES):
        write_wav(tmp_path / "media" / name, np.random.default_rng(number).normal(0, 0.1, 1600))
    (tmp_path / "media" / "notes.txt").write_text("no medium")
    return tmp_path / "media"


def table(root: Path, *lines: str) -> Path:
    path = root.parent / "texts.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def told(own) -> list[tuple[str, str, str]]:
    return [(clip.name, clip.file.name if clip.file else "", clip.text) for clip in own.clips]


def test_files_have_their_path_below_the_folder_that_all_have_in_common_and_numbers_count_by_value(root, tmp_path):
    whole = ["00001.wav", "a b/ça va 2.WAV", "a b/ça va 10.wav", "other/x.mp4", "other/ça va 2.wav"]
    assert list(list_files([root])) == whole
    assert list_files([root])["other/x.mp4"] == root / "other" / "x.mp4"
    (tmp_path / "link").symlink_to(root / "other")
    several = list_files([root / "a b", root / "other/x.mp4", tmp_path / "link/x.mp4", root / "a b" / "ça va 2.WAV"])
    assert list(several) == ["media/a b/ça va 2.WAV", "media/a b/ça va 10.wav", "media/other/x.mp4"]  # each once
    assert list(list_files([root / "a b/ça va 10.wav"])) == ["ça va 10.wav"]


def test_what_is_no_medium_is_refused_by_name(root, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    for given, said in (
        ("nowhere", r"nowhere: no such file or folder\.$"),
        ("media/notes.txt", r"notes\.txt: expected a folder, or a file with one of \.wav "),
        ("empty", r"empty: no media file in it \(there are: no files\)"),
        ("texts", r"texts: no media file in it \(there are: a\.txt\)"),
    ):
        with pytest.raises(InputError, match=said):
            list_files([tmp_path / given])
    (root / os.fsdecode(b"\xff.wav")).touch()
    with pytest.raises(InputError, match=r"its name is not UTF-8. Rename it"):
        list_files([root])


def test_a_row_finds_its_file_by_the_end_of_its_path_and_rows_without_one_are_counted(root):
    files = list_files([root])
    path = table(root, "media,text,note", "x.mp4,Good.,1", "other/ça va 2,'=Fine.,2", "nowhere.wav,Lost.,3", ",Only words.,4")
    own = gather(files, path)
    assert told(own) == [
        ("00001.wav", "00001.wav", ""),
        ("a b/ça va 2.WAV", "ça va 2.WAV", ""),
        ("a b/ça va 10.wav", "ça va 10.wav", ""),
        ("other/x.mp4", "x.mp4", "Good."),
        ("other/ça va 2.wav", "ça va 2.wav", "=Fine."),
        ("line 5", "", "Only words."),
    ]
    assert own.strangers == (4,)
    assert [clip.video for clip in own.clips][-2:] == ["other/ça va 2.wav", "line 5"]
    assert [clip.video for clip in gather(files, path, by_folder=True).clips][:5] == [".", "a b", "a b", "other", "other"]
    with pytest.raises(InputError, match=r"texts.csv:2: 'ça va 2' fits .*/a b/ça va 2.WAV and .*/other/ça va 2.wav. Give more of its"):
        gather(files, table(root, "id,text", "ça va 2,Fine."))
    with pytest.raises(InputError, match=r"none of its 1 rows names a given file, such as '00001.wav'"):
        gather(files, table(root, "id,text", "x.mp3,Fine."))
    with pytest.raises(InputError, match=r":1: no column 'media' or 'id', which names the file of a text. Columns found: text, b"):
        gather(files, table(root, "text,b", "Fine.,x"))


def test_a_table_as_corpora_have_it_gives_ids_videos_and_order(root):
    own = gather(list_files([root]), table(root, "video_id,clip_id,text,label", "other,x,Good.,1", "a b,ça va 10,Fine.,2"))
    assert told(own)[-2:] == [("other[x]", "x.mp4", "Good."), ("other/ça va 2.wav", "ça va 2.wav", "")]
    assert [(clip.video, clip.number) for clip in own.clips if clip.number] == [("a b", "ça va 10"), ("other", "x")]


def test_several_rows_of_a_file_say_which_part_is_theirs(root):
    files = list_files([root / "00001.wav"])
    own = gather(files, table(root, "media,text,start_s,end_s", "00001.wav,Second.,0.05,0.1", "00001.wav,First.,0,0.05"))
    assert [(clip.name, clip.text, clip.start_s, clip.end_s) for clip in own.clips] == [
        ("00001.wav[2]", "First.", 0.0, 0.05),
        ("00001.wav[1]", "Second.", 0.05, 0.1),
    ]
    with pytest.raises(InputError, match=r"texts.csv:3: .*00001.wav is also on line 2. Say in start_s and end_s which part of it each"):
        gather(files, table(root, "media,text", "00001.wav,Second.", "00001.wav,First."))
    with pytest.raises(InputError, match=r"texts.csv:2: start_s and end_s: one of them is empty"):
        gather(files, table(root, "media,text,start_s,end_s", "00001.wav,Second.,0.05,"))


def test_the_reader_of_folders_understands_what_is_written_and_links_follow_the_files(root, tmp_path):
    files = list_files([root])
    clips = [*gather(files).clips, *gather({}, table(root, "id,text", "00001,A text alone.")).clips]
    folder = tmp_path / "clips"
    write_folder(folder, clips, files.values())
    corpus = read_corpus("folder", folder)
    rows = corpus.utterances
    assert rows["utterance_id"].tolist() == [clip.name for clip in clips]
    assert [os.path.realpath(folder / name) if name else "" for name in rows["media"]] == [*map(str, files.values()), ""]
    assert rows["text"].tolist()[-1] == "A text alone."
    assert [finding.where for finding in examine(corpus).problems] == ["00001"]  # it has no medium, and is not given another's
    before = {path.name: path.lstat().st_ino for path in (folder / "media").iterdir()}
    write_folder(folder, clips[1:3], files.values())
    assert {path.name: path.lstat().st_ino for path in (folder / "media").iterdir()} == before
    write_folder(folder, clips[1:3], [clip.file for clip in clips[1:3]])
    links = {path.name: os.readlink(path) for path in (folder / "media").iterdir()}
    assert links == {"clip~000001.WAV": str(clips[1].file), "clip~000002.wav": str(clips[2].file)}
