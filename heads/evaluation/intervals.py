"""Uncertainty of metrics: bootstrap intervals over utterances, paired comparisons, mean and standard deviation over seeds.

Utterances are drawn as if independent. Utterances of one video are not quite independent, so intervals are too narrow rather than too
wide. The metrics are in `heads.evaluation.metrics`; a metric function here is any `fn(*arrays, weights=(R, N)) -> {name: (R,)}`.

Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 (percentile intervals) and 16 (tests).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

MetricFunction = Callable[..., Mapping[str, np.ndarray]]

_BLOCK = 100  # resamples at a time, which bounds memory


class Interval(NamedTuple):
    """The range that holds a share `level` of the resamples."""

    low: float
    high: float


class MeanSd(NamedTuple):
    """Mean and standard deviation over seeds; `sd` is that of a sample (n - 1), NaN for one seed."""

    mean: float
    sd: float


class Resampled(NamedTuple):
    """A metric of one prediction."""

    observed: float  # on the utterances as they are
    values: np.ndarray  # (R,), in each resample; NaN where it is not defined


class Difference(NamedTuple):
    """A metric of one prediction minus that of another on the same utterances."""

    difference: float  # on the utterances as they are
    low: float
    high: float
    p_value: float  # two-sided, of no difference


def bootstrap(
    metrics: MetricFunction, *arrays: np.ndarray, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Computes percentile intervals of every metric, rows drawn with replacement.

    Resamples in which a metric is not defined (no row of a rare emotion was drawn) do not count for it; NaN if it is defined in none.

    Args:
        metrics: `sentiment_metrics`, `emotion_metrics`, or a `functools.partial` of them.
        *arrays: (N, …) each, its arguments; the rows are drawn jointly.
        resamples: R.
        level: Between 0 and 1.
        seed: The same seed draws the same rows.
    """
    return {name: _interval(found.values, level) for name, found in resampled(metrics, *arrays, resamples=resamples, seed=seed).items()}


def resampled(metrics: MetricFunction, *arrays: np.ndarray, resamples: int = 1000, seed: int = 0) -> dict[str, Resampled]:
    """Computes every metric on the rows as they are and in each resample of them; arguments as for `bootstrap`."""
    count = len(arrays[0])
    generator = np.random.default_rng(seed)
    sizes = [min(_BLOCK, resamples - start) for start in range(0, resamples, _BLOCK)]
    blocks = [metrics(*arrays, weights=_draw(count, size, generator)) for size in sizes]
    observed = metrics(*arrays, weights=np.ones((1, count)))
    return {name: Resampled(float(observed[name][0]), np.concatenate([block[name] for block in blocks])) for name in observed}


def difference(first: Resampled, second: Resampled, level: float = 0.95) -> Difference:
    """Subtracts the second from the first, both of the same drawn rows.

    The p value is twice the share of resamples on the rarer side of 0, the data themselves counted as one (so never below
    2 / (R + 1)), and at most 1; NaN where no resample is defined.
    """
    values = first.values - second.values
    return Difference(first.observed - second.observed, *_interval(values, level), _p_value(values))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Corrects (n,) p values for n tests; NaN are no tests.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    corrected = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: (~np.isnan(p_values)).sum()]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * p_values[order])) if len(order) else []
    return corrected


def mean_sd(runs: Sequence[Mapping[str, float]]) -> dict[str, MeanSd]:
    """Computes mean and sample standard deviation of every metric over runs that differ in their seed; NaN if NaN in one of them.

    Raises:
        ValueError: No run, or runs with different metrics.
    """
    if not runs or any(run.keys() != runs[0].keys() for run in runs):
        raise ValueError(f"expected runs with the same metrics, got {[sorted(run) for run in runs]}")
    return {name: _mean_sd(np.array([run[name] for run in runs], float)) for name in runs[0]}


def _mean_sd(values: np.ndarray) -> MeanSd:
    return MeanSd(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else np.nan)


def _draw(count: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Draws N of N rows R times; returns (R, N) float64, the number of times that each row was drawn."""
    if not count:
        return np.zeros((resamples, 0))
    rows = generator.integers(count, size=(resamples, count)) + count * np.arange(resamples)[:, None]
    return np.bincount(rows.ravel(), minlength=resamples * count).reshape(resamples, count).astype(float)


def _interval(values: np.ndarray, level: float) -> Interval:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return Interval(np.nan, np.nan)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _p_value(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return np.nan
    rarer = min((defined <= 0).sum(), (defined >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(defined) + 1)))
