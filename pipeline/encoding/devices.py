"""Which device a worker may use: one process a GPU, without torch being imported before the worker has forked."""

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from data.errors import InputError

_POLL_S = 0.2


def count_gpus() -> int:
    """NVIDIA GPUs that this process may see, read from the driver's files and CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in Path("/dev").glob("nvidia*"))


def wants_gpu(setting: str) -> bool:
    """Whether "auto", "cpu" or "cuda" means a GPU on this machine."""
    return setting == "cuda" or (setting == "auto" and count_gpus() > 0)


@contextlib.contextmanager
def claim(setting: str) -> Iterator[str]:
    """Yields a torch device, "cpu" or "cuda:0" …, a GPU for one process at a time; waits while all are taken.

    Raises:
        InputError: "cuda" was asked for, or a GPU is there, but torch cannot use one.
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
    lock, number = _take_lock(torch.cuda.device_count())
    try:
        yield f"cuda:{number}"
    finally:
        os.close(lock)


def _take_lock(count: int) -> tuple[int, int]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    while True:
        for number in range(count):
            path = Path(tempfile.gettempdir()) / f"mmolre-gpu-{names[number].strip()}.lock"
            lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            return lock, number
        time.sleep(_POLL_S)
