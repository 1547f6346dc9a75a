"""Audits pseudo-labels where the truth is known: a labelled corpus is treated as if it had no emotions.

The rule of `pipeline.pseudo_labels.rule` transfers labels from the other corpora to the test split of this one. Two methods that ignore
the sentence stand beside it: a random donor of the same polarity, and the majority class of the targets. The polarity is the corpus's
own, because the rule knows the polarity of its real targets too. No file is read or written here.
"""

from typing import Any

import numpy as np
import pandas as pd

from data.labels import EMOTIONS, POLARITIES
from pipeline.pseudo_labels.rule import Pool, Rule, emotions, polarities, transfer

METRICS = ("accuracy", "f1", "weighted_f1")
"""Metrics of "present" (intensity > 0): accuracy, F1 of the class "present", and the F1 of both classes weighted by their number of
targets. A class that neither occurs nor is predicted has F1 0, as in scikit-learn."""


def audit(
    corpus: pd.DataFrame, embeddings: np.ndarray, pool: Pool, rule: Rule, seed: int = 0, device: str = "cpu", block: int = 1024
) -> dict[str, Any]:
    """Runs the rule on a held-out corpus and compares the result with its labels.

    Utterances on which the rule abstains are counted and left out of all three methods, so that all see the same targets. The majority
    class is that of the targets themselves, which nobody can know in advance: the strongest constant prediction.

    Args:
        corpus: Manifest of the corpus to hold out. The targets are its utterances of the split "test" with all six emotions.
        embeddings: (N, D) float32 sentence embeddings of its rows.
        pool: All donors. Those of the held-out corpus itself are not used.
        rule: The same rule as for the pool.
        seed: The seed of the random donors.
        device: Torch's name of the device that searches.
        block: Number of utterances, and of donors, compared at once.

    Returns:
        JSON-able: `corpus`, `rule`, `seed`, `possible` and, if not, `reason`; else `num_utterances` (compared), `abstained`,
        `donors` (how many of each corpus), `positives` (utterances with each emotion), and "ours", "random", "majority" → each
        emotion and "mean" (of the six) → `METRICS`.
    """
    name = corpus["corpus"].iloc[0] if len(corpus) else ""
    truth, polarity = emotions(corpus, rule), polarities(corpus, rule)
    rows = np.flatnonzero((corpus["split"] == "test").to_numpy() & ~np.isnan(truth).any(axis=1) & (polarity != ""))
    pool = pool.without(name)
    facts = {"corpus": name, "possible": False, "rule": str(rule), "seed": seed}
    if not len(rows):
        return {**facts, "reason": "no test utterance with all six emotions and a polarity"}
    if pool.table.empty:
        return {**facts, "reason": "no donor from any other corpus"}
    ledger = transfer(corpus.iloc[rows], embeddings[rows], pool, rule, device, block)
    labelled = (ledger["abstained"] == "").to_numpy()
    if not labelled.any():
        return {**facts, "reason": f"all {len(rows)} targets abstained"}
    present = truth[rows][labelled] > 0
    guesses = {
        "ours": ledger.loc[labelled, list(EMOTIONS)].to_numpy() > 0,
        "random": _random_donors(pool, polarity[rows][labelled], seed) > 0,
        "majority": np.broadcast_to(2 * present.sum(axis=0) > len(present), present.shape),
    }
    return {
        **facts,
        "possible": True,
        "num_utterances": len(present),
        "abstained": int((~labelled).sum()),
        "donors": pool.table["corpus"].value_counts(sort=False).to_dict(),
        "positives": dict(zip(EMOTIONS, present.sum(axis=0).tolist(), strict=True)),
        **{method: _scores(present, guess) for method, guess in guesses.items()},
    }


def _random_donors(pool: Pool, polarity: np.ndarray, seed: int) -> np.ndarray:
    """Draws a donor of the same polarity for each target, which exists if it did not abstain, and returns their intensities (N, 6)."""
    rng = np.random.default_rng(seed)
    intensities, drawn = pool.table[list(EMOTIONS)].to_numpy(np.float64), np.empty((len(polarity), len(EMOTIONS)))
    for name in POLARITIES:
        rows, donors = np.flatnonzero(polarity == name), np.flatnonzero((pool.table["polarity"] == name).to_numpy())
        if len(rows):
            drawn[rows] = intensities[rng.choice(donors, len(rows))]
    return drawn


def _scores(present: np.ndarray, guess: np.ndarray) -> dict[str, dict[str, float]]:
    """Returns each emotion, then "mean" → `METRICS` of two (N, 6) boolean arrays."""
    positive, negative = _f1(present, guess), _f1(~present, ~guess)
    share = present.mean(axis=0)
    values = np.stack([(present == guess).mean(axis=0), positive, share * positive + (1 - share) * negative])
    columns = [*values.T, values.mean(axis=1)]
    return {name: dict(zip(METRICS, column.tolist(), strict=True)) for name, column in zip((*EMOTIONS, "mean"), columns, strict=True)}


def _f1(present: np.ndarray, guess: np.ndarray) -> np.ndarray:
    hits, both = (present & guess).sum(axis=0), present.sum(axis=0) + guess.sum(axis=0)
    return 2 * hits / np.maximum(both, 1)
