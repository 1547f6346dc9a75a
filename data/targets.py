"""Prediction targets of heads: sentiment and emotions of the usable utterances, with their splits, videos and order.

Emotions come either from the manifest (`annotated`) or from the ledger, the table of pseudo-labels with their donors (`pseudo`),
never from both. `data.tensors` loads the features of the same utterances; `pipeline.pseudo_labels.rule` makes pseudo-labels.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from data.cache import CachedCorpus
from data.errors import InputError, shown
from data.labels import EMOTIONS, MOSEI_LABELS, LabelSet
from data.lookup import expect, lookup
from data.manifest import read_labelled, read_table
from data.schema import SPLITS

_LEDGER_COLUMNS = ("utterance_id", "similarity", *EMOTIONS)


@dataclass(frozen=True)
class Targets:
    """The N utterances of a corpus that are not excluded, in the order of the manifest."""

    ids: tuple[str, ...]
    split: np.ndarray  # (N,) str, of `SPLITS`; empty where the corpus has none
    video: np.ndarray  # (N,) str
    position: np.ndarray  # (N,) int64, order inside the video
    sentiment: np.ndarray  # (N,) float32, NaN where unlabelled
    emotions: np.ndarray  # (N, C) float32 intensities (present = > 0), NaN where unlabelled
    text: tuple[str, ...]
    labels: LabelSet = MOSEI_LABELS  # names the C emotions

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of one split, (n,) int64, ascending.

        Raises:
            InputError: There is no split of this name.
        """
        expect(SPLITS, split, "split")
        return np.flatnonzero(self.split == split)

    def without_labels(self, split: str) -> Self:
        """Return a copy in which the labels of one split are NaN."""
        kept = self.split != split
        emotions = np.where(kept[:, None], self.emotions, np.float32(np.nan))
        return replace(self, sentiment=np.where(kept, self.sentiment, np.float32(np.nan)), emotions=emotions)

    def without(self, ids: Collection[str]) -> Self:
        """Return the targets without the utterances of these ids, or themselves if none of them is among them."""
        kept = np.array([name not in ids for name in self.ids], bool)
        if kept.all():
            return self
        arrays = {name: getattr(self, name)[kept] for name in ("split", "video", "position", "sentiment", "emotions")}
        texts = {name: tuple(np.array(getattr(self, name), object)[kept]) for name in ("ids", "text")}
        return replace(self, **arrays, **texts)

    def seen_as(self, labels: LabelSet) -> Self:
        """Return the targets with other labels: those that mean something else there are NaN."""
        if labels == self.labels:
            return self
        nothing = np.full((len(self), len(labels.emotions)), np.nan, np.float32)
        return replace(
            self,
            sentiment=self.sentiment if labels.scale == self.labels.scale else np.full(len(self), np.nan, np.float32),
            emotions=self.emotions if labels.same_emotions(self.labels) else nothing,
            labels=labels,
        )

    @cached_property
    def dialogue(self) -> np.ndarray:
        """Number of the dialogue of each utterance, (N,) int64: one for each video and split, as splits may share a video's name."""
        return np.unique(np.char.add(np.char.add(self.split, "/"), self.video), return_inverse=True)[1]

    def with_neighbours(self, rows: np.ndarray) -> np.ndarray:
        """Return all rows of the dialogues that contain the given rows (n,), labelled or not: (m,) int64, ascending."""
        return np.flatnonzero(np.isin(self.dialogue, self.dialogue[rows]))


def presence(intensities: np.ndarray) -> np.ndarray:
    """Return emotions as 1 (intensity above 0), 0 or NaN (unlabelled), float32, in the shape of the intensities."""
    return np.where(np.isnan(intensities), np.float32(np.nan), (intensities > 0).astype(np.float32))


