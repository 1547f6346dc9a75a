"""Cached features as padded batches on a device, made without a loop over utterances.

The features of a modality lie packed on the device: the utterances follow each other in the order and the type of their feature file,
with one row of zeros at the end. A batch is one gather operation: real steps read their row, padding reads the row of zeros. Features
that do not fit into memory are streamed: a thread reads the utterances of the next few batches into packed values of the same kind,
and the same gather operation pads them, so that the batches are equal bit for bit.

`data.batching` decides which utterances share a batch; `data.targets` provides the labels; `data.feature_store` reads the files.
Nothing here waits for the device: the host knows all lengths and sends batches from pinned memory.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from data.batching import DialogueRows
from data.cache import CachedCorpus
from data.errors import InputError, shown
from data.feature_store import FeatureStore
from data.layers import described, positions, stored_layers
from data.lookup import lookup
from data.schema import MODALITIES
from data.targets import Targets, presence

_AHEAD = 4
"""Number of batches that are read in advance."""

_SHARE = 0.8
"""Fraction of the free memory that features may take. The rest is for the computation."""

T = TypeVar("T")
R = TypeVar("R")


class Batch(NamedTuple):
    """B utterances, padded to the longest of them, or to a multiple above it. `heads.models.base` explains the letters of shapes."""

    features: Mapping[str, Tensor]  # modality → (B, T, D) in the chosen dtype; zeros in the padding
    masks: Mapping[str, Tensor]  # modality → (B, T) bool, True = real
    sentiment: Tensor  # (B,) float32, NaN where unlabelled
    emotions: Tensor  # (B, 6) float32: 1 present (intensity > 0), 0 absent, NaN unlabelled
    index: Tensor  # (B,) int64, rows of `CorpusTensors.targets`
    dialogue: Tensor | None = None  # (V, L) int64, positions in this batch, -1 = padding; None unless batched by video


class _Packed(NamedTuple):
    """Packed values that contain the utterances of a batch, and their positions."""

    values: Tensor  # (ΣT + 1, D) in the stored type; the last row is zero
    starts: np.ndarray  # (B,) int64, first row of each
    lengths: np.ndarray  # (B,) int64, number of rows of each, ≥ 1


class _Prepared(NamedTuple):
    """The parts of a batch that are prepared on the host."""

    index: Tensor  # (1 + 2 M, B) int64: rows of the batch, then starts and lengths for each of M modalities
    values: dict[str, Tensor]  # modality → `_Packed.values`
    longest: dict[str, int]  # modality → T
    layout: Tensor | None


@dataclass(frozen=True)
class _File:
    """A feature file, as the N target utterances see it."""

    store: FeatureStore
    places: np.ndarray  # (N,) int64, position of each utterance in the file
    layers: tuple[int, ...]  # numbers of the layers that are used; empty if there is one, of unknown number
    columns: np.ndarray | None  # of these layers, int64; None: all

    @classmethod
    def open(cls, path: Path, manifest: Path, ids: Sequence[str], picked: Sequence[int] | None, name: str) -> Self:
        """Open the features of `ids`, and of several layers those that the option `name` picks.

        Raises:
            InputError: The file cannot be used, lacks an utterance, or lacks a layer.
        """
        store = FeatureStore.open(path)
        identity = store.attrs.get("identity")
        layers, columns = stored_layers(identity), None
        if store.dim % max(1, len(layers)):
            raise InputError(f"{path}: {store.dim} columns are not {len(layers)} layers of one width. Run BuildFeatures again.")
        if picked is not None:
            chosen = positions(layers, picked, name, str(path), described(identity))
            columns = np.arange(store.dim).reshape(len(layers), -1)[list(chosen)].ravel()
            layers = tuple(picked)
        return cls(store, _places(store, manifest, ids), layers, columns)

    @property
    def dim(self) -> int:
        return self.store.dim if self.columns is None else len(self.columns)

    @property
    def averaged(self) -> int:
        """Number of frames of the encoder of which a row is the mean; 1 if none were averaged."""
        identity = self.store.attrs.get("identity")
        count = identity.get("frames_averaged", 1) if isinstance(identity, Mapping) else 1
        if type(count) is not int or count < 1:
            raise InputError(f"{self.store.path}: frames_averaged is {shown(count)}, expected 1 or more. Run BuildFeatures again.")
        return count

    def read(self, place: int, length: int) -> np.ndarray:
        rows = self.store.read(place, place + 1)[:length]
        return rows if self.columns is None else rows[:, self.columns]


def _places(store: FeatureStore, manifest: Path, ids: Sequence[str]) -> np.ndarray:
    place_of = {utterance_id: place for place, utterance_id in enumerate(store.ids)}
    if missing := [utterance_id for utterance_id in ids if utterance_id not in place_of]:
        is_joined = "missing" in store.attrs  # see `data.interchange.joined`
        raise InputError(
            f"{store.path}: {len(missing):,} of {len(ids):,} utterances of {manifest} are not in it, first {shown(missing[0])}."
            + (" Forget these features and import them again." if is_joined else " Run BuildFeatures again.")
        )
    return np.array([place_of[utterance_id] for utterance_id in ids], dtype=np.int64)


@dataclass(frozen=True)
class _Features:
    """The features of the N target utterances for one modality, in their file, or in several files that are joined by width."""

    files: tuple[_File, ...]
    lengths: np.ndarray  # (N,) int64, number of rows used of each, from the first

    @classmethod
    def open(cls, files: Sequence[_File], ids: Sequence[str], limit: int | None) -> Self:
        """Join files by width, with at most `limit` frames of each utterance.

        Raises:
            InputError: An utterance has another number of rows in another file.
        """
        first, *others = files
        lengths = first.store.lengths[first.places]
        for other in others:
            if (unlike := other.store.lengths[other.places] != lengths).any():
                raise InputError(
                    f"{other.store.path}: {shown(ids[int(unlike.argmax())])} has another number of rows than in {first.store.path}."
                )
        return cls(tuple(files), lengths if limit is None else np.minimum(lengths, -(-limit // first.averaged)))

    @property
    def dim(self) -> int:
        return sum(file.dim for file in self.files)

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the layers that lie side by side; empty if files are joined, because their layers do not belong together."""
        return self.files[0].layers if len(self.files) == 1 else ()

    @property
    def averaged(self) -> int:
        return self.files[0].averaged

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*(file.store.dtype for file in self.files))

    def size_bytes(self) -> int:
        return (int(self.lengths.sum()) + 1) * self.dim * self.dtype.itemsize

    def pack(self, rows: np.ndarray, **where: Any) -> _Packed:
        """Read utterances into a new tensor, which is created with the options `where` (device, pin_memory)."""
        lengths = self.lengths[rows]
        starts = np.cumsum(lengths) - lengths
        dtype = getattr(torch, self.dtype.name)
        values = torch.empty((int(lengths.sum()) + 1, self.dim), dtype=dtype, **where)
        values[-1] = 0
        column = 0
        for file in self.files:
            part = values[:, column : column + file.dim]
            for place, start, length in zip(file.places[rows].tolist(), starts.tolist(), lengths.tolist(), strict=True):
                part[start : start + length] = torch.from_numpy(file.read(place, length))
            column += file.dim
        return _Packed(values, starts, lengths)


