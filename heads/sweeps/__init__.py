"""Sweeps: many runs of one grid file, trained in packs, on one device, several, or a Ray cluster.

Before training: `grid` and `distributions` read the grid file, `sweep` opens the sweep's folder and its trials, `locks` keeps others
from it, `status` says how far a trial is, `search` asks Optuna for trials and stops poor ones early, `packing` puts trials together
that can be trained at once, `parts` divides a sweep among the jobs of a cluster, `cores` measures how trials share those of a CPU.

Training: `workers` trains one pack, `executors` gives packs to the devices of this machine and `cluster` to those of a Ray cluster,
`session` trains everything that is left, `progress` shows it, `execution` does all of this on the devices that the user chose, and
`dry_run` estimates time and memory without training, by steps of `timing`.

After training: `results` has tables, statistics and the report.

How runs are trained together is in `heads.training`; a single run needs nothing from here.
"""

from heads.sweeps.grid import Grid, read_grid
from heads.sweeps.session import pack_trials, train_remaining
from heads.sweeps.sweep import Sweep, Trial, open_trials, opened

__all__ = ["Grid", "Sweep", "Trial", "open_trials", "opened", "pack_trials", "read_grid", "train_remaining"]
