"""A grid of 24 trials several ways: one after another in one process, packed, as many at a time as the sweep chooses by measurement,
two at a time, and with one process per trial, as it is done elsewhere.

    python tests/benchmarks/bench_sweep.py --cache cache --corpus mosi [--head mmolre] [--preset light] [--device cpu] [--packs 4 24]

Every way is a command of `python -m heads` in processes of its own, imports and loading included. What they reach is compared: a trial
has the same validation error whichever way it was trained. Trials have a fixed number of epochs, so that all ways do the same work.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml
from checkout import CHECKOUT

from data.reporting.tables import aligned
from heads.sweeps.results.trials import collect

RATES, DROPOUTS = (1e-4, 3e-4, 1e-3), (0.1, 0.3)
"""6 trials of the same shapes, with each seed."""


class Result(NamedTuple):
    """One way."""

    seconds: float
    peak_bytes: int
    errors: pd.Series  # validation MAE by trial


def run_command(command: Sequence[str], log: Path) -> tuple[float, int]:
    """Seconds and peak resident memory of a process with its children."""
    began = time.perf_counter()
    with log.open("ab") as output:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])}
        process = subprocess.Popen([sys.executable, "-m", "heads", *command], stdout=output, stderr=output, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed; see {log}")
    return time.perf_counter() - began, usage.ru_maxrss * 1024


def sweep(options: argparse.Namespace, folder: Path, *flags: object) -> Result:
    """All trials by one sweep with these flags."""
    grid = folder / "grid.yaml"
    out = folder / "-".join(["sweep", *map(str, flags)])
    fixed = {"train.max_epochs": options.epochs, "train.patience": options.epochs}
    points = {"train.lr": list(RATES), "model.output_dropout": list(DROPOUTS)}
    whole = {"head": options.head, "corpus": options.corpus, "preset": options.preset, "fixed": fixed, "grid": points}
    grid.write_text(yaml.safe_dump(whole | {"seeds": seeds(options)}), encoding="utf-8")
    command = ["sweep", grid, "--cache", options.cache, "--out", out, *flags]
    seconds, peak = run_command([str(part) for part in command], folder / "log")
    return Result(seconds, peak, errors_of(out))


def processes(options: argparse.Namespace, folder: Path) -> Result:
    """Each trial by a `fit` of its own, one after the other."""
    out = folder / "processes"
    seconds, peak = 0.0, 0
    for rate, dropout, seed in itertools.product(RATES, DROPOUTS, seeds(options)):
        command = ["fit", "--cache", options.cache, "--corpus", options.corpus, "--head", options.head, "--preset", options.preset]
        command += ["--no-report", "--seed", seed, "--device", options.device, "--out", out / "trials"]
        values = {
            "train.lr": rate,
            "model.output_dropout": dropout,
            "train.max_epochs": options.epochs,
            "train.patience": options.epochs,
        }
        command += [f"--set={name}={value}" for name, value in values.items()]
        taken, used = run_command([str(part) for part in command], folder / "log")
        seconds, peak = seconds + taken, max(peak, used)
    return Result(seconds, peak, errors_of(out))


def seeds(options: argparse.Namespace) -> list[int]:
    """Seeds of every configuration."""
    return [*range(1, options.seeds + 1)]


def choice(log: Path) -> str:
    """The line of the sweep that says how many trials it trains at a time; with one core there is none."""
    lines = log.read_text(encoding="utf-8").splitlines()
    return next((line for line in lines if line.startswith("Trials at a time:")), "One core: one trial at a time.")


def errors_of(folder: Path) -> pd.Series:
    """Validation MAE by trial."""
    found = collect(folder)
    return found.set_index("name")["valid.mae"].sort_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="default: cache, which `make features` makes")
    parser.add_argument("--corpus", default="mosi")
    parser.add_argument("--head", default="mmolre")
    parser.add_argument("--preset", default="light")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=4, help="number of seeds of 6 configurations")
    parser.add_argument("--packs", type=int, nargs="*", default=[4, 24], help="trials in a pack")
    parser.add_argument("--without-processes", action="store_true", help="leave out one process per trial")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        one = ["--pack-size", 1, "--devices", options.device]
        found = {"one after another": sweep(options, folder, *one)}
        found |= {
            f"packs of {size}": sweep(options, folder, "--pack-size", size, "--devices", options.device) for size in options.packs
        }
        if options.device == "cpu":
            found["as measured"] = sweep(options, folder)
            found["one after another, two workers"] = sweep(options, folder, *one, "cpu")
            print(choice(folder / "log"))
        if not options.without_processes:
            found["one process per trial"] = processes(options, folder)
    base = found["one after another"]
    rows = [
        [
            name,
            f"{one.seconds:.0f}",
            f"{3600 * len(one.errors) / one.seconds:.0f}",
            f"{base.seconds / one.seconds:.2f}×",
            f"{one.peak_bytes / 1e9:.2f}",
            f"{(one.errors - base.errors).abs().max():.1e}",
        ]
        for name, one in found.items()
    ]
    print(f"{len(base.errors)} trials of {options.head}, {options.preset}, {options.epochs} epochs, {options.corpus}, {options.device}")
    print(aligned(rows, ["way", "s", "trials/h", "against one after another", "peak GB", "largest difference of MAE"]))


if __name__ == "__main__":
    main()
