"""What run folders say about one split: metrics, predictions, history, and when the split was opened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from data.errors import InputError
from data.labels import EMOTIONS
from data.tuning import encoder_words
from heads.evaluation.metrics import DEFAULT_METRICS, METRICS
from heads.evaluation.strata import emotion_distances, emotion_errors, sentiment_errors
from heads.runs.folder import RunFolder


@dataclass(frozen=True)
class Result:
    """A finished run on one split."""

    name: str  # short, unique on the page
    folder: RunFolder
    split: str
    content: Mapping[str, Any]  # of config.json
    facts: Mapping[str, Any]  # of metrics.json
    table: pd.DataFrame  # predictions beside labels, by utterance_id
    history: pd.DataFrame | None
    opened: tuple[str, ...]  # when the split was evaluated after training

    @property
    def corpus(self) -> str:
        return self.content["config"]["corpus"]

    @property
    def configuration(self) -> str:
        """The name of the run's folder without its seed: the same for all seeds of a configuration."""
        return stem(self.folder)

    @property
    def tasks(self) -> list[str]:
        """Those of msa and mer that it predicts."""
        return [task for task, column in (("msa", "sentiment"), ("mer", EMOTIONS[0])) if column in self.table]

    @property
    def metrics(self) -> dict[str, float]:
        """Name → value, NaN where it has none."""
        return {name: _number(value) for name, value in self.facts[self.split].items() if name in METRICS}

    def metric(self, name: str) -> float:
        """The value of a metric, NaN where it has none."""
        return self.metrics.get(name, np.nan)

    def interval(self, metric: str) -> tuple[float, float]:
        """The 95 % bootstrap interval of a metric over utterances."""
        low, high = self.facts.get(f"{self.split}_interval", {}).get(metric, (None, None))
        return _number(low), _number(high)

    @property
    def chosen(self) -> tuple[int, str] | None:
        """The epoch that was chosen, and by what; None for simple baselines."""
        train = self.content["config"].get("train", {})
        selected = self.facts.get("selected", {}).get(train.get("select"))
        return (selected["epoch"], train["select"]) if selected else None

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders whose features it read."""
        return [encoder_words(entry["encoder"]) for entry in self.content["encoders"].values()]

    def sentiment(self) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and true sentiment, (n,) float64 each."""
        return self.table["sentiment"].to_numpy(float), self.table["sentiment_true"].to_numpy(float)

    def emotions(self) -> tuple[np.ndarray, np.ndarray]:
        """Predicted probabilities and true presence of emotions, (n, 6) float64 each; NaN where unlabelled."""
        return emotions_of(self.table)

    def errors(self, task: str) -> pd.Series:
        """The error of each utterance: absolute error of sentiment, share of emotions decided wrongly."""
        values = sentiment_errors(*self.sentiment()) if task == "msa" else emotion_errors(*self.emotions())
        return pd.Series(values, index=self.table.index)


def ranked(results: Sequence[Result], order: pd.Index) -> pd.Index:
    """Orders utterances by the mean error of runs, the largest first: of sentiment, or of emotions where no run predicts it.

    Emotions are decided right or wrong; among utterances with as many wrong ones, the most confident mistakes come first.
    """
    task = "msa" if any("msa" in result.tasks for result in results) else "mer"
    learned = [result for result in results if task in result.tasks]
    keys = {"error": [result.errors(task) for result in learned]}
    if task == "mer":
        keys["distance"] = [pd.Series(emotion_distances(*result.emotions()), index=result.table.index) for result in learned]
    means = pd.DataFrame({name: pd.concat([one.loc[order] for one in values], axis=1).mean(axis=1) for name, values in keys.items()})
    return means.sort_values(list(keys), ascending=False, kind="stable", na_position="last").index


def emotions_of(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n, 6) predicted probabilities and true presence (1, 0, NaN) of a table of predictions."""
    intensity = table[[f"{name}_true" for name in EMOTIONS]].to_numpy(float)
    return table[list(EMOTIONS)].to_numpy(float), np.where(np.isnan(intensity), np.nan, intensity > 0)


def read(folders: Sequence[RunFolder], split: str) -> list[Result]:
    """Reads what finished runs say about a split.

    Raises:
        InputError: A run is not finished, is damaged, or has not opened the split; the runs are of several corpora.
    """
    contents = [folder.config() for folder in folders]
    corpora = sorted({content["config"]["corpus"] for content in contents})
    if len(corpora) > 1:
        raise InputError(f"The runs are of {len(corpora)} corpora ({', '.join(corpora)}), expected one. Make a page for each.")
    names = short_names(folders, contents)
    found = [_read(folder, split, content, name) for folder, content, name in zip(folders, contents, names, strict=True)]
    if not set.intersection(*(set(result.table.index) for result in found)):
        raise InputError(f"The runs have no utterance of {split} in common, so they cannot stand side by side. Make a page for each.")
    return found


def _read(folder: RunFolder, split: str, content: Mapping[str, Any], name: str) -> Result:
    facts, table = folder.metrics(), predictions(folder, split)
    log = folder.openings()
    opened = () if log is None else tuple(log.loc[(log["split"] == split) & (log["checkpoint"] == "checkpoint"), "when"])
    if split not in facts:
        raise InputError(f"{folder.path / 'metrics.json'}: has no metrics of the {split} split, of which there are predictions.")
    return Result(name, folder, split, content, facts, table.set_index("utterance_id"), folder.history(), opened)


def predictions(folder: RunFolder, split: str) -> pd.DataFrame:
    """Reads the predictions of a finished run for a split.

    Raises:
        InputError: The run is not finished, is damaged, or has not opened the split.
    """
    folder.metrics()  # raises if the run is not finished
    if (table := folder.predictions(split)) is None:
        opened = f"Open it first: python -m heads evaluate {folder.path} --split {split}" if split == "test" else "Train it again."
        raise InputError(f"{folder.path}: has no predictions of the {split} split. {opened}")
    return table


def stem(folder: RunFolder) -> str:
    """Returns the name of a run folder without its seed."""
    return re.sub(r"-seed\d+$", "", folder.path.resolve().name)


def short_names(folders: Sequence[RunFolder], contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names runs by what tells them apart: the seed, before it the head, then the key of the configuration; else by their folders."""
    configs = [content["config"] for content in contents]
    seeds = [f"seed {config.get('seed', '?')}" for config in configs]
    heads = [config["head"] for config in configs]
    stems = [stem(folder) for folder in folders]
    keys = [f"{head} {one.rpartition('-')[2]}" for head, one in zip(heads, stems, strict=True)]
    before = [""] * len(folders) if len(set(stems)) == 1 else heads if len(set(heads)) == len(set(stems)) else keys
    names = [f"{first}, {seed}".removeprefix(", ") for first, seed in zip(before, seeds, strict=True)]
    if len(folders) == 1:
        return [heads[0]]
    counts = Counter(names)
    return [name if counts[name] == 1 else str(folder.path) for name, folder in zip(names, folders, strict=True)]


def main_metric(tasks: Sequence[str]) -> str:
    """Returns the metric that a page leads with."""
    return DEFAULT_METRICS["msa" if "msa" in tasks else "mer"]


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
