"""Progress of a sweep: one bar in the terminal, and logs of the trials that are over (`heads.runs.logs`).

`Bar` receives the news that `heads.sweeps.workers.Watcher` describes. The bar of a single run is in `heads.evaluation.console`.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from heads.evaluation.console import progress_bar
from heads.evaluation.metrics import is_better
from heads.runs.folder import RunFolder
from heads.runs.logs import log_finished
from heads.sweeps.status import status_of
from heads.sweeps.workers import Watcher


class Bar(Watcher):
    """The bar of a sweep: trials that are over and in progress, the best value so far, and the time left."""

    def __init__(self, total: int, over: Sequence[RunFolder], metric: str, logs: Sequence[str] = (), out: Path = Path()) -> None:
        """Show the bar.

        Args:
            total: Trials in the end.
            over: Trials that are over already.
            metric: Validation metric of the best value.
            logs: Keys of `heads.runs.logs.LOGS`, written of each trial that ends.
            out: Folder of the sweep.
        """
        self.total, self.metric, self.over, self.in_flight = total, metric, 0, 0
        self.logs, self.out = logs, out
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
        if status_of(folder) != "damaged":
            log_finished(self.logs, folder, self.out)

    def _count(self, folder: RunFolder) -> None:
        self.over += 1
        value = None if status_of(folder) in ("failed", "damaged") else folder.metrics()["valid"].get(self.metric)
        if value is not None and (self.best is None or is_better(self.metric, value, self.best)):
            self.best = value

    def _show(self) -> None:
        best = "" if self.best is None else f", best {self.metric} {self.best:.4f}"
        words = f"{self.over} of {self.total} trials, {self.in_flight} in flight{best}"
        self._bar.set_postfix_str(words, refresh=sys.stderr.isatty())
