"""Steps, for `gpu.py`: experts in one pass against loops over them, launches of a training step, and how busy the device is."""

import statistics
from collections.abc import Callable
from typing import Any

import bench_experts
import torch
from gpu_rows import Rows, Setting, at_least, equal, failed, figure
from gpu_sweeps import config, engine_of, loaded
from timing import in_turns, profiled

from heads.runs.folder import RunFolder
from heads.runs.run_data import LoadedCache
from heads.training.loop import Run, together
from heads.training.plan import head_class

EXPERTS_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest difference to the loop, of outputs and gradients, relative to the largest value."""


def experts(setting: Setting) -> Rows:
    """15 experts in one pass, and in a loop for each task: forward and backward, the first block of two tasks, the paper's size."""
    size = bench_experts.Size(2, 12, 16, 4) if setting.is_small else bench_experts.SIZES[0]
    for precision in ("float32",) if setting.is_small else ("float32", "bfloat16"):
        steps, worst = bench_experts.compare(size, "two tasks, block 1", setting.device, precision, extras=False)
        times = in_turns(steps, setting.small_or(1, 7), setting.device, repeats=setting.small_or(1, 10))
        ours = statistics.median(times["ours"])
        yield figure(f"experts, {precision}: ours", 1000 * ours, "ms", "forward and backward of one block")
        for name, values in times.items():
            ratio = statistics.median(values) / ours
            if name == "loop, per task":
                yield at_least(f"experts, {precision}: {name}, against ours", ratio, "×", 3)
            elif name != "ours":
                yield figure(f"experts, {precision}: {name}, against ours", ratio, "×")
        yield equal(f"experts, {precision}: ours = loop", worst, EXPERTS_TOLERANCE[precision])
        if setting.is_gpu:
            yield from _captured(f"experts, {precision}: ours as a CUDA graph, against ours", steps["ours"], ours)


def _captured(what: str, step: Callable[[], Any], seconds: float) -> Rows:
    """The same step as a CUDA graph."""
    try:
        replay = bench_experts.captured(step)
        yield figure(what, statistics.median(in_turns({"": replay}, 7, "cuda", repeats=10)[""]) / seconds, "× the time")
    except Exception as error:  # capturing may be refused
        yield failed(what, error)


def launches_and_busy(setting: Setting) -> Rows:
    """Kernels that a training step launches, and the share of its time in which the device computes."""
    cache = loaded(setting)
    cases = [("light", 1)] if setting.is_small else [("light", 1), ("light", 16), ("paper-mosi", 1)]
    for preset, count in cases:
        for precision in ("float32",) if setting.is_small else ("float32", "bfloat16"):
            found = profiled(_step(setting, cache, preset, count, precision), setting.device, setting.small_or(1, 5))
            what = f"a step of {preset}, {'alone' if count == 1 else f'pack of {count}'}, {precision}"
            yield figure(f"{what}: {'launches' if setting.is_gpu else 'operators'}", found.launches, "")
            yield figure(f"{what}: busy", 100 * found.busy, "%", "of its time without a profiler")


def _step(setting: Setting, cache: LoadedCache, preset: str, count: int, precision: str) -> Callable[[], Any]:
    """One optimizer step on the first batch of an epoch, which is on the device."""
    changes = {"train.precision": precision}
    opened = [cache.open(config(setting, preset, {**changes, "seed": seed + 1})) for seed in range(count)]
    runs = [Run(one.config, one.tensors, RunFolder(cache.cache / "no run")) for one in opened]
    engine = engine_of(runs)
    engine.begin(head_class(runs[0].config).stages[0], [1] * count)
    plan = [together(parts) for parts in zip(*(run.plan()[:1] for run in runs), strict=True)]
    (batch,) = runs[0].tensors.batches(plan)
    keys = torch.arange(count, device=setting.device)

    def step() -> None:
        engine.accumulate(batch, keys, 1.0)
        engine.step([1e-4] * count)

    return step
