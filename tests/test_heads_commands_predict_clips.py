"""`python -m heads predict --media`: clips of a user get what the same clips get in the corpus that the run was trained on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_runs
import torch
from command_line import call
from projects import Project, finish, forked, read_rows, write_rows, write_wav
from tiny_checkpoints import write_whisper

from data.corpora.own_files import Clip, gather, list_files
from data.labels import EMOTIONS
from data.spreadsheets import unescape_cells
from heads.runs import pipeline_process
from heads.runs.evaluate import predict as predict_rows
from heads.runs.folder import RunFolder
from heads.runs.own_clips import Reader, open_clips, sort_clips

PREDICTED = ["sentiment", *EMOTIONS]


@pytest.fixture(autouse=True)
def started(monkeypatch, tmp_path):
    """Starts the commands of pipeline as forks, which have imported the large libraries. Holds what was started and its output."""
    commands: list[tuple[str, str]] = []

    def run(*arguments: str) -> str | None:
        result = finish(forked("-m", "pipeline", *arguments, cwd=tmp_path))
        print(result.stderr, end="", file=sys.stderr)
        commands.append((arguments[0], result.stdout))
        return result.stdout if result.returncode == 0 else None

    monkeypatch.setattr(pipeline_process, "run", run)
    return commands


@pytest.fixture(scope="module")
def runs(finished: Project, tmp_path_factory) -> dict[str, Path]:
    """Runs on the project's clips: one that needs text and audio, and one that can do without either."""
    out = tmp_path_factory.mktemp("runs")
    changes = {"whole": {}, "robust": {"train.modality_dropout": 0.3}}
    return {name: small_runs.run(finished.cache, out, changes=one, corpus="clips").path for name, one in changes.items()}


def predict(capsys, run: Path, *arguments: object) -> tuple[int, str, list[str]]:
    status, out, err = call(capsys, "predict", run, "--device", "cpu", *arguments)
    return status, out, err.splitlines()


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path).set_index("utterance_id")


def test_clips_get_what_they_get_in_their_corpus_and_a_second_call_computes_nothing(capsys, finished, runs, started, tmp_path):
    clips = shutil.copytree(finished.clips, tmp_path / "my clips ü")
    given = ["--media", clips / "video0", clips / "video1" / "2.wav", "--text", clips / "label.csv", "--work", tmp_path / "work"]
    status, out, err = predict(capsys, runs["whole"], *given, "--out", tmp_path / "a.csv")
    assert (status, out.splitlines()[-1]) == (0, f"{tmp_path / 'a.csv'}: 4 of 4 clips")
    assert f"note  20 rows of {clips / 'label.csv'} name no given file, the first on line 5" in err
    assert predict(capsys, runs["whole"], "--out", tmp_path / "all.csv")[0] == 0
    found, expected = table(tmp_path / "a.csv"), table(tmp_path / "all.csv")
    assert found.index.tolist() == ["video0_0", "video0_1", "video0_2", "video1_2"]
    np.testing.assert_allclose(found[PREDICTED], expected.loc[found.index, PREDICTED], atol=2e-6)
    assert found["media"].tolist()[0] == str(clips / "video0" / "0.wav")
    texts = {row["id"]: row["text"] for row in read_rows(clips / "label.csv")}
    assert found["text"].to_dict() == {name: texts[name] for name in found.index}
    named = {name: ", ".join(one for one in EMOTIONS if row[one] > 0.5) or "none" for name, row in found.iterrows()}
    assert found["emotions"].to_dict() == named
    assert set(found["sentiment_class"]) <= {"weakly negative", "neutral", "weakly positive", "negative", "positive"}
    assert "video1_2" in out
    assert predict(capsys, runs["whole"], *given, "--out", tmp_path / "b.csv")[0] == 0
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    assert ["computed 1 manifest, 2 shards" in started[0][1], "computed nothing" in started[1][1]] == [True, True]
    assert [path.name for path in (tmp_path / "work").iterdir() if path.name.startswith("clips-")] != []


