"""Runs of a head of one's own: trained by the commands, opened again after its file has changed, and refused where it is none."""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import yaml
from caches import make_cache
from command_line import call
from own_heads import example, write
from small_tables import PRESET

from data.errors import InputError
from heads.models import own
from heads.runs.folder import RunFolder
from heads.sweeps.results.trials import collect

_SHORT = {"train.max_epochs": 2, "model.width": 8, "train.batch_size": 8}
_SET = [f"--set={name}={value}" for name, value in _SHORT.items()]
_MIXED = "        mixed = self.dropout(gate * text + (1 - gate) * audio)\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=24)


@pytest.fixture
def fit(cache, tmp_path, capsys):
    """Calls fit on a head, into runs/."""

    def fit(head: str, *more: str) -> tuple[int, str, str]:
        given = ["--cache", cache, "--corpus", "mosi", "--out", tmp_path / "runs", "--device", "cpu", *_SET]
        return call(capsys, "fit", "--head", head, *given, *more)

    return fit


def folders(out: Path) -> list[Path]:
    return sorted(out.iterdir())


def test_a_run_keeps_its_head_and_is_opened_with_it_whatever_has_become_of_the_file(fit, tmp_path, capsys, caplog, monkeypatch):
    head = write(tmp_path)
    assert fit(head)[0] == 0
    (run,) = folders(tmp_path / "runs")
    assert run.name.startswith("mosi-gated.Gated-native-")
    config = json.loads((run / "config.json").read_text())["config"]
    assert (config["head"], config["head_source"]) == (head, own.loaded(head).source)
    assert (run / "gated.py").read_text() == example()
    assert json.loads((run / "metrics.json").read_text())["head"] == "gated.Gated"
    _, expected, _ = call(capsys, "evaluate", run, "--device", "cpu")
    assert caplog.messages == []

    write(tmp_path, {"[text, audio], -1)).sigmoid()": "[audio, text], -1)).sigmoid()"})
    status, found, _ = call(capsys, "evaluate", run, "--device", "cpu")
    assert (status, found) == (0, expected)
    (line,) = caplog.messages
    assert f"{tmp_path}/gated.py, the file of head gated.Gated, has changed since the run was trained (source " in line
    assert line.endswith(f"The copy that the run has is used: {run}/gated.py.")
    assert call(capsys, "evaluate", run, "--device", "cpu")[1] == expected
    assert len(caplog.messages) == 1, "said once"

    monkeypatch.setattr("heads.runs.own_head._SAID", set())
    (tmp_path / "gated.py").unlink()
    moved = Path(shutil.move(run, tmp_path / "moved"))
    assert call(capsys, "predict", moved, "--out", tmp_path / "found.csv", "--device", "cpu")[0] == 0
    assert f"{tmp_path}/gated.py, the file of head gated.Gated, is gone." in caplog.messages[-1]
    (moved / "gated.py").unlink()
    status, _, err = call(capsys, "evaluate", moved, "--device", "cpu")
    assert (status, err.count("\n")) == (2, 1)
    assert f"{tmp_path}/gated.py: the file of head Gated cannot be read (No such file or directory)." in err


