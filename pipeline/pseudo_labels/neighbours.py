"""Finds exact nearest neighbours by cosine: in blocks, on any device, with ties decided the same way everywhere.

The float32 products of the device only propose candidates: all donors that rounding could put among the nearest. Those few are scored
again in float64 on the CPU, always with the same order of additions, and only that score decides. So neither the device, nor the block
size, nor the order of the blocks changes a neighbour. The use of the neighbours is in `pipeline.pseudo_labels.rule`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_GROUP = 32  # similarities per group maximum: one pass reads all of them, later steps read only groups that can matter
_BELOW_ANY_COSINE = -2.0  # but above -inf, the mark of the clip itself and of padding
_RESCORED_AT_ONCE = 8192


@dataclass(frozen=True)
class Neighbours:
    """The nearest donors of N targets, nearest first."""

    index: np.ndarray  # (N, k) int64, row among the donors; -1 where there are fewer than k
    similarity: np.ndarray  # (N, k) float64 cosine; NaN where there is no donor
    tied: np.ndarray  # (N,) int64, donors within the tolerance of the highest similarity; 1 is no tie, 0 no donor


def nearest(
    targets: np.ndarray,
    donors: np.ndarray,
    k: int,
    tolerance: float,
    own: np.ndarray | None = None,
    device: str = "cpu",
    block: int = 1024,
) -> Neighbours:
    """Finds the k donors of the highest cosine for every target.

    They are chosen one after the other: among the remaining donors within `tolerance` of the highest similarity, the one with the
    smallest row. Memory besides the arguments: the normalised targets, one block × block of similarities, and the candidates, a few per
    target unless very many donors are the same sentence.

    Args:
        targets: (N, D) float32, finite, no row all zero.
        donors: (M, D) float32, likewise, in the order in which ties are decided.
        own: (N,) int64, the row of the donor that is the target itself and must not be taken, or -1.
        device: Torch's name of the device that computes the products.
        block: Number of targets, and of donors, multiplied at once.
    """
    row, column = _candidates(targets, donors, k, tolerance, own, device, block)
    return _choose(row, column, _cosine(targets, donors, row, column), len(targets), k, tolerance)


def _candidates(
    targets: np.ndarray, donors: np.ndarray, k: int, tolerance: float, own: np.ndarray | None, device: str, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns sorted pairs (target, donor): all that can be among the k nearest or tied with the last of them."""
    if not len(targets) or not len(donors):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    slack = tolerance + _rounding(targets.shape[1])
    unit_targets = torch.from_numpy(_unit(targets)).to(device)
    own = np.full(len(targets), -1) if own is None else own
    top = torch.full((len(targets), k), -torch.inf, device=device)
    page = torch.empty(min(block, len(targets)), _whole_groups(min(block, len(donors))), device=device)
    found = []
    with torch.inference_mode(), _plain_float32():
        for first_donor in range(0, len(donors), block):
            unit_donors = torch.from_numpy(_unit(donors[first_donor : first_donor + block])).to(device)
            for first in range(0, len(targets), block):
                part = slice(first, first + block)
                similarity = _multiply(unit_targets[part], unit_donors, page)
                _forbid(similarity, own[part] - first_donor)
                top[part], row, column, value = _above_bar(similarity, top[part], slack)
                found.append((row + first, column + first_donor, value))
        row, column, value = (torch.cat(parts) for parts in zip(*found, strict=True))
        kept = value >= top[row, -1] - slack
    row, column = row[kept].cpu().numpy(), column[kept].cpu().numpy()
    order = np.lexsort((column, row))
    return row[order], column[order]


def _multiply(targets: torch.Tensor, donors: torch.Tensor, page: torch.Tensor) -> torch.Tensor:
    """Computes the similarities (n, m) of one block in `page`, padded with -inf to whole groups.

    All blocks share one page. A new page for each block cannot reuse the memory of the last one, because the candidates kept from that
    block lie behind it: 8 MiB became 380 MiB (4,000 × 60,000 pairs, glibc).
    """
    similarity = page[: len(targets), : _whole_groups(len(donors))]
    torch.mm(targets, donors.T, out=similarity[:, : len(donors)])
    similarity[:, len(donors) :] = -torch.inf
    return similarity


