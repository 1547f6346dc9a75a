"""Training of everything that is left of a sweep: every trial once, and going on after an interruption."""

import itertools
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch
from caches import make_cache
from sweeps import a_grid, assert_equal_to_fit, folders, swept, times

from data.errors import InputError
from heads.runs.folder import run_folder
from heads.sweeps.executors import in_process
from heads.sweeps.grid import read_grid
from heads.sweeps.results.trials import collect
from heads.sweeps.search import Search
from heads.sweeps.session import pack_trials
from heads.sweeps.sweep import Sweep, loaded_cache, open_trials, remaining
from heads.sweeps.workers import end
from heads.training.fit import describe
from heads.training.loop import Run
from heads.training.packed_engine import PackedEngine
from heads.training.single_engine import SingleEngine

LR = [0.01, 0.003]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """mosi has emotions and a ledger."""
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30, ledger=True)


@pytest.fixture
def sweep(cache, tmp_path):
    """Makes a sweep of a grid in tmp_path / "sweep"."""

    def of(metric: str = "mae", search: str | None = None, prune: str | None = None, **sections: object) -> Sweep:
        return Sweep(a_grid(tmp_path, **sections), cache, tmp_path / "sweep", metric, search, prune)

    return of


def test_every_trial_is_there_once_and_is_what_fit_makes_of_it(sweep, tmp_path):
    made = sweep(list=[{"model.fusion.ffn": 8}, {"model.fusion.ffn": 9}, {"train.lr": 0.003}], seeds=[1, 2])
    began = time.perf_counter()
    seen = swept(made, size=3)
    wall = time.perf_counter() - began
    assert sorted(seen.over) == [folder.path.name for folder in folders(made)]
    assert (seen.count, len(seen.over)) == (6, 6)
    assert_equal_to_fit(made, tmp_path)
    assert collect(made.folder)["status"].tolist() == ["complete"] * 6
    assert (made.folder / "grid.yaml").read_bytes() == made.grid.path.read_bytes()
    seconds = sum(pd.read_csv(folder.path / "history.csv")["seconds"].sum() for folder in folders(made))
    assert 0 < seconds < wall, "trials of a pack share its time"


def test_a_sweep_that_is_over_trains_nothing(sweep):
    made = sweep(seeds=[1, 2])
    swept(made)
    before = times(made)
    assert swept(made).over == []
    assert times(made) == before
    assert remaining(open_trials(made, made.grid.configs())) == []


def test_trials_of_another_cache_are_refused(sweep, tmp_path):
    made = sweep(seeds=[1])
    swept(made)
    other = replace(made, cache=make_cache(tmp_path / "other", utterances=30, text_dim=9))
    with pytest.raises(InputError, match=r"trials/.*: holds a run of another configuration: .* is .*, not .*\. Choose another"):
        swept(other)


def test_an_interrupted_sweep_keeps_what_is_finished(sweep, tmp_path):
    made, calls = sweep(grid={"train.lr": LR}, seeds=[1, 2]), itertools.count()

    def execute(works, watcher) -> None:
        for one in works:
            if next(calls) == 1:
                raise KeyboardInterrupt
            in_process("cpu")([one], watcher)

    with pytest.raises(KeyboardInterrupt):
        swept(made, size=2, execute=execute)
    before = times(made)
    assert len(before) == 2
    assert len(swept(made).over) == 2
    assert before.items() <= times(made).items()
    assert_equal_to_fit(made, tmp_path)


def test_packs_are_no_larger_than_asked_and_no_fewer_than_workers(sweep, monkeypatch):
    made = sweep(seeds=[1, 2, 3, 4])
    counts = []
    for devices, size in ((("cpu",), 3), (("cpu",), None), (("cpu", "cpu"), 9), (("cpu",) * 9, 9)):
        swept(made, size, lambda works, watcher: counts.append([len(one.configs) for one in works]), devices)
    assert counts == [[2, 2], [1] * 4, [2, 2], [1] * 4]