class _Resident:
    """Features that are on the device as a whole."""

    def __init__(self, features: _Features, device: torch.device) -> None:
        self._all = features.pack(np.arange(len(features.lengths)), device=device)
        for file in features.files:
            file.store.close()

    def gather(self, rows: np.ndarray) -> _Packed:
        return _Packed(self._all.values, self._all.starts[rows], self._all.lengths[rows])


class _Streamed:
    """Features that are read from their file batch by batch."""

    def __init__(self, features: _Features, device: torch.device) -> None:
        self._features, self._pins = features, device.type == "cuda"

    def gather(self, rows: np.ndarray) -> _Packed:
        return self._features.pack(rows, pin_memory=self._pins)


class _Zeroed:
    """Zeros in the place of the features of a source, as many rows of each utterance."""

    def __init__(self, source: "_Source") -> None:
        self._source = source

    def gather(self, rows: np.ndarray) -> _Packed:
        packed = self._source.gather(rows)
        return _Packed(
            packed.values.new_zeros(int(packed.lengths.max()) + 1, packed.values.shape[1]), 0 * packed.starts, packed.lengths
        )


class _Exchanged:
    """The features of a source, each utterance with those of another."""

    def __init__(self, source: "_Source", other: np.ndarray) -> None:
        self._source, self._other = source, other

    def gather(self, rows: np.ndarray) -> _Packed:
        return self._source.gather(self._other[rows])