def load_targets(
    corpus: CachedCorpus, emotions: str = "annotated", minimum_similarity: float = 0.0, despite: Collection[str] = ()
) -> Targets:
    """Read the labels of a corpus.

    Args:
        corpus: A corpus of a cache.
        emotions: A key of `EMOTION_SOURCES`.
        minimum_similarity: Smallest cosine between utterance and donor; below it, an utterance has no pseudo-emotions.
        despite: Ids of utterances that count although they are excluded: those without a medium, where their text is enough.

    Raises:
        InputError: The manifest or the ledger cannot be read; there is no such source of emotions, or the corpus does not have it;
            the ledger does not contain each utterance exactly once.
    """
    source = lookup(EMOTION_SOURCES, emotions, "source of emotions")
    table, labels = read_labelled(corpus.manifest)
    table = table[(table["excluded"] == "") | table["utterance_id"].isin(list(despite))]
    return Targets(
        ids=tuple(table["utterance_id"]),
        split=np.array(table["split"], dtype=str),
        video=np.array(table["video_id"], dtype=str),
        position=table["position"].to_numpy(np.int64),
        sentiment=table["sentiment"].to_numpy(np.float32),
        emotions=source(corpus, table, labels, minimum_similarity),
        text=tuple(table["text"]),
        labels=labels,
    )


def _annotated(corpus: CachedCorpus, table: pd.DataFrame, labels: LabelSet, minimum_similarity: float) -> np.ndarray:
    return table[list(labels.emotions)].to_numpy(np.float32)


def _pseudo(corpus: CachedCorpus, table: pd.DataFrame, labels: LabelSet, minimum_similarity: float) -> np.ndarray:
    """Return the emotions of the ledger, (N, 6) float32; NaN where there is no donor, or none that is similar enough."""
    if not -1 <= minimum_similarity <= 1:
        raise InputError(f"Pseudo-labels: the minimum similarity is {minimum_similarity!r}, expected a cosine from -1 to 1.")
    if corpus.pseudo_labels is None:
        raise InputError(
            f"{corpus.name}: the cache has no pseudo-labels for it. Name {corpus.name} in luigi.cfg, section [pseudo_labels], targets,"
            " and run BuildFeatures, or use annotated emotions."
        )
    if not labels.same_emotions(MOSEI_LABELS):
        raise InputError(
            f"{corpus.pseudo_labels}: its pseudo-labels are {', '.join(EMOTIONS)}, but the labels of {corpus.name} are {labels}. Use"
            " annotated emotions."
        )
    ledger = _read_ledger(corpus.pseudo_labels)
    absent = table.loc[~table["utterance_id"].isin(ledger.index), "utterance_id"].tolist()
    if absent:
        raise InputError(
            f"{corpus.pseudo_labels}: {len(absent):,} of {len(table):,} utterances of {corpus.manifest} are not in it, first"
            f" {shown(absent[0])}. Run BuildFeatures again."
        )
    ledger = ledger.loc[table["utterance_id"]]
    too_far = (ledger["similarity"] < minimum_similarity).to_numpy()
    return np.where(too_far[:, None], np.float32(np.nan), ledger[list(EMOTIONS)].to_numpy(np.float32))


def _read_ledger(path: Path) -> pd.DataFrame:
    """Read `_LEDGER_COLUMNS` of a ledger, indexed by utterance_id."""
    ledger = read_table(path, _LEDGER_COLUMNS)
    for name in _LEDGER_COLUMNS:
        is_good = pd.api.types.is_numeric_dtype if name != "utterance_id" else pd.api.types.is_string_dtype
        if not is_good(ledger[name]) or pd.api.types.is_complex_dtype(ledger[name]):
            wanted = "text" if name == "utterance_id" else "numbers"
            raise InputError(f"{path}: its column {name} is of type {ledger[name].dtype}, expected {wanted}. Run BuildFeatures again.")
    ledger = ledger.set_index("utterance_id")
    if not ledger.index.is_unique:
        twice = ledger.index[ledger.index.duplicated()][0]
        raise InputError(f"{path}: utterance {shown(twice)} occurs more than once, expected unique ids. Run BuildFeatures again.")
    return ledger


EMOTION_SOURCES: Mapping[str, Callable[[CachedCorpus, pd.DataFrame, LabelSet, float], np.ndarray]] = {
    "annotated": _annotated,
    "pseudo": _pseudo,
}
"""Source of emotions → function of (corpus, manifest, its labels, minimum similarity) that returns intensities, (N, C) float32."""
