"""`python -m heads sweep`: what it prints, writes and refuses."""

import re
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from caches import make_cache
from command_line import call, content
from filelock import FileLock
from sweeps import call_sweep

from heads.commands.sweep import default_folder
from heads.runs.folder import RunFolder
from heads.sweeps import execution
from heads.sweeps.results.trials import collect, ranked
from heads.training.packed_engine import PackedEngine

GRID = {"grid": {"train.lr": [0.01, 0.003]}, "seeds": [1, 2]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30)


@pytest.fixture
def sweep(cache, tmp_path, capsys):
    """Calls the command on a grid file of these sections."""
    return partial(call_sweep, capsys, cache, tmp_path)


def trials(folder: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in sorted((folder / "trials").iterdir())]


def test_help_says_what_can_be_chosen(capsys):
    with pytest.raises(SystemExit) as stopped:
        call(capsys, "sweep", "--help")
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    options = {"--cache", "--corpus", "--out", "--dry-run", "--metric", "--pack-size", "--devices", "--executor", "--search", "--prune"}
    assert options <= set(re.findall(r"--[a-z-]+", said))


def test_a_sweep_has_a_folder_without_out(tmp_path):
    assert default_folder(Path("grids/quick.yaml")) == Path("sweeps/quick")
    (tmp_path / "trials").mkdir()
    assert default_folder(tmp_path / "grid.yaml") == tmp_path, "the grid that a sweep has kept goes on with this sweep"


def test_a_dry_run_says_what_would_be_done_and_does_nothing(sweep, tmp_path):
    varied = {"train.lr": [0.01, 0.003], "model.fusion.ffn": [8, 9]}
    status, out, err = sweep("--dry-run", "--pack-size", "2", grid=varied, seeds=[1, 2, 3])
    assert (status, err) == (0, "")
    assert out.startswith("varied: train.lr, model.fusion.ffn\n12 trials, 0 of them over\n")
    header, *rows = [re.split(r" {2,}", line) for line in out.splitlines()[2:5]]
    assert header == ["head", "corpus", "task", "preset", "trials", "packs", "at a time", "memory a trial", "at most"]
    expected = ["pre-fusion", "mosi", "both", "light", "6", "3", "2"]
    assert [row[:7] for row in rows] == [expected] * 2, "those of one width stand together"
    assert all(re.fullmatch(r"\d+ MB", row[7]) and re.fullmatch(r"\d+:\d\d:\d\d", row[8]) for row in rows)
    header, *rows = [re.split(r" {2,}", line) for line in out.splitlines()[5:8]]
    assert header[4:] == ["launches", "GFLOP", "GB moved", "alone", "a trial of a pack", "packs up to"]
    assert all(float(row[5]) > 0 and row[7].endswith(" ms") and int(row[9].replace(",", "")) > 1 for row in rows)
    assert re.search(r"\ncpu in float32, measured: \S+ µs a launch, [\d,]+ GFLOP/s, [\d,]+ GB/s\n", out)
    assert re.search(r"\nat most \d+:\d\d:\d\d on cpu, if no trial stops early\n$", out)
    assert not (tmp_path / "sweep").exists()


def test_a_dry_run_counts_simple_baselines_and_heads_that_are_trained_alone(sweep, tmp_path, cache, capsys):
    path = tmp_path / "grid.yaml"
    path.write_text("corpus: mosi\nfixed: {train.max_epochs: 1}\ngrid: {head: [self-mm]}\nseeds: [1, 2]\n")
    status, out, _ = call(capsys, "sweep", path, "--cache", cache, "--out", tmp_path / "sweep", "--dry-run")
    assert status == 0
    assert "alone" in out
    path.write_text("corpus: mosi\ngrid: {head: [median, ridge]}\n")
    status, out, _ = call(capsys, "sweep", path, "--cache", cache, "--out", tmp_path / "sweep", "--dry-run")
    assert (status, out) == (0, "varied: head\n2 trials, 0 of them over\n2 simple baselines, seconds each\n")


def test_a_dry_run_of_what_no_memory_can_hold_is_refused(cache, tmp_path, capsys):
    path = tmp_path / "grid.yaml"
    path.write_text("corpus: mosi\nhead: pre-fusion\ngrid: {model.fusion.ffn: [10000000000000]}\n")
    status, _, err = call(capsys, "sweep", path, "--cache", cache, "--out", tmp_path / "sweep", "--devices", "cpu", "--dry-run")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: cpu: out of memory (")
    path.write_text(path.read_text().replace("10000000000000", "10000000000000000"))
    status, _, err = call(capsys, "sweep", path, "--cache", cache, "--out", tmp_path / "sweep", "--devices", "cpu", "--dry-run")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: meta: out of memory (Storage size calculation overflowed")
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_prints_the_best_and_writes_its_results(sweep, tmp_path):
    status, out, err = sweep("--pack-size", "2", **GRID)
    folder = tmp_path / "sweep"
    assert (status, err) == (0, "")
    assert out.startswith(f"{folder}: 4 trials, 0 of them over\n")
    table = collect(folder)
    assert table["status"].tolist() == ["complete"] * 4
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "trials.parquet"), table, check_dtype=False)
    expected = ranked(table, "mae")
    assert [line.split()[0] for line in out.splitlines()[2:4]] == expected["key"].tolist()
    assert f"{expected['mean'][0]:.6f}" in out
    page = (folder / "report.html").read_text()
    assert all(key in page for key in expected["key"])
    assert str(folder / "report.html") in out
    assert list((folder / "tables").iterdir())
    before = {trial.path.name: content(trial.path) for trial in trials(folder)}
    status, out, _ = sweep("--pack-size", "2", **GRID)
    assert status == 0
    assert out.startswith(f"{folder}: 4 trials, 4 of them over\n")
    assert {trial.path.name: content(trial.path) for trial in trials(folder)} == before
    out = sweep("--dry-run", **GRID)[1]
    assert out == "varied: train.lr\n4 trials, 4 of them over\n"
    out = sweep("--metric", "corr", **GRID)[1]
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ranked(table, "corr")["key"].tolist(), "another metric"


