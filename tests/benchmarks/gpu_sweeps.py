"""Sweeps, for `gpu.py`: packs against one trial after another and one process a trial, by pack size, and by kind of step."""

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from bench_sweep import DROPOUTS, RATES, run_command
from gpu_inputs import SMALL_MODEL, corpus_folder, opened_corpus
from gpu_rows import Rows, Setting, at_least, equal, failed, figure, skipped
from timing import synchronize

from heads.models.options import items, nested
from heads.runs.config import RunConfig, TrainOptions, make_config
from heads.runs.folder import RunFolder, run_folder
from heads.runs.run_data import LoadedCache
from heads.training.fit import describe, finish
from heads.training.loop import Engine, Run, train_epoch, train_runs
from heads.training.packed_engine import PackedEngine
from heads.training.single_engine import SingleEngine

SEEDS = (1, 2, 3, 4)
TRIALS = len(RATES) * len(DROPOUTS) * len(SEEDS)
EPOCHS = 8
"""Of a trial. Early stopping ends trainings with the preset light on real MOSI text after 15 to 30."""

PAPER_CLIPS = 240
"""Training clips of the epochs that are timed with paper-mosi: 30 steps."""

SAME = 1e-3
"""Largest difference of the validation MAE of a trial in a pack to the same trial alone, in float32."""


def loaded(setting: Setting) -> LoadedCache:
    """The corpus, opened on the device."""
    opened_corpus(setting)
    return LoadedCache(corpus_folder(setting), torch.device(setting.device))


def config(setting: Setting, preset: str, changes: Mapping[str, Any]) -> RunConfig:
    """A trial of mmolre; a small one of the short form. Dotted names of options → values."""
    small = dict(items({"model": SMALL_MODEL, "train": {"batch_size": 8}, "data": {"audio_limit": 32}})) if setting.is_small else {}
    return make_config("mmolre", "mosi", preset, nested({"data.emotions": "annotated"} | small | dict(changes)))


def trials(setting: Setting, epochs: int) -> list[RunConfig]:
    """The 24 trials, each of so many epochs; 2 of the short form."""
    points = list(itertools.product(RATES, DROPOUTS, SEEDS))[: setting.small_or(2, TRIALS)]
    fixed = {"train.max_epochs": epochs, "train.patience": epochs}
    return [
        config(setting, "light", fixed | {"train.lr": rate, "model.output_dropout": dropout, "seed": seed})
        for rate, dropout, seed in points
    ]


def engine_of(runs: Sequence[Run]) -> Engine:
    return PackedEngine(runs) if len(runs) > 1 else SingleEngine(runs[0])


def train_together(cache: LoadedCache, configs: Sequence[RunConfig], out: Path) -> list[float]:
    """Trains trials as one pack, as a sweep does, results included; returns the best validation MAE of each."""
    opened = [cache.open(one) for one in configs]
    runs = []
    for run_data in opened:
        folder = run_folder(run_data.config, out)
        folder.begin(describe(run_data))
        runs.append(Run(run_data.config, run_data.tensors, folder))
    train_runs(runs, engine_of(runs), finish)
    return [min(row["valid_mae"] for row in run.history) for run in runs]


def light(setting: Setting) -> Rows:
    """24 trials three ways. What takes long is measured on some of the trials, and multiplied."""
    cache, epochs = loaded(setting), setting.small_or(1, EPOCHS)
    configs, out = trials(setting, epochs), setting.folder / "light"
    if not setting.is_small:
        train_together(cache, trials(setting, 1)[:2], out / "warm-up")
        train_together(cache, trials(setting, 1)[:1], out / "warm-up-alone")
    synchronize(setting.device)
    began = time.perf_counter()
    together = train_together(cache, configs, out / "pack")
    synchronize(setting.device)
    packed = (time.perf_counter() - began) / len(configs)
    what = f"light, {len(configs)} trials of {epochs} epochs"
    yield figure(f"{what}: one pack", 3600 / packed, "trials/h", f"{packed * len(configs):.1f} s")
    alone, errors = [], []
    for one in configs[: setting.small_or(1, 4)]:
        began = time.perf_counter()
        errors += train_together(cache, [one], out / "alone")
        synchronize(setting.device)
        alone.append(time.perf_counter() - began)
    mean = sum(alone) / len(alone)
    yield figure(f"{what}: one after another", 3600 / mean, "trials/h", f"{mean:.1f} s a trial, mean of {len(alone)}")
    yield at_least(f"{what}: pack against one after another", mean / packed, "×", 5)
    worst = max(abs(a - b) for a, b in zip(errors, together, strict=False))
    yield equal(f"{what}: validation MAE in the pack = alone", worst, SAME, "absolute", f"of {len(errors)} trials")
    yield from _processes(setting, configs[: setting.small_or(0, 2)], what, packed)


