"""Tables of a sweep: ranked configurations and paired tests. `data.reporting` renders them as HTML, Markdown and LaTeX.

Numbers are rounded here and nowhere before; the CSV files hold them unrounded. `heads.sweeps.results.trials` computes them.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import numpy as np
import pandas as pd

from data.reporting.numbers import DASH, number, signed
from data.reporting.tables import Cell, Column, Link, Table
from heads.evaluation.intervals import mean_sd
from heads.evaluation.metrics import metric_named
from heads.sweeps.results.plots import FEW, words
from heads.sweeps.results.trials import applied, follows_head

HEADLINES = ("mae", "corr", "acc2_non0", "f1_non0", "acc7", "acc2", "acc3", "mean_wf1", "mean_macro_f1", "wf1", "uar", "acc")
"""Metrics that stand beside the one that ranks."""


def ranked_table(ranks: pd.DataFrame, table: pd.DataFrame, options: Sequence[str], metric: str) -> Table:
    """Lists configurations, the best first: options, the metric with spread and interval, further metrics, size and time.

    A key has links to the run folders of its seeds, relative to the sweep's folder.

    Args:
        ranks: Result of `heads.sweeps.results.trials.ranked`.
        table: Result of `heads.sweeps.results.trials.collect`.
        options: Columns of `ranks`.
        metric: Metric that ranks.
    """
    complete = table[table["status"] == "complete"].set_index("key")
    others = [name for name in HEADLINES if name != metric and f"valid.{name}" in table and table[f"valid.{name}"].notna().any()]
    columns = [
        Column("#"),
        *(option_column(name, table) for name in options),
        Column("seeds"),
        Column(f"{metric}, mean ± sd", best=metric_named(metric).direction, filter="range"),
        Column("95 % interval"),
        Column("over", "words"),
        *(Column(name, best=metric_named(name).direction) for name in others),
        *(Column("parameters", filter="range"), Column("epochs"), Column("s", filter="range")),
        Column("key", "words"),
    ]
    rows, has = [], applied(table, options)
    for place, (_, row) in enumerate(ranks.iterrows(), 1):
        seeds = complete.loc[[row["key"]]]
        rows.append(
            [
                str(place),
                *option_words(seeds.iloc[0], has),
                str(row["seeds"]),
                _spread_cell(row["mean"], row["sd"]),
                Cell(interval(row["low"], row["high"]), row["low"]),
                row["over"],
                *(_spread_cell(*mean_sd([{name: value} for value in seeds[f"valid.{name}"]])[name]) for name in others),
                *(Cell(number(row[name], digits), row[name]) for name, digits in (("parameters", 0), ("epochs", 1), ("seconds", 1))),
                Cell(row["key"], links=tuple(Link(f"seed {trial['seed']}", run_href(trial["name"])) for _, trial in seeds.iterrows())),
            ]
        )
    return Table.of(columns, rows, label="Configurations", explored=True)


def paired_table(tests: pd.DataFrame, names: Mapping[str, str]) -> Table:
    """Lists pairs of configurations, from `heads.sweeps.results.trials.pairs`; with a column of notes if there are any.

    Args:
        tests: One row a pair.
        names: Key → name of a configuration.
    """
    columns = [
        *(Column("first", "words"), Column("second", "words"), Column("first − second"), Column("95 % interval"), Column("p")),
        *(Column("seeds"), Column("utterances"), Column("note", "words")),
    ]
    rows = [
        [
            names[row["a"]],
            names[row["b"]],
            *(signed(row["difference"]), interval(row["low"], row["high"]), p_words(row["p_value"])),
            *(number(row[name], 0) for name in ("seeds", "utterances")),
            row["note"],
        ]
        for _, row in tests.iterrows()
    ]
    width = len(columns) if any(tests["note"]) else len(columns) - 1
    return Table.of(columns[:width], [row[:width] for row in rows])


def run_href(name: str) -> str:
    """Links to the run folder of a trial, relative to the sweep's folder."""
    return f"trials/{quote(name)}/"


def option_column(name: str, table: pd.DataFrame) -> Column:
    """Makes the column of an option: filtered by one of a few values, or by a range; hidden where it follows from the head alone."""
    values = table[name]
    is_number = pd.api.types.is_numeric_dtype(values)
    few = values.nunique() <= FEW or not is_number
    follows = follows_head(table, name)
    return Column(name, "number" if is_number else "words", filter="" if follows else "choice" if few else "range", is_hidden=follows)


def option_words(trial: pd.Series, has: pd.DataFrame) -> list[str]:
    """Formats the values of a trial's options; a dash stands for options that its head does not have.

    Args:
        trial: Row of `heads.sweeps.results.trials.collect`.
        has: Result of `heads.sweeps.results.trials.applied`; its columns are the options.
    """
    return [words(trial[name]) if there else DASH for name, there in has.loc[trial["name"]].items()]


def spread(mean: float, sd: float) -> str:
    """Formats mean and deviation: "0.7120 ± 0.0100", or the mean alone where there is no deviation."""
    return metric_words(mean) if np.isnan(sd) else f"{metric_words(mean)} ± {sd:.4f}"


def interval(low: float, high: float) -> str:
    """Formats an interval: "0.7000 to 0.7240"."""
    return DASH if np.isnan(low) or np.isnan(high) else f"{metric_words(low)} to {metric_words(high)}"


def metric_words(value: float) -> str:
    """Formats a value of a metric to four decimals; a missing one is a dash."""
    return DASH if pd.isna(value) else signed(value, plus="")


def metric_cell(value: float) -> Cell:
    """Makes a cell of a value of a metric."""
    return Cell(metric_words(value), None if pd.isna(value) else value)


def p_words(value: float) -> str:
    """Formats a p value."""
    return DASH if np.isnan(value) else f"{value:.3f}"


def _spread_cell(mean: float, sd: float) -> Cell:
    return Cell(spread(mean, sd), mean)
