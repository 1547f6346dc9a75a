"""The executor of a Ray cluster: one worker for each of its devices, which trains one pack at a time.

    python -m heads sweep GRID.yaml --cache CACHE --out DIR --executor ray                # this machine, all of its devices
    ray start --head --port 6379                                                          # or: on the first machine,
    ray start --address FIRST:6379                                                        # on all others,
    python -m heads sweep GRID.yaml --cache CACHE --out DIR --executor ray --ray-address FIRST:6379

Devices are the GPUs of the cluster or, if it has none, its CPUs, one thread each. `ray start --num-gpus N` and `--num-cpus N` limit
how many of a machine are used; with OMP_NUM_THREADS=T in its environment a worker has T threads. CACHE and DIR must be on a disk that
all machines share, under the same path, and this program and its environment must be installed on all of them.

A worker is a Ray actor, not a task, because it keeps the features on its device from one pack to the next. When a worker or its machine
dies, another worker trains what is left of its pack, from the point where each trial was saved. When the driver (this process) is
killed, Ray ends its workers, and the same command goes on. When it is asked to stop (`data.stopping`), it asks its workers to stop and
waits until they have saved. A machine that is out of reach may end its workers later than Ray believes:
a worker therefore locks the trials that it trains (DIR/locks), and another one waits for them. Studies are files below DIR
(`heads.sweeps.search`), so workers prune by ASHA as processes of one machine do. The training of a pack is in `heads.sweeps.workers`,
executors for this machine alone are in `heads.sweeps.executors`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from filelock import FileLock

from data import stopping
from data.errors import InputError
from heads.runs.folder import RunFolder, run_folder
from heads.sweeps.packing import free_memory
from heads.sweeps.status import is_over
from heads.sweeps.sweep import Sweep, remove_unfinished_files
from heads.sweeps.workers import TrialPack, Watcher, train_pack_alone

TRIES = 5
"""Attempts to train a pack, or to start a worker, before the deaths of workers are blamed on the pack or the machine."""

CONNECT_S = 10.0
"""Seconds that the first machine of a cluster has to accept a connection."""

POLL_S = 1.0
"""Seconds between two looks at the trials in progress."""

LOCK_POLL_S = 0.5
"""Seconds between two attempts to lock a trial that another worker trains."""

SHARED_S = 90.0
"""Seconds until a file written by another machine must be visible here: network file systems cache directories for up to 60 s."""

_HOST_SHARE = 0.8
"""Share of the memory of a machine that features may take."""


class Worker:
    """A process on any machine of the cluster that trains packs on one device. `stop` is called while `train` runs."""

    def __init__(self, device: str) -> None:
        self.device = device

    def free_memory(self) -> int | None:
        """Return the free bytes of the device, None for a CPU. The answer shows that the worker is ready."""
        return free_memory(torch.device(self.device))

    def train(self, pack: TrialPack) -> None:
        """Train one pack as soon as no other worker trains any of its trials."""
        if self.device == "cpu" and pack.sweep.memory_bytes is None:
            pack = dataclasses.replace(pack, sweep=dataclasses.replace(pack.sweep, memory_bytes=_memory_share()))
        with contextlib.suppress(stopping.Stopped), contextlib.ExitStack() as held, stopping.finishing():
            for folder in sorted(folders(pack), key=lambda folder: folder.path):
                held.enter_context(locked(pack.sweep, folder))
            train_pack_alone(pack, self.device)

    def stop(self, number: int) -> None:
        """End the epoch in hand and save, as if this signal had come; `train` returns then."""
        stopping.ask(number)


def folders(pack: TrialPack) -> list[RunFolder]:
    """List the run folders of a pack."""
    return [run_folder(config, pack.sweep.trials) for config in pack.configs]


@contextlib.contextmanager
def locked(sweep: Sweep, folder: RunFolder) -> Iterator[None]:
    """Lock one trial for this process."""
    lock = sweep.folder / "locks" / f"{folder.path.name}.lock"
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock, poll_interval=LOCK_POLL_S):
        remove_unfinished_files(folder)
        yield


def _memory_share() -> int:
    """Return the bytes that the features of one worker may take. This machine has one worker for each CPU that Ray may use."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    [resources] = [node["Resources"] for node in ray.nodes() if node["NodeID"] == own]
    return int(_HOST_SHARE * resources["memory"] / resources["CPU"])