def test_clips_that_fail_are_named_and_learned_features_stand_for_what_others_lack(capsys, finished, runs, tmp_path):
    media = tmp_path / "media"
    for folder in ("a", "b"):  # two files of one stem
        shutil.copytree(finished.clips / "video0", media / folder)
    (media / "a" / "1.wav").write_bytes((media / "a" / "1.wav").read_bytes()[:2000])
    write_wav(media / "b" / "silent.wav", np.zeros(8000))
    write_mute_video(media / "mute.mp4")
    texts = {"a/0.wav": "Really.", "a/1.wav": "Really.", "b/0": "This.", "b/silent.wav": "This.", "mute.mp4": "This.", "": "This."}
    write_rows(tmp_path / "texts.csv", [{"media": name, "id": name or "words", "text": text} for name, text in texts.items()])
    common = ["--text", tmp_path / "texts.csv", "--work", tmp_path / "work", "--out"]
    status, out, err = predict(capsys, runs["robust"], "--media", media, *common, tmp_path / "a.parquet")
    failed = dict(line.removeprefix("failed  ").split(": ", 1) for line in err if line.startswith("failed"))
    assert set(failed) == {"a/1.wav", "b/silent.wav"}
    assert failed["b/silent.wav"].startswith(f"{media / 'b' / 'silent.wav'}: no sound in it: -")
    assert failed["a/1.wav"].startswith(f"{media / 'a' / '1.wav'}: ")
    assert (status, out.splitlines()[-1]) == (1, f"{tmp_path / 'a.parquet'}: 7 of 9 clips")
    for count, modality in ((3, "text"), (2, "audio")):
        assert f"note  {count} clips have no {modality}: what the run learned for a missing modality stands for it" in err
    found = pd.read_parquet(tmp_path / "a.parquet").set_index("utterance_id")
    assert found.index.tolist() == ["a/0.wav", "a/2.wav", "b/0", "b/1.wav", "b/2.wav", "mute.mp4", "words"]
    assert found["media"].tolist()[1:3] == [str(media / "a" / "2.wav"), str(media / "b" / "0.wav")]
    assert found[PREDICTED].notna().all(axis=None)
    np.testing.assert_allclose(found.loc["mute.mp4", PREDICTED].tolist(), found.loc["words", PREDICTED].tolist(), atol=1e-6)
    np.testing.assert_allclose(found.loc["a/2.wav", PREDICTED].tolist(), found.loc["b/2.wav", PREDICTED].tolist(), atol=1e-6)
    cache = tmp_path / "work" / "cache"
    index = json.loads((cache / "index.json").read_text())
    ((name, entry),) = index["corpora"].items()
    del entry["features"]["audio"]  # as if no clip had sound
    (cache / "index.json").write_text(json.dumps(index))
    reader = Reader.of(RunFolder(runs["robust"]))
    run_data = open_clips(reader, cache, name, {"audio": list(found.index)}, torch.device("cpu"))
    alone = predict_rows(run_data, reader.folder, None).set_index("utterance_id")
    wanted = found.loc[["mute.mp4", "words"], "sentiment"]
    np.testing.assert_allclose(alone.loc[wanted.index, "sentiment"], wanted, atol=2e-6)


def test_without_modality_dropout_nothing_may_be_missing_and_with_it_one_modality(runs):
    clips = [
        Clip("both", Path("a.wav"), "Really."),
        Clip("no text", Path("b.wav"), " – "),
        Clip("no sound", None, "This."),
        Clip("nothing", None),
    ]
    soundless = {"no sound": "no file", "nothing": "no file"}
    whole, robust = (sort_clips(Reader.of(RunFolder(runs[name])), clips, {}, soundless) for name in ("whole", "robust"))
    why = "; the run was trained without train.modality_dropout and needs it"
    assert whole.failed == {"no text": f"no text{why}", "no sound": f"no file{why}", "nothing": f"no text and no file{why}"}
    assert ([clip.name for clip in whole.usable], whole.lacking) == (["both"], {"text": [], "audio": []})
    assert robust.failed == {"nothing": "no text and no file; a run can do without one modality only"}
    assert robust.lacking == {"text": ["no text"], "audio": ["no sound"]}


