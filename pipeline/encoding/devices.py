"""Gives each process a device of its own: one process a GPU. Nothing here imports torch before a worker has forked."""

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from data.errors import InputError

GPU_RESOURCE = f"gpu_{os.uname().nodename}"
"""The Luigi resource that counts this machine's GPUs."""

_POLL_S = 0.2


def count_gpus() -> int:
    """Counts the NVIDIA GPUs that this process may see, from the driver's files and CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in Path("/dev").glob("nvidia*"))


def multiplies_bfloat16() -> bool:
    """Tells whether the processor has instructions for products of bfloat16 matrices (AMX), by what Linux says about it."""
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^flags\b.*\bamx_bf16\b", said, re.MULTILINE) is not None


def wants_gpu(setting: str) -> bool:
    """Tells whether the setting ("auto", "cpu" or "cuda") means a GPU on this machine."""
    return setting == "cuda" or (setting == "auto" and count_gpus() > 0)


@contextlib.contextmanager
def claim(setting: str, preferred: str = "") -> Iterator[str]:
    """Yields a torch device, "cpu" or "cuda:0" …; a GPU serves one process at a time, and while all are taken this waits.

    What torch has allocated there and does not use any more is given back at the end: the next process needs it.

    Args:
        setting: "auto", "cpu" or "cuda".
        preferred: Device that is tried first, because this process has its encoder there.

    Raises:
        InputError: The setting means a GPU, but torch cannot use one.
    """
    if not wants_gpu(setting):
        yield "cpu"
        return
    import torch

    if not torch.cuda.is_available():
        raise InputError(
            f"device = {setting} means a GPU here, but torch {torch.__version__} cannot use one. Install a CUDA build of torch, or set "
            "device = cpu in luigi.cfg, section [build]."
        )
    lock, number = _take_lock(torch.cuda.device_count(), preferred)
    try:
        yield f"cuda:{number}"
    finally:
        torch.cuda.empty_cache()
        lock.release()


def _take_lock(count: int, preferred: str) -> tuple[FileLock, int]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    while True:
        for number in sorted(range(count), key=lambda number: f"cuda:{number}" != preferred):
            lock = FileLock(Path(tempfile.gettempdir()) / f"mmolre-gpu-{names[number].strip()}.lock")
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                return lock, number
        time.sleep(_POLL_S)
