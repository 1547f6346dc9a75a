"""Sweeps on a Ray cluster of two nodes on this machine, and their results after a node, a worker or the driver was killed."""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from caches import make_cache
from command_line import call
from filelock import FileLock
from projects import forked
from ray._private.node import Node
from ray.cluster_utils import Cluster as RayCluster
from sweeps import Seen, a_grid, folders, history, swept, times, write_grid

from data.errors import InputError
from heads.runs.folder import RunFolder, run_folder
from heads.sweeps import cluster
from heads.sweeps.cluster import SentPack, Worker, locked, on_ray
from heads.sweeps.session import train_remaining
from heads.sweeps.status import status_of
from heads.sweeps.sweep import Sweep, opened, resolved
from heads.sweeps.workers import TrialPack

CHECKOUT = Path(__file__).parents[1]
VARIED = {"list": [{"train.max_epochs": 3}, {"train.max_epochs": 36}], "seeds": [1, 2]}
"""Two trials that are over at once, then two that take seconds, in which something can happen."""

LONG = {"train.max_epochs": 12, "train.patience": 99}


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayCluster]:
    """A cluster of one node, without CPUs, where the driver is."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(CHECKOUT)}.items():
            patch.setenv(name, value)
        made = RayCluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def local(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The same trials, trained in this process."""
    made = sweep(cache, tmp_path_factory.mktemp("local"))
    swept(made, size=1)
    return made


def sweep(cache: Path, folder: Path) -> Sweep:
    """Four trials."""
    return Sweep(a_grid(folder, LONG, **VARIED), cache, folder / "sweep", "mae")


def on(nodes: RayCluster, made: Sweep, size: int = 1) -> Seen:
    """Train what is left of a sweep on a cluster."""
    seen = Seen()
    with opened(made), on_ray(nodes.address, ["auto"]) as there:
        train_remaining(made, there.devices, there.execute, seen, size, there.free_bytes)
    return seen


def nodes_of(cluster: RayCluster, count: int) -> list[Node]:
    """Bring the cluster to this number of nodes with one CPU each."""
    while len(cluster.worker_nodes) > count:
        cluster.remove_node(next(iter(cluster.worker_nodes)))
    while len(cluster.worker_nodes) < count:
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    return list(cluster.worker_nodes)


def training(node: Node) -> list[int]:
    """List the processes of a node that train."""
    raylet, found = node.all_processes["raylet"][0].process.pid, []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == raylet and (process / "cmdline").read_bytes().startswith(b"ray::Worker.train"):
                found.append(int(process.name))
    return found


def wait_until(holds: Callable[[], object]) -> None:
    until = time.monotonic() + 150  # a cluster of processes on a busy machine
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


@contextlib.contextmanager
def disturbed(made: Sweep, nodes: Sequence[Node], disturb: Callable[[Node], None]) -> Iterator[None]:
    """Disturb a node that trains, once a trial is complete and another one has begun."""

    def watch() -> None:
        wait_until(lambda: is_in_the_middle(made) and any(map(training, nodes)))
        disturb(next(filter(training, nodes)))

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(watch)
        yield
        done.result()


def is_in_the_middle(made: Sweep) -> bool:
    """Return True if some trials are over and another one has begun."""
    over = [(path.parent / "metrics.json").exists() for path in made.trials.glob("*/config.json")]
    return any(over) and not all(over)


def kill_worker(node: Node) -> None:
    os.kill(training(node)[0], signal.SIGKILL)


def assert_same(made: Sweep, local: Sweep) -> None:
    """Check that each trial is there once and equals the one that was trained in this process."""
    assert [one.path.name for one in folders(made)] == [one.path.name for one in folders(local)]
    for one, other in zip(folders(made), folders(local), strict=True):
        assert one.metrics() == other.metrics()
        assert history(one).equals(history(other))
        assert not list(one.path.glob(".*"))
        assert not (one.path / "state.safetensors").exists()


def test_trials_of_a_node_that_is_killed_are_trained_by_the_other(nodes, cache, local, tmp_path):
    made, two = sweep(cache, tmp_path), nodes_of(nodes, 2)
    with disturbed(made, two, lambda node: nodes.remove_node(node, allow_graceful=False)):
        seen = on(nodes, made)
    assert sorted(seen.over) == [one.path.name for one in folders(local)]
    assert (seen.count, seen.share) == (4, 4)
    assert_same(made, local)


def test_the_pack_of_workers_that_die_again_and_again_is_given_up(nodes, cache, tmp_path, monkeypatch):
    made, one = sweep(cache, tmp_path), nodes_of(nodes, 1)
    with disturbed(made, one, kill_worker), monkeypatch.context() as patch:
        patch.setattr(cluster, "TRIES", 1)
        with pytest.raises(InputError, match=r"1 workers died with these trials .*: mosi-pre-fusion-light-\w+-seed\d\. The same"):
            on(nodes, made)
    assert len(times(made)) == 3, "the others are trained"


