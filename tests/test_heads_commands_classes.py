"""From RAVDESS-like file names to metrics of classes, on tiny clips: table, build, fit, evaluate, predict, score, compare, sweep."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import small_runs
from command_line import call, printed
from projects import Project, write_wav
from sklearn.metrics import f1_score, recall_score

from data.__main__ import main as data_main
from data.cache import open_corpus
from data.labels import LabelSet
from data.manifest import read_labels
from heads.runs.folder import RunFolder

CLASSES = ("calm", "happy", "neutral", "sad")
ACTORS = (1, 2, 17, 21)
"""Two of train, one each of valid and test."""
SHORT = ["--task=mer", "--modalities", "audio", "--set=train.max_epochs=2"]


def write_clips(folder):
    """Writes clips of 0.2 s, one of each emotion, sentence and actor; the pitch tells the emotion."""
    rng = np.random.default_rng(0)
    for actor in ACTORS:
        for emotion in (1, 2, 3, 4):
            for sentence in (1, 2):
                path = folder / f"Actor_{actor:02d}" / f"03-01-{emotion:02d}-01-{sentence:02d}-01-{actor:02d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                time = np.arange(3200) / 16_000
                write_wav(path, np.sin(2 * np.pi * 150 * 2**emotion * time) * 0.4 + 0.01 * rng.standard_normal(len(time)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory, tiny_bert):
    """A cache of one corpus, ravdess, built from file names."""
    project = Project(tmp_path_factory.mktemp("ravdess"), tiny_bert)
    write_clips(project.root / "RAVDESS" / "Audio_Speech")
    assert data_main(["table", "ravdess", str(project.root / "RAVDESS")]) == 0
    project.configure(
        corpora={"folders": json.dumps({"ravdess": "RAVDESS"}), "features": "[]"}, pseudo_labels={"targets": "[]", "donors": "[]"}
    )
    result = project.build("--log-level", "WARNING")
    assert result.returncode == 0, result.stderr
    return project.cache


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory) -> RunFolder:
    """A finished run of a head. Not to be changed."""
    changes = {"task": "mer", "data.modalities": ["audio"], "train.max_epochs": 2, "train.keep": ["mean_wf1"]}
    return small_runs.run(cache, tmp_path_factory.mktemp("runs"), "mmolre", changes, "ravdess")


def test_the_page_of_a_run_of_classes_has_their_confusion_and_metrics(run, cache, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert call(capsys, "report", run.path, "--cache", cache, "--media", "none", "--out", out)[0] == 0
    page, metrics = out.read_text(encoding="utf-8"), run.metrics()["valid"]
    assert f"{metrics['uar']:.4f}" in page
    assert "whose share of the clips is acc" in page
    table = run.predictions("valid")
    truth = table[[f"{name}_true" for name in CLASSES]].to_numpy().argmax(1)
    predicted = table[list(CLASSES)].to_numpy().argmax(1)
    for true, given in set(zip(truth.tolist(), predicted.tolist(), strict=True)):
        assert f"true {CLASSES[true]}, predicted {CLASSES[given]}:" in page
    assert all(f"{name}</th>" in page for name in CLASSES)
    assert "happiness" not in page

    both = tmp_path / "both.html"
    assert call(capsys, "compare", run.path, run.path, "--cache", cache, "--media", "none", "--out", both)[0] == 0
    assert "wf1" in both.read_text(encoding="utf-8")


def scores(table):
    """What scikit-learn makes of a table of predictions."""
    truth = table[[f"{name}_true" for name in CLASSES]].to_numpy().argmax(axis=1)
    predicted = table[list(CLASSES)].to_numpy().argmax(axis=1)
    return {
        "acc": (truth == predicted).mean(),
        "wf1": f1_score(truth, predicted, average="weighted", zero_division=0),
        "uar": recall_score(truth, predicted, average="macro", zero_division=0),
    }


def test_the_labels_are_classes_from_the_table_to_the_run(cache, run):
    labels = LabelSet(CLASSES, is_exclusive=True)
    assert read_labels(open_corpus(cache, "ravdess").manifest) == run.labels() == labels
    config = run.config()["config"]
    assert config["loss"]["emotion"] == "cross_entropy"
    assert config["train"]["keep"] == ["wf1"]
    assert (run.path / "best-wf1.safetensors").is_file()
    table, metrics = run.predictions(), run.metrics()
    assert list(table)[1:] == [*CLASSES, *(f"{name}_true" for name in CLASSES)]
    np.testing.assert_allclose(table[list(CLASSES)].sum(axis=1), 1, rtol=1e-6)
    assert len(table) == 8
    assert metrics["label_set"] == labels.as_dict()
    for name, value in scores(table).items():
        assert metrics["valid"][name] == pytest.approx(value)
    assert set(run.routing("xray")["emotions"].values()) == {2}


def test_a_head_learns_the_pitch_and_the_terminal_shows_classes(capsys, cache, tmp_path):
    status, out, _ = call(
        capsys, "fit", f"--cache={cache}", "--corpus=ravdess", "--head=ridge", *SHORT, f"--out={tmp_path}", "--device=cpu"
    )
    (folder,) = tmp_path.iterdir()
    assert status == 0
    found = RunFolder(folder).metrics()["valid"]
    assert found["uar"] == 1
    assert printed(out, "emotions, valid")[folder.name] == {name: f"{found[name]:.3f}" for name in ("acc", "wf1", "macro_f1", "uar")}
    assert list(printed(out, f"emotions, valid: {folder.name}")) == list(CLASSES)


def test_a_finished_run_is_opened_predicted_and_compared_with_another_tool(capsys, cache, run, tmp_path):
    copy = tmp_path / run.path.name
    shutil.copytree(run.path, copy)
    assert call(capsys, "evaluate", copy, "--split", "test", "--device", "cpu")[0] == 0
    opened = RunFolder(copy)
    assert opened.metrics()["test"]["uar"] == pytest.approx(scores(opened.predictions("test"))["uar"])
    assert call(capsys, "predict", run.path, "--out", tmp_path / "all.csv", "--device", "cpu")[0] == 0
    everything = pd.read_csv(tmp_path / "all.csv")
    assert len(everything) == 32
    assert everything["calm_true"].isna().sum() == 8  # of the test split
    names = everything["utterance_id"].str.split("-").str[2].map({"01": "neutral", "02": "calm", "03": "happy", "04": "sad"})
    pd.DataFrame({"id": everything["utterance_id"], "emotion": names}).to_csv(tmp_path / "right.csv", index=False)
    status, out, _ = call(capsys, "score", tmp_path / "right.csv", "--cache", cache, "--corpus", "ravdess", "--split", "test")
    assert status == 0
    assert printed(out, "emotions, test")["right"]["uar"] == "1.000"
    status, out, _ = call(capsys, "compare", run.path, tmp_path / "right.csv", "--json")
    assert status == 0
    metrics = json.loads(out)["metrics"]
    assert list(metrics) == ["acc", "wf1", "macro_f1", "uar"]
    assert metrics["acc"]["a"] == pytest.approx(run.metrics()["valid"]["acc"])
    assert metrics["acc"]["b"] == 1


def test_a_sweep_ranks_by_weighted_f1(capsys, cache, tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text("fixed: {task: mer, data.modalities: [audio]}\ngrid:\n  head: [ridge, median]\n", encoding="utf-8")
    status, out, err = call(
        capsys, "sweep", grid, "--corpus", "ravdess", "--cache", cache, "--out", tmp_path / "sweep", "--devices", "cpu"
    )
    assert status == 0, err
    page = (tmp_path / "sweep" / "report.html").read_text(encoding="utf-8")
    assert "Ranked by wf1 (higher is better)" in page
    assert "uar" in page
    assert out.index("ridge") < out.index("median")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--task=both"],
            "none of 16 utterances of train has sentiment labels, which task 'both' needs. Tasks with labels there: mer.",
        ),
        (
            ["--task=mer", "--set=loss.emotion=literal"],
            "loss.emotion is literal, but the emotions of ravdess are classes: use cross_entropy.",
        ),
        (["--task=mer", "--set=train.select=mean_wf1"], "Unknown metric of the labels of ravdess (train.select) 'mean_wf1'."),
        (["--task=mer", "--set=train.select=clam_f1"], "'clam_f1'. Did you mean 'calm_f1'?"),
        (["--task=mer", "--emotions=pseudo"], "the cache has no pseudo-labels for it"),
    ],
)
def test_options_that_the_labels_do_not_allow_are_one_line(refused, cache, tmp_path, options, message):
    assert message in refused("fit", f"--cache={cache}", "--corpus=ravdess", *options, f"--out={tmp_path}", "--device=cpu")


def test_predictions_that_are_no_class_are_one_line(refused, cache, tmp_path):
    path = tmp_path / "wrong.csv"
    score = ["score", path, "--cache", cache, "--corpus", "ravdess"]
    path.write_text(
        "id,emotion\n" + "".join(f"03-01-{e:02d}-01-{s:02d}-01-17,clam\n" for e in (1, 2, 3, 4) for s in (1, 2)), encoding="utf-8"
    )
    assert f"{path}:2: emotion is 'clam', expected one of calm, happy, neutral, sad (7 more rows like it)." in refused(*score)
    path.write_text("id,calm\n03-01-01-01-01-01-17,1\n", encoding="utf-8")
    assert f"{path}:1: no column happy, neutral, sad. Give the probabilities of all 4 emotions, or of none." in refused(*score)
