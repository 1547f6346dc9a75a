"""Training the trials of a sweep on devices of this machine or on a Ray cluster: what was chosen (`Execution`), and carrying it out.

`python -m heads sweep` and `tables` both train this way. Which trials are left and how they are packed is decided in
`heads.sweeps.session`; what the commands print is in `heads.commands`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from data.errors import InputError
from heads.runs.config import RunConfig
from heads.runs.folder import RunFolder, run_folder
from heads.runs.run_data import choose_device
from heads.sweeps.cores import Choice, available_cores, choose, keep
from heads.sweeps.executors import Execute, in_process, in_processes
from heads.sweeps.parts import Part
from heads.sweeps.progress import Bar
from heads.sweeps.results.trials import collect, remedy, write_trials
from heads.sweeps.session import train_remaining
from heads.sweeps.sweep import Sweep, count_trials, open_trials, remaining


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The machinery that trains the trials of a sweep; it changes their results in the last bits at most."""

    devices: tuple[str, ...] = ("auto",)  # one worker each; auto alone: the GPU, or workers that share the CPU (`choose_cores`)
    executor: str = "local"  # local: processes of this machine; ray: a Ray cluster
    ray_address: str | None = None  # of a running cluster; None starts a local one
    pack_size: int | None = None  # trials that are trained together; None: as many as save time and fit into a device's memory
    logs: tuple[str, ...] = ()  # keys of `heads.runs.logs.LOGS`, written of every trial that ends

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: A pack would be empty.
        """
        if self.pack_size is not None and self.pack_size < 1:
            raise InputError(f"--pack-size is {self.pack_size}, expected 1 or more.")


class _Workers(NamedTuple):
    """The devices of an execution, ready to train."""

    devices: Sequence[str]
    execute: Execute
    free_bytes: int | None = None  # memory of a device, if it is one of another machine


def train_trials(sweep: Sweep, configs: Sequence[RunConfig], execution: Execution, announce: Callable[[str], None]) -> pd.DataFrame:
    """Train the trials that are left, behind a progress bar, and write trials.parquet, also when interrupted.

    Args:
        sweep: A sweep whose folder is `heads.sweeps.sweep.opened`.
        configs: Configurations of its grid.
        execution: Devices and size of packs.
        announce: Called with each line for the user.

    Returns:
        All trials of the folder, as `heads.sweeps.results.trials.collect` returns them.

    Raises:
        InputError: A device cannot be used, the cache lacks something, or a trial cannot be trained as it is asked for.
    """
    total, over = count_trials(sweep, configs)
    announce(f"{sweep.folder}: {total} trials, {len(over)} of them over")
    try:
        _train(sweep, configs, execution, announce, total, over, None)
    finally:
        trials = write_trials(sweep.folder) if any(sweep.trials.iterdir()) else pd.DataFrame()
    return trials


def train_part(
    sweep: Sweep, part: Part, configs: Sequence[RunConfig], execution: Execution, announce: Callable[[str], None]
) -> pd.DataFrame:
    """Train the trials that are left of one part of a sweep, and write no tables, because other processes train the other parts.

    Args:
        sweep: A sweep of which this part is `heads.sweeps.parts.opened_part`.
        part: The part.
        configs: Its configurations (`heads.sweeps.parts.configs_of`).
        execution: Devices and size of packs.
        announce: Called with each line for the user.

    Returns:
        The trials of this part, as `heads.sweeps.results.trials.collect` returns them.

    Raises:
        InputError: As for `train_trials`.
    """
    total, over = count_trials(sweep, configs)
    announce(f"{sweep.folder}, part {part}: {total} trials, {len(over)} of them over")
    _train(sweep, configs, execution, announce, total, over, part)
    return collect(sweep.folder, {run_folder(config, sweep.trials).path.name for config in configs})


def choose_cores(sweep: Sweep, configs: Sequence[RunConfig], execution: Execution, part: Part | None) -> Choice | None:
    """Choose how the trials that are left share the cores of this machine.

    Args:
        sweep: The sweep; nothing is written to its folder.
        configs: Configurations of its trials, or of those of the part.
        execution: Devices and size of packs, if the user has chosen them.
        part: The part of the sweep that is trained, if it is not the whole.

    Returns:
        The choice; None if the user has chosen, there is nothing to choose, or the number would change what is trained: a study asks
        for trials and stops them by the results known by then.

    Raises:
        InputError: As for `heads.sweeps.cores.choose`.
    """
    is_free = (execution.devices, execution.executor, execution.pack_size) == (("auto",), "local", None)
    if not is_free or sweep.has_study or choose_device("auto").type != "cpu" or available_cores() < 2:
        return None
    return choose(sweep, remaining(open_trials(sweep, configs)), _record(sweep, part))


def _record(sweep: Sweep, part: Part | None) -> Path:
    """Return the file that keeps the choice of a sweep, or of a part, which another machine may train."""
    return sweep.folder / "cores.json" if part is None else sweep.folder / "parts" / f"{part.number}-of-{part.count}.cores.json"


def _train(
    sweep: Sweep,
    configs: Sequence[RunConfig],
    execution: Execution,
    announce: Callable[[str], None],
    total: int,
    over: Sequence[RunFolder],
    part: Part | None,
) -> None:
    if choice := choose_cores(sweep, configs, execution, part):
        announce(choice.words)
        keep(choice, _record(sweep, part))
    with (
        _workers(execution, choice, announce) as workers,
        Bar(total, over, sweep.metric, execution.logs, sweep.folder) as bar,
    ):
        train_remaining(sweep, workers.devices, workers.execute, bar, execution.pack_size, workers.free_bytes, configs)


def failures(folder: Path, trials: pd.DataFrame) -> str | None:
    """Return one line: how many trials failed or are damaged, why the first is, and what to do; None if there are none.

    Args:
        folder: The folder of the sweep.
        trials: Rows of `heads.sweeps.results.trials.collect`.
    """
    lines = []
    for status, words in (("failed", "failed"), ("damaged", "are damaged")):
        found = trials[trials["status"] == status]
        for _, first in found.head(1).iterrows():
            name = first["name"]
            lines.append(f"{len(found)} of {len(trials)} trials {words}; {name}: {first['error']} {remedy(folder, name)}")
    return " ".join(lines) or None


@contextlib.contextmanager
def _workers(execution: Execution, choice: Choice | None, announce: Callable[[str], None]) -> Iterator[_Workers]:
    """Make the workers of an execution, and end them."""
    if execution.executor == "ray":
        from heads.sweeps.cluster import on_ray  # Ray is optional

        with on_ray(execution.ray_address, execution.devices) as cluster:
            announce(f"Ray: {len(cluster.devices)} × {cluster.devices[0]}")
            yield _Workers(cluster.devices, cluster.execute, cluster.free_bytes)
        return
    if choice and choice.shares:
        devices = ("cpu",) * choice.workers
        yield _Workers(devices, in_processes(devices, choice.threads))
        return
    for name in execution.devices:
        choose_device(name)
    is_one = len(execution.devices) == 1
    yield _Workers(execution.devices, in_process(execution.devices[0]) if is_one else in_processes(execution.devices))
