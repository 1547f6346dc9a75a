"""Sweeps: all configurations of a grid, trained in packs on one device or several of this machine; on a cluster in
`heads.sweeps.cluster`.

What is tried is in `heads.sweeps.grid`, which trials stand together in `heads.sweeps.packing`, how a pack is trained in
`heads.sweeps.workers`, and what came out in `heads.sweeps.results.trials`.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from data.errors import InputError
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.folder import RunFolder
from heads.runs.run_data import choose_device
from heads.sweeps.packing import PackGroup, group
from heads.sweeps.search import Search
from heads.sweeps.workers import Sweep, TrialPack, Watcher, is_settled, loaded_cache, train_remote, train_work
from heads.training.fit import describe, run_folder
from heads.training.loop import Run

Execute = Callable[[Sequence[TrialPack], Watcher], None]
"""An executor: trains packs to their ends."""


def keep_grid(sweep: Sweep) -> None:
    """Copies the grid into the folder of the sweep.

    Raises:
        InputError: The folder has another one.
    """
    kept = sweep.folder / "grid.yaml"
    if not kept.exists():
        shutil.copyfile(sweep.grid.path, kept)
    elif kept.read_bytes() != sweep.grid.path.read_bytes() and not kept.samefile(sweep.grid.path):
        raise InputError(f"{kept}: this folder is of another grid than {sweep.grid.path}. Choose another --out, or give {kept}.")


@contextlib.contextmanager
def opened(sweep: Sweep, keep: Callable[[Sweep], None] = keep_grid) -> Iterator[None]:
    """The folder of a sweep, for this process alone.

    Args:
        sweep: The folder is made if need be.
        keep: Writes down in it what was asked for, or refuses.

    Raises:
        InputError: Another process has it, or it is of another sweep.
    """
    sweep.trials.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(sweep.folder / "lock", timeout=0):
            keep(sweep)
            yield
    except Timeout as error:
        raise InputError(f"{sweep.folder}: another sweep is at work there. Wait for it, or choose another --out.") from error


def plan(sweep: Sweep, configs: Sequence[RunConfig], free: int | None, size: int | None = None) -> list[PackGroup]:
    """How trials pack, without loading features.

    Args:
        sweep: Of the trials.
        configs: The trials; simple baselines are left out.
        free: Memory of the device, which decides how many trials are trained at a time; None for a CPU.
        size: Trials at a time, instead of that.

    Raises:
        InputError: A trial cannot be trained: an option is out of its range, a label is missing, ….
    """
    runs = []
    for config in configs:
        if not HEADS[config.head].simple:
            run_data = loaded_cache(sweep.cache, "cpu", 0).open(config)
            runs.append(Run(run_data.config, run_data.tensors, run_folder(run_data.config, sweep.trials)))
    return group(runs, free, size)


def resolved(sweep: Sweep, config: RunConfig) -> RunConfig:
    """A trial with the source of emotions settled.

    Raises:
        InputError: The cache lacks something that it reads.
    """
    return loaded_cache(sweep.cache, "cpu", 0).open(config).config


def remaining(sweep: Sweep, configs: Iterable[RunConfig]) -> list[RunConfig]:
    """Of resolved trials those that are to be trained, each once: all that are not over, and those for which memory ran out.

    Raises:
        InputError: A trial that is not trained again has read another cache.
    """
    left = {}
    for config in configs:
        folder = run_folder(config, sweep.trials)
        if is_settled(folder):
            folder.begin(describe(loaded_cache(sweep.cache, "cpu", 0).open(config)))
        else:
            left[folder.path] = config
    return list(left.values())


def run(
    sweep: Sweep,
    devices: Sequence[str],
    execute: Execute,
    watcher: Watcher,
    size: int | None = None,
    free: int | None = None,
) -> None:
    """Trains what is left of a sweep.

    Args:
        sweep: In its folder, which is `opened`.
        devices: One for each worker.
        execute: Trains packs on them.
        watcher: Is told what happens.
        size: Trials of a pack, instead of as many as fit into the memory of a device.
        free: That memory, if the devices are GPUs of other machines.

    Raises:
        InputError: A trial cannot be trained as it is asked for.
    """
    free = free or free_bytes(choose_device(devices[0]))

    def train(configs: Iterable[RunConfig], numbers: Mapping[tuple[str, int], int]) -> None:
        left = remaining(sweep, configs)
        works = _works(sweep, left, numbers, free, len(devices), size)
        for config in left:
            run_folder(config, sweep.trials).forget_failure()
        execute(works, watcher)

    if not sweep.is_asked:
        train([resolved(sweep, config) for config in sweep.grid.configs()], {})
        return
    with sweep.study() as study:
        while asked := study.ask(len(devices) * (size or ROUND)):
            configs = {number: resolved(sweep, config) for number, config in asked}
            train(configs.values(), {(config.key(), config.seed): number for number, config in configs.items()})
            for number, config in configs.items():
                _tell(study, number, sweep, run_folder(config, sweep.trials))


ROUND = 8
"""Trials that a search is asked for at a time and device, unless the size of packs is given."""


def _tell(study: Search, number: int, sweep: Sweep, folder: RunFolder) -> None:
    """Tells a study how a trial ended."""
    if folder.failure is not None:
        study.tell(number, None, "failed")
        return
    metrics = folder.metrics()
    value = metrics["valid"].get(sweep.metric)
    study.tell(number, float("nan") if value is None else value, "pruned" if metrics.get("pruned") else "complete")


def _works(
    sweep: Sweep,
    configs: Sequence[RunConfig],
    numbers: Mapping[tuple[str, int], int],
    free: int | None,
    workers: int,
    size: int | None,
) -> list[TrialPack]:
    """Packs of trials: no fewer than there are workers, if there are trials enough; simple baselines one by one."""
    parts: list[tuple[RunConfig, ...]] = [(config,) for config in configs if HEADS[config.head].simple]
    for one in plan(sweep, configs, free, size):
        share = max(1, -(-len(one.runs) // workers))
        for pack in PackGroup(one.runs, one.trial_bytes, min(one.size, share)).packs:
            parts.append(tuple(run.config for run in pack))
    asked = [tuple(numbers[config.key(), config.seed] for config in part) if numbers else () for part in parts]
    return [TrialPack(sweep, part, of_part) for part, of_part in zip(parts, asked, strict=True)]


def in_process(device: str) -> Execute:
    """The executor for one device."""

    def execute(works: Sequence[TrialPack], watcher: Watcher) -> None:
        for work in works:
            train_work(work, loaded_cache(work.sweep.cache, device, work.sweep.memory_bytes), watcher)

    return execute


def in_processes(devices: Sequence[str]) -> Execute:
    """The executor for several devices of this machine, one process each."""

    def execute(works: Sequence[TrialPack], watcher: Watcher) -> None:
        waiting = deque(works)
        busy: dict[Future[list[Path]], int] = {}
        try:
            with _pools(len(devices)) as pools:
                while waiting or busy:
                    for number in set(range(len(devices))) - set(busy.values()):
                        if waiting:
                            watcher.begun(len(waiting[0].configs))
                            busy[pools[number].submit(train_remote, waiting.popleft(), devices[number])] = number
                    for future in wait(busy, return_when=FIRST_COMPLETED).done:
                        del busy[future]
                        for path in future.result():
                            watcher.advanced(1)
                            watcher.ended(RunFolder(path))
        except BrokenProcessPool as error:
            raise InputError("A worker process died (out of memory?). The same command goes on with what is left.") from error

    return execute


@contextlib.contextmanager
def _pools(count: int) -> Iterator[list[ProcessPoolExecutor]]:
    """Processes that share the cores, and end at once with this one or with an exception here: nobody else trains what is in flight."""
    context = multiprocessing.get_context("spawn")
    ending, held = context.Pipe(duplex=False)
    threads = max(1, torch.get_num_threads() // count)
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
    """Begins a process of `_pools`, which ends when nobody holds the other end of the pipe any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(ending,), daemon=True).start()


def _end_with(ending: Connection) -> None:
    with contextlib.suppress(EOFError):
        ending.recv()
    os._exit(1)


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a GPU; None for a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
