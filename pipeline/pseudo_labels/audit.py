"""How good pseudo labels are where the truth is known: a labelled corpus is treated as if it had no emotions.

The same rule as in `pipeline.pseudo_labels.rule` runs from the other corpora to its test split, and is set beside two things that know
nothing of a sentence: a random donor of the same polarity, and the class that most of the targets have. Polarity is the corpus's
own: the rule is given it for its real targets too. No file is read or written here.
"""

from typing import Any

import numpy as np
import pandas as pd

from data.labels import EMOTIONS, POLARITIES
from pipeline.pseudo_labels.rule import Pool, Rule, emotions, polarities, transfer

METRICS = ("accuracy", "f1", "weighted_f1")
"""Of "present" (intensity > 0): accuracy, F1 of the class "present", and the F1 of both classes weighted by how many targets are
of each. A class that is neither there nor predicted has F1 0, as in scikit-learn."""


def audit(
    corpus: pd.DataFrame, embeddings: np.ndarray, pool: Pool, rule: Rule, seed: int = 0, device: str = "cpu", block: int = 1024
) -> dict[str, Any]:
    """Runs the rule on a held-out corpus and compares with its labels.

    Utterances on which the rule abstains are left out of all three methods and counted, so that these see the same targets. The
    majority class is that of the targets themselves, which nobody could know beforehand: the strictest constant.

    Args:
        corpus: Manifest of the corpus to hold out; its utterances of the split "test" that have all six emotions are targets.
        embeddings: (N, D) float32 sentence embeddings of its rows.
        pool: All donors. Those of the held-out corpus itself are not used.
        rule: The same rule as for the pool.
        seed: Of the random donors.
        device: Torch's name of the device to search on.
        block: Utterances and donors compared at once.

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
    """(N, 6) intensities of one donor of the same polarity each; a target that did not abstain has at least one."""
    rng = np.random.default_rng(seed)
    intensities, drawn = pool.table[list(EMOTIONS)].to_numpy(np.float64), np.empty((len(polarity), len(EMOTIONS)))
    for name in POLARITIES:
        rows, donors = np.flatnonzero(polarity == name), np.flatnonzero((pool.table["polarity"] == name).to_numpy())
        if len(rows):
            drawn[rows] = intensities[rng.choice(donors, len(rows))]
    return drawn


def _scores(present: np.ndarray, guess: np.ndarray) -> dict[str, dict[str, float]]:
    """Emotion, then "mean" → `METRICS` of two (N, 6) boolean arrays."""
    positive, negative = _f1(present, guess), _f1(~present, ~guess)
    share = present.mean(axis=0)
    values = np.stack([(present == guess).mean(axis=0), positive, share * positive + (1 - share) * negative])
    columns = [*values.T, values.mean(axis=1)]
    return {name: dict(zip(METRICS, column.tolist(), strict=True)) for name, column in zip((*EMOTIONS, "mean"), columns, strict=True)}


def _f1(present: np.ndarray, guess: np.ndarray) -> np.ndarray:
    hits, both = (present & guess).sum(axis=0), present.sum(axis=0) + guess.sum(axis=0)
    return 2 * hits / np.maximum(both, 1)
