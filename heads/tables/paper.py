"""The numbers of the MMoLRE paper (arXiv 2505.14143) as it prints them, and notes on their oddities. Our numbers are made in
`heads.tables.build`.

The paper prints accuracies and F1 in percent; here they are shares from 0 to 1, named as in `heads.evaluation.metrics`.

Figures 2 and 3 are pictures, and the text gives none of their numbers. Here they have only the settings that a table has too: in
Figure 2 the points with 15 and with 8 of 15 experts of rank 128, in Figure 3 the full model.
"""

from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple

from data.labels import EMOTIONS
from heads.evaluation.metrics import METRICS

CORPORA = ("mosi", "mosei")
"""The corpora of Table I in its order, by their names in a cache; all other tables and figures are on CMU-MOSEI."""

SEEDS = (1, 11, 111)
"""Seeds of the three runs that are averaged. The paper does not name its seeds; these are MMML's, which it builds on."""

JOINT = ("mtl", "unimse-head", "mmolre", "pre-fusion", "post-fusion", "moe", "mmoe", "ple", "mod-squad", "mlore", "demt")
"""Heads that learn both tasks at once: the paper's multi-task approaches (IV-A2), its ablations, and the mixtures in UniTSE's place. It
compares all others as single-task methods."""

SENTIMENT_COLUMNS = ("acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc5", "acc7", "mae", "corr")
"""The columns of Table I for each corpus, and of Table III."""

PER_EMOTION = ("acc", "wf1")
EMOTION_COLUMNS = tuple(f"{name}_{metric}" for name in (*EMOTIONS, "mean") for metric in PER_EMOTION)
"""The columns of Table II."""

MIXED_RANKS = tuple(16 + 8 * n for n in range(15))
"""The mixed ranks of Table III: {16 + 8n | n = 0, 1, …, 14}."""


class Published(NamedTuple):
    """One row of a table of the paper."""

    method: str  # the paper's name for it
    values: Mapping[str, float]  # metric → number; metrics without a number are left out


# Method, head; SENTIMENT_COLUMNS on CMU-MOSI, and the same on CMU-MOSEI.
_TABLE_1 = """
MTL       mtl          -     -     -     -     -     -     -     -      78.8  80.5  -     -     -     -     -     -
MulT      mult         81.50 80.60 84.10 83.90 -     -     0.861 0.711  -     -     82.5  82.3  -     -     0.580 0.713
MISA      misa         80.79 80.77 82.10 82.03 -     -     0.804 0.764  82.59 82.67 84.23 83.97 -     -     0.568 0.717
Self-MM   self-mm      84.00 84.42 85.98 85.95 -     -     0.713 0.798  82.81 82.53 85.17 85.30 -     -     0.530 0.765
MAG-BERT  mag-head     84.20 84.10 86.10 86.00 -     -     0.712 0.796  84.70 84.50 -     -     -     -     -     -
MMIM      mmim         84.14 84.00 86.06 85.98 -     46.65 0.700 0.800  82.24 82.66 85.97 85.94 -     54.24 0.526 0.772
SPECTRA   spectra      -     -     87.5  -     -     -     -     -      -     -     87.34 -     -     -     -     -
HyCon     hycon        -     -     86.4  86.4  -     48.3  0.664 0.832  -     -     86.5  86.4  -     53.4  0.590 0.792
UniMSE    unimse-head  85.85 85.83 86.9  86.42 -     48.68 0.691 0.809  85.86 85.79 87.5  87.46 -     54.39 0.523 0.773
MMML      mmml         85.57 85.52 87.76 87.76 55.83 47.03 0.663 0.837  85.55 85.58 86.73 86.51 56.79 54.38 0.526 0.79
MMoLRE    mmolre       85.96 85.93 88.21 88.23 56.51 47.52 0.666 0.837  86.31 86.19 86.57 86.28 57.96 55.78 0.505 0.797
"""