_Source = _Resident | _Streamed | _Zeroed | _Exchanged


class CorpusTensors:
    """Features and labels of a corpus, as batches on a device. Created by `load`.

    Attributes:
        targets: The labels. All rows here are numbered as their N rows.
        dims: Modality → D, of all used layers together.
        layers: Modality → numbers of the used layers, which lie side by side; empty if there is one, of unknown number, or if files
            are joined by width.
        averaged: Modality → how many frames of the encoder a row is the mean of, 1 if none were averaged.
        lengths: Modality → number of rows of each utterance after limits, (N,) int64, on the host.
        sentiment: (N,) float32 on the device, NaN where unlabelled.
        emotions: (N, 6) float32 on the device, as in `Batch`.
        device: The device of the batches.
        is_streamed: True if features are read for each batch because they do not fit into memory.
    """

    def __init__(
        self, targets: Targets, features: Mapping[str, _Features], device: torch.device, dtype: torch.dtype, is_streamed: bool
    ) -> None:
        """Create the tensors. Call `load` instead."""
        self.device, self.is_streamed = device, is_streamed
        self.dims = {modality: one.dim for modality, one in features.items()}
        self.layers = {modality: one.layers for modality, one in features.items()}
        self.averaged = {modality: one.averaged for modality, one in features.items()}
        self.lengths = {modality: one.lengths for modality, one in features.items()}
        self._dtype = dtype
        self._sources: dict[str, _Source] = {m: (_Streamed if is_streamed else _Resident)(one, device) for m, one in features.items()}
        self._label(targets)

    def _label(self, targets: Targets) -> None:
        self.targets = targets
        self.sentiment = torch.tensor(targets.sentiment, device=self.device)
        self.emotions = torch.tensor(presence(targets.emotions), device=self.device)

    def relabelled(self, targets: Targets) -> Self:
        """Return the same features, not copied, with other labels for the same utterances."""
        other = copy.copy(self)
        other._label(targets)
        return other

    def zeroed(self, modality: str) -> Self:
        """Return the same tensors, not copied, in which the features of a modality are zeros; its masks stay."""
        other = copy.copy(self)
        other._sources = self._sources | {modality: _Zeroed(self._sources[modality])}
        return other

    def exchanged(self, modality: str, other_of: np.ndarray) -> Self:
        """Return the same tensors, not copied, in which an utterance has the features, and their number, of another in one modality.

        Args:
            modality: A key of `dims`.
            other_of: (N,) int64, row of the utterance whose features each utterance gets.
        """
        other = copy.copy(self)
        other._sources = self._sources | {modality: _Exchanged(self._sources[modality], other_of)}
        other.lengths = self.lengths | {modality: self.lengths[modality][other_of]}
        return other

    @classmethod
    def load(
        cls,
        corpus: CachedCorpus,
        targets: Targets,
        *,
        modalities: Sequence[str] | Mapping[str, Sequence[str]] = MODALITIES,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        limits: Mapping[str, int] | None = None,
        layers: Mapping[str, Sequence[int]] | None = None,
        memory_bytes: int | None = None,
    ) -> Self:
        """Open the feature files of a corpus and load their features onto the device if they fit.

        Args:
            corpus: A corpus of a cache.
            targets: The labels of the corpus. Only their utterances are read.
            modalities: The modalities to load. As a mapping: modality, or any other name → the feature sets of the corpus that are
                joined by width under it; their rows have to be the same tokens or frames (`data.alignment`).
            device: The device of the batches.
            dtype: Type of the features in a batch. On the device, they are stored in the type of their file.
            limits: Modality → number of rows to use of each utterance, from the first. Other modalities have no limit. Where rows are
                means of frames, the frames count: of 299 frames, 75 means of four.
            layers: Modality → numbers of the layers to use, in this order. Of other modalities all are used.
            memory_bytes: Largest size of the features of all modalities on the device; larger ones are streamed. The default is
                80 % of the device's free memory.

        Raises:
            InputError: The corpus has no such modality, a limit is below 1, or a feature file cannot be used or lacks an utterance or
                a layer.
        """
        device, limits = torch.device(device), limits or {}
        for modality, limit in limits.items():
            if limit < 1:
                raise InputError(f"The limit of {modality} is {limit} rows, expected 1 or more.")
        sets = modalities if isinstance(modalities, Mapping) else {modality: (modality,) for modality in modalities}
        features = {}
        for modality, names in sets.items():
            paths = [lookup(corpus.features, name, f"modality of {corpus.name}") for name in names]
            picked = (layers or {}).get(modality)
            files = [_File.open(path, corpus.manifest, targets.ids, picked, f"data.layers.{modality}") for path in paths]
            features[modality] = _Features.open(files, targets.ids, limits.get(modality))
        available = _SHARE * free_bytes(device) if memory_bytes is None else memory_bytes
        is_streamed = sum(one.size_bytes() for one in features.values()) > available
        return cls(targets, features, device, dtype, is_streamed)

    def batch(self, rows: np.ndarray, dialogue: np.ndarray | None = None, length_multiple: int = 1) -> Batch:
        """Return one batch.

        Args:
            rows: (B,) int64, B ≥ 1, in any order. Rows may be repeated.
            dialogue: (V, L) int64, positions in `rows`, -1 = padding.
            length_multiple: T of each modality is the next multiple of it, with more padding.
        """
        return self._finish(self._prepare(rows if dialogue is None else DialogueRows(rows, dialogue), length_multiple))

    def batches(self, plan: Iterable[np.ndarray | DialogueRows], length_multiple: int = 1) -> Iterator[Batch]:
        """Yield the batches of a plan (see `data.batching`), one at a time; `length_multiple` as for `batch`.

        A thread reads streamed features a few batches ahead. It ends with the iteration, also if that ends early. An error in the
        thread is raised here, at the batch that it concerns.
        """
        prepare = partial(self._prepare, length_multiple=length_multiple)
        prepared = _ahead(prepare, plan) if self.is_streamed else map(prepare, plan)
        for one in prepared:
            yield self._finish(one)

    def _prepare(self, rows: np.ndarray | DialogueRows, length_multiple: int) -> _Prepared:
        rows, layout = rows if isinstance(rows, DialogueRows) else (rows, None)
        packed = {modality: source.gather(rows) for modality, source in self._sources.items()}
        spans = [part for one in packed.values() for part in (one.starts, one.lengths)]
        return _Prepared(
            index=self._pinned(np.stack([rows, *spans])),
            values={modality: one.values for modality, one in packed.items()},
            longest={modality: rounded_up(int(one.lengths.max()), length_multiple) for modality, one in packed.items()},
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


def rounded_up(length: int, multiple: int) -> int:
    """Return the smallest multiple that is not below a length."""
    return -(-length // multiple) * multiple


def _pad(values: Tensor, starts: Tensor, lengths: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Return the utterances of packed values, (B, T, D), and their mask, (B, T)."""
    steps = torch.arange(longest, device=values.device)
    mask = steps < lengths[:, None]
    rows = (starts[:, None] + steps).masked_fill_(~mask, len(values) - 1)
    return values.index_select(0, rows.flatten()).unflatten(0, mask.shape), mask


def _ahead(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `work(item)` for each item, computed in one thread that is up to `_AHEAD` items ahead."""
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
        pool.shutdown(cancel_futures=True)  # waits for the batch that is being read


def free_bytes(device: torch.device) -> int:
    """Return the bytes of memory that are free on a device; on a CPU, those that the system can make free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with open("/proc/meminfo", encoding="ascii") as file:
        facts = dict(line.split(":") for line in file)
    return int(facts["MemAvailable"].split()[0]) * 1024
