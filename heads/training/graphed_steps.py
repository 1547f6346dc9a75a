"""Steps as CUDA graphs: recorded once for each shape of a batch, then replayed with one launch in the place of thousands.

A graph reads and writes fixed places in memory. Batches, keys and learning rates are therefore copied into buffers before a replay,
gradients are set to zero instead of dropped, and the optimizer keeps its counters on the device. Random numbers follow from keys on the
device (`heads.models.parts.randomness`), so every replay draws its own.

The first call with a new shape is carried out without recording: it is a step like any other, and at the same time the warm-up that
libraries need before a recording. The second call records, which computes nothing, and replays. Source:
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from data.tensors import Batch
from heads.training.steps import Backward, Update

T = TypeVar("T")

_UPDATE = "update"


class Recorder(Protocol):
    """Records work on a device."""

    def warm_up(self, work: Callable[[], T]) -> T:
        """Do the work now, apart from what else the device does."""
        ...

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        """Record the work without doing it; return a function that does it and returns its result, always in the same tensors."""
        ...


class CudaRecorder:
    """Records CUDA graphs, which share the memory of their intermediate results."""

    def __init__(self, device: torch.device) -> None:
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], T]) -> T:
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")  # the recording follows
            result = work()
        current.wait_stream(self._stream)
        if isinstance(result, Tensor):
            result.record_stream(current)
        return result

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self._stream.device),
            torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
        ):  # other threads may pin the memory of streamed features meanwhile
            result = work()

        def replay() -> T:
            graph.replay()
            return result

        return replay


class GraphedSteps:
    """Records the functions of an engine and replays them; see `heads.training.steps.Steps`."""

    is_recorded = True

    def __init__(self, recorder: Recorder, device: torch.device) -> None:
        self._recorder, self._device = recorder, device
        self._replays: dict[Hashable, Callable[[], Any] | None] = {}  # None: was warmed up
        self._inputs: dict[Hashable, tuple[Batch, Tensor]] = {}
        self._buffers: dict[Hashable, Tensor] = {}
        self._rates: Tensor | None = None

    def backward(self, function: Backward, batch: Batch, keys: Tensor, share: float) -> Tensor:
        key = (share, *((name, value.shape) for name, value in _tensors(batch, keys)))
        if key not in self._inputs:
            self._inputs[key] = self._make_inputs(batch, keys)
        own_batch, own_keys = self._inputs[key]
        for (_, own), (_, value) in zip(_tensors(own_batch, own_keys), _tensors(batch, keys), strict=True):
            own.copy_(value)
        return self._run(key, lambda: function(own_batch, own_keys, share))

    def update(self, function: Update, rates: Sequence[float]) -> None:
        if self._rates is None:
            self._rates = torch.zeros(len(rates), device=self._device)  # float32, which fused optimizers need
        given = torch.tensor(rates, dtype=torch.float32)
        self._rates.copy_(given.pin_memory() if self._device.type == "cuda" else given, non_blocking=True)
        own = self._rates.unbind()
        self._run(_UPDATE, lambda: function(own))

    def forget_update(self) -> None:
        self._replays.pop(_UPDATE, None)

    def _run(self, key: Hashable, work: Callable[[], T]) -> T:
        if key not in self._replays:
            self._replays[key] = None
            return self._recorder.warm_up(work)
        replay = self._replays[key]
        if replay is None:
            replay = self._replays[key] = self._recorder.record(work)
        return replay()

    def _make_inputs(self, batch: Batch, keys: Tensor) -> tuple[Batch, Tensor]:
        """Make the tensors that a graph reads. Graphs of all shapes share their memory, because one runs at a time."""
        features = {name: self._room(f"features/{name}", value) for name, value in batch.features.items()}
        masks = {name: self._room(f"masks/{name}", value) for name, value in batch.masks.items()}
        labels = {name: self._room(name, getattr(batch, name)) for name in ("sentiment", "emotions", "index")}
        return Batch(features, masks, **labels), self._room("keys", keys)

    def _room(self, name: str, like: Tensor) -> Tensor:
        """Return a tensor in the buffer of this name. A larger tensor gets a new buffer; graphs that use the old one keep it."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < like.numel():
            buffer = self._buffers[name] = torch.empty(like.numel(), dtype=like.dtype, device=like.device)
        return buffer[: like.numel()].view(like.shape)


def _tensors(batch: Batch, keys: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a batch of clips with their names."""
    yield from batch.features.items()
    yield from batch.masks.items()
    yield from (("sentiment", batch.sentiment), ("emotions", batch.emotions), ("index", batch.index), ("keys", keys))
