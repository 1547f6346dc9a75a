"""The simple baselines: scikit-learn models on mean-pooled features, and predictors that read no feature.

A head must beat them to be worth its training. Features are pooled in `heads.evaluation.predictions`; the metrics, those of all
heads, are in `heads.evaluation.metrics`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from data.errors import InputError, shown
from data.labels import MOSEI_LABELS, LabelSet
from data.lookup import lookup

Predict = Callable[[np.ndarray], np.ndarray]
"""Features (M, D) → predictions (M,)."""

Columns = Mapping[str, Mapping[int, slice]]
"""Modality → number of a layer → its columns in (N, ΣD) features, for modalities with several layers."""

Fit = Callable[..., Predict]
"""Features (N, D), targets (N,) and one setting of the grid → the fitted `Predict`."""


class SimpleBaseline(NamedTuple):
    """A family of models; the setting is chosen on the validation rows."""

    sentiment: Fit  # for numbers
    emotion: Fit  # for 0 and 1
    grid: tuple[Mapping[str, float], ...]  # from strong to weak regularisation; the first of equally good ones is used


class SimplePredictions(NamedTuple):
    """Predictions for all rows, and the chosen settings."""

    sentiment: np.ndarray  # (N,) float64; NaN if no row of train has a sentiment
    emotion_probability: np.ndarray  # (N, C) float64; NaN for an emotion of which no row of train has a label
    chosen: dict[str, dict[str, float]]  # "sentiment", "happiness", … → setting and, of several, "text_layer"; empty without a choice


def _median(features: np.ndarray, targets: np.ndarray) -> Predict:
    return _constant(np.median(targets))


def _base_rate(features: np.ndarray, targets: np.ndarray) -> Predict:
    return _constant(targets.mean())


def _ridge(features: np.ndarray, targets: np.ndarray, alpha: float) -> Predict:
    """In float64: joined sets of features of one text are nearly the same, too near for float32 and a small alpha."""
    return Ridge(alpha=alpha).fit(features.astype(np.float64), targets).predict


def _svr(features: np.ndarray, targets: np.ndarray, C: float) -> Predict:
    return SVR(kernel="rbf", C=C, cache_size=1000).fit(features, targets).predict


def _logistic(features: np.ndarray, targets: np.ndarray, C: float) -> Predict:
    """Classifies the rounded targets; predicts the expected class, which for 0 and 1 is the probability of 1."""
    model = LogisticRegression(C=C, max_iter=1000).fit(features, np.round(targets))
    return lambda features: model.predict_proba(features) @ model.classes_


def _constant(value: float) -> Predict:
    return lambda features: np.full(len(features), value)


def _grid(parameter: str, *values: float) -> tuple[dict[str, float], ...]:
    return tuple({parameter: value} for value in values)


SIMPLE_BASELINES: Mapping[str, SimpleBaseline] = {
    "median": SimpleBaseline(_median, _base_rate, ({},)),
    "ridge": SimpleBaseline(_ridge, _ridge, _grid("alpha", 1e5, 3e4, 1e4, 3e3, 1e3, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)),
    "svr": SimpleBaseline(_svr, _svr, _grid("C", 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)),
    "logistic": SimpleBaseline(_logistic, _logistic, _grid("C", 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)),
}
"""Name → simple baseline. `median` reads no feature: it predicts the median sentiment and the base rate of each emotion, of the train
rows. `ridge` and `svr` (RBF kernel) regress sentiment, and the emotions as 0 and 1, clipped to [0, 1]. `logistic` is a logistic
regression for each emotion, and for sentiment the expected value of a multinomial one of the seven rounded classes; sentiment of
other scales is brought to [-3, 3] before. Classes have a model each, and the largest probability wins. All but
`svr` take seconds; the time of `svr` grows with the square of the train rows: on one core some ten seconds for CMU-MOSI, most of an
hour for CMU-MOSEI."""


def fit_simple(
    name: str,
    features: np.ndarray,
    sentiment: np.ndarray,
    emotions: np.ndarray,
    train: np.ndarray,
    valid: np.ndarray,
    layers: Columns = MappingProxyType({}),
    names: LabelSet = MOSEI_LABELS,
) -> SimplePredictions:
    """Fits a simple baseline on the train rows and predicts all rows, with features standardised by mean and deviation of the
    train rows.

    Each target has its own model, and its own setting out of the grid: that with the smallest error on the labelled validation rows,
    the mean absolute error for sentiment and the Brier score (mean squared error of the probability) for an emotion. Rows without a
    label are left out, target by target. A target that has one value in all of train (an emotion that is nowhere) is predicted as that.
    Of several layers of a modality, a target gets the one that has the smallest such error when the model reads it alone.

    Args:
        name: A key of `SIMPLE_BASELINES`.
        features: (N, D) pooled.
        sentiment: (N,) on the scale of `names`, NaN if unlabelled.
        emotions: (N, C) present where above 0, NaN if unlabelled.
        train: (N,) bool.
        valid: (N,) bool.
        layers: Columns of the layers, of modalities that have several.
        names: Names the C emotions, and has the scale of the sentiment.

    Raises:
        InputError: There is no such simple baseline; train is empty; a target is labelled in train and nowhere in valid.
    """
    simple = lookup(SIMPLE_BASELINES, name, "simple baseline")
    if not train.any():
        raise InputError(f"simple baseline {shown(name)}: no row is in split train, expected at least one.")
    features = np.asarray(StandardScaler().fit(features[train]).transform(features))
    present = np.where(np.isnan(emotions), np.nan, emotions > 0)
    usual = MOSEI_LABELS.limit / names.limit  # the grids are for sentiment in [-3, 3]
    targets = {"sentiment": usual * sentiment, **dict(zip(names.emotions, present.T, strict=True))}
    predictions, chosen = {}, {}
    for target, labels in targets.items():
        predictions[target], chosen[target] = _fit_target(simple, target, features, labels, train, valid, layers)
    probability = np.stack([predictions[emotion] for emotion in names.emotions], axis=1)
    return SimplePredictions(predictions["sentiment"] / usual, np.clip(probability, 0, 1), chosen)


def _fit_target(
    simple: SimpleBaseline,
    target: str,
    features: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    valid: np.ndarray,
    layers: Columns,
) -> tuple[np.ndarray, dict[str, float]]:
    """Predicts (N,) values of one target and returns them with the setting and the layers chosen for it."""
    train, valid = train & ~np.isnan(labels), valid & ~np.isnan(labels)
    values = np.unique(labels[train])
    if len(values) < 2:
        return np.full(len(labels), values[0] if len(values) else np.nan), {}
    if not valid.any():
        raise InputError(
            f"simple baselines: {target} is labelled in split train and nowhere in split valid, where its settings are chosen."
        )
    numbers = {}
    for modality, columns in layers.items():
        errors = {number: _best(simple, target, features[:, own], labels, train, valid).error for number, own in columns.items()}
        numbers[modality] = min(errors, key=lambda number: errors[number])
    if layers:
        unread = [own for modality, columns in layers.items() for number, own in columns.items() if number != numbers[modality]]
        is_read = np.ones(features.shape[1], bool)
        for own in unread:
            is_read[own] = False
        features = features[:, is_read]
    best = _best(simple, target, features, labels, train, valid)
    return best.predict(features), {**best.setting, **{f"{modality}_layer": number for modality, number in numbers.items()}}


class _Fitted(NamedTuple):
    predict: Predict
    setting: Mapping[str, float]
    error: float  # on the validation rows


def _best(
    simple: SimpleBaseline, target: str, features: np.ndarray, labels: np.ndarray, train: np.ndarray, valid: np.ndarray
) -> _Fitted:
    """Fits every setting of the grid and returns the first of those with the smallest error on the validation rows."""
    fit = simple.sentiment if target == "sentiment" else simple.emotion
    candidates = [fit(features[train], labels[train], **setting) for setting in simple.grid]
    errors = [_error(target, predict(features[valid]), labels[valid]) for predict in candidates]
    best = int(np.argmin(errors))
    return _Fitted(candidates[best], simple.grid[best], errors[best])


def _error(target: str, prediction: np.ndarray, labels: np.ndarray) -> float:
    if target == "sentiment":
        return float(np.abs(prediction - labels).mean())
    return float(np.square(np.clip(prediction, 0, 1) - labels).mean())
