"""Executors of this machine: several devices, and what is left when a process is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest
from caches import make_cache
from projects import finish, forked
from sweeps import a_grid, assert_equal_to_fit, swept, times

from heads.runs.folder import RunFolder
from heads.sweeps.executors import in_processes
from heads.sweeps.sweep import Sweep
from pipeline.settings import CHECKOUT


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder for runs that `fit` trains: each configuration once for all tests."""
    return tmp_path_factory.mktemp("alone")


@pytest.fixture
def sweep(cache, tmp_path):
    """Makes a sweep of a grid in tmp_path / "sweep"."""

    def of(**sections: object) -> Sweep:
        return Sweep(a_grid(tmp_path, **sections), cache, tmp_path / "sweep", "mae")

    return of


KILLED = """
import os, signal, sys
from heads.runs.folder import RunFolder
from heads.__main__ import main

write, calls = RunFolder.write_metrics, []

def write_and_die(self, content):
    calls.append(write(self, content))
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

RunFolder.write_metrics = write_and_die
sys.exit(main(sys.argv[1:]))
"""
"""Dies after the second trial."""


def test_a_killed_sweep_goes_on_with_what_is_not_complete(sweep, cache, alone):
    made = sweep(grid={"train.lr": [0.01, 0.003]}, seeds=[1, 2])
    command = ["sweep", made.grid.path, "--cache", cache, "--out", made.folder, "--devices", "cpu", "--pack-size", "3"]
    killed = finish(forked("-c", KILLED, *map(str, command), cwd=CHECKOUT))
    assert killed.returncode == -signal.SIGKILL
    before = times(made)
    assert len(before) == 2
    seen = swept(made)
    assert len(seen.over) == 2
    assert {name: moment for name, moment in times(made).items() if name in before} == before
    assert_equal_to_fit(made, alone)


def test_several_devices_share_a_sweep(sweep, alone):
    made = sweep(seeds=[1, 2, 3])
    devices = ("cpu", "cpu")
    seen = swept(made, 2, in_processes(devices), devices)
    assert (seen.count, seen.share, len(seen.over)) == (3, 3, 3)
    assert_equal_to_fit(made, alone)


STARTED = """
import sys
from pathlib import Path

from heads.sweeps.executors import in_processes
from heads.sweeps.grid import read_grid
from heads.sweeps.session import train_remaining
from heads.sweeps.sweep import Sweep, opened
from heads.sweeps.workers import Watcher

if __name__ == "__main__":
    grid, cache, out = map(Path, sys.argv[1:])
    made = Sweep(read_grid(grid, None), cache, out, "mae")
    with opened(made):
        train_remaining(made, ["cpu"], in_processes(["cpu"]), Watcher())
"""


def test_workers_end_with_the_process_that_started_them(sweep, cache, tmp_path):
    """Otherwise they would train trials that the next command trains too. The test waits until nobody holds the pipe any more."""
    made = sweep(seeds=[1], fixed={"train.max_epochs": 100_000, "train.patience": 100_000})
    script = tmp_path / "started.py"
    script.write_text(STARTED)
    command = [sys.executable, script, made.grid.path, cache, made.folder]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process:
        while not any(made.trials.glob("*/config.json")):
            assert process.poll() is None, process.stdout.read().decode()
            time.sleep(0.05)
        process.kill()
        process.communicate(timeout=20)
    assert times(made) == {}


@pytest.mark.parametrize("devices", [1, 2])
def test_a_sweep_that_is_asked_to_stop_saves_and_goes_on(sweep, cache, alone, devices):
    made = sweep(grid={"train.lr": [0.01, 0.003]}, fixed={"train.max_epochs": 40, "train.patience": 40}, seeds=[1])
    command = ["sweep", made.grid.path, "--cache", cache, "--out", made.folder, "--pack-size", "1", "--devices", *["cpu"] * devices]
    asked = forked("-m", "heads", *map(str, command), cwd=CHECKOUT)
    until = time.monotonic() + 60
    while len([*made.folder.glob("trials/*/config.json")]) < devices and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3)
    asked.send_signal(signal.SIGTERM)
    assert asked.communicate(timeout=60)[1] == "Stopped by SIGTERM. The same command goes on where it was saved.\n"
    assert asked.returncode == 143
    saved = [RunFolder(path.parent).saved_epochs for path in made.folder.glob("trials/*/state.safetensors")]
    assert len(saved) == devices
    assert all(0 < epochs < 40 for epochs in saved)
    swept(made, size=1)
    assert_equal_to_fit(made, alone)
