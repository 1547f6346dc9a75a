"""A sweep of tiny runs as `python -m heads sweep` leaves it: complete, pruned, failed and unfinished trials, a simple baseline
among them."""

import shutil
from pathlib import Path

import numpy as np
import small_runs
from caches import make_cache

from heads.runs.folder import RunFolder, run_folder
from heads.sweeps.results.trials import collect
from heads.training.fit import describe

RATES = (0.001, 0.03)
SEEDS = (1, 2)
ERROR = "Epoch 1: the validation loss is <not> finite. Lower train.lr (1000)."
SHORT = {"train.max_epochs": 2, "train.keep": []}


def make_sweep(folder: Path) -> Path:
    """Make nine trials of seven configurations: pre-fusion with two learning rates and two seeds, one with sentiment alone, ridge, one
    pruned, one failed, one not ended."""
    cache, trials = make_cache(folder / "cache"), folder / "sweep_1" / "trials"
    for lr in RATES:
        for seed in SEEDS:
            small_runs.run(cache, trials, changes={**SHORT, "train.lr": lr, "seed": seed})
    small_runs.run(cache, trials, changes={**SHORT, "train.lr": 0.03, "task": "msa"})
    small_runs.run(cache, trials, "ridge")
    pruned = small_runs.run(cache, trials, changes={**SHORT, "train.lr": 0.3})
    pruned.write_metrics(pruned.metrics() | {"pruned": True})
    begun(cache, trials, 1000.0).write_failure(ERROR)
    begun(cache, trials, 0.0003)
    (trials.parent / "grid.yaml").write_text("grid:\n  train.lr: [0.001, 0.03] # <&>\n", encoding="utf-8")
    return trials.parent


def begun(cache: Path, trials: Path, lr: float) -> RunFolder:
    """Make a trial that has only begun."""
    run_data = small_runs.run_data(cache, changes={**SHORT, "train.lr": lr})
    folder = run_folder(run_data.config, trials)
    folder.begin(describe(run_data))
    return folder


def copied(sweep: Path, to: Path) -> Path:
    """Copy a sweep, to change it."""
    return Path(shutil.copytree(sweep, to))


def folders(sweep: Path, **wanted: object) -> list[RunFolder]:
    """List the trials with these values in the columns of `collect`; "__" stands for the dot in a name."""
    table = collect(sweep)
    rows = np.all([table[name.replace("__", ".")] == value for name, value in wanted.items()], axis=0)
    return [RunFolder(sweep / "trials" / name) for name in table.loc[rows, "name"]]


def key_of(sweep: Path, **wanted: object) -> str:
    """Return the key of the first of these trials."""
    return folders(sweep, **wanted)[0].path.name.rpartition("-seed")[0][-8:]
