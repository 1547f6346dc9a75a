"""Tables of a sweep's trials: one row a trial, one row a configuration, and paired tests of configurations.

A trial is a run folder (`heads.runs.folder`) below DIR/trials; `heads.sweeps.status` says how far it is. A configuration is all trials
that differ in the seed alone. Configurations are ranked and compared by the validation split only: test metrics are passed on where a
run has them. The page is made in `heads.sweeps.results.report`, tables as text in `heads.sweeps.results.tables`.
"""

import glob
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from itertools import combinations
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from data.errors import InputError, shown
from data.feature_sets import DEFAULT
from data.labels import LabelSet
from data.manifest import write_table
from data.tuning import encoder_words
from heads.evaluation.comparison import drawn, mean
from heads.evaluation.intervals import Resampled, difference, mean_sd
from heads.evaluation.metrics import higher_is_better, metric_named
from heads.models.options import flat
from heads.models.own import short_name
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.folder import RunFolder
from heads.sweeps.search import STUDY
from heads.sweeps.status import damage, status_of

_FIRST = ("name", "status", "error", "key", "head", "corpus", "preset", "task", "seed")
_FACTS = ("device", "parameters", "epochs", "seconds")
_KINDS = ("head", "head_source", "corpus", "preset", "task")
_SECTIONS = ("data.", "loss.", "train.", "model.")


class Paired(NamedTuple):
    """Difference of a metric between two configurations, mean over the seeds that both have."""

    difference: float
    low: float  # 95 % interval over utterances
    high: float
    p_value: float  # two-sided, of no difference
    seeds: tuple[int, ...]
    utterances: int


def collect(sweep: Path, names: Container[str] | None = None) -> pd.DataFrame:
    """Read all trials into a table, one row a trial, by name.

    A trial with a file that cannot be used is damaged; its error says which and why, and it has no results.

    Columns: name, status (of `heads.sweeps.status.STATUSES`), error, key (hash of the configuration without its seed), every option
    under its dotted name (lists as JSON text), `encoder.<feature set>`, device, parameters, epochs, seconds (of training),
    `valid.<metric>` at the chosen epoch with its 95 % interval over utterances `valid_low.<metric>` and `valid_high.<metric>`, and
    `test.<metric>` where the test split was opened. Values that a trial does not have are missing.

    Args:
        sweep: Folder with `trials/`.
        names: Names of the trials to read; None: all. Other processes may be writing the others.

    Raises:
        InputError: There are no trials.
    """
    folders = sorted(path for path in (sweep / "trials").glob("*") if path.is_dir() and (names is None or path.name in names))
    if not folders:
        raise InputError(f"{sweep / 'trials'}: holds no trials. Give the folder that a sweep wrote to.")
    table = pd.DataFrame([_trial(RunFolder(path)) for path in folders])
    table = table.reindex(columns=[*_FIRST, *(name for name in _ordered(table) if name not in _FIRST)])
    return table.apply(_of_one_type)


def write_trials(sweep: Path) -> pd.DataFrame:
    """Write the table of `collect` to trials.parquet, complete or not at all, and return it."""
    table = collect(sweep)
    write_table(sweep / "trials.parquet", table, {"trials": len(table)})
    return table


def remedy(sweep: Path, name: str) -> str:
    """Say in words what the user can do to have a failed trial trained again.

    Args:
        sweep: Folder with `trials/`.
        name: Name of the trial.
    """
    if (sweep / STUDY).exists():
        return "A search trains no trial twice; it begins anew in another --out."
    if status_of(RunFolder(sweep / "trials" / name)) == "damaged":
        return "Its error says what helps."
    if RunFolder(sweep / "trials" / name).lacked_memory:
        return "The same command tries it again."
    return f"To try it again, remove trials/{name}/failed.json and give the same command."


def encoder_names(table: pd.DataFrame) -> list[str]:
    """List the names of the encoders whose features the trials of `collect` have read, each with the set if that has its own name."""
    found = set()
    for column in (column for column in _names(table) if column.startswith("encoder.")):
        feature_set = column.removeprefix("encoder.")
        own = f" ({feature_set})" if "." in feature_set else ""
        found |= {f"{name}{own}" for name in table[column].dropna()}
    return sorted(found)


def applies(table: pd.DataFrame, column: str) -> pd.Series:
    """Return (n,) bool: True for the trials in which an option has an effect.

    Options of one head are missing in trials of other heads, and simple baselines have no training options.
    """
    known, heads = table["key"].notna(), table["head"]
    if column.startswith("model."):
        return known & heads.isin(heads[table[column].notna()].unique())
    if column.startswith(("train.", "loss.")):
        return known & ~heads.isin([name for name, entry in HEADS.items() if entry.simple])
    return known


def applied(table: pd.DataFrame, options: Sequence[str]) -> pd.DataFrame:
    """Return (n, options) bool, `applies` of several options, indexed by the names of the trials."""
    return pd.DataFrame({name: applies(table, name).to_numpy() for name in options}, index=table["name"])


