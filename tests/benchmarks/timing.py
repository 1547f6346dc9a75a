"""Timing for benchmarks: ways of doing one thing take turns in one process, beside the best that the machine does. No way is here."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline.encoding import cpu


def in_turns(ways: Mapping[str, Callable[[], Any]], rounds: int, device: str, repeats: int = 1) -> dict[str, list[float]]:
    """Seconds of every way in every round, the mean over `repeats` calls in a row."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            synchronize(device)
            begin = time.perf_counter()
            for _ in range(repeats):
                way()
            synchronize(device)
            times[name].append((time.perf_counter() - begin) / repeats)
    return times


def synchronize(device: str) -> None:
    """Waits for a GPU."""
    if device != "cpu":
        torch.cuda.synchronize()


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median (least–largest), the range where there is more than one value."""
    median = f"{statistics.median(values):.{digits}f}"
    return median if len(values) == 1 else f"{median} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def launches(step: Callable[[], Any]) -> int:
    """How many kernels (or captured graphs) the host launches on a GPU in one call, which is not the first."""
    return profiled(step, "cuda", rounds=1).launches


class Profile(NamedTuple):
    """What a device does in one call."""

    launches: int  # of kernels, or of captured graphs; on a CPU: operators that are called
    busy: float  # share of the time in which it computes


def profiled(step: Callable[[], Any], device: str, rounds: int = 5) -> Profile:
    """Profiles a call that is not the first. Its time is the median of calls without a profiler, which slows the host."""
    activity = torch.profiler.ProfilerActivity
    step()
    seconds = statistics.median(in_turns({"": step}, rounds, device)[""])
    with torch.profiler.profile(activities=[activity.CPU] if device == "cpu" else [activity.CPU, activity.CUDA]) as profile:
        step()
        synchronize(device)
    events = profile.key_averages()
    if device == "cpu":
        counted = [event for event in events if event.key.startswith("aten::")]
        return Profile(sum(event.count for event in counted), sum(event.self_cpu_time_total for event in counted) / 1e6 / seconds)
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    count = sum(event.count for event in events if "Launch" in event.key)
    return Profile(count, sum(event.self_device_time_total for event in kernels) / 1e6 / seconds)


def peak_gflops(device: str, dtype: torch.dtype, is_small: bool = False) -> float:
    """Best rate of a (1600, 768) × (768, 3072) product, or of a large square one on a GPU, by any path that keeps the arithmetic.

    A small product only shows that this runs.
    """
    shape = (64, 64, 64) if is_small else (1600, 768, 3072) if device == "cpu" else (8192, 8192, 8192)
    inputs, weight = (
        torch.randn(shape[0], shape[1], device=device, dtype=dtype),
        torch.randn(shape[2], shape[1], device=device, dtype=dtype),
    )
    paths: list[Callable[[], Any]] = [lambda: torch.nn.functional.linear(inputs, weight)]
    if device == "cpu" and dtype == torch.float32:
        packed = cpu.PackedLinear(weight, None)
        paths.append(lambda: packed(inputs))
    rates = []
    for path in paths:
        for _ in range(20):
            begin = time.perf_counter()
            with torch.inference_mode():
                path()
            synchronize(device)
            rates.append(2 * np.prod(shape) / 1e9 / (time.perf_counter() - begin))
    return float(np.percentile(rates, 95))
