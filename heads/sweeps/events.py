"""TensorBoard event files of runs that are over, in their folders. TensorBoard is optional, and therefore imported only here."""

from typing import Any

import pandas as pd

from data.errors import InputError
from heads.runs.folder import RunFolder

_NOT_SHOWN = ("epoch",)


def summary_writer() -> Any:
    """TensorBoard's writer.

    Raises:
        InputError: It is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("--tensorboard needs TensorBoard, which is not installed. Install it: pip install '.[tensorboard]'") from error
    return SummaryWriter


def write_events(folder: RunFolder) -> None:
    """Writes every column of history.csv as a scalar by epoch, "valid/mae" and so on, unless that is done or there are no epochs."""
    history = folder.path / "history.csv"
    if not history.is_file() or any(folder.path.glob("events.out.tfevents.*")):
        return
    with summary_writer()(str(folder.path)) as writer:
        for row in pd.read_csv(history).to_dict("records"):
            for name, value in row.items():
                if name not in _NOT_SHOWN and not pd.isna(value):
                    writer.add_scalar(name.replace("valid_", "valid/", 1), value, int(row["epoch"]))
