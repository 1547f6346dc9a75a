"""Pseudo emotion labels: each utterance takes the emotions of the most similar donor sentence of the same polarity.

Here are the rule and its settings, the pool of donors, and the transfer, whose result is a ledger: who gave what to whom, how
similar, and how close the next one was. Labels of a manifest are never touched. The search is in
`pipeline.pseudo_labels.neighbours`, the test of the rule where the truth is known in `pipeline.pseudo_labels.audit`. No file is
read or written here, and torch is imported only when a search runs: the scheduler's process makes keys of rules, then forks.

Polarity is the corpus's own where it has one (MELD), else the sign of the sentiment (MOSI, MOSEI: exactly 0 is neutral), else
that of the emotion category (IEMOCAP), where surprise has none unless the rule gives it one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from data.errors import InputError
from data.labels import CATEGORIES, CATEGORY_POLARITY, EMOTIONS, POLARITIES, emotions_of_category, polarity_of_sentiment
from data.schema import SPLITS

LEDGER_COLUMNS = (
    "utterance_id",
    "polarity",  # of the target; empty if it has none
    "donor_id",  # the nearest donor, also where the target abstained; empty if there is none
    "donor_corpus",
    "donor_split",
    "donor_text",
    "similarity",  # cosine in float64; NaN without a donor
    "runner_up_id",  # the next one; empty if there is none
    "runner_up_corpus",
    "runner_up_similarity",
    "margin",  # similarity − runner_up_similarity; in a tie it may be below 0, by no more than the tolerance
    "tied",  # donors within the tolerance of the highest similarity; 1 is no tie, 0 no donor
    "neighbours",  # JSON list of "corpus/utterance_id" of all who voted; empty for one neighbour
    "rule",
    "abstained",  # why there are no labels; empty if there are
    *EMOTIONS,  # intensity on the donor's scale (present = > 0); NaN if abstained
)

_POOL_COLUMNS = ("corpus", "utterance_id", "split", "text", "polarity", *EMOTIONS)


@dataclass(frozen=True)
class Rule:
    """How labels pass from donors to an utterance; everything here changes them.

    With several neighbours an emotion is present if more than half of the voters have it, with the mean intensity of those that
    do. Every neighbour has one vote, if it reaches `minimum_similarity`. Where the pool has fewer donors of the polarity, those
    vote.
    """

    neighbours: int = 1
    minimum_similarity: float = -1.0  # of the nearest donor; below it the utterance abstains
    donor_splits: tuple[str, ...] = ("train",)
    tie_tolerance: float = 1e-6  # cosines closer than this are equal, and the smaller (corpus, utterance_id) goes first
    surprise_polarity: str = ""  # where only the category tells (IEMOCAP); empty: such an utterance is no donor
    categories: Mapping[str, str] = field(default_factory=dict)  # over `labels.CATEGORIES`, e.g. {"fru": "anger"}

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
                raise InputError(f"Pseudo labels: {name} is {getattr(self, name)!r}, expected {expected}.")

    def to_dict(self) -> dict[str, Any]:
        """All settings, JSON-able; equal rules give equal dictionaries."""
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
    """All donors, in the order of (corpus, utterance_id), which is the order that decides ties."""

    table: pd.DataFrame  # corpus, utterance_id, split, text, polarity, six emotions; index 0 … M-1
    embeddings: np.ndarray  # (M, D) float32
    skipped: Mapping[str, Mapping[str, int]]  # corpus → why an utterance of it is no donor → how many

    def without(self, corpus: str) -> "Pool":
        """The pool less the donors of one corpus."""
        kept = (self.table["corpus"] != corpus).to_numpy()
        skipped = {name: counts for name, counts in self.skipped.items() if name != corpus}
        return Pool(self.table[kept].reset_index(drop=True), self.embeddings[kept], skipped)


def polarities(table: pd.DataFrame, rule: Rule) -> np.ndarray:
    """(N,) polarity of every utterance of a manifest, as the head of this page says; empty where it has none."""
    surprise = {"surprise": rule.surprise_polarity or None}

    def of(row: Any) -> str:
        if row.polarity or not np.isnan(row.sentiment):
            return row.polarity or polarity_of_sentiment(row.sentiment)
        emotion = rule.categories.get(row.category, CATEGORIES.get(row.category))
        return (CATEGORY_POLARITY | surprise).get(emotion) or ""

    rows = table[["polarity", "sentiment", "category"]].itertuples(index=False)
    return np.array([of(row) for row in rows], dtype=object)


def emotions(table: pd.DataFrame, rule: Rule) -> np.ndarray:
    """(N, 6) float64 intensities of a manifest, with the categories that the rule maps; NaN where unlabelled."""
    values = table[list(EMOTIONS)].to_numpy(np.float64, copy=True)
    for category in rule.categories:
        values[(table["category"] == category).to_numpy()] = list(emotions_of_category(category, rule.categories).values())
    return values


def donor_pool(corpora: Sequence[tuple[pd.DataFrame, np.ndarray]], rule: Rule) -> Pool:
    """Gathers the utterances that can give labels: in a wanted split, labelled with all six emotions, of known polarity.

    An utterance whose medium is excluded stays: its sentence and its labels are as good as any.

    Args:
        corpora: Manifests (`schema.COLUMNS`), each with the (N, D) float32 sentence embeddings of its rows.
        rule: Which splits, and what categories count as.

    Raises:
        InputError: An utterance is there twice, or the embedding of a donor is all zero or not finite.
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
        raise InputError(f"Donors of pseudo labels: {corpus} utterance {utterance!r} is there twice. Name each corpus once.")
    return Pool(table.reset_index(drop=True), np.concatenate(embeddings)[table.index], skipped)


