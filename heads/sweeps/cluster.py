"""Sweeps on a Ray cluster: one worker for each of its devices, which trains one pack at a time.

    python -m heads sweep GRID.yaml --cache CACHE --out DIR --executor ray                # this machine, all of its devices
    ray start --head --port 6379                                                          # or: on the first machine,
    ray start --address FIRST:6379                                                        # on all others,
    python -m heads sweep GRID.yaml --cache CACHE --out DIR --executor ray --ray-address FIRST:6379

Devices are the GPUs of the cluster or, if it has none, its CPUs, one thread each. `ray start --num-gpus N` and `--num-cpus N` say how
many of a machine are used; with OMP_NUM_THREADS=T in its environment a worker has T threads. CACHE and DIR must be on a disk that all
machines share, under the same path, and this program and its environment must be installed on all of them.

A worker is a Ray actor, not a task, because it keeps the features on its device from one pack to the next. When it dies, or its
machine, another one trains what is left of its pack, from where each trial was saved. When the driver, this process, is killed, Ray
ends its workers, and the same command goes on. A machine that is out of reach may end its workers later than Ray believes: a worker
therefore locks the trials that it trains (DIR/locks), and another one waits for them. Studies are files below DIR
(`heads.sweeps.search`), so that workers prune by ASHA as processes of one machine do. How a pack is trained is in
`heads.sweeps.workers`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from filelock import FileLock

from data.errors import InputError
from heads.runs.folder import RunFolder
from heads.sweeps.session import free_bytes
from heads.sweeps.workers import Sweep, TrialPack, Watcher, is_over, train_remote
from heads.training.fit import run_folder

TRIES = 5
"""How often a pack is given to a worker, or a worker is started, before whoever dies is thought to die of it."""

CONNECT_S = 10.0

POLL_S = 1.0
"""How often it is looked which trials are over."""

SHARED_S = 90.0
"""How long a file of another machine may take to be seen here: network file systems keep what they know for up to 60 s."""

_SHARE = 0.8
"""Of the memory of a machine, for features."""


class Worker:
    """Trains packs on one device; a process of its own, on any machine of the cluster."""

    def __init__(self, device: str) -> None:
        self.device = device

    def free_bytes(self) -> int | None:
        """Memory of the device; None for a CPU. Says that the worker is ready."""
        return free_bytes(torch.device(self.device))

    def train(self, work: TrialPack) -> None:
        """Trains one pack, when nobody else does."""
        if self.device == "cpu" and work.sweep.memory_bytes is None:
            work = dataclasses.replace(work, sweep=dataclasses.replace(work.sweep, memory_bytes=_memory_share()))
        with contextlib.ExitStack() as held:
            for folder in sorted(folders(work), key=lambda folder: folder.path):
                held.enter_context(locked(work.sweep, folder))
            train_remote(work, self.device)


def folders(work: TrialPack) -> list[RunFolder]:
    """Of the trials of a pack."""
    return [run_folder(config, work.sweep.trials) for config in work.configs]


@contextlib.contextmanager
def locked(sweep: Sweep, folder: RunFolder) -> Iterator[None]:
    """One trial, for this process alone."""
    lock = sweep.folder / "locks" / f"{folder.path.name}.lock"
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock, poll_interval=0.5):
        for stray in folder.path.glob(".*.tmp~*"):  # nobody writes here now: they are of a process that was killed, on whatever machine
            stray.unlink(missing_ok=True)
        yield


def _memory_share() -> int:
    """Bytes for the features of one of the workers of this machine, which has one for each CPU that Ray has been told of."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    [resources] = [node["Resources"] for node in ray.nodes() if node["NodeID"] == own]
    return int(_SHARE * resources["memory"] / resources["CPU"])


class Flight:
    """A pack on its way: how often it was tried, and which of its trials are not known to be over."""

    def __init__(self, work: TrialPack) -> None:
        sweep = work.sweep
        there = dataclasses.replace(sweep, cache=sweep.cache.resolve(), folder=sweep.folder.resolve())  # workers are elsewhere
        self.work, self.tries = dataclasses.replace(work, sweep=there), 0
        self.left = folders(self.work)

    def look(self, watcher: Watcher) -> list[RunFolder]:
        """Tells of trials that have ended since the last look, and returns those that have not."""
        for folder in [folder for folder in self.left if is_over(folder)]:
            self.left.remove(folder)
            watcher.advanced(1)
            watcher.ended(folder)
        return self.left

    def land(self, watcher: Watcher) -> None:
        """A worker has ended all trials.

        Raises:
            InputError: That cannot be seen here.
        """
        until = time.monotonic() + SHARED_S
        while self.look(watcher):
            if time.monotonic() > until:
                raise InputError(
                    f"{self.left[0].path}: a worker has ended this trial, but here it is not to be seen."
                    f" {self.work.sweep.folder} must be on a disk that all machines of the cluster share."
                )
            time.sleep(POLL_S)


