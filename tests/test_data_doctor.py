"""The doctor's findings about a corpus, how it prints them, and its exit status."""

import argparse
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from tones import encode

from data.corpora import read_corpus
from data.doctor import add_arguments, examine, run
from data.findings import FINDING_KINDS

RATE_HZ = 16_000
SENTENCE = "the lamp on the table is warm"


def write_clip(path: Path, seconds: float = 2.0, seed: int = 0, peak: float = 0.3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-peak, peak, round(seconds * RATE_HZ)) * 2**15
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())


def write_labels(root: Path, texts: list[str], header: str = "video_id,clip_id,text,label,mode") -> None:
    """One video `v` of clips from 0, alternately of the training and the test split, all of sentiment 1."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [f"v,{number},{text},1.0,{('train', 'test')[number % 2]}" for number, text in enumerate(texts)]
    (root / "label.csv").write_text("\n".join([header, *rows]) + "\n")


def write_corpus(root: Path, clips: int = 4) -> Path:
    write_labels(root, [SENTENCE] * clips)
    for number in range(clips):
        write_clip(root / "wav" / "v" / f"{number}.wav", seed=number)
    return root


def doctor(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(argument) for argument in arguments]))


def test_healthy_corpus_has_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(write_corpus(tmp_path)) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[:2] == [f"mosi at {tmp_path}", "MMSA label.csv"]
    assert lines[3].split() == ["split", "utterances", "videos", "speakers", "speech", "sentiment", "emotions", "category", "excluded"]
    assert lines[4].split() == ["train", "2", "1", "0", "0:00:04", "2", "0", "0", "0"]
    assert lines[6].split() == ["all", "4", "1", "0", "0:00:08", "4", "0", "0", "0"]
    assert lines[-1] == "Nothing found that stops a build."


def test_every_problem_is_found_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path, clips=8)
    clips = tmp_path / "wav" / "v"
    (clips / "0.wav").unlink()
    (clips / "1.wav").write_text("<html>login</html>")
    (clips / "2.wav").write_bytes((clips / "2.wav").read_bytes()[:20_000])
    write_clip(clips / "3.wav", peak=0)
    (clips / "5.wav").write_bytes((clips / "4.wav").read_bytes())
    write_clip(clips / "6.wav", seconds=0.5)
    assert doctor(tmp_path, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    kinds = [(finding["kind"], finding["where"], finding["stops_build"]) for finding in report["findings"]]
    assert sorted(kinds) == [
        ("missing", "v[0]", True),
        ("same-media", "v[5]", False),
        ("silent", "v[3]", True),
        ("speech-rate", "v[6]", False),
        ("truncated", "v[2]", True),
        ("unreadable", "v[1]", True),
    ]
    messages = {finding["kind"]: finding["message"] for finding in report["findings"]}
    assert messages["same-media"] == "the same samples as v[4]"
    assert messages["speech-rate"] == "7 words in 0.50 s; expected 0.3 to 7 words per second"
    assert "HTML page" in messages["unreadable"]
    assert report["stops_build"] is True
    assert report["counts"] == dict.fromkeys(("missing", "unreadable", "truncated", "silent", "speech-rate", "same-media"), 1)
    assert report["splits"]["all"]["utterances"] == 8
    assert report["splits"]["all"]["excluded"] == 1
    assert report["splits"]["all"]["speech_s"] == pytest.approx(3 * 2.0 + 0.5)
    assert (report["corpus"], report["layout"], report["root"]) == ("mosi", "MMSA label.csv", str(tmp_path))


def test_page_separates_problems_from_notes_and_cuts_long_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(tmp_path, [SENTENCE] * 14)
    write_clip(tmp_path / "wav" / "v" / "0.wav")
    write_clip(tmp_path / "wav" / "w" / "9.wav")
    assert doctor(tmp_path) == 1
    page = capsys.readouterr().out
    problems, notes = page.index("Problems"), page.index("Notes")
    assert problems < page.index(f"missing           13  {FINDING_KINDS['missing']}") < notes < page.index("unused ")
    assert page.count("missing media") + page.count("wav/v/") == 10
    assert "      … and 3 more (--json lists all)" in page
    assert page.splitlines()[-1] == "13 of 14 utterances cannot be used."


def test_notes_alone_do_not_stop_a_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path)
    write_clip(tmp_path / "wav" / "w" / "9.wav", seed=99)
    assert doctor(tmp_path) == 0
    page = capsys.readouterr().out
    assert "Problems" not in page
    assert "wav/w/9.wav: media file of no utterance" in page


def test_text_only_corpus_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(tmp_path, [SENTENCE])
    assert doctor(tmp_path, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["has_media"] is False
    assert report["splits"]["all"]["speech_s"] is None


def test_media_that_match_no_utterance_are_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(tmp_path, [SENTENCE] * 2)
    write_clip(tmp_path / "wav" / "v_0.wav")
    assert doctor(tmp_path) == 1
    page = capsys.readouterr().out
    assert page.splitlines()[:2] == [f"mosi at {tmp_path}", "MMSA label.csv; no media file matches"]
    assert "v[0] expects wav/v/0.wav, found wav/v_0.wav ('_' in place of '/')" in page[page.index("Problems") :]
    assert page.splitlines()[-1] == "No utterance has a medium: there would be no audio features."
    assert doctor(tmp_path, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["stops_build"] is True
    assert [(finding["kind"], finding["stops_build"]) for finding in report["findings"]] == [("no-match", True)]


def test_words_are_counted_without_punctuation(tmp_path: Path) -> None:
    write_labels(tmp_path, ["Don't - ever - stop ."])
    write_clip(tmp_path / "wav" / "v" / "0.wav", seconds=30)
    (finding,) = examine(read_corpus("mosi", tmp_path)).findings
    assert finding.message.startswith("3 words in 30.00 s")


def test_whole_recordings_are_cut_by_their_times(tmp_path: Path) -> None:
    rows = [f"v,{number},{SENTENCE},{start},{end}" for number, (start, end) in enumerate([(0, 2), (2, 4), (9, 11)])]
    (tmp_path / "label.csv").write_text("\n".join(["video_id,clip_id,text,start_s,end_s", *rows]) + "\n")
    write_clip(tmp_path / "v.wav", seconds=10.0)
    diagnosis = examine(read_corpus("folder", tmp_path), workers=2)
    assert diagnosis.unusable == {"v[2]"}
    (problem,) = diagnosis.problems
    assert (problem.kind, problem.where) == ("truncated", "v[2]")
    assert "the segment from 9.000 to 11.000 s is not in the recording of 10.000 s" in problem.message
    assert diagnosis.summary.loc["all", "speech_s"] == pytest.approx(4.0)


@pytest.mark.parametrize("arguments", [(), ("--corpus", "iemocap"), ("--json",)])
def test_unreadable_corpus_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert doctor(tmp_path, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {tmp_path}: no ")
    assert printed.err.count("\n") == 1


def test_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(tmp_path / "none") == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: does not exist; expected the folder of a corpus.\n"


@pytest.mark.parametrize("workers", ["0", "-1", "two"])
def test_workers_must_be_positive(tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        doctor(tmp_path, "--workers", workers)
    assert f"'{workers}' is not a whole number of at least 1" in capsys.readouterr().err


def test_a_late_start_is_a_note_about_the_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"rec,{number},{SENTENCE},{start},{start + 2}" for number, start in enumerate([0, 3])]
    (tmp_path / "label.csv").write_text("\n".join(["video_id,clip_id,text,start_s,end_s", *rows]) + "\n")
    encode(tmp_path / "rec.mkv", "pcm_f32le", RATE_HZ, 1, duration_s=6.0, pieces_s=((1.024, 9.0),))
    assert doctor(tmp_path, "--json") == 0
    (note,) = [found for found in json.loads(capsys.readouterr().out)["findings"] if found["kind"] == "gap"]
    assert note == {
        "kind": "gap",
        "where": "rec.mkv",
        "message": "1.02 s of silence before its first sample",
        "stops_build": False,
    }