# Method, head; EMOTION_COLUMNS: accuracy and weighted F1 of happiness, sadness, anger, surprise, disgust, fear, and their means.
_TABLE_2 = """
Multilogue-Net       multilogue-net  -    70.8  -    70.9  -    74.5  -    87.7  -    83.6  -    86.2  -    79.0
TBJE                 tbje            66.0 65.5  73.9 67.9  81.9 76.0  90.6 86.1  86.5 84.5  89.2 87.2  81.4 77.9
MR                   mr              69.7 69.4  76.0 72.1  77.6 72.8  91.7 87.8  83.1 82.3  90.5 86.0  81.4 78.4
COGMEN               cogmen          -    70.9  -    70.9  -    74.2  -    86.1  -    81.8  -    87.8  -    78.6
CORECT               corect          -    71.4  -    72.9  -    76.8  -    86.5  -    84.3  -    87.9  -    80.0
Baseline_(only_MER)  baseline-mer    68.2 68.0  73.0 71.9  76.4 75.6  88.7 87.7  84.1 84.0  88.0 84.0  79.7 78.9
Pre-fusion           pre-fusion      70.3 70.3  73.7 73.6  79.7 76.9  91.8 88.0  85.5 85.2  90.2 86.4  81.9 80.1
Post-fusion          post-fusion     67.3 66.8  75.0 71.7  79.0 75.0  91.7 87.8  84.7 84.2  90.5 86.0  81.4 78.6
MMoLRE               mmolre          69.4 69.5  75.8 72.5  79.5 75.6  91.7 87.8  86.4 85.4  90.5 86.0  82.2 79.5
"""

# Rank setting, rank; SENTIMENT_COLUMNS on CMU-MOSEI.
_TABLE_3 = """
{16}^15            16     86.18 86.11 86.30 86.06 57.76 55.23 0.512 0.802
{64}^15            64     86.11 86.03 86.41 86.14 56.73 54.30 0.506 0.803
{128}^15           128    85.75 85.86 87.29 87.15 58.06 55.81 0.503 0.803
{16+8n|n=0,…,14}   mixed  85.34 85.50 87.09 86.98 58.04 56.26 0.501 0.795
"""