class Cluster:
    """The devices of a Ray cluster, as an executor of sweeps; made by `on_ray`.

    Attributes:
        devices: One for each worker that there can be, by its name there.
        free_bytes: Memory of one of them; None for CPUs.
    """

    def __init__(self, ray: Any, device: str) -> None:
        """Starts the first worker.

        Args:
            ray: The module, connected.
            device: "auto", "cuda" or "cpu".

        Raises:
            InputError: There are no such devices, or this program does not run there.
        """
        self._ray = ray
        self._device = device if device != "auto" else "cuda" if ray.cluster_resources().get("GPU") else "cpu"
        self._starting: dict[Any, Any] = {}  # what ends when the worker is ready → worker
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Flight]] = {}  # what ends when the pack does → its worker, and the pack
        self._failed_starts = 0
        self.free_bytes: int | None = None
        self.devices = [self._device] * self._count()
        if not self.devices:
            raise InputError(f"The Ray cluster has no {self._resource}s. Choose another --devices, or add a machine that has.")
        self._start()
        while not self._idle:
            self._wait()

    def execute(self, works: Sequence[TrialPack], watcher: Watcher) -> None:
        """Trains packs to their ends; an `Execute`.

        Raises:
            InputError: A trial cannot be trained as it is asked for, or workers die of it again and again.
        """
        waiting, given_up = deque(Flight(work) for work in works), []
        while waiting or self._busy:
            self._assign(waiting, watcher)
            for flight, has_landed in self._wait():
                if has_landed:
                    flight.land(watcher)
                elif flight.look(watcher) and flight.tries < TRIES:
                    waiting.append(flight)
                else:
                    given_up += flight.left
            for _, flight in self._busy.values():
                flight.look(watcher)
        if given_up:
            names = ", ".join(folder.path.name for folder in given_up)
            raise InputError(f"{TRIES} workers died with these trials (out of memory?): {names}. The same command tries them again.")

    def _assign(self, waiting: deque[Flight], watcher: Watcher) -> None:
        """Gives packs to workers that are idle, and starts more workers if there are devices for them."""
        while waiting and self._idle:
            flight, worker = waiting.popleft(), self._idle.pop()
            if not flight.tries:
                watcher.begun(len(flight.left))
            flight.tries += 1
            self._busy[worker.train.remote(flight.work)] = (worker, flight)
        free = self._count() - len(self._busy) - len(self._starting)
        for _ in range(min(free, len(waiting) - len(self._starting))):
            self._start()

    def _wait(self) -> list[tuple[Flight, bool]]:
        """Waits a moment for workers to be ready, to be done or to die; the packs that have left one, and whether it trained them."""
        done, _ = self._ray.wait([*self._starting, *self._busy], timeout=POLL_S)
        left = []
        for reference in done:
            if reference in self._starting:
                self._begin(self._starting.pop(reference), reference)
                continue
            worker, flight = self._busy.pop(reference)
            error = self._result(reference, worker)[1]
            left.append((flight, error is None))
            if error is None:
                self._idle.append(worker)
        return left

    def _start(self) -> None:
        needs = {"num_gpus": 1, "num_cpus": 0} if self._device == "cuda" else {"num_cpus": 1}
        worker = self._ray.remote(**needs)(Worker).remote(self._device)
        self._starting[worker.free_bytes.remote()] = worker

    def _begin(self, worker: Any, reference: Any) -> None:
        """A worker is ready, or has died before; then another one is started."""
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
        """What a worker returned, or of what it died."""
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
    """Connects to a Ray cluster, or starts one of this machine alone, for as long as the context lasts.

    Args:
        address: HOST:PORT, or auto for a cluster that this machine is part of; None: RAY_ADDRESS, or one of this machine alone.
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
        ray.shutdown()  # ends the workers, and the packs that they have


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
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: another version of Ray or Python
        raise InputError(f"No Ray cluster can be used at {address} ({error}). Give HOST:PORT of its first machine, or auto.") from error
    return ray
