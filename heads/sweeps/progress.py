"""Progress of a sweep: one bar in the terminal, and TensorBoard event files of the trials that are over.

`Bar` receives the news that `heads.sweeps.workers.Watcher` describes. TensorBoard is optional, so it is imported only when it is
used. The bar of a single run is in `heads.evaluation.console`.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any, Self

import pandas as pd

from data.errors import InputError
from heads.evaluation.console import progress_bar
from heads.evaluation.metrics import is_better
from heads.runs.folder import RunFolder
from heads.sweeps.status import status_of
from heads.sweeps.workers import Watcher

_NOT_SHOWN = ("epoch",)


class Bar(Watcher):
    """The bar of a sweep: trials that are over and in progress, the best value so far, and the time left."""

    def __init__(self, total: int, over: Sequence[RunFolder], metric: str, events: bool = False) -> None:
        """Show the bar.

        Args:
            total: Trials in the end.
            over: Trials that are over already.
            metric: Validation metric of the best value.
            events: True writes a TensorBoard event file for each trial that ends.
        """
        self.total, self.metric, self.over, self.in_flight, self.events = total, metric, 0, 0, events
        self.best: float | None = None
        layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        line = "{desc}: {percentage:3.0f}%, {elapsed} so far, {remaining} left{postfix}"
        self._bar = progress_bar(layout, line, total=total, desc="sweep", unit="trial")
        for folder in over:
            self._count(folder)
        self._bar.update(len(over))
        self._bar.initial = len(over)
        self._show()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def on_start(self, count: int) -> None:
        self.in_flight += count
        self._show()

    def on_progress(self, share: float) -> None:
        self._bar.update(min(share, self.total - self._bar.n))

    def on_wait(self) -> None:
        now = time.time()
        if now - self._bar.last_print_t >= self._bar.mininterval:
            self._bar.refresh()
            self._bar.last_print_t = now

    def on_end(self, folder: RunFolder) -> None:
        self.in_flight = max(0, self.in_flight - 1)
        self._count(folder)
        self._show()
        if self.events:
            write_events(folder)

    def _count(self, folder: RunFolder) -> None:
        self.over += 1
        value = None if status_of(folder) in ("failed", "damaged") else folder.metrics()["valid"].get(self.metric)
        if value is not None and (self.best is None or is_better(self.metric, value, self.best)):
            self.best = value

    def _show(self) -> None:
        best = "" if self.best is None else f", best {self.metric} {self.best:.4f}"
        words = f"{self.over} of {self.total} trials, {self.in_flight} in flight{best}"
        self._bar.set_postfix_str(words, refresh=sys.stderr.isatty())


def summary_writer() -> Any:
    """Return TensorBoard's writer.

    Raises:
        InputError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("--tensorboard needs TensorBoard, which is not installed. Install it: pip install '.[tensorboard]'") from error
    return SummaryWriter


def write_events(folder: RunFolder) -> None:
    """Write every column of history.csv as a scalar by epoch, "valid/mae" and so on.

    Nothing is written if the folder has event files already, or the run has no epochs.
    """
    history = None if status_of(folder) == "damaged" else folder.history()
    if history is None or any(folder.path.glob("events.out.tfevents.*")):
        return
    with summary_writer()(str(folder.path)) as writer:
        for row in history.to_dict("records"):
            for column, value in row.items():
                if column not in _NOT_SHOWN and not pd.isna(value):
                    writer.add_scalar(str(column).replace("valid_", "valid/", 1), value, int(row["epoch"]))
