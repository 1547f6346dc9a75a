"""The choice of the best epoch and the decision to stop, by validation values alone.

The metrics are in `heads.evaluation.metrics`; `heads.training.loop` asks here after every epoch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from heads.evaluation.metrics import is_better


class Selection:
    """The best epoch by each of several validation values; the first of them decides when to stop."""

    def __init__(self, criteria: Sequence[str], patience: int) -> None:
        """Start without any epoch.

        Args:
            criteria: Names of validation values; "loss" is one.
            patience: Stop after this many epochs in a row without a better value of the first criterion.
        """
        self.criteria, self.patience = tuple(dict.fromkeys(criteria)), patience
        self.best: dict[str, tuple[int, float]] = {}  # criterion → epoch, value
        self.waited = 0

    def update(self, epoch: int, values: Mapping[str, float]) -> list[str]:
        """Take the validation values of an epoch and return the criteria by which it is the best so far."""
        improved = [name for name in self.criteria if self._improves(name, values)]
        self.best |= {name: (epoch, values[name]) for name in improved}
        self.waited = 0 if self.criteria[0] in improved else self.waited + 1
        return improved

    def _improves(self, name: str, values: Mapping[str, float]) -> bool:
        value = values.get(name)
        if value is None or value != value:
            return False
        return name not in self.best or is_better(name, value, self.best[name][1])

    @property
    def is_exhausted(self) -> bool:
        """True when patience has run out."""
        return self.waited >= self.patience

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as plain JSON values."""
        return {"best": {name: list(pair) for name, pair in self.best.items()}, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.best = {name: (pair[0], pair[1]) for name, pair in state["best"].items()}
        self.waited = state["waited"]
