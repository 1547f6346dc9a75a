"""Batch plans of an epoch: lists of rows, one list for each batch. `data.tensors` turns them into tensors.

Every plan contains each given row exactly once. `smallest` is for heads whose losses need other clips in the batch (batch statistics,
pairs): a last batch with fewer rows is merged into the one before it, so that no row is dropped. A plan of a single batch stays as
small as it is. `smallest` must not exceed the batch size.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

T = TypeVar("T", np.ndarray, Sequence)


class DialogueRows(NamedTuple):
    """The rows of a batch of whole videos."""

    rows: np.ndarray  # (B,) int64, video by video, clips in the order of their position
    layout: np.ndarray  # (V, L) int64, positions in `rows`; -1 = padding


def shuffled(rows: np.ndarray, batch_size: int, generator: np.random.Generator, smallest: int = 1) -> list[np.ndarray]:
    """Return random batches.

    Args:
        rows: (n,) int64.
        batch_size: Rows in a batch. The last one may have fewer or, with `smallest`, more.
        generator: Random numbers for the order.
        smallest: See the module's docstring.
    """
    return _cut(generator.permutation(rows), batch_size, smallest)


def of_like_lengths(
    rows: np.ndarray,
    lengths: np.ndarray,
    batch_size: int,
    generator: np.random.Generator,
    schedule: np.random.Generator,
    window: int = 16,
    smallest: int = 1,
) -> list[np.ndarray]:
    """Return random batches of rows of similar length, which need little padding.

    The rows are shuffled, sorted by length within windows of several batches, and cut into batches, which are shuffled in turn.

    Args:
        rows: (n,) int64.
        lengths: (N,) cost of every row of the corpus, e.g. its number of frames; indexed by row.
        batch_size: As in `shuffled`.
        generator: Random numbers that decide which rows share a batch.
        schedule: Random numbers for the order of the batches. Runs that share it have batches of about the same length at the same
            time, whatever rows these hold.
        window: Batches in a window. 1 is the same as `shuffled`; larger windows are less random and need less padding.
        smallest: See the module's docstring.
    """
    windows = _cut(generator.permutation(rows), batch_size * window)
    ordered = [part[np.argsort(lengths[part], kind="stable")] for part in windows]
    batches = _cut(np.concatenate([rows[:0], *ordered]), batch_size, smallest)
    return [batches[place] for place in schedule.permutation(len(batches))]


def in_order(rows: np.ndarray, lengths: np.ndarray, batch_size: int, smallest: int = 1) -> list[np.ndarray]:
    """Return batches for evaluation, the longest rows first: they need little padding, and a lack of memory shows at once.

    The arguments are those of `of_like_lengths`.
    """
    return _cut(rows[np.argsort(-lengths[rows], kind="stable")], batch_size, smallest)


def dialogues(
    videos: np.ndarray,
    positions: np.ndarray,
    rows: np.ndarray,
    videos_per_batch: int,
    generator: np.random.Generator | None = None,
    smallest: int = 1,
) -> list[DialogueRows]:
    """Return batches of whole videos. Clips that are not among `rows` are left out, and their neighbours become adjacent.

    Args:
        videos: (N,) video of every row of the corpus, such as `data.targets.Targets.dialogue`.
        positions: (N,) int64 order inside the video.
        rows: (n,) int64.
        videos_per_batch: V.
        generator: Random numbers for the order of the videos; None keeps the order in which `rows` has them.
        smallest: See the module's docstring; counts videos here.
    """
    _, first, video = np.unique(videos[rows], return_index=True, return_inverse=True)
    ordered = np.lexsort((positions[rows], video))
    clips = np.split(rows[ordered], np.cumsum(np.bincount(video))[:-1])[: len(first)]
    order = np.argsort(first) if generator is None else generator.permutation(len(first))
    return [_dialogue([clips[place] for place in part]) for part in _cut(order, videos_per_batch, smallest)]


def _dialogue(clips: Sequence[np.ndarray]) -> DialogueRows:
    counts = np.array([len(rows) for rows in clips])
    starts, steps = np.cumsum(counts) - counts, np.arange(counts.max())
    layout = np.where(steps < counts[:, None], starts[:, None] + steps, -1)
    return DialogueRows(np.concatenate(clips), layout)


def _cut(items: T, size: int, smallest: int = 1) -> list[T]:
    starts = list(range(0, len(items), size))
    if len(starts) > 1 and len(items) - starts[-1] < smallest:
        starts.pop()
    return [items[start:stop] for start, stop in zip(starts, [*starts[1:], len(items)], strict=False)]