def _processes(setting: Setting, configs: Sequence[RunConfig], what: str, packed: float) -> Rows:
    """One process a trial: `python -m heads fit`, imports and loading included."""
    what = f"{what}: pack against one process a trial"
    if not configs:
        yield skipped(what, "a process takes longer than all of --small")
        return
    seconds = []
    for one in configs:
        if seconds and not setting.fits(1.2 * seconds[-1]):
            break
        given = {"train.lr": one.train.lr, "model.output_dropout": one.model.output_dropout, "data.emotions": "annotated"}
        given |= {"train.max_epochs": one.train.max_epochs, "train.patience": one.train.patience}
        command = ["fit", "--no-report", "--cache", corpus_folder(setting), "--corpus", "mosi", "--head", "mmolre", "--preset", "light"]
        command += ["--seed", one.seed, "--device", setting.device, "--out", setting.folder / "processes"]
        command += [f"--set={name}={value}" for name, value in given.items()]
        taken, _ = run_command([str(part) for part in command], setting.folder / "log")
        seconds.append(taken)
    mean = sum(seconds) / len(seconds)
    yield at_least(what, mean / packed, "×", 20, f"{mean:.1f} s a process, mean of {len(seconds)}")


def epoch_seconds(cache: LoadedCache, configs: Sequence[RunConfig], rows: int | None, device: str) -> float:
    """Seconds of a training epoch of a pack, on the first `rows` training clips; the second of two, without evaluation."""
    opened = [cache.open(one) for one in configs]
    runs = [Run(one.config, one.tensors, RunFolder(cache.cache / "no run")) for one in opened]
    for run in runs:
        run.rows = run.rows[:rows]
        run.steps_per_epoch = len(run.plan())
    engine = engine_of(runs)
    train_epoch(runs, engine)
    synchronize(device)
    began = time.perf_counter()
    train_epoch(runs, engine)
    synchronize(device)
    return time.perf_counter() - began


def seeds(setting: Setting, preset: str, count: int, changes: Mapping[str, Any]) -> list[RunConfig]:
    """The same configuration with so many seeds."""
    return [config(setting, preset, {**changes, "seed": number + 1}) for number in range(count)]


def paper(setting: Setting) -> Rows:
    """Packs of paper-mosi."""
    cache, rows = loaded(setting), setting.small_or(8, PAPER_CLIPS)
    alone = epoch_seconds(cache, seeds(setting, "paper-mosi", 1, {}), rows, setting.device)
    clips = f"epochs of {rows} clips"
    yield figure("paper-mosi alone", 1000 * alone / -(-rows // 8), "ms a step", clips)
    for size in (2,) if setting.is_small else (4, 8):
        packed = epoch_seconds(cache, seeds(setting, "paper-mosi", size, {}), rows, setting.device) / size
        yield at_least(f"paper-mosi, pack of {size} against one after another", alone / packed, "×", 2, clips)


def sizes(setting: Setting) -> Rows:
    """Trials an hour of light by the size of the pack."""
    cache = loaded(setting)
    yield from _by_size(setting, cache, "light", (1, 2) if setting.is_small else (1, 4, 16, 64), {})


def _by_size(setting: Setting, cache: LoadedCache, what: str, counts: Sequence[int], changes: Mapping[str, Any]) -> Rows:
    base = 0.0
    for size in counts:
        try:
            seconds = epoch_seconds(cache, seeds(setting, "light", size, changes), None, setting.device)
        except Exception as error:  # for example no memory left
            yield failed(f"{what}, pack of {size}", error)
            continue
        hour = 3600 * size / (EPOCHS * seconds)
        base = base or hour
        note = f"of {EPOCHS} epochs; {seconds:.2f} s an epoch, {hour / base:.2f}× the first"
        yield figure(f"{what}, pack of {size}", hour, "trials/h", note)


def step_kinds() -> Sequence[str]:
    """What the option `train.step` may be; eager alone where there is no such option."""
    declared = {field.name: field.metadata["declared"] for field in dataclasses.fields(TrainOptions) if field.name == "step"}
    return declared["step"].choices if declared else ("eager",)


def kinds_of_step(setting: Setting) -> Rows:
    """Steps that are eager, captured or compiled, alone and in packs of 16; those that compile come last."""
    cache = loaded(setting)
    kinds = sorted(step_kinds(), key=lambda kind: kind == "compiled")
    for kind in kinds:
        if kind != "eager" and not setting.is_gpu:
            yield skipped(f"light, train.step {kind}", "it is for a GPU")
            continue
        changes = {"train.step": kind} if len(kinds) > 1 else {}
        yield from _by_size(setting, cache, f"light, train.step {kind}", (1,) if setting.is_small else (1, 16), changes)
