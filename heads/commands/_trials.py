"""The common part of `sweep` and `tables`: flags about training trials become an `Execution`; dry runs and failures are printed.

Trials are trained in `heads.sweeps.execution`, a dry run is measured in `heads.sweeps.dry_run`. This module imports torch: commands
import it in `run`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from data.errors import InputError
from data.lookup import expect
from data.reporting.tables import aligned
from heads.models.own import short_name
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.logs import LOGS, expect_installed
from heads.runs.run_data import choose_device
from heads.sweeps.calibration import calibrate
from heads.sweeps.costs import step_costs
from heads.sweeps.dry_run import time_packs
from heads.sweeps.execution import Execution, choose_cores, failures
from heads.sweeps.packing import PackGroup
from heads.sweeps.parts import Part
from heads.sweeps.sweep import Sweep, open_trials, remaining

_HEADER = ("head", "corpus", "task", "preset", "trials", "packs", "at a time", "memory a trial", "at most")

_COSTS = ("a step of head", "corpus", "task", "preset", "launches", "GFLOP", "GB moved", "alone", "a trial of a pack", "packs up to")
"""Heading of counted costs: for one trial, on a batch of middle size; times are upper bounds that follow from the device's speeds."""


def execution(args: argparse.Namespace) -> Execution:
    """Return what the flags of `heads.commands._flags.add_execution` say.

    Raises:
        InputError: A flag cannot be used, or two do not go together.
    """
    found = Execution(
        devices=tuple(args.devices or ("auto",)),
        executor=args.executor,
        ray_address=args.ray_address,
        pack_size=args.pack_size,
        logs=logs(args.log, args.tensorboard),
    )
    if args.dry_run and found.executor == "ray":
        raise InputError("--dry-run times a few steps on this machine and knows nothing of a Ray cluster. Leave out --executor ray.")
    return found


def logs(asked: Sequence[str], tensorboard: bool = False) -> tuple[str, ...]:
    """Return the logs that --log and --tensorboard ask for, each once.

    Raises:
        InputError: There is no such log, or its package is not installed.
    """
    more = ("tensorboard",) if tensorboard else ()
    found = tuple(dict.fromkeys((*asked, *more)))
    for name in found:
        expect(LOGS, name, "log")
    expect_installed(found)
    return found


def announce(line: str) -> None:
    """Print one line at once, also into a pipe."""
    print(line, flush=True)


def print_dry_run(sweep: Sweep, configs: Sequence[RunConfig], execution: Execution, part: Part | None = None) -> None:
    """Print how many trials there are, how they are packed, how much memory they take and how long they take at most.

    Args:
        sweep: The sweep; its folder need not exist and is not written to.
        configs: Configurations of its trials, or of those of the part.
        execution: The first device is timed; the others are assumed to be as fast. If the user has not chosen, how trials share the
            cores is measured as for the sweep.
        part: The part of the sweep, if it is not the whole.

    Raises:
        InputError: The cache lacks what a trial reads, an option is out of its range, or memory runs out.
    """
    trials = open_trials(sweep, configs)
    left = remaining(trials)
    announce(f"{len(trials)} trials, {len(trials) - len(left)} of them over")
    timed = time_packs(sweep, left, execution)
    if simple_baselines := [trial for trial in left if HEADS[trial.config.head].simple]:
        print(f"{len(simple_baselines)} simple baselines, seconds each")
    if not timed:
        return
    rows = []
    for group, seconds in timed:
        config = group.trials[0].config
        memory = "alone" if group.trial_bytes is None else f"{group.trial_bytes / 1e6:,.0f} MB"
        sizes = (len(group.trials), len(group.packs), group.size)
        rows.append([short_name(config.head), config.corpus, config.task, config.preset, *map(str, sizes), memory, _clock(seconds)])
    print(aligned(rows, _HEADER, left=4))
    _print_costs([group for group, _ in timed if group.trial_bytes is not None], choose_device(execution.devices[0]))
    choice = choose_cores(sweep, configs, execution, part)
    if choice:
        print(choice.words)
    total = sum(seconds for _, seconds in timed) / (choice.speed if choice else len(execution.devices))
    print(f"at most {_clock(total)} on {', '.join(execution.devices)}, if no trial stops early")


def _print_costs(groups: Sequence[PackGroup], device: torch.device) -> None:
    """Print the counted costs of a step of each group that can be packed, and what follows from the speeds of the device."""
    rows, measured = [], {}
    for group in groups:
        config = group.trials[0].config
        speeds = measured.setdefault(config.train.precision, calibrate(device, config.train.precision))
        costs = step_costs(config, group.trials[0].run_data.tensors)
        counted = f"{costs.launches:,}", f"{costs.flops / 1e9:.3g}", f"{costs.traffic_bytes / 1e9:.3g}"
        expected = costs.seconds(speeds), costs.seconds(speeds, group.size) / group.size
        per_trial = (f"{1e3 * seconds:.3g} ms" for seconds in expected)
        rows.append(
            [
                short_name(config.head),
                config.corpus,
                config.task,
                config.preset,
                *counted,
                *per_trial,
                f"{costs.worthwhile_size(speeds):,}",
            ]
        )
    if rows:
        print(aligned(rows, _COSTS, left=4))
    for precision, speeds in measured.items():
        launch, flops, traffic = 1e6 * speeds.launch_s, speeds.flops / 1e9, speeds.bytes_per_s / 1e9
        print(f"{device} in {precision}, measured: {launch:.2g} µs a launch, {flops:,.0f} GFLOP/s, {traffic:,.0f} GB/s")


def print_failures(folder: Path, trials: pd.DataFrame) -> int:
    """Print how many trials failed, if any did, and return the exit status that follows: 1 if one failed, else 0.

    Args:
        folder: The folder of the sweep.
        trials: Rows of `heads.sweeps.results.trials.collect`.
    """
    words = failures(folder, trials)
    if words is None:
        return 0
    print(words)
    return 1


def _clock(seconds: float) -> str:
    """Format as hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
