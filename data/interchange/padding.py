"""Padding of sequences in one array (N, T, D): zeros put at the front, and found again wherever another tool has put them."""

from collections.abc import Iterable, Sequence

import numpy as np

from data.errors import InputError


def pad_front(sequences: Iterable[np.ndarray], count: int, steps: int, dim: int) -> np.ndarray:
    """(N, T, D) float32 of N sequences (≤ T, D), each ending in the last step, zeros before it.

    Models that read the last step of a recurrent network learn nothing from sequences padded at the end.
    """
    padded = np.zeros((count, steps, dim), np.float32)
    for index, values in enumerate(sequences):
        padded[index, steps - len(values) :] = values
    return padded


def extents_by_length(values: np.ndarray, lengths: np.ndarray, names: Sequence[str], where: str) -> np.ndarray:
    """Where each sequence lies in its padding, which is at the same end of all.

    Args:
        values: (N, T, D).
        lengths: (N,) rows of each that are real.
        names: (N,) for messages.
        where: The file and array, for messages.

    Returns:
        (N, 2) int64: first real row, and the row behind the last.

    Raises:
        InputError: A length is not from 0 to T; or what the lengths leave as padding is not zero.
    """
    steps = values.shape[1]
    for name, length in zip(names, lengths.tolist(), strict=True):
        if not 0 <= length <= steps:
            raise InputError(f"{where}: {name!r} has a length of {length}, expected 0 to {steps} rows.")
    used, place = values.any(axis=2), np.arange(steps)
    at_front, at_end = place < steps - lengths[:, None], place >= lengths[:, None]
    misfits = {"front": (used & at_front).any(axis=1), "end": (used & at_end).any(axis=1)}
    side = "front" if misfits["front"].sum() <= misfits["end"].sum() else "end"
    if misfits[side].any():
        worst = int(misfits[side].argmax())
        padding = values[worst, (at_front if side == "front" else at_end)[worst]]
        if not np.isfinite(padding).all():
            found = padding[~np.isfinite(padding)][0]
            raise InputError(f"{where}: the padding of {names[worst]!r} holds {found}, expected zeros. Nothing is repaired here.")
        raise InputError(
            f"{where}: {names[worst]!r} is {lengths[worst]} rows long by its length, but the rest of its {steps} rows is not zero, "
            f"neither in front nor behind. Is the length that of other features?"
        )
    first = steps - lengths if side == "front" else np.zeros_like(lengths)
    return np.column_stack([first, first + lengths])


def extents_by_zeros(values: np.ndarray) -> np.ndarray:
    """(N, 2) int64 first row and the row behind the last of each (T, D) that are not all zero; 0, 0 if none is."""
    used = values.any(axis=2)
    first, stop = used.argmax(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1)
    return np.column_stack([first, stop]) * used.any(axis=1)[:, None]
