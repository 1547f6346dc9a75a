"""`python -m data table`: what it writes and says, and what it refuses."""

import csv

import pytest

from data.__main__ import main
from data.corpora import read_corpus

NAMES = [
    "Actor_01/03-01-03-01-01-01-01.wav",
    "Actor_02/03-01-04-01-01-01-02.wav",
    "Actor_17/03-01-03-02-02-01-17.wav",
    "Actor_21/03-01-04-01-02-02-21.wav",
]


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / "Audio" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Audio" / name).touch()
    return tmp_path / "Audio"


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def call(capsys, *arguments):
    status = main(["table", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_table_says_what_the_names_say_and_is_read_as_a_corpus(capsys, folder):
    status, out, _ = call(capsys, "ravdess", folder)
    assert status == 0
    cells = [
        "03-01-03-02-02-01-17",
        "Dogs are sitting by the door",
        "happy",
        "actor17",
        "valid",
        "strong",
        "02",
        "01",
        "male",
        NAMES[2],
    ]
    columns = ["id", "text", "emotion", "speaker", "split", "intensity", "statement", "repetition", "sex", "media"]
    assert rows(folder / "label.csv")[2] == dict(zip(columns, cells, strict=True))
    assert out.splitlines() == [
        f"{folder / 'label.csv'}: 4 clips of RAVDESS",
        "  emotions  2 happy, 2 sad",
        "  train     2 clips of 2 speakers: actor01, actor02",
        "  valid     1 clips of 1 speakers: actor17",
        "  test      1 clips of 1 speakers: actor21",
    ]
    corpus = read_corpus("folder", folder)
    assert str(corpus.labels) == "one of happy, sad; [-3, 3]"
    assert corpus.utterances["media"].tolist() == NAMES
    assert corpus.utterances["speaker"].tolist() == ["actor01", "actor02", "actor17", "actor21"]
    assert corpus.utterances["happy"].tolist() == [1, 0, 1, 0]


def test_media_are_named_from_where_the_table_is_and_speakers_can_be_chosen(capsys, folder):
    out = folder.parent / "label.csv"
    assert call(capsys, "ravdess", folder, "--out", out, "--valid", "actor02", "--test", "actor01", "actor17")[0] == 0
    assert [(row["media"], row["split"]) for row in rows(out)] == [
        (f"Audio/{name}", split) for name, split in zip(NAMES, ["test", "valid", "test", "train"], strict=True)
    ]


def test_of_two_files_of_a_clip_one_is_read_and_other_names_are_listed(capsys, folder):
    for name in ("01-01-03-01-01-01-01.mp4", "03-02-03-01-01-01-01.wav", *(f"take{number}.wav" for number in range(6))):
        (folder / name).touch()
    status, out, _ = call(capsys, "ravdess", folder)
    assert status == 1
    assert [row["media"] for row in rows(folder / "label.csv")] == NAMES
    assert out.splitlines()[5:] == [
        "  not read  7 media files, whose names are not like 03-01-06-01-02-01-12:",
        "    03-02-03-01-01-01-01.wav: song; only speech is read",
        *(f"    take{number}.wav: expected seven numbers of two digits" for number in range(4)),
        "    … and 2 more",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["emodb"], f"like 03a01Fa (EmoDB). The first of 4 media files, {NAMES[0]}: expected seven characters."),
        (["ravdess", "--valid", "actor99"], "Unknown speaker in --valid: 'actor99'."),
        (["ravdess", "--valid", "actor21"], "Speaker actor21 is both in valid and in test, expected each speaker in one split."),
        (["ravdess", "--out", "/elsewhere/label.csv"], "--out is /elsewhere/label.csv, expected a file in "),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_writes_nothing(capsys, folder, arguments, message):
    status, out, err = call(capsys, arguments[0], folder, *arguments[1:])
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (folder / "label.csv").exists()


def test_nothing_is_written_over_without_being_asked(capsys, folder):
    (folder / "label.csv").write_text("mine", encoding="utf-8")
    status, _, err = call(capsys, "ravdess", folder)
    assert (status, err) == (2, f"error: {folder / 'label.csv'}: exists already. Give --replace to write over it, or another --out.\n")
    assert (folder / "label.csv").read_text(encoding="utf-8") == "mine"
    assert call(capsys, "ravdess", folder, "--replace")[0] == 0
    (folder / "copy").mkdir()
    (folder / "copy" / NAMES[0].partition("/")[2]).touch()
    assert "are the same clip" in call(capsys, "ravdess", folder, "--replace")[2]
    assert "no such folder, expected the media files of RAVDESS" in call(capsys, "ravdess", folder / "none")[2]
