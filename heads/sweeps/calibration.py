"""The speeds of a device, measured in about two seconds: small operations one after the other, a large product, a large copy."""

import time
from collections.abc import Callable
from functools import cache

import torch

from heads.evaluation.predictions import autocast
from heads.sweeps.costs import Speeds

_LAUNCHES = 500
"""Small operations that are timed together."""

_GPU_WIDTH, _CPU_WIDTH = 4096, 512
"""Rows and columns of the matrices that are multiplied."""

_GPU_COPY, _CPU_COPY = 2**28, 2**24
"""Bytes that are copied; more than caches hold."""

_GPU_SECONDS, _CPU_SECONDS = 0.6, 0.05
"""Time for each of the three measurements."""


@cache
def calibrate(device: torch.device, precision: str) -> Speeds:
    """Measure the speeds of a device, once in a process.

    Args:
        device: A CPU, or a GPU.
        precision: Of products, as in `train.precision`.
    """
    is_gpu = device.type == "cuda"
    width, size, seconds = (_GPU_WIDTH, _GPU_COPY, _GPU_SECONDS) if is_gpu else (_CPU_WIDTH, _CPU_COPY, _CPU_SECONDS)
    one = torch.zeros(1, device=device)
    factor = torch.ones(width, width, device=device)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def launch() -> None:
        for _ in range(_LAUNCHES):
            one.add_(1)

    with torch.no_grad(), autocast(device, precision):
        return Speeds(
            launch_s=_fastest(launch, device, seconds) / _LAUNCHES,
            flops=2 * width**3 / _fastest(lambda: factor @ factor, device, seconds),
            bytes_per_s=2 * size / _fastest(lambda: target.copy_(source), device, seconds),
        )


def _fastest(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the shortest time of some work that is repeated for a while, after one time to warm up."""
    work()
    times, until = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - began)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