def test_simple_baselines_stand_in_a_grid(cache, tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("corpus: mosi\ngrid: {head: [median, ridge]}\n")
    made = Sweep(read_grid(path, None), cache, tmp_path / "sweep", "mae")
    assert len(swept(made).over) == 2
    table = collect(made.folder)
    assert dict(zip(table["head"], table["status"], strict=True)) == {"median": "complete", "ridge": "complete"}
    assert swept(made).over == []


def test_trials_that_turn_out_to_be_the_same_are_trained_once(sweep):
    made = sweep(grid={"data.emotions": ["auto", "annotated", "pseudo"]})
    assert len(swept(made).over) == 2
    assert sorted(collect(made.folder)["data.emotions"]) == ["annotated", "pseudo"]


def test_a_trial_for_which_memory_ran_out_is_tried_again_and_no_other_that_failed(sweep, monkeypatch):
    made = sweep(grid={"train.lr": [0.01, 1e30]})

    def step(self: SingleEngine, *_) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(SingleEngine, "accumulate", step)
        assert len(swept(made, size=1).over) == 2
    assert [folder.lacked_memory for folder in folders(made)] == [True, True]
    seen = swept(made, size=1)
    assert (seen.count, len(seen.over)) == (2, 2)
    assert sorted(folder.is_complete for folder in folders(made)) == [False, True]
    complete = next(folder for folder in folders(made) if folder.is_complete)
    assert not (complete.path / "failed.json").exists()
    failed = next(folder for folder in folders(made) if not folder.is_complete)
    assert (failed.lacked_memory, "Lower train.lr (1e+30)" in failed.failure) == (False, True)
    assert (swept(made, size=1).count, swept(made).over) == (0, [])
    table = collect(made.folder).set_index("train.lr")
    assert table["status"].to_dict() == {0.01: "complete", 1e30: "failed"}
    assert "the validation loss is not finite" in table.loc[1e30, "error"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.output_dropout": [0.1, 0.2, 1.5]}, r"^A dropout rate is 1\.5, expected 0 to below 1\.$"),
        ({"model.fusion.heads": [2, 3]}, r"^3 attention heads do not divide the width 8\. "),
        ({"data.modalities": [["text"], ["vision"]]}, "vision"),
    ],
)
def test_a_trial_that_cannot_be_trained_is_refused_before_any_is_trained(sweep, changes, message):
    made = sweep(grid=changes)
    with pytest.raises(InputError, match=message):
        swept(made)
    assert list(made.trials.iterdir()) == []


def test_packing_loads_no_features(sweep, monkeypatch):
    made = sweep(grid={"train.lr": LR, "model.fusion.ffn": [8, 9]}, seeds=[1, 2])
    monkeypatch.setattr(PackedEngine, "__init__", None)
    groups = pack_trials(open_trials(made, made.grid.configs()), None, 4)
    assert [(len(one.trials), one.size) for one in groups] == [(4, 4), (4, 4)]
    assert all(trial.run_data.tensors.is_streamed for one in groups for trial in one.trials)
    assert not made.folder.exists()


def states(made: Sweep) -> list[str]:
    with Search(made.folder, made.grid, made.metric, search=made.search, prune=made.prune) as study:
        return [trial.state.name for trial in study._study.trials]


def test_a_search_trains_as_many_points_as_asked_and_goes_on(sweep):
    space = {"count": 3, "seed": 3, "train.lr": {"log_uniform": [1e-4, 1e-2]}}
    made = sweep(search="optuna", random=space, seeds=[1, 2])
    seen = swept(made, size=3)
    table = collect(made.folder)
    assert (len(table), table["key"].nunique(), set(table["status"])) == (6, 3, {"complete"})
    assert table["train.lr"].between(1e-4, 1e-2).all()
    assert states(made) == ["COMPLETE"] * 6
    assert len(seen.over) == 6
    assert swept(made).over == []


def test_a_search_is_told_what_came_out(sweep):
    made = sweep(search="optuna", random={"count": 3, "seed": 1, "train.lr": {"choice": [0.01, 0.003, 1e30]}})
    swept(made)
    with Search(made.folder, made.grid, "mae", search="optuna") as study:
        found = {(trial.state.name, trial.value) for trial in study._study.trials if trial.value is not None}
    table = collect(made.folder)
    assert {value for _, value in found} == set(table.loc[table["status"] == "complete", "valid.mae"])
    assert ("FAIL" in states(made)) == ("failed" in set(table["status"]))


def test_pruning_stops_poorly_performing_trials(sweep):
    """Trials that learn almost nothing are pruned at the first rung, after 3 epochs."""
    made = sweep(
        prune="asha", grid={"train.lr": [0.02, 0.01, 0.005, 1e-9, 1e-8, 1e-7]}, fixed={"train.max_epochs": 5, "train.patience": 9}
    )
    seen = swept(made, size=6)
    assert len(seen.over) == 6
    table = collect(made.folder).set_index("train.lr")
    assert set(table["status"]) == {"complete", "pruned"}
    assert set(table.loc[table["status"] == "pruned", "epochs"]) == {3}
    assert set(table.loc[table["status"] == "complete", "epochs"]) == {5}
    pruned = {folder.path.name for folder in folders(made) if folder.metrics().get("pruned")}
    assert pruned == set(table.loc[table["status"] == "pruned", "name"])
    assert sorted(states(made)) == ["COMPLETE"] * (6 - len(pruned)) + ["PRUNED"] * len(pruned)
    assert swept(made).over == []


def test_a_trial_that_is_pruned_before_its_metric_was_a_number_has_failed(sweep):
    made = sweep()
    run_data = loaded_cache(made.cache, "cpu", None).open(made.grid.configs()[0])
    folder = run_folder(run_data.config, made.trials)
    folder.begin(describe(run_data))
    end(Run(run_data.config, run_data.tensors, folder), None)
    assert folder.failure == "Pruned after 0 epochs, in none of which train.select, loss, was a number."
