"""The progress bar of a sweep. What a sweep tells it is in `heads.sweeps.workers.Watcher`; the bar of a single run is in
`heads.evaluation.console`."""

import sys
from collections.abc import Sequence
from typing import Self

from tqdm import tqdm

from heads.evaluation.metrics import is_better
from heads.runs.folder import RunFolder
from heads.sweeps.events import write_events
from heads.sweeps.workers import Watcher


class Bar(Watcher):
    """One bar for a sweep: trials that are over, in flight, the best so far, and the time left."""

    def __init__(self, total: int, over: Sequence[RunFolder], metric: str, events: bool = False) -> None:
        """`events`: whether each trial that ends gets an event file of TensorBoard."""
        self.total, self.metric, self.over, self.in_flight, self.events = total, metric, 0, 0, events
        self.best: float | None = None
        layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(total=total, desc="sweep", file=sys.stderr, disable=None, bar_format=layout, mininterval=0.5)
        for folder in over:
            self._count(folder)
        self._bar.update(len(over))
        self._bar.initial = len(over)
        self._show()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def begun(self, count: int) -> None:
        self.in_flight += count
        self._show()

    def advanced(self, share: float) -> None:
        self._bar.update(min(share, self.total - self._bar.n))

    def ended(self, folder: RunFolder) -> None:
        self.in_flight = max(0, self.in_flight - 1)
        self._count(folder)
        self._show()
        if self.events:
            write_events(folder)

    def _count(self, folder: RunFolder) -> None:
        self.over += 1
        value = None if folder.failure is not None else folder.metrics()["valid"].get(self.metric)
        if value is not None and (self.best is None or is_better(self.metric, value, self.best)):
            self.best = value

    def _show(self) -> None:
        best = "" if self.best is None else f", best {self.metric} {self.best:.4f}"
        self._bar.set_postfix_str(f"{self.over} of {self.total} trials, {self.in_flight} in flight{best}")
