"""The table of corpus readers: layouts are recognised by their files; an unknown reader and a wrong folder are refused."""

from pathlib import Path

import h5py
import pytest

from data.corpora import CORPORA, read_corpus, recognise
from data.errors import InputError
from data.sample import SAMPLE

SENTENCE = "the lamp on the table is warm"


def write_labels(root: Path, header: str = "video_id,clip_id,text,label,mode") -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "label.csv").write_text(f"{header}\nv,0,{SENTENCE},1.0,train\n")


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


@pytest.mark.parametrize(
    ("reader", "paths"),
    [
        ("meld", ["dev_sent_emo.csv"]),
        ("meld", ["train/train_sent_emo.csv"]),
        ("iemocap", ["Session3/dialog/transcriptions/Ses03F_impro01.txt"]),
        ("mosei", ["CMU_MOSEI_Labels.csd"]),
        ("mosei", ["Raw/Transcript/Segmented/Combined/v.txt", "CMU_MOSI_Opinion_Labels.csd"]),
        ("mosi", ["Raw/Transcript/Segmented/v.annotprocessed"]),
        ("mosi", ["labels/CMU_MOSI_Opinion_Labels.csd"]),
    ],
)
def test_layouts_are_recognised_by_their_files(tmp_path: Path, reader: str, paths: list[str]) -> None:
    assert recognise(make(tmp_path, *paths)) == reader


def test_label_csv_is_told_apart_by_what_lies_beside_it(tmp_path: Path) -> None:
    write_labels(tmp_path / "text")
    write_labels(tmp_path / "mosi")
    write_labels(tmp_path / "clips")
    write_labels(tmp_path / "own", header="video_id,clip_id,text,sentiment,split")
    make(tmp_path, "mosi/Raw/v/0.mp4", "clips/v/0.wav", "own/wav/v/0.wav")
    assert [recognise(tmp_path / name) for name in ("text", "mosi", "clips", "own")] == ["mosi", "mosi", "folder", "folder"]
    with h5py.File(tmp_path / "mosi" / "CMU_MOSEI_Labels.csd", "w"):
        assert recognise(tmp_path / "mosi") == "mosei"


def test_nothing_recognised_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"--corpus: {', '.join(CORPORA)}"):
        recognise(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: does not exist; expected the folder of a corpus\.$"):
        recognise(tmp_path / "none")
    with pytest.raises(InputError, match=r"none: does not exist; expected the folder of a mosi corpus\.$"):
        read_corpus("mosi", tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: is not a folder; expected the folder of a mosi corpus"):
        read_corpus("mosi", tmp_path / "file")


def test_an_unknown_reader_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^Unknown corpus 'mosie'\. Did you mean 'mosi'\? Available: mosi, mosei, meld, iemocap, "):
        read_corpus("mosie", tmp_path)


@pytest.mark.parametrize("name", [name for name in CORPORA if name != "folder"])
def test_every_public_corpus_is_recognised_and_read_under_its_own_name_or_another(name: str) -> None:
    assert recognise(SAMPLE / name) == name
    assert set(read_corpus(name, SAMPLE / name).utterances["corpus"]) == {name}
    assert set(read_corpus(name, SAMPLE / name, "mine").utterances["corpus"]) == {"mine"}
