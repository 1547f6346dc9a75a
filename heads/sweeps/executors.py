"""Executors that train packs on the devices of this machine: in this process, or in one process for each device.

The executor of a Ray cluster is in `heads.sweeps.cluster`; the training of one pack in `heads.sweeps.workers`.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from data import stopping
from data.errors import InputError
from heads.runs.folder import RunFolder
from heads.sweeps.sweep import loaded_cache
from heads.sweeps.workers import TrialPack, Watcher, train_pack, train_pack_alone

POLL_S = 1.0
"""Seconds between two reports that training goes on."""

Execute = Callable[[Sequence[TrialPack], Watcher], None]
"""An executor: trains packs to their ends and tells the watcher about their trials."""


def in_process(device: str) -> Execute:
    """Return the executor of one device."""

    def execute(packs: Sequence[TrialPack], watcher: Watcher) -> None:
        for pack in packs:
            train_pack(pack, loaded_cache(pack.sweep.cache, device, pack.sweep.memory_bytes), watcher)

    return execute


def in_processes(devices: Sequence[str], threads: int | None = None) -> Execute:
    """Return the executor of several devices of this machine, with one process each.

    Args:
        devices: A name for each process.
        threads: Threads of each process; None divides those of this process.
    """
    share = threads or max(1, torch.get_num_threads() // len(devices))

    def execute(packs: Sequence[TrialPack], watcher: Watcher) -> None:
        waiting = deque(packs)
        busy: dict[Future[list[Path]], int] = {}
        try:
            with processes(len(devices), share) as pools, _stopping_together(pools, busy):
                while waiting or busy:
                    for number in set(range(len(devices))) - set(busy.values()):
                        if waiting:
                            watcher.on_start(len(waiting[0].configs))
                            busy[pools[number].submit(_train, waiting.popleft(), devices[number])] = number
                    for future in wait(busy, POLL_S, return_when=FIRST_COMPLETED).done:
                        del busy[future]
                        for path in future.result():
                            watcher.on_progress(1)
                            watcher.on_end(RunFolder(path))
                    watcher.on_wait()
        except BrokenProcessPool as error:
            words = (
                "A worker process died (out of memory?). The same command goes on with what is left; fewer --devices need less memory."
            )
            raise InputError(words) from error

    return execute


def _train(pack: TrialPack, device: str) -> list[Path]:
    """Train one pack in a worker, unless it was asked to stop."""
    with stopping.finishing():
        stopping.check()
        return train_pack_alone(pack, device)


@contextlib.contextmanager
def _stopping_together(pools: Sequence[ProcessPoolExecutor], busy: Mapping[Future[list[Path]], int]) -> Iterator[None]:
    """Ask the workers to stop when this process is asked to, or one of them was, and wait until they have saved."""
    workers = [pool.submit(os.getpid) for pool in pools]
    try:
        yield
    except stopping.Stopped as stop:
        for worker in workers:
            with contextlib.suppress(BrokenProcessPool, ProcessLookupError):  # it has ended already
                os.kill(worker.result(), stop.number)
        wait(busy)
        raise


@contextlib.contextmanager
def processes(count: int, threads: int) -> Iterator[list[ProcessPoolExecutor]]:
    """Start processes with so many threads each, as pools of one process. They end at once when this process ends or an exception is
    raised here, because whoever goes on with the sweep trains their trials again."""
    context = multiprocessing.get_context("spawn")
    ending, held = context.Pipe(duplex=False)
    pools = [ProcessPoolExecutor(1, context, _begin, (ending, threads)) for _ in range(count)]
    try:
        yield pools
    except BaseException:
        held.close()
        raise
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)
        held.close()
        ending.close()


def _begin(ending: Connection, threads: int) -> None:
    """Prepare a process of `processes`, which ends when nobody holds the other end of the pipe any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal
    stopping.handle(at_once=False)
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(ending,), daemon=True).start()


def _end_with(ending: Connection) -> None:
    with contextlib.suppress(EOFError):
        ending.recv()
    os._exit(1)
