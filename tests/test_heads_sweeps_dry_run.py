"""Estimates for a sweep: which trials are timed, and how few steps become the time of all epochs."""

import itertools

import pytest
from caches import make_cache
from sweeps import a_grid

from data.errors import InputError
from heads.runs.config import make_config
from heads.sweeps import timing
from heads.sweeps.dry_run import time_packs
from heads.sweeps.execution import Execution
from heads.sweeps.sweep import Sweep, open_trials

CPU = Execution(devices=("cpu",), pack_size=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30)


@pytest.fixture
def estimate(cache, tmp_path):
    """Times the trials of a grid, and others; their folder is never made."""

    def of(*others, **sections):
        sweep = Sweep(a_grid(tmp_path, **sections), cache, tmp_path / "sweep", "mae")
        timed = time_packs(sweep, open_trials(sweep, [*others, *sweep.grid.configs()]), CPU)
        assert not sweep.folder.exists()
        return timed

    return of


def test_trials_that_pack_together_are_timed_once(estimate):
    timed = estimate(make_config("median", "mosi"), seeds=[1, 2, 3])
    (only,) = timed
    assert (len(only.group.trials), len(only.group.packs), only.group.size) == (3, 2, 2)
    assert {trial.config.head for trial in only.group.trials} == {"pre-fusion"}, "simple baselines are left out"


def test_the_middle_step_stands_for_all_steps_of_all_packs(estimate, monkeypatch):
    """Of four steps the first, which warms up, does not count."""
    seconds = itertools.cycle([50.0, 1.0, 9.0, 2.0])
    clock = itertools.accumulate(itertools.chain.from_iterable((0.0, next(seconds)) for _ in itertools.count()))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    ((group, found),) = estimate(fixed={"train.max_epochs": 5, "train.batch_size": 4}, seeds=[1, 2, 3, 4])
    rows = group.trials[0].run_data.tensors.targets.rows("train")
    batches = -(-len(rows) // 4)
    assert batches >= 4
    assert found == 2.0 * 5 * batches * 2


def test_what_no_memory_can_hold_is_refused(estimate):
    with pytest.raises(InputError, match="out of memory"):
        estimate(grid={"model.fusion.ffn": [10**13]})
