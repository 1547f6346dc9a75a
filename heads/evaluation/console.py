"""Terminal output of the commands: tables of metrics and one progress bar. `data.reporting.tables` aligns them."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from data.labels import LabelSet
from data.reporting.numbers import DASH
from data.reporting.tables import aligned
from heads.evaluation.intervals import mean_sd
from heads.evaluation.metrics import CLASSES, EMOTION_METRICS, PER_CLASS, sentiment_of

LINE_EVERY_S = 60.0
"""Seconds between two lines about progress where no terminal shows a bar."""

_LINE = "{desc}: {percentage:3.0f}% ({n_fmt} of {total_fmt} {unit}s), {elapsed} so far, {remaining} left, {rate_fmt}{postfix}"


class _Lines:
    """A file for tqdm: each state of a bar becomes a line of standard error."""

    def write(self, text: str) -> None:
        if words := text.strip():
            print(words, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(bar_format: str | None = None, line_format: str = _LINE, **options: Any) -> tqdm:
    """Makes a bar on standard error; without a terminal, such as in a log file, it is a line every `LINE_EVERY_S` seconds.

    Args:
        bar_format: As in tqdm, for a terminal.
        line_format: The same without one.
        options: Of tqdm.
    """
    if sys.stderr.isatty():
        return tqdm(file=sys.stderr, bar_format=bar_format, mininterval=0.5, **options)
    rarely: Any = {"file": _Lines(), "mininterval": LINE_EVERY_S, "delay": LINE_EVERY_S, "miniters": 1, "leave": False}
    return tqdm(bar_format=line_format, **options | rarely)


@contextlib.contextmanager
def training_bar(name: str, steps: int) -> Iterator[Callable[[int, str], None]]:
    """Shows one bar for a run: steps, rate, time left unless patience ends it earlier, and the best epoch; without a terminal a line
    from time to time."""
    with progress_bar(total=steps, desc=name, unit="step", leave=False) as bar:

        def advance(done: int, note: str) -> None:
            bar.set_postfix_str(note, refresh=False)
            bar.update(done)

        yield advance


def results(runs: Mapping[str, Mapping[str, Any]], split: str, has_all_intervals: bool = False, emotions: str = "emotions") -> str:
    """Aligns the metrics of runs on one split, side by side; mean ± sd beneath if there are several runs of one configuration.

    Args:
        runs: Name → content of metrics.json.
        split: Key of the metrics in it.
        has_all_intervals: Show the intervals of each of several runs; otherwise they are shown only where there is one run.
        emotions: Name of the emotions in titles; it says where the labels come from if the runs do not.
    """
    parts = []
    labels = {name: LabelSet.of(run, name) for name, run in runs.items()}
    by_metrics: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for name, run in _with(runs, split, "mae").items():
        by_metrics.setdefault(tuple(metric.name for metric in sentiment_of(labels[name])), {})[name] = run
    every = len(runs) == 1 or has_all_intervals
    parts += [_side_by_side(learned, split, f"sentiment, {split}", metrics, every) for metrics, learned in by_metrics.items()]
    if learned := _with(runs, split, "mean_acc"):
        for name, run in learned.items():
            names = (*labels[name].emotions, "mean")
            rows = [[emotion, *(_cell(run[split].get(f"{emotion}_{m}")) for m in EMOTION_METRICS)] for emotion in names]
            parts.append(aligned(rows, [f"{emotions}, {split}: {name}", *EMOTION_METRICS]))
        means = [f"mean_{metric}" for metric in EMOTION_METRICS]
        if spread := _spread(learned, split, means):
            parts.append(aligned(spread, [f"{emotions}, {split}", *means]))
    if learned := _with(runs, split, "uar"):
        parts.append(_side_by_side(learned, split, f"{emotions}, {split}", [metric.name for metric in CLASSES], every))
        for name, run in learned.items():
            metrics = [metric.name for metric in PER_CLASS]
            rows = [[one, *(_cell(run[split].get(f"{one}_{metric}")) for metric in metrics)] for one in labels[name].emotions]
            parts.append(aligned(rows, [f"{emotions}, {split}: {name}", *metrics]))
    return "\n\n".join(parts)


def _side_by_side(runs: Mapping[str, Mapping[str, Any]], split: str, title: str, metrics: Sequence[str], has_intervals: bool) -> str:
    """Aligns metrics of runs, one row each, and below them mean ± sd and, if asked for, intervals."""
    rows = [[name, *(_cell(run[split].get(metric)) for metric in metrics)] for name, run in runs.items()]
    rows += _spread(runs, split, metrics)
    if has_intervals:
        rows += _intervals(runs, split, metrics)
    return aligned(rows, [title, *metrics])


def layer_notes(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Writes the weights of mixed layers, or the layers that a simple baseline chose; "" for runs of one layer.

    Args:
        runs: Name → content of metrics.json.
    """
    parts = []
    for name, run in runs.items():
        for modality, weights in run.get("layer_weights", {}).items():
            parts.append(aligned([["weight", *map(_cell, weights.values())]], [f"{modality} layers mixed: {name}", *weights]))
        picked = {target: _layers_in(setting) for target, setting in run.get("chosen", {}).items() if _layers_in(setting)}
        if picked:
            names = [key.replace("_", " ") for key in next(iter(picked.values()))]
            rows = [[target, *(f"{number:g}" for number in layers.values())] for target, layers in picked.items()]
            parts.append(aligned(rows, [f"chosen on valid: {name}", *names]))
    return "\n\n".join(parts)


def _layers_in(setting: Mapping[str, float]) -> dict[str, float]:
    """Picks the layers of modalities from the settings of a simple baseline."""
    return {name: number for name, number in setting.items() if name.endswith("_layer")}


def _with(runs: Mapping[str, Mapping[str, Any]], split: str, metric: str) -> dict[str, Mapping[str, Any]]:
    """Returns the runs that learned the task of a metric."""
    return {name: run for name, run in runs.items() if metric in run[split]}


def _spread(runs: Mapping[str, Mapping[str, Any]], split: str, metrics: Sequence[str]) -> list[list[str]]:
    """Makes one row for each configuration with several seeds."""
    rows = []
    for stem in dict.fromkeys(map(_without_seed, runs)):
        seeds = [run for name, run in runs.items() if _without_seed(name) == stem]
        if len(seeds) > 1:
            found = mean_sd([{metric: _number(run[split].get(metric)) for metric in metrics} for run in seeds])
            cells = [f"{found[metric].mean:.3f} ± {found[metric].sd:.3f}" for metric in metrics]
            rows.append([f"{stem}, mean ± sd of {len(seeds)}", *cells])
    return rows


def _without_seed(name: str) -> str:
    return re.sub(r"-seed\d+$", "", name)


def _intervals(runs: Mapping[str, Mapping[str, Any]], split: str, metrics: Sequence[str]) -> list[list[str]]:
    """Makes one row for each run."""
    rows = []
    for name, run in runs.items():
        found = run.get(f"{split}_interval", {})
        title = "95 % interval" if len(runs) == 1 else f"{name}, 95 % interval"
        rows.append([title, *(_interval(found.get(metric)) for metric in metrics)])
    return rows


def _interval(pair: Sequence[float | None] | None) -> str:
    return DASH if pair is None or None in pair else f"{pair[0]:.3f}–{pair[1]:.3f}"


def _cell(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
