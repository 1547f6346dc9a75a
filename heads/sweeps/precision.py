"""The precision of the trials of a sweep whose `train.precision` is auto.

It is a part of each trial's key, so all calls for one sweep have to mean the same, also the call that writes the tables on a machine
without a GPU. It follows from the device of the first call, which notes it in the folder of the sweep.
"""

from pathlib import Path

from data.atomic import atomic_path
from data.errors import InputError, shown
from data.files import unreadable
from heads.runs.config import PRECISIONS, default_precision
from heads.runs.run_data import choose_device

NOTE = "precision.txt"
"""File in the folder of a sweep. Without it, trials that are there were trained in float32."""


def of_sweep(folder: Path, executor: str, device: str) -> str:
    """Return what "auto" means in a sweep: what its folder says, or else what it means on the device.

    Args:
        folder: The folder of the sweep, which need not exist.
        executor: local or ray.
        device: The first of its devices. With ray, auto means a GPU if this machine has one, because the cluster is not known yet.

    Raises:
        InputError: There is no such device, or the note in the folder is damaged.
    """
    if (noted := _noted(folder)) is not None:
        return noted
    is_elsewhere = executor == "ray" and device != "auto"
    return default_precision(device if is_elsewhere else choose_device(device).type)


def note(folder: Path, precision: str) -> None:
    """Note the precision in the folder of a sweep that this process has locked; float32 needs no note.

    Raises:
        InputError: Another process has begun the sweep in another precision.
    """
    noted = _noted(folder)
    if noted is None and precision != "float32":
        with atomic_path(folder / NOTE) as temporary:
            temporary.write_text(f"{precision}\n", encoding="utf-8")
    elif noted not in (None, precision):
        raise InputError(f"{folder}: another process has begun this sweep in {noted}, not {precision}. Run the same command again.")


def _noted(folder: Path) -> str | None:
    """Return the precision of a sweep that has begun; None if it has no trial yet."""
    path, trials = folder / NOTE, folder / "trials"
    if not path.exists():
        return "float32" if trials.is_dir() and any(trials.iterdir()) else None
    try:
        found = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) or InputError(f"{path}: damaged. It has to hold one of {', '.join(PRECISIONS)}.") from error
    if found not in PRECISIONS:
        raise InputError(f"{path}: holds {shown(found)}, expected one of {', '.join(PRECISIONS)}.")
    return found