def _whole_groups(count: int) -> int:
    return -(-count // _GROUP) * _GROUP


def _above_bar(similarity: torch.Tensor, top: torch.Tensor, slack: float) -> tuple[torch.Tensor, ...]:
    """Merges one block of similarities (n, m) into the lower bounds `top` (n, k) and picks the similarities close to the k-th.

    The maxima of k different groups are k similarities, so the k-th largest maximum never exceeds the k-th largest similarity.
    """
    groups = similarity.unflatten(1, (-1, _GROUP))
    highest = groups.amax(2)
    top = torch.cat([top, highest], dim=1).topk(top.shape[1], dim=1).values
    bar = (top[:, -1] - slack).clamp(min=_BELOW_ANY_COSINE)
    row, group = (highest >= bar[:, None]).nonzero(as_tuple=True)
    values = groups[row, group]
    pick, place = (values >= bar[row, None]).nonzero(as_tuple=True)
    return top, row[pick], group[pick] * _GROUP + place, values[pick, place]


def _forbid(similarity: torch.Tensor, column: np.ndarray) -> None:
    """Excludes each row's own donor from the comparison if it is in this block."""
    (row,) = np.nonzero((column >= 0) & (column < similarity.shape[1]))
    if len(row):
        similarity[torch.from_numpy(row).to(similarity.device), torch.from_numpy(column[row]).to(similarity.device)] = -torch.inf


def _choose(row: np.ndarray, column: np.ndarray, similarity: np.ndarray, targets: int, k: int, tolerance: float) -> Neighbours:
    """Applies the rule of `nearest` to candidates sorted by (row, column)."""
    left = similarity.copy()
    chosen = Neighbours(np.full((targets, k), -1), np.full((targets, k), np.nan), np.zeros(targets, dtype=np.int64))
    for rank in range(k):
        highest = np.full(targets, -np.inf)
        np.maximum.at(highest, row, left)
        (eligible,) = np.nonzero((left >= highest[row] - tolerance) & (left > -np.inf))
        if rank == 0:
            chosen.tied[:] = np.bincount(row[eligible], minlength=targets)
        receiver, first = np.unique(row[eligible], return_index=True)
        taken = eligible[first]
        chosen.index[receiver, rank] = column[taken]
        chosen.similarity[receiver, rank] = similarity[taken]
        left[taken] = -np.inf
    return chosen


def _cosine(targets: np.ndarray, donors: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Computes the float64 cosine of each pair. Unlike a matrix product, NumPy sums along a row in an order that depends on D alone."""
    cosine = np.empty(len(row))
    for first in range(0, len(row), _RESCORED_AT_ONCE):
        part = slice(first, first + _RESCORED_AT_ONCE)
        left, right = targets[row[part]].astype(np.float64), donors[column[part]].astype(np.float64)
        product = (left * right).sum(axis=1)
        cosine[part] = product / np.sqrt((left * left).sum(axis=1) * (right * right).sum(axis=1))
    return np.maximum(cosine, -1)  # opposite sentences are not below the smallest minimum that can be set, whatever the rounding


def _unit(embeddings: np.ndarray) -> np.ndarray:
    """Normalises rows to length 1, float32. The length is computed in float64, where no square of a float32 overflows or vanishes."""
    wide = embeddings.astype(np.float64)
    return (wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))).astype(np.float32)


def _rounding(dim: int) -> float:
    """Bounds the joint error of two float32 cosines of `_unit` rows, whatever the order of additions.

    With u = 2⁻²⁴, each is off by at most (D + 4) u: D u for the sum, 2 u for rounding both rows, and room for second-order terms.
    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1.
    """
    return (dim + 4) * float(np.finfo(np.float32).eps)


@contextmanager
def _plain_float32() -> Iterator[None]:
    """Forbids TF32 and bfloat16 in matrix products inside, whatever the process allows elsewhere."""
    mkldnn: Any = torch.backends.mkldnn  # torch declares no type for its `matmul`
    backends = (mkldnn.matmul, torch.backends.cuda.matmul)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
