"""How trials are trained: which executions there are, and what a user is told."""

import pytest
from caches import make_cache
from sweeps import a_grid

from data.errors import InputError
from heads.sweeps import execution
from heads.sweeps.execution import Execution, failures, train_trials
from heads.sweeps.sweep import Sweep, opened


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30)


@pytest.fixture
def sweep(cache, tmp_path):
    """A sweep of two trials, not begun."""
    return Sweep(a_grid(tmp_path, fixed={"train.max_epochs": 1}, seeds=[1, 2]), cache, tmp_path / "sweep", "mae")


@pytest.mark.parametrize("size", [0, -1])
def test_a_pack_has_a_trial(size):
    with pytest.raises(InputError, match=rf"^--pack-size is {size}, expected 1 or more\.$"):
        Execution(pack_size=size)


def test_trials_are_announced_trained_and_returned(sweep):
    lines = []
    for over in (0, 2):
        with opened(sweep):
            trials = train_trials(sweep, sweep.grid.configs(), Execution(devices=("cpu",), pack_size=2), lines.append)
        assert lines.pop() == f"{sweep.folder}: 2 trials, {over} of them over"
        assert trials["status"].tolist() == ["complete"] * 2
        assert failures(sweep.folder, trials) is None
    assert (sweep.folder / "trials.parquet").is_file()


def test_a_device_that_is_not_there_is_refused_and_nothing_is_trained(sweep):
    with opened(sweep), pytest.raises(InputError, match="Device 'abacus' cannot be used"):
        train_trials(sweep, sweep.grid.configs(), Execution(devices=("cpu", "abacus")), lambda line: None)
    assert not any(sweep.trials.iterdir())


def test_one_device_is_used_in_this_process_and_several_in_processes(sweep, monkeypatch):
    used = []
    monkeypatch.setattr(execution, "in_process", lambda device: used.append(device))
    monkeypatch.setattr(execution, "in_processes", lambda devices: used.append(devices))
    monkeypatch.setattr(execution, "train_remaining", lambda *arguments: None)
    for devices in (("cpu",), ("cpu", "cpu")):
        with opened(sweep):
            train_trials(sweep, sweep.grid.configs(), Execution(devices=devices), lambda line: None)
    assert used == ["cpu", ("cpu", "cpu")]
