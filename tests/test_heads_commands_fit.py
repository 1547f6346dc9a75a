"""`python -m heads fit`: what it prints and writes, what it refuses, and going on after an interruption."""

import os
import signal
import statistics
from pathlib import Path

import pytest
import small_runs
from caches import make_cache
from command_line import call, content, emotion_rows, interval_row, printed, sentiment_row

from heads.evaluation.metrics import EMOTION_METRICS, SENTIMENT_METRICS
from heads.runs.folder import RunFolder
from heads.training import loop
from heads.training.selection import Selection


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Corpora: mosi, with emotions and pseudo-labels; clips, without labels."""
    folder = make_cache(tmp_path_factory.mktemp("cache"), utterances=24, ledger=True)
    return make_cache(folder, corpus="clips", utterances=9, labelled=False)


@pytest.fixture(scope="module")
def complete(cache, tmp_path_factory) -> Path:
    """A run of pre-fusion. Not to be changed."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs")).path


@pytest.mark.parametrize("head", ["pre-fusion", "mmolre", "ridge", "median"])
def test_fit_prints_what_it_writes(capsys, cache, tmp_path, head):
    status, out, err = call(capsys, *small_runs.command(cache, tmp_path, head))
    assert (status, err) == (0, "")
    (folder,) = tmp_path.iterdir()
    features = "no features" if head == "median" else "text + audio features on cpu"
    facts = f"11 train + 9 valid utterances, annotated emotions, {features}"
    assert out.splitlines()[0] == f"{folder}: {facts}"
    found = RunFolder(folder).metrics()
    intervals = interval_row(found["valid_interval"])
    assert printed(out, "sentiment, valid") == {folder.name: sentiment_row(found["valid"]), "95 % interval": intervals}
    assert printed(out, f"emotions, valid: {folder.name}") == emotion_rows(found["valid"])


@pytest.mark.parametrize(("head", "absent"), [("baseline-msa", "emotions,"), ("baseline-mer", "sentiment,")])
def test_fit_of_one_task_prints_that_task(capsys, cache, tmp_path, head, absent):
    status, out, _ = call(capsys, *small_runs.command(cache, tmp_path, head))
    assert status == 0
    assert absent not in out
    assert {"emotions,", "sentiment,"} - {absent} <= set(out.split())


def test_several_seeds_are_summed_up(capsys, cache, tmp_path):
    status, out, _ = call(capsys, *small_runs.command(cache, tmp_path), "--seed", 1, 2, 1)
    assert status == 0
    folders = sorted(tmp_path.iterdir())
    assert [folder.name[-6:] for folder in folders] == ["-seed1", "-seed2"]
    runs = [RunFolder(folder).metrics()["valid"] for folder in folders]
    name = f"{folders[0].name.removesuffix('-seed1')}, mean ± sd of 2"

    def spread(metric: str) -> str:
        values = [run[metric] for run in runs]
        return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"

    expected = {folder.name: sentiment_row(run) for folder, run in zip(folders, runs, strict=True)}
    assert printed(out, "sentiment, valid") == expected | {name: {metric: spread(metric) for metric in SENTIMENT_METRICS}}
    means = [f"mean_{metric}" for metric in EMOTION_METRICS]
    assert printed(out, "emotions, valid") == {name: {metric: spread(metric) for metric in means}}


def test_a_complete_run_is_shown_again_and_left_as_it_is(capsys, cache, complete):
    before = content(complete)
    status, out, _ = call(capsys, *small_runs.command(cache, complete.parent))
    assert status == 0
    assert out.splitlines()[0] == f"{complete}: already finished"
    assert printed(out, "sentiment, valid")[complete.name] == sentiment_row(RunFolder(complete).metrics()["valid"])
    assert content(complete) == before


def test_flags_and_set_reach_the_configuration(capsys, cache, tmp_path):
    flags = ["--task=mer", "--emotions=pseudo", "--minimum-similarity=0.25", "--modalities=text", "--seed=7", "--set=train.lr=0.003"]
    assert call(capsys, *small_runs.command(cache, tmp_path), *flags)[0] == 0
    (folder,) = tmp_path.iterdir()
    config = RunFolder(folder).config()["config"]
    assert (config["task"], config["seed"], config["train"]["lr"], config["train"]["max_epochs"]) == ("mer", 7, 0.003, 3)
    assert config["data"] | {"emotions": "pseudo", "minimum_similarity": 0.25, "modalities": ["text"]} == config["data"]


