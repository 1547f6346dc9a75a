"""Pseudo-labels for emotions: each utterance takes the emotions of the most similar donor sentence of the same polarity.

This module holds the rule and its settings, the pool of donors, and the transfer. The result of a transfer is a ledger: a table with
the donor of each utterance, their similarity, and the runner-up. Labels of a manifest are never changed. The search is in
`pipeline.pseudo_labels.neighbours`; `pipeline.pseudo_labels.audit` tests the rule where the truth is known. No file is read or written
here, and torch is imported only when a search runs, because the process of the scheduler makes keys of rules and forks afterwards.

The polarity of an utterance is the corpus's own if it has one (MELD), else the sign of the sentiment (MOSI, MOSEI: exactly 0 is
neutral), else the polarity of the emotion category (IEMOCAP), where surprise has none unless the rule gives it one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from data.errors import InputError, shown
from data.labels import CATEGORIES, CATEGORY_POLARITY, EMOTIONS, POLARITIES, emotions_of_category, polarity_of_sentiment
from data.schema import SPLITS

LEDGER_COLUMNS = (
    "utterance_id",
    "polarity",  # polarity of the target; empty if it has none
    "donor_id",  # the nearest donor, even if the target abstained; empty if there is none
    "donor_corpus",
    "donor_split",
    "donor_text",
    "similarity",  # cosine in float64; NaN without a donor
    "runner_up_id",  # the next one; empty if there is none
    "runner_up_corpus",
    "runner_up_similarity",
    "margin",  # similarity − runner_up_similarity; in a tie it may be below 0, by no more than the tolerance
    "tied",  # number of donors within the tolerance of the highest similarity; 1 is no tie, 0 no donor
    "neighbours",  # JSON list of "corpus/utterance_id" of all that voted; empty if the rule has one neighbour
    "rule",
    "abstained",  # reason why there are no labels; empty if there are
    *EMOTIONS,  # intensity on the donor's scale (present = > 0); NaN if abstained
)

_POOL_COLUMNS = ("corpus", "utterance_id", "split", "text", "polarity", *EMOTIONS)


@dataclass(frozen=True)
class Rule:
    """The settings of the transfer; each of them changes labels.

    With several neighbours, an emotion is present if more than half of the voters have it; its intensity is the mean of those voters.
    Every neighbour has one vote if it reaches `minimum_similarity`. If the pool has fewer donors of the polarity than neighbours, those
    donors vote.
    """

    neighbours: int = 1
    minimum_similarity: float = -1.0  # similarity to the nearest donor below which the utterance abstains
    donor_splits: tuple[str, ...] = ("train",)
    tie_tolerance: float = 1e-6  # cosines closer than this are equal, and the smaller (corpus, utterance_id) goes first
    surprise_polarity: str = ""  # used where only the category gives a polarity (IEMOCAP); empty: such an utterance is no donor
    categories: Mapping[str, str] = field(default_factory=dict)  # overrides `labels.CATEGORIES`, e.g. {"fru": "anger"}

    def __post_init__(self) -> None:
        splits, labels = set(self.donor_splits), set(self.categories.values())
        allowed = {
            "neighbours": (isinstance(self.neighbours, int) and self.neighbours >= 1, "a whole number from 1"),
            "minimum_similarity": (-1 <= self.minimum_similarity <= 1, "a cosine from -1 to 1"),
            "donor_splits": (splits and splits <= set(SPLITS), f"one or more of {', '.join(SPLITS)}"),
            "tie_tolerance": (0 <= self.tie_tolerance <= 1, "a difference of cosines from 0 to 1"),
            "surprise_polarity": (self.surprise_polarity in ("", *POLARITIES), f"one of {', '.join(POLARITIES)}, or empty"),
            "categories": (
                set(self.categories) <= set(CATEGORIES) and labels <= {*EMOTIONS, "neutral"},
                f"categories of {', '.join(CATEGORIES)}, each → one of {', '.join(EMOTIONS)}, neutral",
            ),
        }
        for name, (good, expected) in allowed.items():
            if not good:
                raise InputError(f"[pseudo_labels] {name} is {shown(getattr(self, name))}, expected {expected}.")

    def to_dict(self) -> dict[str, Any]:
        """Returns all settings, JSON-able; equal rules give equal dictionaries."""
        return {
            **asdict(self),
            "donor_splits": sorted(set(self.donor_splits)),
            "categories": dict(sorted(self.categories.items())),
        }

    def __str__(self) -> str:
        surprise = f", surprise={self.surprise_polarity}" if self.surprise_polarity else ""
        mapped = "".join(f", {category}→{emotion}" for category, emotion in sorted(self.categories.items()))
        splits = "+".join(sorted(set(self.donor_splits)))
        return (
            f"cosine, same polarity, k={self.neighbours}, min={self.minimum_similarity:g}, donors={splits}, "
            f"ties within {self.tie_tolerance:g} to the smaller (corpus, id){surprise}{mapped}"
        )


@dataclass(frozen=True)
class Pool:
    """All donors in the order of (corpus, utterance_id), which decides ties."""

    table: pd.DataFrame  # corpus, utterance_id, split, text, polarity, six emotions; index 0 … M-1
    embeddings: np.ndarray  # (M, D) float32
    skipped: Mapping[str, Mapping[str, int]]  # corpus → reason why utterances of it are no donors → their number

    def without(self, corpus: str) -> "Pool":
        """Returns the pool without the donors of one corpus."""
        kept = (self.table["corpus"] != corpus).to_numpy()
        skipped = {name: counts for name, counts in self.skipped.items() if name != corpus}
        return Pool(self.table[kept].reset_index(drop=True), self.embeddings[kept], skipped)


def polarities(table: pd.DataFrame, rule: Rule) -> np.ndarray:
    """Returns the polarity (N,) of every utterance of a manifest, see the top of this module; empty if it has none."""
    of_emotion = {**CATEGORY_POLARITY, "surprise": rule.surprise_polarity or None}

    def of(row: Any) -> str:
        if row.polarity or not np.isnan(row.sentiment):
            return row.polarity or polarity_of_sentiment(row.sentiment)
        emotion = rule.categories.get(row.category, CATEGORIES.get(row.category))
        return of_emotion.get(emotion or "") or ""

    rows = table[["polarity", "sentiment", "category"]].itertuples(index=False)
    return np.array([of(row) for row in rows], dtype=object)


def emotions(table: pd.DataFrame, rule: Rule) -> np.ndarray:
    """Returns the intensities (N, 6) float64 of a manifest, with the categories that the rule maps; NaN where unlabelled."""
    values = table[list(EMOTIONS)].to_numpy(np.float64, copy=True)
    for category in rule.categories:
        values[(table["category"] == category).to_numpy()] = list(emotions_of_category(category, rule.categories).values())
    return values


def donor_pool(corpora: Sequence[tuple[pd.DataFrame, np.ndarray]], rule: Rule) -> Pool:
    """Gathers the donors: utterances of the rule's splits with all six emotion labels and a polarity.

    An utterance whose medium is excluded can be a donor, because only its sentence and its labels are used.

    Args:
        corpora: Manifests (`schema.COLUMNS`), each with the (N, D) float32 sentence embeddings of its rows.
        rule: The rule with the splits and the meaning of categories.

    Raises:
        InputError: An utterance occurs twice, or the embedding of a donor is all zero or not finite.
    """
    tables, embeddings, skipped = [], [], {}
    for manifest, embedded in corpora:
        donors = manifest.assign(polarity=polarities(manifest, rule))
        donors[list(EMOTIONS)] = emotions(manifest, rule)
        reason = np.select(
            [~donors["split"].isin(rule.donor_splits), donors[list(EMOTIONS)].isna().any(axis=1), donors["polarity"] == ""],
            ["other split", "no emotion labels", "no polarity"],
            "",
        )
        for corpus, reasons in pd.Series(reason).groupby(manifest["corpus"].to_numpy()):
            skipped[corpus] = reasons[reasons != ""].value_counts().to_dict()
        donors = donors.loc[reason == "", list(_POOL_COLUMNS)]
        tables.append(donors)
        embeddings.append(_checked(donors, _aligned(manifest, embedded)[reason == ""]))
    if not tables:
        return Pool(pd.DataFrame(columns=list(_POOL_COLUMNS)), np.empty((0, 0), dtype=np.float32), {})
    table = pd.concat(tables, ignore_index=True).sort_values(["corpus", "utterance_id"], kind="stable")
    twice = table[table.duplicated(["corpus", "utterance_id"])]
    if len(twice):
        corpus, utterance = twice.iloc[0][["corpus", "utterance_id"]]
        raise InputError(f"Donors of pseudo-labels: {corpus} utterance {utterance!r} occurs twice. Name each corpus once.")
    return Pool(table.reset_index(drop=True), np.concatenate(embeddings)[table.index], skipped)


def transfer(
    targets: pd.DataFrame, embeddings: np.ndarray, pool: Pool, rule: Rule, device: str = "cpu", block: int = 1024
) -> pd.DataFrame:
    """Finds a donor for every utterance and transfers its emotions.

    An utterance is never its own donor: the donor with the same corpus and id is left out.

    Args:
        targets: A manifest.
        embeddings: (N, D) float32 sentence embeddings of its rows, from the encoder of the pool.
        pool: The result of `donor_pool`.
        rule: The same rule as for the pool.
        device: Torch's name of the device that searches; the ledger does not depend on it.
        block: Number of utterances, and of donors, compared at once; the ledger does not depend on it.

    Returns:
        The ledger: `LEDGER_COLUMNS`, one row per target in the order of the manifest.

    Raises:
        InputError: There is no donor, or the embedding of an utterance is all zero or not finite.
    """
    if pool.table.empty:
        found = "; ".join(f"{corpus}: {reason} {count}" for corpus, why in pool.skipped.items() for reason, count in why.items())
        raise InputError(
            f"Pseudo-labels have no donor ({found or 'no corpus given'}). Give a corpus with emotion labels and a polarity in the"
            f" split {' or '.join(rule.donor_splits)}, or set targets = [] in luigi.cfg, section [pseudo_labels]."
        )
    polarity = polarities(targets, rule)
    index, similarity, tied = _search(targets, _aligned(targets, embeddings), polarity, pool, rule, device, block)
    abstained = _abstention(polarity, index[:, 0], similarity[:, 0], rule)
    voters = (index[:, : rule.neighbours] >= 0) & (similarity[:, : rule.neighbours] >= rule.minimum_similarity)
    labels = _vote(pool.table[list(EMOTIONS)].to_numpy(np.float64), index[:, : rule.neighbours], voters)
    labels[abstained != ""] = np.nan
    given = {column: np.append(pool.table[column].to_numpy(object), "") for column in _POOL_COLUMNS[:4]}  # -1, no donor: ""
    ledger = {
        "utterance_id": targets["utterance_id"].to_numpy(object),
        "polarity": polarity,
        **{f"donor_{name}": given[column][index[:, 0]] for name, column in _DONOR_COLUMNS.items()},
        "similarity": similarity[:, 0],
        "runner_up_id": given["utterance_id"][index[:, 1]],
        "runner_up_corpus": given["corpus"][index[:, 1]],
        "runner_up_similarity": similarity[:, 1],
        "margin": similarity[:, 0] - similarity[:, 1],
        "tied": tied,
        "neighbours": _names(given, index, voters) if rule.neighbours > 1 else "",
        "rule": str(rule),
        "abstained": abstained,
        **dict(zip(EMOTIONS, labels.T, strict=True)),
    }
    return pd.DataFrame(ledger, columns=list(LEDGER_COLUMNS))


_DONOR_COLUMNS = {"id": "utterance_id", "corpus": "corpus", "split": "split", "text": "text"}


def _search(
    targets: pd.DataFrame, embeddings: np.ndarray, polarity: np.ndarray, pool: Pool, rule: Rule, device: str, block: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns donors (N, k) as rows of the pool, their similarity (N, k) and the number of ties (N,). Searches once per polarity."""
    from pipeline.pseudo_labels.neighbours import nearest  # imports torch: see the top of this module

    k = max(rule.neighbours, 2)  # the runner-up is in the ledger
    index, similarity, tied = np.full((len(targets), k), -1), np.full((len(targets), k), np.nan), np.zeros(len(targets), int)
    own = pd.MultiIndex.from_frame(pool.table[["corpus", "utterance_id"]]).get_indexer(
        pd.MultiIndex.from_frame(targets[["corpus", "utterance_id"]])
    )
    for name in POLARITIES:
        rows, donors = np.flatnonzero(polarity == name), np.flatnonzero((pool.table["polarity"] == name).to_numpy())
        place = np.full(len(pool.table) + 1, -1)  # row of the pool → its place among these donors; the last is for -1
        place[donors] = np.arange(len(donors))
        wanted = _checked(targets.iloc[rows], embeddings[rows])
        found = nearest(wanted, pool.embeddings[donors], k, rule.tie_tolerance, place[own[rows]], device, block)
        index[rows] = np.append(donors, -1)[found.index]
        similarity[rows], tied[rows] = found.similarity, found.tied
    return index, similarity, tied