class SentPack:
    """A pack that workers train: how often it was tried, and which of its trials are not known to be over."""

    def __init__(self, pack: TrialPack) -> None:
        sweep = pack.sweep
        there = dataclasses.replace(sweep, cache=sweep.cache.resolve(), folder=sweep.folder.resolve())  # workers run in other folders
        self.pack, self.tries = dataclasses.replace(pack, sweep=there), 0
        self.left = folders(self.pack)

    def look(self, watcher: Watcher) -> list[RunFolder]:
        """Report the trials that have ended since the last look, and return those that have not."""
        for folder in [folder for folder in self.left if is_over(folder)]:
            self.left.remove(folder)
            watcher.on_progress(1)
            watcher.on_end(folder)
        return self.left

    def wait_for_files(self, watcher: Watcher) -> None:
        """Report the other trials once their files are visible here, after a worker has ended all trials.

        Raises:
            InputError: The files do not become visible.
        """
        until = time.monotonic() + SHARED_S
        while self.look(watcher):
            if time.monotonic() > until:
                raise InputError(
                    f"{self.left[0].path}: a worker has ended this trial, but its results are not visible here."
                    f" {self.pack.sweep.folder} must be on a disk that all machines of the cluster share."
                )
            time.sleep(POLL_S)


class Cluster:
    """The executor on the devices of a Ray cluster; `on_ray` makes it.

    Attributes:
        devices: One name for each worker that the cluster has room for.
        free_bytes: Free memory of one device; None for CPUs.
    """

    def __init__(self, ray: Any, device: str) -> None:
        """Start the first worker.

        Args:
            ray: The Ray module, connected to a cluster.
            device: "auto", "cuda" or "cpu".

        Raises:
            InputError: The cluster has no such devices, or this program does not run there.
        """
        self._ray = ray
        self._device = device if device != "auto" else "cuda" if ray.cluster_resources().get("GPU") else "cpu"
        self._starting: dict[Any, Any] = {}  # Ray's reference to the first answer of a worker → worker
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, SentPack]] = {}  # Ray's reference to the end of a pack → its worker, and the pack
        self._failed_starts = 0
        self.free_bytes: int | None = None
        self.devices = [self._device] * self._count()
        if not self.devices:
            raise InputError(f"The Ray cluster has no {self._resource}s. Choose another --devices, or add a machine that has.")
        self._start()
        while not self._idle:
            self._wait()

    def execute(self, packs: Sequence[TrialPack], watcher: Watcher) -> None:
        """Train packs to their ends; see `heads.sweeps.executors.Execute`.

        Raises:
            InputError: A trial cannot be trained as it is asked for, or its workers die again and again.
            Stopped: The command was asked to stop; all workers have saved.
        """
        try:
            self._execute(packs, watcher)
        except stopping.Stopped as stop:
            for worker, _ in self._busy.values():
                worker.stop.remote(stop.number)
            if self._busy:
                self._ray.wait([*self._busy], num_returns=len(self._busy))
            raise

    def _execute(self, packs: Sequence[TrialPack], watcher: Watcher) -> None:
        waiting: deque[SentPack] = deque(map(SentPack, packs))
        given_up: list[RunFolder] = []
        while waiting or self._busy:
            with stopping.finishing():
                self._assign(waiting, watcher)
                for sent, was_trained in self._wait():
                    if was_trained:
                        sent.wait_for_files(watcher)
                    elif sent.look(watcher) and sent.tries < TRIES:
                        waiting.append(sent)
                    else:
                        given_up += sent.left
                for _, sent in self._busy.values():
                    sent.look(watcher)
                watcher.on_wait()
        if given_up:
            names = ", ".join(folder.path.name for folder in given_up)
            raise InputError(f"{TRIES} workers died with these trials (out of memory?): {names}. The same command tries them again.")

    def _assign(self, waiting: deque[SentPack], watcher: Watcher) -> None:
        """Give packs to idle workers, and start more workers if there are devices for them."""
        while waiting and self._idle:
            sent, worker = waiting.popleft(), self._idle.pop()
            if not sent.tries:
                watcher.on_start(len(sent.left))
            sent.tries += 1
            self._busy[worker.train.remote(sent.pack)] = (worker, sent)
        free = self._count() - len(self._busy) - len(self._starting)
        for _ in range(min(free, len(waiting) - len(self._starting))):
            self._start()

    def _wait(self) -> list[tuple[SentPack, bool]]:
        """Wait a moment for workers to get ready, to finish or to die.

        Returns:
            The packs that no worker has any more, and True if the worker trained them, False if it died.
        """
        done, _ = self._ray.wait([*self._starting, *self._busy], timeout=POLL_S)
        left = []
        for reference in done:
            if reference in self._starting:
                self._begin(self._starting.pop(reference), reference)
                continue
            worker, sent = self._busy.pop(reference)
            error = self._result(reference, worker)[1]
            left.append((sent, error is None))
            if error is None:
                self._idle.append(worker)
        return left

    def _start(self) -> None:
        needs = {"num_gpus": 1, "num_cpus": 0} if self._device == "cuda" else {"num_cpus": 1}
        worker = self._ray.remote(max_concurrency=2, **needs)(Worker).remote(self._device)
        self._starting[worker.free_memory.remote()] = worker

    def _begin(self, worker: Any, reference: Any) -> None:
        """Take in a worker that is ready; start another one if it died while it started."""
        found, error = self._result(reference, worker)
        if error is None:
            self.free_bytes, self._failed_starts = found, 0
            self._idle.append(worker)
            return
        self._failed_starts += 1
        if self._failed_starts >= TRIES:
            raise InputError(f"{TRIES} workers died as they started. Are this program and its environment on all machines? ({error})")
        self._start()

    def _result(self, reference: Any, worker: Any) -> tuple[Any, Exception | None]:
        """Return the worker's answer, or the error that it died of."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference), None
        except errors.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from error
            raise
        except errors.RayError as error:
            self._ray.kill(worker)  # it may only be out of reach
            return None, error

    @property
    def _resource(self) -> str:
        return "GPU" if self._device == "cuda" else "CPU"

    def _count(self) -> int:
        return int(self._ray.cluster_resources().get(self._resource, 0))


@contextlib.contextmanager
def on_ray(address: str | None, devices: Sequence[str]) -> Iterator[Cluster]:
    """Connect to a Ray cluster, or start one on this machine alone, until the context ends.

    Args:
        address: HOST:PORT, or auto for a cluster that this machine is part of. None: the value of RAY_ADDRESS, or a cluster of this
            machine alone.
        devices: One of auto, cuda, cpu.

    Raises:
        InputError: Ray is missing, there is no cluster, or it has no such devices.
    """
    if len(devices) != 1 or devices[0] not in ("auto", "cuda", "cpu"):
        raise InputError(f"--devices is {' '.join(devices)}. With --executor ray it is auto, cuda or cpu: the cluster says how many.")
    ray = _connected(address or os.environ.get("RAY_ADDRESS", "local"))
    try:
        yield Cluster(ray, devices[0])
    finally:
        ray.shutdown()  # ends the workers in the middle of their packs


@contextlib.contextmanager
def _own_handlers() -> Iterator[None]:
    """Keep the handler of TERM, which Ray replaces by one that ends the process."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError("--executor ray needs Ray, which is not installed. Install it: pip install '.[ray]'") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if address not in ("local", "auto"):
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()  # Ray itself would try for minutes
        with _own_handlers():
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: another version of Ray or Python
        raise InputError(f"No Ray cluster can be used at {address} ({error}). Give HOST:PORT of its first machine, or auto.") from error
    return ray
