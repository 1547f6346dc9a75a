"""Distributions of a grid file: choice, uniform, log_uniform and int_uniform, and reproducible draws from them.

Draws are used in `heads.sweeps.grid`; a search samples from the same distributions in its own way (`heads.sweeps.search`).
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.errors import InputError, shown
from data.lookup import lookup
from heads.models import options


def _choice(values: Sequence[Any], share: float) -> Any:
    return values[int(share * len(values))]


def _uniform(values: Sequence[float], share: float) -> float:
    low, high = values
    return min(high, low + share * (high - low))


def _log_uniform(values: Sequence[float], share: float) -> float:
    low, high = values
    return min(high, max(low, math.exp(_uniform([math.log(low), math.log(high)], share))))


def _int_uniform(values: Sequence[int], share: float) -> int:
    low, high = values
    return low + int(share * (high - low + 1))


DISTRIBUTIONS: dict[str, Callable[[Sequence[Any], float], Any]] = {
    "choice": _choice,
    "uniform": _uniform,
    "log_uniform": _log_uniform,
    "int_uniform": _int_uniform,
}
"""Kind → its quantile function: the value below which a share (from 0 to below 1) of all draws lie."""


@dataclass(frozen=True)
class Distribution:
    """A distribution of the values of one option."""

    kind: str  # a key of DISTRIBUTIONS
    values: tuple[Any, ...]  # choice: all values; the others: the lowest and the highest

    def at(self, share: float) -> Any:
        """Return the value below which a share (from 0 to below 1) of all draws lie."""
        return DISTRIBUTIONS[self.kind](self.values, share)

    def draws(self, name: str, seed: int, count: int) -> list[Any]:
        """Draw `count` values for a name. They follow from the name and the seed alone; a larger count keeps the first ones."""
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        return [self.at(share) for share in np.random.default_rng(int.from_bytes(digest)).random(count).tolist()]


@dataclass(frozen=True, kw_only=True)
class _Bounds:
    uniform: tuple[float, ...] = ()
    log_uniform: tuple[float, ...] = ()
    int_uniform: tuple[int, ...] = ()


def read_distribution(given: Any, where: str) -> Distribution:
    """Read the distribution of one name.

    Args:
        given: A mapping of one kind to its values, as in {uniform: [0, 0.5]}.
        where: Place to name in a message.

    Raises:
        InputError: The kind is unknown, or its values are not allowed.
    """
    if not isinstance(given, Mapping) or len(given) != 1:
        raise InputError(f"{where} is {shown(given)}, expected one of {', '.join(DISTRIBUTIONS)}, as in {{uniform: [0, 0.5]}}.")
    [(kind, values)] = given.items()
    lookup(DISTRIBUTIONS, str(kind), f"distribution in {where}:")
    if kind == "choice":
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}: choice is {shown(values)}, expected a list of values.")
        return Distribution(kind, tuple(values))
    bounds = getattr(options.build(_Bounds, {kind: values}, where), kind)
    if len(bounds) != 2 or not bounds[0] < bounds[1] or (kind == "log_uniform" and bounds[0] <= 0):
        above = ", above 0" if kind == "log_uniform" else ""
        raise InputError(f"{where}: {kind} is {shown(values)}, expected [lowest, highest]{above}.")
    return Distribution(kind, bounds)