def varied(table: pd.DataFrame) -> list[str]:
    """List the options whose values differ between the trials that have them; the seed is not an option."""
    columns = [name for name in _names(table) if name in _KINDS or name.startswith(_SECTIONS)]
    return [name for name in columns if table.loc[applies(table, name), name].nunique(dropna=False) > 1]


def follows_head(table: pd.DataFrame, name: str) -> bool:
    """Return whether there are several heads and an option has one value in each, so that it tells no more than the head."""
    values = table.groupby("head")[name].nunique(dropna=False) if name != "head" else pd.Series(dtype=int)
    return len(values) > 1 and bool((values == 1).all())


def ranked(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rank the configurations with complete trials, one row each, the best first; those without a value of the metric come last.

    Columns: key, the options that vary (missing where one does nothing), seeds (how many), mean, sd (of a sample; missing for one
    seed), low and high (95 % interval: of the mean by Student's t over seeds, or, of one seed, by bootstrap over utterances), over
    (which of the two: seeds, utterances), parameters, epochs and seconds (means).

    Args:
        table: Result of `collect`.
        metric: Name of a validation value.

    Raises:
        InputError: The metric is unknown, or no complete trial has it.
    """
    higher = higher_is_better(metric)
    complete = table[table["status"] == "complete"]
    if f"valid.{metric}" not in table or complete[f"valid.{metric}"].isna().all():
        raise InputError(f"No complete trial has a validation value of {shown(metric)}. Choose a metric of a task that was learned.")
    options = complete[["key", *varied(complete)]].copy()
    for name in options.columns[1:]:
        options[name] = options[name].where(applies(complete, name))
    same = options.drop_duplicates("key").set_index("key")
    rows = [{"key": key, **same.loc[key], **_spread(part, metric), **_means(part)} for key, part in complete.groupby("key")]
    found = pd.DataFrame(rows).sort_values("mean", ascending=not higher, na_position="last", kind="stable")
    return found.reset_index(drop=True)


def paired(sweep: Path, a: str, b: str, metric: str) -> Paired:
    """Test the difference between two configurations on the same utterances of the validation split.

    The test is a paired bootstrap over utterances; each resample takes the mean over the seeds that both have.

    Args:
        sweep: Folder with `trials/`.
        a: Key of a configuration.
        b: Key of another; the difference is `a` minus `b`.
        metric: Any metric but "loss".

    Raises:
        InputError: A key is unknown, the two have no complete trial of the same seed, they were validated on other utterances or
            labels, or one of them does not predict what the metric measures.
    """
    metric_named(metric)  # raises if there is none
    return _compared(sweep, a, _drawn(sweep, a, metric), b, _drawn(sweep, b, metric))


def pairs(sweep: Path, keys: Iterable[str], metric: str) -> pd.DataFrame:
    """Test every pair of configurations, in their order.

    Columns: a, b, the fields of `Paired` (seeds: their number), and note, the reason why a pair cannot be tested.
    """
    drawn = cache(lambda key: _drawn(sweep, key, metric))
    rows = []
    for a, b in combinations(keys, 2):
        try:
            test = _compared(sweep, a, drawn(a), b, drawn(b))
            rows.append({"a": a, "b": b, **test._asdict(), "seeds": len(test.seeds), "note": ""})
        except InputError as error:
            rows.append({"a": a, "b": b, "note": str(error)})
    return pd.DataFrame(rows, columns=["a", "b", *Paired._fields, "note"])


class _Drawn(NamedTuple):
    """A metric of one trial in every resample, and the labels behind it, sorted by utterance."""

    truth: pd.DataFrame
    metric: Resampled


def _drawn(sweep: Path, key: str, metric: str) -> dict[int, _Drawn]:
    """Resample a metric for each complete trial of a configuration, by seed."""
    task, found = metric_named(metric).task, {}
    for seed, (table, labels) in _predictions(sweep, key).items():
        if (one := drawn(table, task, labels)) is None or metric not in one.metrics:
            what = "sentiment" if task == "msa" else "emotions"
            raise InputError(f"Configuration {key} predicts no {what}." if one is None else f"Configuration {key} has no {metric}.")
        found[seed] = _Drawn(one.truth, one.metrics[metric])
    return found


def _compared(sweep: Path, a: str, first: Mapping[int, _Drawn], b: str, second: Mapping[int, _Drawn]) -> Paired:
    """Compare two configurations over the seeds that both have.

    Raises:
        InputError: They have no seed in common, or were validated on other utterances or labels.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise InputError(f"{sweep}: configurations {a} and {b} have no complete trial of the same seed, so they cannot be paired.")
    sides = [[side[seed] for seed in seeds] for side in (first, second)]
    truth = sides[0][0].truth
    if not all(drawn.truth.equals(truth) for side in sides for drawn in side):
        raise InputError(f"{sweep}: configurations {a} and {b} were validated on other utterances or labels, so they are no pair.")
    ours, theirs = (mean([drawn.metric for drawn in side]) for side in sides)
    return Paired(*difference(ours, theirs), tuple(seeds), len(truth))


def _trial(folder: RunFolder) -> dict[str, Any]:
    row: dict[str, Any] = {"name": folder.path.name, "status": "unfinished", "error": None}
    fault = damage(folder)
    try:
        config = _config(folder, row)
    except InputError:  # it is the fault, or another one behind it
        config = None
    if fault is not None:
        return row | {"status": "damaged", "error": fault}
    status = status_of(folder)
    if status in ("complete", "pruned"):
        return row | {"status": status} | _results(folder, config) if config else row
    return row | {"status": status, "error": folder.failure}


def _config(folder: RunFolder, row: dict[str, Any]) -> RunConfig | None:
    """Add to a row what config.json says, and return the configuration; None if there is no such file."""
    if not (folder.path / "config.json").is_file():
        return None
    content = folder.config()
    config = folder.run_config()
    row |= {"key": config.key()} | {name: _cell(value) for name, value in flat(config)} | {"head": short_name(config.head)}
    if row["head_source"] is None:
        del row["head_source"]  # a head of this program
    row |= {name: DEFAULT for name in ("data.text", "data.audio") if row[name] is None}  # the usual set, in the words of grids
    row |= {f"encoder.{name}": encoder_words(facts["encoder"]) for name, facts in content["encoders"].items()}
    row |= {"device": str(content["made"].get("device"))}
    return config


def _results(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    metrics = folder.metrics()
    row = {name: metrics[name] for name in ("parameters", "epochs") if name in metrics}
    values = {"valid": metrics.get("valid", {}), "test": metrics.get("test", {})}
    if (history := folder.history()) is not None:
        history = history.set_index("epoch")
        row["seconds"] = float(history["seconds"].sum())
        if chosen := metrics.get("selected", {}).get(config.train.select):
            values["valid"] = {"loss": float(history["valid_loss"][chosen["epoch"]])} | values["valid"]
    for name, (low, high) in metrics.get("valid_interval", {}).items():
        values.setdefault("valid_low", {})[name], values.setdefault("valid_high", {})[name] = low, high
    return row | {f"{part}.{name}": value for part, found in values.items() for name, value in found.items()}


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (tuple, list)) else value


def _ordered(table: pd.DataFrame) -> list[str]:
    """List the columns: options first, then facts, then metrics."""
    sections = ("head_source", *_SECTIONS, "encoder.", *_FACTS, "valid.", "valid_low.", "valid_high.", "test.")
    return [name for section in sections for name in _names(table) if name.startswith(section)]


def _names(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table]


def _of_one_type(column: pd.Series) -> pd.Series:
    """Convert numbers to a numeric column, and values of several types, which several heads may have, to JSON text for Parquet."""
    known = column.dropna()
    types = {bool if isinstance(value, (bool, np.bool_)) else float if isinstance(value, Real) else type(value) for value in known}
    if types == {float}:
        return pd.to_numeric(column)
    if len(types) > 1:
        return column.map(lambda value: json.dumps(value), na_action="ignore")
    return column.astype(object).where(column.notna(), None)


def _spread(part: pd.DataFrame, metric: str) -> dict[str, Any]:
    values = part[f"valid.{metric}"]
    found, count = mean_sd([{metric: value} for value in values])[metric], len(values)
    if count == 1:
        low, high = (part.iloc[0].get(f"valid_{side}.{metric}", np.nan) for side in ("low", "high"))
        return {"seeds": 1, "mean": found.mean, "sd": found.sd, "low": low, "high": high, "over": "utterances"}
    half = stats.t.ppf(0.975, count - 1) * found.sd / np.sqrt(count)
    return {"seeds": count, "mean": found.mean, "sd": found.sd, "low": found.mean - half, "high": found.mean + half, "over": "seeds"}


def _means(part: pd.DataFrame) -> dict[str, float]:
    return {name: part[name].mean() if name in part else np.nan for name in ("parameters", "epochs", "seconds")}


def _predictions(sweep: Path, key: str) -> dict[int, tuple[pd.DataFrame, LabelSet]]:
    """Read the predictions of the complete trials of a configuration, and what they predict, by seed."""
    runs = [RunFolder(path) for path in (sweep / "trials").glob(f"*-{glob.escape(key)}-seed*")]
    if not runs:
        raise InputError(f"{sweep}: no trial of configuration {shown(key)}. Keys are in the column key of trials.parquet.")
    complete = {run.config()["config"]["seed"]: run for run in runs if status_of(run) == "complete"}
    found = {seed: (folder.predictions(), folder.labels()) for seed, folder in complete.items()}
    return {seed: (table.set_index("utterance_id"), labels) for seed, (table, labels) in found.items() if table is not None}
