"""Training of everything that is left of a sweep: packs are made of its trials and handed to an executor.

Executors are in `heads.sweeps.executors` and `heads.sweeps.cluster`; the training of one pack is in `heads.sweeps.workers`; the table
of results in `heads.sweeps.results.trials`.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.folder import RunFolder
from heads.runs.run_data import choose_device
from heads.sweeps.calibration import calibrate
from heads.sweeps.executors import Execute
from heads.sweeps.packing import Measure, PackGroup, free_memory, group
from heads.sweeps.search import Search
from heads.sweeps.status import status_of
from heads.sweeps.sweep import Sweep, Trial, open_trials, remaining
from heads.sweeps.workers import TrialPack, Watcher
from heads.training.steps import expect_steps

ROUND = 8
"""Trials that a study is asked for at a time and device, unless the size of packs is given."""


def train_remaining(
    sweep: Sweep,
    devices: Sequence[str],
    execute: Execute,
    watcher: Watcher,
    size: int | None = None,
    free_bytes: int | None = None,
    configs: Sequence[RunConfig] | None = None,
) -> None:
    """Train what is left of a sweep.

    Args:
        sweep: A sweep whose folder is `opened`.
        devices: One for each worker.
        execute: Trains packs on them.
        watcher: Is told about the trials.
        size: Trials of a pack, instead of as many as save time and fit into the memory of a device.
        free_bytes: That memory, if the devices are GPUs of other machines.
        configs: Configurations of the trials, instead of all of the grid. A study chooses them itself.

    Raises:
        InputError: A trial cannot be trained as it is asked for.
    """
    measure = None
    if free_bytes is None and (free_bytes := free_memory(device := choose_device(devices[0]))) is not None:
        measure = partial(calibrate, device)

    def train(trials: Iterable[Trial], numbers: Mapping[tuple[str, int], int]) -> None:
        left = remaining(trials)
        for trial in left:
            expect_steps(trial.config, "cpu" if free_bytes is None else "cuda")
        packs = _packs(sweep, left, numbers, free_bytes, len(devices), size, measure)
        for trial in left:
            trial.folder.forget_failure()
        execute(packs, watcher)

    if not sweep.has_study:
        train(open_trials(sweep, sweep.grid.configs() if configs is None else configs), {})
        return
    with sweep.study() as study:
        while asked := study.ask(len(devices) * (size or ROUND)):
            trials = {number: sweep.open_trial(config) for number, config in asked}
            train(trials.values(), {_identity(trial.config): number for number, trial in trials.items()})
            for number, trial in trials.items():
                _tell(study, number, sweep.metric, trial.folder)


def pack_trials(
    trials: Sequence[Trial], free_bytes: int | None, size: int | None = None, measure: Measure | None = None
) -> list[PackGroup]:
    """Group trials that can be trained together, without loading features; simple baselines are left out.

    Args:
        trials: Trials that are left.
        free_bytes: Memory of the device, which limits how many trials are trained at a time; None for a CPU.
        size: Trials at a time, instead of that.
        measure: Returns the speeds of the device, by which packs are no larger than saves time; None: the memory alone decides.

    Raises:
        InputError: A trial cannot be trained: an option is out of its range, a label is missing, ….
    """
    return group([trial for trial in trials if not HEADS[trial.config.head].simple], free_bytes, size, measure)


def _packs(
    sweep: Sweep,
    trials: Sequence[Trial],
    numbers: Mapping[tuple[str, int], int],
    free_bytes: int | None,
    workers: int,
    size: int | None,
    measure: Measure | None,
) -> list[TrialPack]:
    """Make packs: at least one for each worker, if there are trials enough; each simple baseline is one by itself."""
    parts: list[tuple[RunConfig, ...]] = [(trial.config,) for trial in trials if HEADS[trial.config.head].simple]
    for one in pack_trials(trials, free_bytes, size, measure):
        share = max(1, -(-len(one.trials) // workers))
        for pack in PackGroup(one.trials, one.trial_bytes, min(one.size, share)).packs:
            parts.append(tuple(trial.config for trial in pack))
    asked = [tuple(numbers[_identity(config)] for config in part) if numbers else () for part in parts]
    return [TrialPack(sweep, part, of_part) for part, of_part in zip(parts, asked, strict=True)]


def _identity(config: RunConfig) -> tuple[str, int]:
    return config.key(), config.seed


def _tell(study: Search, number: int, metric: str, folder: RunFolder) -> None:
    """Tell a study how a trial ended."""
    status = status_of(folder)
    if status in ("complete", "pruned"):
        value = folder.metrics()["valid"].get(metric)
        study.tell(number, float("nan") if value is None else value, status)
    else:
        study.tell(number, None, "failed")
