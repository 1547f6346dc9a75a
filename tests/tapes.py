"""A recorder that does on a CPU what a CUDA graph does: it replays the operations of a recording on the same memory, and no Python."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

T = TypeVar("T")

_ON_THE_HOST = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""Operations whose result the host waits for; a CUDA graph cannot hold them."""


class TapeRecorder:
    """Counts its work as `heads.training.graphed_steps.Recorder`."""

    def __init__(self) -> None:
        self.warmed_up = self.recorded = self.replayed = 0

    def warm_up(self, work: Callable[[], T]) -> T:
        self.warmed_up += 1
        return work()

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        """Do the work and write down its operations; the first replay has nothing left to do."""
        self.recorded += 1
        tape = _Tape()
        with tape:
            result = work()
        is_done = True

        def replay() -> T:
            nonlocal is_done
            if not is_done:
                self.replayed += 1
                tape.replay()
            is_done = False
            return result

        return replay


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple, dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        assert not _ON_THE_HOST & set(func.tags) or _is_by_numbers(func, args), f"{func} waits for the device"
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, _tensors(result)))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        """Do all operations again; results go to where they were."""
        for func, args, kwargs, results in self.operations:
            for old, new in zip(results, _tensors(func(*args, **kwargs)), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


def _is_by_numbers(func: Any, args: tuple) -> bool:
    """Return True for an indexing by numbers, whose result has a known shape; by a mask, the host waits for the count."""
    return func is torch.ops.aten.index.Tensor and all(index is None or index.dtype == torch.int64 for index in args[1])


def _tensors(result: Any) -> list[Tensor]:
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [part for part in parts if isinstance(part, Tensor)]
