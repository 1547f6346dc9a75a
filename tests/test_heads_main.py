"""`python -m heads`: its help and lists, and `fit`: what it prints, what it writes, and going on after an interruption."""

import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import small_runs
from caches import make_cache
from command_line import call, content, emotion_rows, interval_row, printed, sentiment_row

from heads.__main__ import main, parser
from heads.commands import COMMANDS
from heads.evaluation.metrics import EMOTION_METRICS, SENTIMENT_METRICS
from heads.models.options import nested, parse_assignments
from heads.models.registry import HEADS
from heads.runs.config import make_config
from heads.runs.folder import RunFolder
from heads.training import loop
from heads.training.selection import Selection
from pipeline.settings import CHECKOUT


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=24, ledger=True)


@pytest.fixture(scope="module")
def complete(cache, tmp_path_factory) -> Path:
    """A run of pre-fusion. Not to be changed."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs")).path


LISTED = {
    "pre-fusion": "both both no yes faithful 192,190,471",
    "baseline-mer": "mer mer no yes faithful 96,096,518",
    "mult": "msa both no yes faithful 277,867",
    "self-mm": "msa both no no faithful 275,573",
    "spectra": "msa both no yes variant 7,685,383",
    "multilogue-net": "both both yes no faithful 6,288,007",
    "cogmen": "both both yes no faithful 31,723,931",
    "ple": "– both no yes faithful 209,068,073",
    "ridge": "– both no no simple baseline –",
}
"""published, learns, context, packable, reproduction, parameters; a head that reads whole videos is not packable."""


def test_list_has_a_line_for_each_head(capsys):
    status, out, err = call(capsys, "list")
    assert (status, err) == (0, "")
    found = printed(out, "head")
    assert list(found) == list(HEADS)
    for name, entry in HEADS.items():
        assert (found[name]["paper"], found[name]["what it is"]) == (entry.source, entry.summary)
        assert (found[name]["learns"], found[name]["reproduction"] == "simple baseline") == (entry.task or "both", entry.head is None)
    columns = ("published", "learns", "context", "packable", "reproduction", "parameters")
    assert {name: " ".join(found[name][column] for column in columns) for name in LISTED} == LISTED


def test_list_of_a_head_has_its_options_as_set_takes_them(capsys):
    status, out, _ = call(capsys, "list", "mmolre", "--preset", "light")
    assert status == 0
    values = parse_assignments(out.replace(" = ", "=").splitlines())
    assert values["model.mixture.rank"] == 16
    expected = make_config("mmolre", "CORPUS", "light").as_dict() | {"preset": "paper-mosi"}
    assert make_config("mmolre", "CORPUS", "paper-mosi", nested(values)).as_dict() == expected


def test_params_prints_the_sizes_of_the_paper(capsys):
    status, out, _ = call(capsys, "params")
    assert status == 0
    assert printed(out, "")["whole UniTSE, r = 128"]["parameters"] == "28,300,408"
    assert printed(out, "")["whole standard MoE, r = 768"]["parameters"] == "162,037,368"
    assert re.search(r"^mmolre, r = 128 .* 220,490,879$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("", "list params fit sweep tables evaluate predict score examples: exit"),
        ("list", "HEAD --preset"),
        ("params", "--help"),
        (
            "fit",
            "--cache --corpus --head --preset --task --emotions --minimum-similarity --modalities --seed --seeds --set --memory-gb"
            " --out --device",
        ),
        ("evaluate", "RUN --split --checkpoint --cache --device"),
        ("predict", "RUN --cache --corpus --out --device"),
        ("tables", "--only --heads --seeds --preset --corpora --split --add --cache --out --dry-run --pack-size --tensorboard"),
        ("score", "FILE --cache --corpus --emotions --split"),
    ],
)
def test_help_names_what_can_be_given(command, names, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert set(names.split()) <= set(re.findall(r"[\w:-]+", capsys.readouterr().out))


@pytest.mark.parametrize("command", ["list", "params", "fit", "sweep", "tables", "evaluate", "predict", "score"])
def test_every_command_says_what_it_does_in_a_sentence(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert re.match(r"usage: .*?\n\n[A-Z][^\n]+", capsys.readouterr().out, re.S)


LISTS = [
    ("fit --corpus mosi --seed 1 11", "seed", [1, 11]),
    ("fit --corpus mosi --seeds 1,11", "seed", [1, 11]),
    ("fit --corpus mosi --modalities text,audio", "modalities", ["text", "audio"]),
    ("fit --corpus mosi --modalities text audio", "modalities", ["text", "audio"]),
    ("sweep g.yaml --out o --devices cpu,cpu", "devices", ["cpu", "cpu"]),
    ("tables --out o --seeds 1, 11 , 111", "seeds", [1, 11, 111]),
    ("tables --out o --heads mult,misa mmim", "heads", ["mult", "misa", "mmim"]),
    ("tables --out o --only table1 table2", "only", ["table1", "table2"]),
    ("tables --out o --corpora mosi,mosei", "corpora", ["mosi", "mosei"]),
]


@pytest.mark.parametrize(("line", "name", "expected"), LISTS, ids=[line for line, *_ in LISTS])
def test_lists_are_given_alike_everywhere(line, name, expected):
    assert getattr(parser().parse_args(line.split()), name) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fit --corpus mosi --seed 1,x", "argument --seed/--seeds: '1,x', expected whole numbers, for example 1,11,111"),
        ("tables --out o --seeds ,", "argument --seeds: ',' names nothing"),
        ("tables --out o --heads ,", "argument --heads: ',' names nothing"),
    ],
)
def test_a_list_that_is_none_is_refused(line, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_promises_to_go_on_only_where_something_was_saved(monkeypatch, capsys):
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    for command, line in (("score", "score a.csv --corpus mosi"), ("fit", "fit --corpus mosi")):
        monkeypatch.setattr(COMMANDS[command], "run", interrupt)
        status, _, err = call(capsys, *line.split())
        assert status == 130
        assert err == ("Interrupted.\n" if command == "score" else "Interrupted. The same command goes on where it was last saved.\n")


def test_a_preset_for_no_head_is_refused(capsys):
    status, out, err = call(capsys, "list", "--preset", "light")
    assert (status, out, err) == (2, "", "error: --preset is for the options of one head. Name a HEAD, or leave --preset out.\n")


def test_a_reader_that_has_seen_enough_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-m", "heads", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=CHECKOUT
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


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