def test_a_changed_file_makes_another_run_and_an_equal_one_elsewhere_the_same(fit, tmp_path):
    fit(write(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    _, out, _ = fit(write(tmp_path / "elsewhere"))
    assert "already finished" in out
    fit(write(tmp_path, {"option(64,": "option(32,"}))
    assert len(folders(tmp_path / "runs")) == 2


def test_a_changed_module_is_refused_because_one_file_of_a_package_says_little(tmp_path):
    config = {"head": "heads.models.mmolre:MMoLRE", "head_source": "0" * 16, "corpus": "mosi", "data": {"modalities": ["text"]}}
    content = {"version": 1, "config": config, "encoders": {"text": {"encoder": 0, "identity": 0, "dim": 1}}, "made": {"cache": "."}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    message = (
        r"head 'heads\.models\.mmolre\.MMoLRE' was another version \(source 0{16}\) of \S+/mmolre\.py, which has changed since \(source"
    )
    with pytest.raises(InputError, match=message):
        RunFolder(tmp_path).run_config()


def test_a_head_that_breaks_the_contract_is_refused_before_anything_is_written(fit, cache, tmp_path, capsys):
    head = write(tmp_path, {_MIXED: f"{_MIXED}        mixed = mixed - mixed.mean(0)\n"})
    message = (
        "Head gated.Gated breaks the contract of heads (other clips in a batch): the other clips in a batch change predictions by up"
    )
    status, _, err = fit(head)
    assert (status, err.count("\n")) == (2, 1)
    assert message in err
    assert err.endswith(f"python -m heads check {head} prints all checks.\n")
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({"corpus": "mosi", "grid": {"head": ["mult", head]}}))
    (tmp_path / "small.yaml").write_text(PRESET)
    sweep = ["sweep", tmp_path / "grid.yaml", "--cache", cache, "--out", tmp_path / "made"]
    tables = [
        "tables",
        "--only",
        "table1",
        "--heads",
        head,
        "--preset",
        tmp_path / "small.yaml",
        "--cache",
        cache,
        "--out",
        tmp_path / "made",
    ]
    for command in (sweep, tables):
        status, _, err = call(capsys, *command, "--devices", "cpu")
        assert (status, message in err) == (2, True)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "made").exists()


def test_a_sweep_trains_packs_of_a_head_and_only_trials_fail_in_which_its_code_does(cache, tmp_path, capsys):
    head = write(tmp_path, {_MIXED: f"{_MIXED}        assert self.gate.out_features != 9 or gate.is_meta, 'nine'\n"})
    fixed = {"train.max_epochs": 2, "train.batch_size": 8, "train.keep": []}
    grid = {"corpus": "mosi", "fixed": fixed, "grid": {"model.width": [8, 9], "train.lr": [0.01, 0.003]}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    given = ["--cache", cache, "--out", tmp_path / "sweep", "--head", head, "--devices", "cpu", "--pack-size", "2"]
    status, out, _ = call(capsys, "sweep", tmp_path / "grid.yaml", *given)
    assert status == 1
    trials = collect(tmp_path / "sweep").set_index(["model.width", "train.lr"])
    assert trials["status"].to_dict() == {(8, 0.01): "complete", (8, 0.003): "complete", (9, 0.01): "failed", (9, 0.003): "failed"}
    assert set(trials["head"]) == {"gated.Gated"}
    assert f"2 of 4 trials failed; {trials.loc[9, 'name'].min()}: {tmp_path}/gated.py:37: AssertionError: nine" in out
    alone = trials.loc[(8, 0.01)]
    call(capsys, "fit", "--head", head, "--cache", cache, "--corpus", "mosi", "--out", tmp_path / "runs", "--device", "cpu",
         *_SET, "--set=train.lr=0.01", "--set=train.keep=[]")  # fmt: skip
    (run,) = folders(tmp_path / "runs")
    assert run.name == alone["name"]
    assert RunFolder(run).metrics()["valid"]["mae"] == pytest.approx(alone["valid.mae"], rel=1e-4)


def test_a_row_of_a_table_is_a_head_of_one_s_own(cache, tmp_path, capsys):
    (tmp_path / "small.yaml").write_text(PRESET)
    given = ["--only", "table1", "--seeds", "1", "--preset", tmp_path / "small.yaml", "--cache", cache, "--out", tmp_path / "made"]
    status, out, _ = call(capsys, "tables", "--heads", write(tmp_path), *given, "--devices", "cpu")
    assert status == 0
    assert next(line for line in out.splitlines() if line.startswith("gated.Gated")).split()[1] == "ours"
    page = (tmp_path / "made" / "table1.md").read_text()
    assert re.search(
        r"^\| gated\.Gated +\| gated\.Gated +\| msa +\| small +\| 1 +\| own head +\| \S+gated\.py: A gate between", page, re.M
    )


@pytest.fixture(autouse=True)
def _heard(caplog):
    caplog.set_level(logging.WARNING, "heads")