def _abstention(polarity: np.ndarray, donor: np.ndarray, similarity: np.ndarray, rule: Rule) -> np.ndarray:
    reasons = ["no polarity", "no donor of this polarity", f"similarity below {rule.minimum_similarity:g}"]
    return np.select([polarity == "", donor < 0, similarity < rule.minimum_similarity], reasons, "").astype(object)


def _vote(intensities: np.ndarray, index: np.ndarray, voters: np.ndarray) -> np.ndarray:
    """Returns the intensities (N, 6) that the donors `index` (N, k) vote for, of all donors' (M, 6); only `voters` (N, k) count."""
    having = (intensities[index] > 0) & voters[:, :, None]
    votes = having.sum(axis=1)
    mean = (intensities[index] * having).sum(axis=1) / np.maximum(votes, 1)
    return np.where(2 * votes > voters.sum(axis=1)[:, None], mean, 0.0)


def _names(given: Mapping[str, np.ndarray], index: np.ndarray, voters: np.ndarray) -> list[str]:
    names = given["corpus"] + "/" + given["utterance_id"]
    return [json.dumps(list(names[row[: len(votes)][votes]])) for row, votes in zip(index, voters, strict=True)]


def _aligned(table: pd.DataFrame, embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or len(embeddings) != len(table):
        raise ValueError(f"Embeddings {embeddings.shape} do not match a manifest of {len(table)} rows.")
    return embeddings


def _checked(table: pd.DataFrame, embeddings: np.ndarray) -> np.ndarray:
    bad = np.asarray(~np.isfinite(embeddings).all(axis=1) | ~embeddings.any(axis=1))
    if bad.any():
        first = table.iloc[int(np.argmax(bad))]
        raise InputError(
            f"{first['corpus']} utterance {first['utterance_id']!r}: its sentence embedding is all zero or not finite, so it has no"
            f" cosine ({int(bad.sum())} of {len(bad)} utterances). Delete the sentence embeddings of {first['corpus']} and run"
            " BuildFeatures again."
        )
    return embeddings