def test_a_preset_may_be_a_file(capsys, cache, tmp_path):
    preset = tmp_path / "squared.yaml"
    preset.write_text("loss: {sentiment: mse}\n", encoding="utf-8")
    assert call(capsys, *small_runs.command(cache, tmp_path / "runs"), "--preset", preset)[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mosi-pre-fusion-squared-")
    assert RunFolder(folder).config()["config"]["loss"]["sentiment"] == "mse"


def test_features_beyond_the_memory_given_are_streamed(capsys, cache, tmp_path, complete):
    status, out, _ = call(capsys, *small_runs.command(cache, tmp_path), "--memory-gb", 0)
    assert status == 0
    assert out.splitlines()[0].endswith("text + audio features streamed from disk")
    assert RunFolder(tmp_path / complete.name).metrics() == RunFolder(complete).metrics()


def test_an_interrupted_run_goes_on(capsys, cache, tmp_path, complete, monkeypatch):
    update, complete_epochs, interruptions = Selection.update, [], [3]

    def observed(self: Selection, epoch: int, values: dict) -> list[str]:
        if epoch in interruptions:
            interruptions.remove(epoch)
            raise KeyboardInterrupt
        complete_epochs.append(epoch)
        return update(self, epoch, values)

    monkeypatch.setattr(Selection, "update", observed)
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    command = small_runs.command(cache, tmp_path)
    status, _, err = call(capsys, *command)
    assert (status, err) == (130, "Interrupted. The same command goes on where it was last saved.\n")
    folder = tmp_path / complete.name
    assert not (folder / "metrics.json").exists()
    assert call(capsys, *command)[0] == 0
    assert complete_epochs == [1, 2, 3]
    for name in ("metrics.json", "checkpoint.safetensors", "predictions.parquet"):
        assert (folder / name).read_bytes() == (complete / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--head=mmolr"], "Unknown head 'mmolr'. Did you mean 'mmolre'? Available: mmolre, "),
        (["--preset=lite"], "Unknown preset 'lite'. Did you mean 'light'? "),
        (["--preset={tmp}/own.yaml"], "own.yaml: no such file."),
        (["--set=train.lrr=3"], "--set: unknown option 'train.lrr'. Did you mean train.lr? Available here: batch_size, "),
        (["--set=train.lr=high"], "--set: train.lr is 'high', expected a number."),
        (["--set=train.lr"], "--set 'train.lr': expected NAME=VALUE, for example train.lr=1e-4."),
        (["--set=train.lr=[1"], "--set 'train.lr=[1': the value is no YAML ("),
        (["--seed=-1"], "--seed: seed is -1, expected 0 to 4294967295."),
        (["--modalities=vision"], "Unknown modality 'vision'. Available: text, audio."),
        (
            ["--modalities", "text", "vision"],
            "Unknown modality 'vision'. Available: text, audio.",
        ),
        (["--emotions=pseudo", "--minimum-similarity=3"], "the minimum similarity is 3.0, expected a cosine from -1 to 1."),
        (["--corpus=mosie"], "Unknown corpus 'mosie'. Did you mean 'mosi'? Available: mosi (built "),
        (["--corpus=clips"], "clips: none of 3 utterances of train has sentiment labels, which task 'both' needs. Tasks"),
        (["--corpus=clips", "--head=ridge"], "clips: none of 3 utterances of train has sentiment labels, "),
        (["--cache={tmp}/none"], "none: no such folder, expected a cache. Run BuildFeatures, or "),
        (["--cache={tmp}"], "not a cache: it has no index.json. Run BuildFeatures, "),
        (["--device=gpu"], "Device 'gpu' cannot be used ("),
        (["--memory-gb=-1"], "--memory-gb is -1.0, expected a number above 0, or 0 to stream everything."),
        (["--memory-gb=nan"], "--memory-gb is nan, expected a number above 0, or 0 to stream everything."),
        (["--memory-gb=1e300"], "--memory-gb is 1e+300, expected a number above 0, or 0 to stream everything."),
    ],
)
def test_fit_refuses_what_it_cannot_do_and_leaves_nothing(refused, cache, tmp_path, arguments, message):
    head = "ridge" if "--head=ridge" in arguments else "pre-fusion"
    command = small_runs.command(cache, tmp_path / "runs", head)
    assert message in refused(*command, *(argument.format(tmp=tmp_path) for argument in arguments))
    assert list(tmp_path.iterdir()) == []


def test_a_head_that_no_memory_can_hold_is_refused_and_leaves_nothing(refused, cache, tmp_path):
    command = small_runs.command(cache, tmp_path / "runs", "pre-fusion", {"model.fusion.ffn": 10**13})
    said = refused(*command)
    assert said.startswith("cpu: out of memory (")
    assert said.endswith(
        "). Make the head smaller by its model options, lower train.batch_size or --memory-gb, or choose a device with more memory."
    )
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_no_head_can_be_built_with_leaves_no_run_folder(refused, cache, tmp_path):
    message = refused("fit", f"--cache={cache}", "--corpus=mosi", "--set=model.fusion.heads=7", f"--out={tmp_path / 'runs'}")
    assert message == "7 attention heads do not divide the width 256. Choose a divisor of 256."
    assert not (tmp_path / "runs").exists()


def test_fit_does_not_write_into_a_folder_of_something_else(refused, cache, complete, tmp_path):
    folder = tmp_path / complete.name
    folder.mkdir()
    (folder / "notes.txt").write_text("made by hand", encoding="utf-8")
    message = f"{folder}: is not empty and holds no run (no config.json). Choose another folder."
    assert refused(*small_runs.command(cache, tmp_path)) == message
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_lets_an_epoch_end_and_the_same_command_goes_on(capsys, cache, tmp_path, complete, monkeypatch, number, status):
    update, complete_epochs, signals = Selection.update, [], [number]

    def observed(self: Selection, epoch: int, values: dict) -> list[str]:
        if epoch == 2 and signals:
            os.kill(os.getpid(), signals.pop())
        complete_epochs.append(epoch)
        return update(self, epoch, values)

    monkeypatch.setattr(Selection, "update", observed)
    command = small_runs.command(cache, tmp_path)
    found, _, err = call(capsys, *command)
    name = signal.Signals(number).name
    assert (found, err) == (status, f"Stopped by {name}. The same command goes on where it was saved.\n")
    folder = tmp_path / complete.name
    assert (RunFolder(folder).saved_epochs, (folder / "metrics.json").exists()) == (2, False)
    assert call(capsys, *command)[0] == 0
    assert complete_epochs == [1, 2, 3]
    for name in ("metrics.json", "checkpoint.safetensors", "predictions.parquet"):
        assert (folder / name).read_bytes() == (complete / name).read_bytes()
