"""A sweep and its trials: its folder, and which trials are left."""

from dataclasses import replace
from functools import partial

import pytest
from caches import make_cache
from filelock import FileLock
from sweeps import a_grid, a_sweep

from data.errors import InputError
from heads.sweeps.grid import read_grid
from heads.sweeps.sweep import Sweep, Trial, count_trials, open_trials, opened, remaining, resolved
from heads.training.fit import describe

METRICS = {"valid": {"mae": 0.5}, "valid_interval": {}}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """mosi has emotions and a ledger."""
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30, ledger=True)


@pytest.fixture
def sweep(cache, tmp_path):
    """Makes a sweep of a grid in tmp_path / "sweep"."""
    return partial(a_sweep, cache, tmp_path)


def test_a_folder_of_another_grid_is_refused(sweep, tmp_path):
    made = sweep(seeds=[1])
    with opened(made):
        pass
    other = Sweep(a_grid(tmp_path / "other", seeds=[2]), made.cache, made.folder, "mae")
    with pytest.raises(InputError) as error, opened(other):
        pass
    kept = made.folder / "grid.yaml"
    assert str(error.value) == (f"{kept}: this folder is of another grid than {other.grid.path}. Choose another --out, or give {kept}.")
    with opened(replace(made, grid=read_grid(kept, None))):
        pass


def test_a_second_sweep_at_the_same_time_is_refused(sweep):
    made = sweep(seeds=[1])
    made.folder.mkdir()
    with FileLock(made.folder / "lock"), pytest.raises(InputError) as error, opened(made):
        pass
    assert str(error.value) == f"{made.folder}: another sweep is at work there. Wait for it, or choose another --out."
    with opened(made):
        pass


def begin(trial: Trial) -> Trial:
    trial.folder.begin(describe(trial.run_data))
    return trial


def test_trials_are_opened_without_features_and_each_once(sweep):
    made = sweep(grid={"data.emotions": ["auto", "annotated", "pseudo"]}, seeds=[1, 2])
    trials = open_trials(made, made.grid.configs())
    assert [(trial.config.data.emotions, trial.config.seed) for trial in trials] == [
        ("annotated", 1),
        ("annotated", 2),
        ("pseudo", 1),
        ("pseudo", 2),
    ]
    assert all(trial.run_data.tensors.is_streamed for trial in trials)
    assert resolved(made, made.grid.configs()[0]) == trials[0].config
    assert not made.folder.exists()


def test_trials_that_are_left_are_unfinished_or_ran_out_of_memory(sweep):
    made = sweep(seeds=[1, 2, 3, 4, 5])
    trials = open_trials(made, made.grid.configs())
    complete, pruned, failed, lacking, interrupted = map(begin, trials)
    complete.folder.write_metrics(METRICS)
    pruned.folder.write_metrics(METRICS | {"pruned": True})
    failed.folder.write_failure("made up")
    lacking.folder.write_failure("out of memory", lacked_memory=True)
    assert remaining([*trials, *trials]) == [lacking, interrupted]
    total, over = count_trials(made, made.grid.configs())
    assert (total, {folder.path for folder in over}) == (5, {trial.folder.path for trial in (complete, pruned, failed)})
    assert over == sorted(over, key=lambda folder: folder.path)


def test_a_trial_that_is_over_must_have_read_this_cache(sweep, tmp_path):
    made = sweep(seeds=[1])
    [trial] = map(begin, open_trials(made, made.grid.configs()))
    other = replace(made, cache=make_cache(tmp_path / "other", utterances=30, text_dim=9))
    [elsewhere] = open_trials(other, made.grid.configs())
    assert remaining([elsewhere]) == [elsewhere], "one that is not over is refused when it is trained"
    trial.folder.write_metrics(METRICS)
    with pytest.raises(InputError, match=r"trials/.*: holds a run of another configuration: .* is .*, not .*\. Choose another"):
        remaining([elsewhere])


def test_a_search_has_as_many_trials_as_it_is_asked_for(sweep):
    made = sweep(search="optuna", random={"count": 3, "seed": 1, "train.lr": {"choice": [0.01, 0.003]}}, seeds=[1, 2])
    assert (made.has_study, sweep(prune="asha").has_study, sweep().has_study) == (True, True, False)
    with opened(made):
        [trial, *_] = map(begin, open_trials(made, made.grid.configs()))
        trial.folder.write_failure("out of memory", lacked_memory=True)
        total, over = count_trials(made, made.grid.configs())
    assert (total, [folder.path for folder in over]) == (6, [trial.folder.path]), "a search tries no trial twice"