def transfer(
    targets: pd.DataFrame, embeddings: np.ndarray, pool: Pool, rule: Rule, device: str = "cpu", block: int = 1024
) -> pd.DataFrame:
    """Finds a donor for every utterance and takes its emotions.

    An utterance never gives to itself: the donor of the same corpus and id is left out.

    Args:
        targets: A manifest.
        embeddings: (N, D) float32 sentence embeddings of its rows, by the encoder of the pool.
        pool: From `donor_pool`.
        rule: The same rule as for the pool.
        device: Torch's name of the device to search on; the ledger does not depend on it.
        block: Utterances and donors compared at once; the ledger does not depend on it.

    Returns:
        The ledger: `LEDGER_COLUMNS`, one row per target in the order of the manifest.

    Raises:
        InputError: There is no donor at all, or the embedding of an utterance is all zero or not finite.
    """
    if pool.table.empty:
        found = "; ".join(f"{corpus}: {reason} {count}" for corpus, why in pool.skipped.items() for reason, count in why.items())
        raise InputError(
            f"Pseudo labels have no donor ({found or 'no corpus given'}). Give a corpus with emotion labels and a polarity in the"
            f" split {' or '.join(rule.donor_splits)}, or switch pseudo labels off."
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
    """Donors (N, k) as rows of the pool, their similarity (N, k) and the number of ties (N,): one search per polarity."""
    from pipeline.pseudo_labels.neighbours import nearest  # imports torch: see the head of this page

    k = max(rule.neighbours, 2)  # the runner-up is in the ledger
    index, similarity, tied = np.full((len(targets), k), -1), np.full((len(targets), k), np.nan), np.zeros(len(targets), int)
    own = pd.MultiIndex.from_frame(pool.table[["corpus", "utterance_id"]]).get_indexer(
        pd.MultiIndex.from_frame(targets[["corpus", "utterance_id"]])
    )
    for name in POLARITIES:
        rows, donors = np.flatnonzero(polarity == name), np.flatnonzero((pool.table["polarity"] == name).to_numpy())
        place = np.full(len(pool.table) + 1, -1)  # of a row of the pool among these donors; the last is for -1
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
    """(N, 6) intensities from the (M, 6) of donors `index` (N, k), of whom `voters` (N, k) count."""
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
    bad = ~np.isfinite(embeddings).all(axis=1) | ~embeddings.any(axis=1)
    if bad.any():
        first = table.iloc[int(np.argmax(bad))]
        raise InputError(
            f"{first['corpus']} utterance {first['utterance_id']!r}: its sentence embedding is all zero or not finite"
            f" ({int(bad.sum())} of {len(bad)} like it), so it has no cosine. Delete the sentence embeddings of {first['corpus']}"
            " and run BuildFeatures again."
        )
    return embeddings
