"""What experts are specific to: traits that are more or less frequent among the utterances that a gate lets through.

The gates are those of `heads.evaluation.routing`. Source of the effective number of utterances: L. Kish, Survey Sampling, 1965.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

LEAST = 20
"""With fewer effective utterances, what an expert seems to be specific to is mostly chance."""


class Trait(NamedTuple):
    """A trait among the utterances of an expert, weighted by its gate, against all utterances."""

    name: str
    mean: float  # among the utterances of the expert
    of_all: float  # among all
    effect: float  # their difference in standard deviations of the trait over all utterances


class Expert(NamedTuple):
    """An expert and its traits, the one that distinguishes it most first."""

    key: str  # "text/block1/msa"
    number: int
    load: float  # mean gate
    utterances: float  # effective number, (Σg)² / Σg²
    traits: tuple[Trait, ...]

    @property
    def is_certain(self) -> bool:
        """True if it has enough utterances to say anything about it."""
        return self.utterances >= LEAST


def experts(gates: Mapping[str, np.ndarray], traits: Mapping[str, np.ndarray]) -> list[Expert]:
    """Describes all experts that are ever selected: those with enough utterances first, the most specific one at the top.

    Args:
        gates: Key → (n, N) gates after selection.
        traits: Name → (n,) float, such as sentiment or 1 where an emotion is present; NaN where unknown.
    """
    found = [
        Expert(key, number, float(gate.mean()), float(gate.sum() ** 2 / (gate**2).sum()), _traits(gate, traits))
        for key, values in gates.items()
        for number, gate in enumerate(values.astype(np.float64).T)
        if gate.any()
    ]
    return sorted(found, key=lambda one: (not one.is_certain, -abs(one.traits[0].effect) if one.traits else 0, one.key, one.number))


def _traits(gate: np.ndarray, traits: Mapping[str, np.ndarray]) -> tuple[Trait, ...]:
    found = []
    for name, values in traits.items():
        known = ~np.isnan(values)
        weights, values = gate[known], values[known].astype(np.float64)
        if weights.any() and (spread := values.std()) > 0:
            mean = float(np.average(values, weights=weights))
            found.append(Trait(name, mean, float(values.mean()), float((mean - values.mean()) / spread)))
    return tuple(sorted(found, key=lambda one: -abs(one.effect)))