def test_a_sweep_whose_driver_was_killed_goes_on_with_the_same_command_even_if_a_worker_dies(nodes, cache, local, tmp_path, capsys):
    grid, made = write_grid(tmp_path / "grid.yaml", LONG, **VARIED), sweep(cache, tmp_path)
    [node] = nodes_of(nodes, 1)
    where = ["--cache", cache, "--out", made.folder, "--pack-size", 1, "--executor", "ray", "--ray-address", nodes.address]
    command = [str(part) for part in ("sweep", grid, *where)]
    driver = forked("-m", "heads", *command, cwd=CHECKOUT)
    wait_until(lambda: is_in_the_middle(made) and training(node))
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    wait_until(lambda: not training(node))
    before = times(made)
    assert 0 < len(before) < 4
    with disturbed(made, [node], kill_worker):
        status, out, _ = call(capsys, *command)
    assert status == 0
    assert f"4 trials, {len(before)} of them over" in out
    assert "Ray: 1 × cpu" in out
    assert before.items() <= times(made).items()
    assert_same(made, local)


def test_workers_save_when_the_driver_is_asked_to_stop(nodes, cache, tmp_path):
    long = LONG | {"train.max_epochs": 400, "train.patience": 400}
    grid, out = write_grid(tmp_path / "grid.yaml", long, seeds=[1, 2]), tmp_path / "sweep"
    [node] = nodes_of(nodes, 1)
    where = ["--cache", cache, "--out", out, "--pack-size", 1, "--executor", "ray", "--ray-address", nodes.address]
    driver = forked("-m", "heads", *map(str, ("sweep", grid, *where)), cwd=CHECKOUT)
    wait_until(lambda: training(node) and list(out.glob("trials/*/config.json")))
    time.sleep(0.3)
    driver.send_signal(signal.SIGTERM)
    error = driver.communicate(timeout=120)[1]
    assert (driver.returncode, error.splitlines()[-1]) == (143, "Stopped by SIGTERM. The same command goes on where it was saved.")
    [epochs] = [RunFolder(path.parent).saved_epochs for path in out.glob("trials/*/state.safetensors")]
    assert 0 < epochs < 400


def test_a_search_with_pruning_comes_to_the_same_trials_as_in_one_process(nodes, cache, tmp_path):
    space = {"random": {"count": 4, "seed": 5, "train.lr": {"log_uniform": [1e-7, 1e-2]}}, "seeds": [1]}
    made, here = (
        Sweep(a_grid(tmp_path / name, LONG, **space), cache, tmp_path / name / "sweep", "mae", search="optuna", prune="asha")
        for name in ("ray", "here")
    )
    nodes_of(nodes, 1)
    assert len(on(nodes, made).over) == 4
    swept(here, size=1)
    assert {status_of(one) for one in folders(here)} == {"complete", "pruned"}
    assert_same(made, here)


def test_a_worker_waits_for_trials_that_another_one_trains(cache, tmp_path, monkeypatch):
    tried = threading.Event()

    class Watched(FileLock):
        def _acquire(self) -> None:
            super()._acquire()
            tried.set()

    monkeypatch.setattr(cluster, "FileLock", Watched)
    monkeypatch.setattr(cluster, "LOCK_POLL_S", 0.01)
    made = sweep(cache, tmp_path)
    config = resolved(made, made.grid.configs()[0])
    folder = run_folder(config, made.trials)
    folder.path.mkdir(parents=True)
    (folder.path / ".config.json.tmp~elsewhere~1").touch()  # of a process that was killed, on another machine
    with ThreadPoolExecutor(1) as pool:
        with locked(made, folder):
            (folder.path / ".config.json.tmp~elsewhere~2").touch()
            tried.clear()
            done = pool.submit(Worker("cpu").train, TrialPack(dataclasses.replace(made, memory_bytes=10**9), (config,)))
            assert tried.wait(30)
            assert not done.done()
            assert [path.name for path in folder.path.iterdir()] == [".config.json.tmp~elsewhere~2"]
        done.result()
    assert folder.is_complete
    assert not list(folder.path.glob(".*"))


def test_what_is_not_to_be_seen_here_is_not_on_a_shared_disk(cache, tmp_path, monkeypatch):
    made = sweep(cache, tmp_path)
    monkeypatch.setattr(cluster, "SHARED_S", 0)
    with pytest.raises(InputError, match=r"has ended this trial, but its results are not visible here. .* must be on a disk"):
        SentPack(TrialPack(made, (made.grid.configs()[0],))).wait_for_files(Seen())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster_is_said(address):
    with pytest.raises(InputError, match=f"No Ray cluster can be used at {address} .* Give HOST:PORT"), on_ray(address, ["auto"]):
        pass


def test_devices_of_a_cluster_are_not_counted_by_the_command():
    with pytest.raises(InputError, match=r"--devices is cuda:0 cuda:1\. With --executor ray it is auto, cuda or cpu"):
        on_ray(None, ["cuda:0", "cuda:1"]).__enter__()


def test_a_cluster_without_gpus_says_so(nodes):
    with pytest.raises(InputError, match="The Ray cluster has no GPUs"), on_ray(nodes.address, ["cuda"]):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install '\.\[ray\]'"), on_ray(None, ["auto"]):
        pass