def test_a_sweep_says_which_trials_failed(sweep, tmp_path):
    status, out, err = sweep(grid={"train.lr": [1e30]})
    assert (status, err) == (1, "")
    (name,) = [trial.path.name for trial in trials(tmp_path / "sweep")]
    marker = tmp_path / "sweep" / "trials" / name / "failed.json"
    assert re.fullmatch(
        rf"1 of 1 trials failed; {name}: Epoch \d: the validation loss is not finite\. Lower train\.lr \(1e\+30\)\."
        rf" To try it again, remove trials/{name}/failed\.json and give the same command\.",
        out.splitlines()[1],
    )
    assert f"remove trials/{name}/failed.json and give" in (tmp_path / "sweep" / "report.html").read_text()
    marker.unlink()
    assert "1 trials, 0 of them over" in sweep(grid={"train.lr": [1e30]})[1], "it is tried again"
    assert collect(tmp_path / "sweep")["status"].tolist() == ["failed"]
    assert (tmp_path / "sweep" / "report.html").exists()


def test_ctrl_c_keeps_what_is_finished_and_says_so(sweep, tmp_path, monkeypatch):
    step, packs = PackedEngine.step, []

    def interrupt(self: PackedEngine, rates) -> None:
        packs.append(self) if self not in packs else None
        if len(packs) == 2:
            raise KeyboardInterrupt
        step(self, rates)

    with monkeypatch.context() as patch:
        patch.setattr(PackedEngine, "step", interrupt)
        status, _, err = sweep("--pack-size", "2", **GRID)
    assert (status, err) == (130, "Interrupted. The same command goes on where it was last saved.\n")
    assert sorted(pd.read_parquet(tmp_path / "sweep" / "trials.parquet")["status"]) == ["complete"] * 2 + ["unfinished"] * 2
    status, out, _ = sweep("--pack-size", "2", **GRID)
    assert status == 0
    assert "4 trials, 2 of them over" in out
    assert collect(tmp_path / "sweep")["status"].tolist() == ["complete"] * 4


def test_ctrl_c_before_there_is_a_trial_is_no_error_of_the_sweep(sweep, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(execution, "train_remaining", interrupt)
    status, _, err = sweep(**GRID)
    assert (status, err) == (130, "Interrupted. The same command goes on where it was last saved.\n")


def test_a_search_counts_its_own_trials(sweep, tmp_path):
    space = {"count": 2, "seed": 3, "train.lr": {"log_uniform": [1e-4, 1e-2]}}
    for over in (0, 2):
        status, out, _ = sweep("--search", "optuna", grid={"model.fusion.ffn": [8, 9, 10]}, random=space)
        assert status == 0
        assert out.startswith(f"{tmp_path / 'sweep'}: 2 trials, {over} of them over\n"), "not all combinations"


@pytest.mark.parametrize(
    ("options", "sections", "message"),
    [
        (["--metric", "maee"], GRID, "Unknown metric 'maee'. Did you mean 'mae'? "),
        (["--metric", "loss"], GRID, "Unknown metric 'loss'. "),
        (
            ["--metric", "mae"],
            {"grid": {"task": ["mer"]}},
            "--metric is mae, a metric of task 'msa', which no trial learns. Choose another.",
        ),
        (["--pack-size", "0"], GRID, "--pack-size is 0, expected 1 or more."),
        (["--memory-gb", "-1"], GRID, "--memory-gb is -1.0, expected "),
        (["--devices", "cpu", "abacus"], GRID, "Device 'abacus' cannot be used "),
        ([], {"grid": {"train.lrr": [1]}}, "{grid}: head 'pre-fusion': unknown option 'train.lrr'. Did you mean train.lr? "),
        ([], {"grid": {"model.output_dropout": [0.1, 1.5]}}, "A dropout rate is 1.5, expected 0 to below 1."),
        (["--corpus", "mosei"], GRID, "{grid}: corpus is 'mosi', but --corpus says 'mosei'. "),
        (["--search", "optuna"], GRID, "{grid}: --search optuna needs random: "),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_is_trained(sweep, tmp_path, options, sections, message):
    status, _, err = sweep(*options, **sections)
    assert status == 2
    assert err.startswith("error: " + message.format(grid=tmp_path / "grid.yaml"))
    assert err.count("\n") == 1
    assert not list((tmp_path / "sweep").glob("trials/*"))


def test_a_folder_in_use_and_a_missing_cache_are_refused(sweep, tmp_path, capsys):
    (tmp_path / "sweep").mkdir()
    with FileLock(tmp_path / "sweep" / "lock"):
        status, _, err = sweep(**GRID)
    assert (status, err.count("\n")) == (2, 1)
    assert "another sweep is at work there" in err
    status, _, err = sweep("--cache", tmp_path / "no", **GRID)
    assert status == 2
    assert err.startswith(f"error: {tmp_path / 'no'}: no such folder, expected a cache. ")
