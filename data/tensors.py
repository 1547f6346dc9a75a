"""Cached features as padded batches on a device, made there without a loop over utterances.

A modality lies packed on the device, its utterances one after the other, as in its feature file and in the type stored there, with one
row of zeros behind them. A batch is one gather: real steps read their row, padding reads the row of zeros. What does not fit into
memory streams: a thread reads the utterances of the next few batches into such packed values, and the same gather pads them, so that
the batches are the same bit for bit. Which utterances stand together is decided in `data.batching`, their labels are from
`data.targets`.

Nothing here waits for the device: lengths are known on the host, and what a batch sends there is pinned memory.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from data.batching import DialogueRows
from data.cache import CachedCorpus
from data.errors import InputError
from data.feature_store import FeatureStore
from data.lookup import lookup
from data.schema import MODALITIES
from data.targets import Targets

_AHEAD = 4
"""Batches read before they are asked for."""

_SHARE = 0.8
"""Of the free memory, for features; the rest is for whoever computes on them."""

T = TypeVar("T")
R = TypeVar("R")


class Batch(NamedTuple):
    """B utterances, padded to the longest of them. Shapes: see `heads.models.base`."""

    features: Mapping[str, Tensor]  # modality → (B, T, D) in the chosen dtype; zeros in the padding
    masks: Mapping[str, Tensor]  # modality → (B, T) bool, True = real
    sentiment: Tensor  # (B,) float32, NaN where unlabelled
    emotions: Tensor  # (B, 6) float32: 1 present (intensity > 0), 0 absent, NaN unlabelled
    index: Tensor  # (B,) int64, rows of `CorpusTensors.targets`
    dialogue: Tensor | None = None  # (V, L) int64, positions in this batch, -1 = padding; None unless batched by video


class _Packed(NamedTuple):
    """The utterances of a batch among others, one after the other."""

    values: Tensor  # (ΣT + 1, D) in the stored type; the last row is zero
    starts: np.ndarray  # (B,) int64, where each begins
    lengths: np.ndarray  # (B,) int64, rows of each, ≥ 1


class _Prepared(NamedTuple):
    """All of a batch that the host knows."""

    index: Tensor  # (1 + 2 M, B) int64: its rows, then starts and lengths of each of M modalities
    values: dict[str, Tensor]  # modality → `_Packed.values`
    longest: dict[str, int]  # modality → T
    layout: Tensor | None


@dataclass(frozen=True)
class _Features:
    """One modality of the N utterances of the targets, in a feature file."""

    store: FeatureStore
    places: np.ndarray  # (N,) int64, of each utterance in the file
    lengths: np.ndarray  # (N,) int64, rows of each that are used, from its first

    @classmethod
    def open(cls, path: Path, manifest: Path, ids: Sequence[str], limit: int | None) -> Self:
        store = FeatureStore.open(path)
        place_of = {utterance_id: place for place, utterance_id in enumerate(store.ids)}
        if missing := [utterance_id for utterance_id in ids if utterance_id not in place_of]:
            raise InputError(
                f"{path}: {len(missing):,} of {len(ids):,} utterances of {manifest} are not in it, first {missing[0]!r}."
                " Run BuildFeatures again."
            )
        places = np.array([place_of[utterance_id] for utterance_id in ids], dtype=np.int64)
        lengths = store.lengths[places]
        return cls(store, places, lengths if limit is None else np.minimum(lengths, limit))

    def size_bytes(self) -> int:
        return (int(self.lengths.sum()) + 1) * self.store.dim * self.store.dtype.itemsize

    def pack(self, rows: np.ndarray, **where: Any) -> _Packed:
        """Reads utterances into a tensor of their own, made with the options `where` (device, pin_memory)."""
        lengths = self.lengths[rows]
        starts = np.cumsum(lengths) - lengths
        dtype = getattr(torch, self.store.dtype.name)
        values = torch.empty((int(lengths.sum()) + 1, self.store.dim), dtype=dtype, **where)
        values[-1] = 0
        for place, start, length in zip(self.places[rows].tolist(), starts.tolist(), lengths.tolist(), strict=True):
            values[start : start + length] = torch.from_numpy(self.store.read(place, place + 1)[:length])
        return _Packed(values, starts, lengths)


class _Resident:
    """Features that are all on the device."""

    def __init__(self, features: _Features, device: torch.device) -> None:
        self._all = features.pack(np.arange(len(features.lengths)), device=device)
        features.store.close()

    def gather(self, rows: np.ndarray) -> _Packed:
        return _Packed(self._all.values, self._all.starts[rows], self._all.lengths[rows])


class _Streamed:
    """Features that stay in their file."""

    def __init__(self, features: _Features, device: torch.device) -> None:
        self._features, self._pins = features, device.type == "cuda"

    def gather(self, rows: np.ndarray) -> _Packed:
        return self._features.pack(rows, pin_memory=self._pins)


class CorpusTensors:
    """Features and labels of a corpus, as batches on a device. Made by `load`.

    Attributes:
        targets: The labels; their N rows are the rows of everything here.
        dims: Modality → D.
        lengths: Modality → (N,) int64 rows of each utterance, limits applied; on the host.
        sentiment: (N,) float32 on the device, NaN where unlabelled.
        emotions: (N, 6) float32 on the device, as in `Batch`.
        device: Where batches are.
        is_streamed: Whether features are read for each batch, because they do not fit into memory.
    """

    def __init__(
        self, targets: Targets, features: Mapping[str, _Features], device: torch.device, dtype: torch.dtype, is_streamed: bool
    ) -> None:
        """Use `load`."""
        self.device, self.is_streamed = device, is_streamed
        self.dims = {modality: one.store.dim for modality, one in features.items()}
        self.lengths = {modality: one.lengths for modality, one in features.items()}
        self._dtype = dtype
        self._sources = {m: (_Streamed if is_streamed else _Resident)(one, device) for m, one in features.items()}
        self._label(targets)

    def _label(self, targets: Targets) -> None:
        self.targets = targets
        self.sentiment = torch.tensor(targets.sentiment, device=self.device)
        present = np.where(np.isnan(targets.emotions), targets.emotions, targets.emotions > 0)
        self.emotions = torch.tensor(present, dtype=torch.float32, device=self.device)

    def relabelled(self, targets: Targets) -> Self:
        """The same features, not copied, with other labels of the same utterances."""
        other = copy.copy(self)
        other._label(targets)
        return other

    @classmethod
    def load(
        cls,
        corpus: CachedCorpus,
        targets: Targets,
        *,
        modalities: Sequence[str] = MODALITIES,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        limits: Mapping[str, int] | None = None,
        memory_bytes: int | None = None,
    ) -> Self:
        """Opens the feature files of a corpus and, if they fit, puts their features on the device.

        Args:
            corpus: Of a cache.
            targets: Its labels; only their utterances are read.
            modalities: Which feature files.
            device: Where batches are wanted.
            dtype: Of the features in a batch; on the device they lie in the type of their file.
            limits: Modality → rows to use of an utterance, from its first; what is not named has no limit.
            memory_bytes: Features larger than this, all modalities together, stream; by default 80 % of what is free on the device.

        Raises:
            InputError: The corpus has no such modality; a limit is below 1; a feature file cannot be used or lacks an utterance.
        """
        device, limits = torch.device(device), limits or {}
        for modality, limit in limits.items():
            if limit < 1:
                raise InputError(f"The limit of {modality} is {limit} rows, expected 1 or more.")
        paths = {modality: lookup(corpus.features, modality, f"modality of {corpus.name}") for modality in modalities}
        features = {m: _Features.open(path, corpus.manifest, targets.ids, limits.get(m)) for m, path in paths.items()}
        available = _SHARE * _free_bytes(device) if memory_bytes is None else memory_bytes
        is_streamed = sum(one.size_bytes() for one in features.values()) > available
        return cls(targets, features, device, dtype, is_streamed)

    def batch(self, rows: np.ndarray, dialogue: np.ndarray | None = None) -> Batch:
        """Makes one batch.

        Args:
            rows: (B,) int64, B ≥ 1, in any order; repeated ones are allowed.
            dialogue: (V, L) int64, positions in `rows`, -1 = padding.
        """
        return self._finish(self._prepare(rows if dialogue is None else DialogueRows(rows, dialogue)))

    def batches(self, plan: Iterable[np.ndarray | DialogueRows]) -> Iterator[Batch]:
        """Makes the batches of a plan (see `data.batching`), one at a time.

        Streamed features are read a few batches ahead by a thread, which ends with the iteration, early or not; an error in it is
        raised here, at the batch that it is about.
        """
        prepared = _ahead(self._prepare, plan) if self.is_streamed else map(self._prepare, plan)
        for one in prepared:
            yield self._finish(one)

    def _prepare(self, rows: np.ndarray | DialogueRows) -> _Prepared:
        rows, layout = rows if isinstance(rows, DialogueRows) else (rows, None)
        packed = {modality: source.gather(rows) for modality, source in self._sources.items()}
        spans = [part for one in packed.values() for part in (one.starts, one.lengths)]
        return _Prepared(
            index=self._pinned(np.stack([rows, *spans])),
            values={modality: one.values for modality, one in packed.items()},
            longest={modality: int(one.lengths.max()) for modality, one in packed.items()},
            layout=None if layout is None else self._pinned(layout),
        )

    def _finish(self, prepared: _Prepared) -> Batch:
        index, *spans = self._moved(prepared.index).unbind()
        features, masks = {}, {}
        for (modality, values), starts, lengths in zip(prepared.values.items(), spans[::2], spans[1::2], strict=True):
            padded, masks[modality] = _pad(self._moved(values), starts, lengths, prepared.longest[modality])
            features[modality] = padded.to(self._dtype)
        layout = None if prepared.layout is None else self._moved(prepared.layout)
        return Batch(features, masks, self.sentiment[index], self.emotions[index], index, layout)

    def _pinned(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)


def _pad(values: Tensor, starts: Tensor, lengths: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """(B, T, D) utterances of packed values and their (B, T) mask."""
    steps = torch.arange(longest, device=values.device)
    mask = steps < lengths[:, None]
    rows = (starts[:, None] + steps).masked_fill_(~mask, len(values) - 1)
    return values.index_select(0, rows.flatten()).unflatten(0, mask.shape), mask


def _ahead(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Like `map`, in one thread that works up to `_AHEAD` items ahead."""
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="features")
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # waits for the batch in the making


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with open("/proc/meminfo", encoding="ascii") as file:
        facts = dict(line.split(":") for line in file)
    return int(facts["MemAvailable"].split()[0]) * 1024