def write_mute_video(path: Path) -> None:
    """Writes a video without a sound track."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 16
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))


def test_whisper_writes_the_texts_that_are_missing(capsys, monkeypatch, finished, runs, tmp_path):
    run = pipeline_process.run
    monkeypatch.setattr(pipeline_process, "run", lambda command, *rest: run(command, *rest) if command == "transcribe" else None)
    write_whisper(tmp_path / "whisper")
    write_rows(tmp_path / "texts.csv", [{"id": "0", "text": "Really."}])
    arguments = [
        "--text",
        tmp_path / "texts.csv",
        "--transcribe",
        tmp_path / "whisper",
        "--language",
        "en",
        "--work",
        tmp_path / "work",
    ]
    _, _, err = predict(capsys, runs["whole"], "--media", finished.clips / "video0", *arguments, "--work", tmp_path / "work")
    (said,) = (line for line in err if line.startswith("Transcripts: "))
    path = Path(said.removeprefix("Transcripts: ").partition(" (correct")[0])
    written = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert written["id"].tolist() == ["1.wav", "2.wav"]
    assert written["media"].tolist() == [str(finished.clips / "video0" / name) for name in written["id"]]
    texts = {row["id"]: row["text"] for row in read_rows(path.parent / "label.csv")}  # what would be encoded
    assert texts == {"0": "Really."} | dict(zip(written["id"], unescape_cells(written)["text"], strict=True))
    written.assign(text="Corrected.").to_csv(path, index=False)
    own = gather(list_files([finished.clips / "video0"]), path)
    assert [(clip.name, clip.text) for clip in own.clips] == [("0.wav", ""), ("1.wav", "Corrected."), ("2.wav", "Corrected.")]


def test_what_cannot_be_done_is_said_in_one_line_before_anything_is_computed(refused, monkeypatch, finished, runs, started, tmp_path):
    media, out = ["--media", finished.clips / "video0"], ["--out", tmp_path / "a.csv"]
    why = "It was trained without train.modality_dropout, so that it cannot do without."
    assert refused("predict", runs["whole"], *media, *out) == (
        f"{runs['whole']} reads text: give it with --text CSV, or --transcribe with the folder of a Whisper checkpoint. {why}"
    )
    label = ["--text", finished.clips / "label.csv"]
    assert refused("predict", runs["whole"], *label, *out) == f"{runs['whole']} reads audio: give the recordings with --media. {why}"
    assert refused("predict", runs["whole"], *media, "--corpus", "x") == (
        "--corpus cannot be used together with --media or --text: clips are no corpus of a cache."
    )
    assert refused("predict", runs["whole"], "--encoder", "text=x") == "--encoder cannot be used without --media or --text."
    wrong = refused("predict", runs["whole"], *media, "--encoder", "text")
    assert wrong == "--encoder is 'text', expected SET=FOLDER, such as text=/models/roberta-base."
    assert refused("predict", runs["robust"], *media, "--language", "en") == "--language cannot be used without --transcribe."
    assert refused("predict", runs["whole"], *media, *label, "--out", label[1]).endswith(
        ", the file of the texts. Choose another name."
    )
    with monkeypatch.context() as patch:
        patch.setattr(pipeline_process, "find_spec", lambda name: None if name in ("luigi", "transformers") else object())
        assert refused("predict", runs["whole"], *media, *label, *out).startswith(
            "Features of clips cannot be computed here: luigi, transformers not installed. Install this program with its dependencies"
        )
    median = small_runs.run(finished.cache, tmp_path / "runs", "median", corpus="clips").path
    assert refused("predict", median, *media).endswith("the head median reads no features: it predicts the same for every clip.")
    assert (started, list(tmp_path.glob("*.csv"))) == ([], [])


def test_where_features_cannot_be_computed_the_other_process_has_said_why(capsys, monkeypatch, finished, runs, tmp_path):
    monkeypatch.setattr(pipeline_process, "run", lambda *arguments: None)
    given = ["--media", finished.clips / "video0", "--text", finished.clips / "label.csv", "--work", tmp_path / "work"]
    status, out, err = predict(capsys, runs["whole"], *given, "--out", tmp_path / "a.csv")
    assert (status, out, [line for line in err if line.startswith("error")]) == (2, "", [])
    assert not (tmp_path / "a.csv").exists()


def test_the_commands_of_pipeline_are_processes_of_this_python(monkeypatch, capfd, tmp_path):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    found = []

    def start(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        found.append((command, options))
        return subprocess.CompletedProcess(command, len(found) - 1, "said\n")

    monkeypatch.setattr(subprocess, "run", start)
    assert (pipeline_process.run("encode", "x"), pipeline_process.run("encode")) == ("said\n", None)
    command, options = found[0]
    assert command == [sys.executable, "-m", "pipeline", "encode", "x"]
    assert options["env"]["PYTHONPATH"].split(os.pathsep)[0] == str(Path(pipeline_process.__file__).parents[2])
