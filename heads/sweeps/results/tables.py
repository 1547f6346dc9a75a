"""The tables of a sweep as text: what is in them, and Markdown and LaTeX of it. As HTML they are made in `heads.sweeps.results.page`.

Figures are rounded here and nowhere before: the CSV files hold them as they are.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from heads.evaluation.intervals import mean_sd
from heads.sweeps.results.plots import words
from heads.sweeps.results.trials import applies

HEADLINES = ("mae", "corr", "acc2_non0", "f1_non0", "acc7", "mean_wf1", "mean_macro_f1")
"""Metrics that stand beside the one that ranks."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


class Shown(NamedTuple):
    """A table as it is read."""

    header: list[str]
    rows: list[list[str]]
    left: tuple[str, ...]  # columns of words; the others are of numbers


def markdown(shown: Shown, notes: Sequence[str]) -> str:
    """A table of GitHub's Markdown, the notes beneath."""
    sides = [":--" if name in shown.left else "--:" for name in shown.header]
    lines = [f"| {' | '.join(in_markdown(cell) for cell in row)} |" for row in (shown.header, sides, *shown.rows)]
    return "\n".join([*lines, "", *(f"{in_markdown(note)}\n" for note in notes)])


def latex(shown: Shown, notes: Sequence[str]) -> str:
    """A tabular with the rules of the package booktabs, the notes as comments above."""
    sides = "".join("l" if name in shown.left else "r" for name in shown.header)
    lines = [" & ".join(map(in_latex, row)) + r" \\" for row in (shown.header, *shown.rows)]
    comments = [f"% {' '.join(note.split())}" for note in (*notes, r"needs \usepackage{booktabs}")]
    body = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*comments, *body]) + "\n"


def in_latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    escaped = re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], " ".join(text.split()))
    return re.sub(r"^[\[*]", r"{\g<0>}", escaped)  # at the beginning of a row they would be an argument of the \\ before


def ranked_table(ranks: pd.DataFrame, table: pd.DataFrame, options: Sequence[str], metric: str) -> Shown:
    """Configurations, the best first: options, the metric with spread and interval, further metrics, size and time.

    Args:
        ranks: Of `heads.sweeps.results.trials.ranked`.
        table: Of `heads.sweeps.results.trials.collect`.
        options: Columns of `ranks`.
        metric: What they are ranked by.
    """
    complete = table[table["status"] == "complete"].set_index("key")
    others = [name for name in HEADLINES if name != metric and f"valid.{name}" in table and table[f"valid.{name}"].notna().any()]
    header = ["#", *options, "seeds", f"{metric}, mean ± sd", "95 % interval", "over", *others, "parameters", "epochs", "s", "key"]
    rows = []
    for number, (_, row) in enumerate(ranks.iterrows(), 1):
        seeds = complete.loc[[row["key"]]]
        rows.append(
            [
                str(number),
                *option_words(seeds.reset_index().iloc[0], table, options),
                str(row["seeds"]),
                spread(row["mean"], row["sd"]),
                interval(row["low"], row["high"]),
                row["over"],
                *(spread(*mean_sd([{name: value} for value in seeds[f"valid.{name}"]])[name]) for name in others),
                *(number_words(row[name], digits) for name, digits in (("parameters", 0), ("epochs", 1), ("seconds", 1))),
                row["key"],
            ]
        )
    words_in = [name for name in options if not pd.api.types.is_numeric_dtype(table[name])]
    return Shown(header, rows, (*words_in, "over", "key"))


def paired_table(tests: pd.DataFrame, names: Mapping[str, str]) -> Shown:
    """Pairs of configurations, of `heads.sweeps.results.trials.pairs`; a column of notes if there are any.

    Args:
        tests: One row a pair.
        names: Key → what a configuration is called.
    """
    header = ["first", "second", "first − second", "95 % interval", "p", "seeds", "utterances", "note"]
    rows = [
        [
            names[row["a"]],
            names[row["b"]],
            *(signed(row["difference"]), interval(row["low"], row["high"]), p_words(row["p_value"])),
            *(number_words(row[name], 0) for name in ("seeds", "utterances")),
            row["note"],
        ]
        for _, row in tests.iterrows()
    ]
    width = len(header) if any(tests["note"]) else len(header) - 1
    return Shown(header[:width], [row[:width] for row in rows], ("first", "second", "note"))


def option_words(trial: pd.Series, table: pd.DataFrame, options: Sequence[str]) -> list[str]:
    """The values of a trial's options; a dash for those that its head does not have."""
    place = table.index[table["name"] == trial["name"]][0]
    return [words(trial[name]) if applies(table, name)[place] else "–" for name in options]


def holm(p_values: np.ndarray) -> np.ndarray:
    """(n,) p values corrected for n tests; NaN are no tests.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    corrected = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: (~np.isnan(p_values)).sum()]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * p_values[order])) if len(order) else []
    return corrected


def spread(mean: float, sd: float) -> str:
    """ "0.712 ± 0.010", without what is not a number."""
    return signed(mean, "") if np.isnan(sd) else f"{signed(mean, '')} ± {sd:.4f}"


def interval(low: float, high: float) -> str:
    """ "0.700 to 0.724" """
    return "–" if np.isnan(low) or np.isnan(high) else f"{signed(low, '')} to {signed(high, '')}"


def signed(value: float, plus: str = "+") -> str:
    """With its sign, and a minus that is one."""
    return "–" if np.isnan(value) else f"{'−' if value < 0 else plus}{abs(value):.4f}"


def p_words(value: float) -> str:
    """A p value."""
    return "–" if np.isnan(value) else f"{value:.3f}"


def number_words(value: float, digits: int) -> str:
    """With separators of thousands; a dash for what is missing."""
    return "–" if pd.isna(value) else f"{value:,.{digits}f}"


def in_markdown(text: str) -> str:
    """Text that Markdown shows as it stands."""
    return re.sub(r"[\\&<>*_|]", r"\\\g<0>", " ".join(text.split()))