def _rows(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Split a table into method, key and cells of each row."""
    for line in text.strip().splitlines():
        method, key, *cells = line.split()
        yield method.replace("_", " "), key, cells


def _values(metrics: tuple[str, ...], cells: list[str]) -> dict[str, float]:
    """Convert printed cells to metric → number; percentages become shares, "-" is left out."""
    printed = {metric: float(cell) for metric, cell in zip(metrics, cells, strict=True) if cell != "-"}
    return {metric: round(number / 100, 6) if METRICS[metric].is_percentage else number for metric, number in printed.items()}


def _table_1(first: int) -> dict[Hashable, Published]:
    columns = slice(first, first + len(SENTIMENT_COLUMNS))
    return {head: Published(method, _values(SENTIMENT_COLUMNS, cells[columns])) for method, head, cells in _rows(_TABLE_1)}


def _table_3() -> dict[Hashable, Published]:
    ranks = {"mixed": MIXED_RANKS}
    return {
        ranks[rank] if rank in ranks else int(rank): Published(setting, _values(SENTIMENT_COLUMNS, cells))
        for setting, rank, cells in _rows(_TABLE_3)
    }


TABLE_1 = {corpus: _table_1(number * len(SENTIMENT_COLUMNS)) for number, corpus in enumerate(CORPORA)}
"""Corpus → head → row."""

TABLE_2: Mapping[Hashable, Published] = {h: Published(method, _values(EMOTION_COLUMNS, cells)) for method, h, cells in _rows(_TABLE_2)}
"""Head → row, on CMU-MOSEI. In several rows, fear and surprise have the values of never predicting them; see `NOTES`."""

TABLE_3 = _table_3()
"""Rank of the shared experts (one number for all, or one for each) → row, on CMU-MOSEI; 15 experts, all active."""

FIGURE_2: Mapping[Hashable, Published] = {
    (15, 15): Published("n = 15, k = 15", TABLE_3[128].values),
    (15, 8): Published("n = 15, k = 8", TABLE_1["mosei"]["mmolre"].values),
}
"""(Number of experts, number of active experts) → the row that a table has for this setting, on CMU-MOSEI."""

FIGURE_3: Mapping[Hashable, Published] = {
    "baseline-msa": Published("Baseline (only MSA)", {}),
    "pre-fusion": Published("Pre-fusion", {}),
    "post-fusion": Published("Post-fusion", {}),
    "mmolre": TABLE_1["mosei"]["mmolre"],
}
"""Head → the row that a table has for this setting, on CMU-MOSEI; without values if only the picture has them."""

_WITHOUT_VIDEO = (
    "The methods that had video (all but SPECTRA, MMML and MMoLRE; TBJE's own main model had none) are trained without it here."
)

NOTES: Mapping[str, tuple[str, ...]] = {
    "table1": (
        _WITHOUT_VIDEO,
        "The paper's numbers of the other methods are those that it quotes, of their own features, splits and fine-tuned encoders.",
        "The paper's pair of MTL, 78.8 and 80.5, may be the wrong way round, and MulT's correlation on CMU-MOSEI, .713, may be .703;"
        " neither was checked against its source.",
        "SPECTRA's 87.5 and 87.34 stand under Non0; their source only calls them binary accuracy.",
    ),
    "table2": (
        _WITHOUT_VIDEO,
        "Surprise 91.7 / 87.8 and fear 90.5 / 86.0 stand alike in the paper's rows of MR, Post-fusion and MMoLRE: they are what never"
        " predicting the emotion scores (a share p of clips without it gives accuracy p and weighted F1 2p²/(1 + p)). Hence the row"
        " that never predicts, and macro-F1 and balanced accuracy in the CSV file.",
        "The six weighted F1 of the paper's Baseline (only MER) average 78.5; it prints 78.9. All its other means are right.",
        "Pre-fusion (80.1) has a better mean weighted F1 in the paper than MMoLRE (79.5): UniTSE helps accuracy there (+.3), not F1.",
        "The paper's rows are of different test sets (folds of the CMU SDK, MulT's 4,643 clips, MMSA's 4,659), and those of COGMEN,"
        " CORECT and Multilogue-Net of six binary models each, trained or tuned apart.",
    ),
    "table3": (
        "The paper calls rank 128 the best. In its table the mixed ranks have the best MAE (.501) and Acc7 (56.26), and rank 16 has the"
        " best Has0 accuracy and F1.",
        "All rows have 15 experts, all of them active; MMoLRE in Table I has 8 active ones.",
    ),
    "fig2": (
        "Figure 2 is a picture of colours: no number of it can be given. The paper says that 15 experts were best with all active,"
        " that 8 of 15 were the best trade-off, and that too few lose much. Its numbers here are those of Table III (15 of 15 experts)"
        " and of Table I (8 of 15), which have the same settings. It does not say which other points there are; those here are ours.",
        "By these tables 8 active experts are better than 15 in Has0 accuracy and F1, and worse in the six other metrics.",
    ),
    "fig3": (
        "Figure 3 is a picture: of its numbers only those of MMoLRE are known, from Table I, which has the same setting.",
        "With cached features pre-fusion shares no trainable parameter between the tasks (in the paper they share the fine-tuned"
        " encoders): it equals two single-task baselines trained side by side, and its difference to them is noise of shared batches"
        " and selection, unless model.adapter is linear.",
    ),
}
"""Table → notes on oddities of the paper's numbers and of their comparison with ours."""


def published(table: str, corpus: str) -> Mapping[Hashable, Published]:
    """Return the paper's rows of a table on a corpus, in its order; key → row, the key a head, a rank, or (experts, top-k)."""
    if table == "table1":
        return TABLE_1[corpus]
    return {"table2": TABLE_2, "table3": TABLE_3, "fig2": FIGURE_2, "fig3": FIGURE_3}[table] if corpus == "mosei" else {}
