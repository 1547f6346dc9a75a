"""Padding of sequences in one array (N, T, D): added at the front for an export, and found at either end for an import."""

from collections.abc import Iterable, Sequence

import numpy as np

from data.errors import InputError, shown


def pad_front(sequences: Iterable[np.ndarray], count: int, steps: int, dim: int) -> np.ndarray:
    """Return N sequences (≤ T, D) as one float32 array (N, T, D). Each sequence ends at the last step and has zeros before it.

    The padding is at the front because models that read the last step of a recurrent network cannot learn from padding at the end.
    """
    padded = np.zeros((count, steps, dim), np.float32)
    for index, values in enumerate(sequences):
        padded[index, steps - len(values) :] = values
    return padded


def extents_by_length(values: np.ndarray, lengths: np.ndarray, names: Sequence[str], where: str) -> np.ndarray:
    """Find the position of each sequence in its padding, which is at the same end for all sequences.

    Args:
        values: (N, T, D).
        lengths: (N,) number of real rows of each sequence.
        names: (N,) names of the sequences, for messages.
        where: The file and the array, for messages.

    Returns:
        (N, 2) int64: the first real row, and the row after the last.

    Raises:
        InputError: A length is not between 0 and T, or the rows that are padding by their length are not zero.
    """
    steps = values.shape[1]
    for name, length in zip(names, lengths.tolist(), strict=True):
        if not 0 <= length <= steps:
            raise InputError(f"{where}: {shown(name)} has a length of {length}, expected 0 to {steps} rows.")
    lengths = lengths.astype(np.int64)  # a difference of narrow integers would overflow
    used: np.ndarray = np.any(values, axis=2)
    place = np.arange(steps)
    at_front, at_end = place < steps - lengths[:, None], place >= lengths[:, None]
    misfits = {"front": (used & at_front).any(axis=1), "end": (used & at_end).any(axis=1)}
    side = "front" if misfits["front"].sum() <= misfits["end"].sum() else "end"
    if misfits[side].any():
        worst = int(misfits[side].argmax())
        padding = values[worst, (at_front if side == "front" else at_end)[worst]]
        if not np.isfinite(padding).all():
            found = padding[~np.isfinite(padding)][0]
            raise InputError(f"{where}: the padding of {shown(names[worst])} holds {found}, expected zeros. An import repairs nothing.")
        raise InputError(
            f"{where}: {shown(names[worst])} is {lengths[worst]} rows long by its length, but the rest of its {steps} rows is not zero,"
            f" neither in front nor behind. Is the length that of other features?"
        )
    first = steps - lengths if side == "front" else np.zeros_like(lengths)
    return np.column_stack([first, first + lengths])


def extents_by_zeros(values: np.ndarray) -> np.ndarray:
    """Return the first row that is not all zero and the row after the last such row of each (T, D): (N, 2) int64.

    A sequence of zeros has 0, 0.
    """
    used: np.ndarray = np.any(values, axis=2)
    first, stop = used.argmax(axis=1), used.shape[1] - np.flip(used, axis=1).argmax(axis=1)
    return np.column_stack([first, stop]) * np.any(used, axis=1, keepdims=True)
