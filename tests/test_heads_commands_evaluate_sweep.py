"""`python -m heads evaluate --sweep`: which trials are evaluated, and that the report is written again."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from caches import make_cache
from command_line import call, printed, sentiment_row
from sweeps import write_grid

from heads.__main__ import main
from heads.runs.folder import RunFolder
from heads.sweeps.results.trials import collect, ranked


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30)


@pytest.fixture(scope="module")
def complete(cache, tmp_path_factory) -> Path:
    """A sweep of pre-fusion with two learning rates, and of mmml with one at which it fails; two seeds each. Not to be changed."""
    folder = tmp_path_factory.mktemp("complete")
    points = [{"head": head, "train.lr": lr} for head, lr in (("pre-fusion", 0.01), ("pre-fusion", 0.003), ("mmml", 1e30))]
    grid = write_grid(folder / "grid.yaml", list=points, seeds=[1, 2])
    arguments = ["sweep", grid, "--cache", cache, "--out", folder / "sweep", "--devices", "cpu", "--pack-size", 2]
    assert main([str(argument) for argument in arguments]) == 1
    return folder / "sweep"


@pytest.fixture
def own(complete, tmp_path) -> Path:
    """The same sweep, to be changed."""
    return shutil.copytree(complete, tmp_path / "own")


def trials(folder: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in sorted((folder / "trials").iterdir())]


def best(folder: Path, count: int, metric: str = "mae") -> set[str]:
    """Names of the trials of the best configurations."""
    table = collect(folder)
    keys = ranked(table, metric)["key"].head(count)
    return set(table.loc[table["key"].isin(keys) & (table["status"] == "complete"), "name"])


def opened(folder: Path) -> set[str]:
    """Names of the trials that were evaluated."""
    return {trial.path.name for trial in trials(folder) if (trial.path / "opened.csv").exists()}


@pytest.mark.parametrize(("top", "configurations"), [(1, 1), (9, 2)])
def test_evaluate_opens_the_test_split_of_the_best_of_a_sweep_alone(capsys, own, top, configurations):
    """A trial that failed has nothing to evaluate; the ranking does not change."""
    chosen, before = best(own, top), ranked(collect(own), "mae")["key"].tolist()
    assert len(chosen) == 2 * configurations
    status, out, err = call(capsys, "evaluate", "--sweep", own, "--top", top, "--split", "test", "--device", "cpu")
    assert (status, err) == (0, "")
    assert opened(own) == chosen
    found = {trial.path.name: trial.metrics()["test"] for trial in trials(own) if trial.path.name in chosen}
    assert {name: row for name, row in printed(out, "sentiment, test").items() if name in found} == {
        name: sentiment_row(values) for name, values in found.items()
    }
    table = pd.read_parquet(own / "trials.parquet").set_index("name")
    assert table["test.mae"].dropna().to_dict() == pytest.approx({name: values["mae"] for name, values in found.items()})
    assert f"{own / 'report.html'}: the report, written again" in out
    assert 'id="test"' in (own / "report.html").read_text()
    assert ranked(collect(own), "mae")["key"].tolist() == before


def test_pictures_of_routing_are_drawn_for_run_folders_and_not_for_trials(capsys, own, monkeypatch):
    """They take seconds each."""
    drawn = []
    monkeypatch.setattr(RunFolder, "draw_routing", lambda folder, name: drawn.append((folder.path.name, name)))
    name = min(best(own, 1))
    assert call(capsys, "evaluate", "--sweep", own, "--device", "cpu")[0] == 0
    assert drawn == []
    assert call(capsys, "evaluate", own / "trials" / name, "--device", "cpu")[0] == 0
    assert drawn == [(name, "xray-valid")]


def test_evaluate_ranks_a_sweep_by_the_metric_that_is_asked_for(capsys, own):
    assert call(capsys, "evaluate", "--sweep", own, "--metric", "mean_wf1", "--device", "cpu")[0] == 0
    assert opened(own) == best(own, 1, "mean_wf1")
    for trial in trials(own):
        if trial.path.name in opened(own):
            assert pd.read_csv(trial.path / "opened.csv")["split"].tolist() == ["valid"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Give either run folders or --sweep DIR."),
        (["{run}", "--sweep", "{sweep}"], "Give either run folders or --sweep DIR."),
        (["{run}", "--top", "1"], "--top and --metric choose among the trials of --sweep DIR, which is not given."),
        (["{run}", "--metric", "mae"], "--top and --metric choose among the trials of --sweep DIR, which is not given."),
        (["--sweep", "{sweep}", "--top", "0"], "--top is 0, expected 1 or more."),
        (["--sweep", "{sweep}", "--metric", "maee"], "Unknown metric 'maee'. Did you mean 'mae'? "),
        (["--sweep", "{sweep}/trials"], "{sweep}/trials/trials: holds no trials. Give the folder that a sweep wrote to."),
    ],
)
def test_evaluate_refuses_what_is_no_choice(capsys, complete, options, message):
    places = {"sweep": complete, "run": trials(complete)[0].path}
    status, out, err = call(capsys, "evaluate", *(option.format(**places) for option in options), "--device", "cpu")
    assert (status, out) == (2, "")
    assert err.startswith("error: " + message.format(**places))
    assert err.count("\n") == 1
    assert opened(complete) == set()
