"""The part of a cached corpus that can be exported: its usable utterances with their features, and notes about those left out.

The modules of the formats write the files; `data.interchange.imported` brings the files of another tool into a cache.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data.cache import CachedCorpus
from data.errors import InputError, shown
from data.feature_store import FeatureStore
from data.labels import LabelSet
from data.lookup import expect, lookup
from data.manifest import read_labelled
from data.schema import MODALITIES, SPLITS
from data.targets import EMOTION_SOURCES

ANNOTATED = "annotated"
"""The source of emotions that are the corpus's own."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What of a corpus is exported, besides its utterances."""

    modalities: tuple[str, ...] | None = None  # features by their names in the cache; None: text and audio, as far as there are any
    emotions: str = ANNOTATED  # a key of `data.targets.EMOTION_SOURCES`
    minimum_similarity: float = 0.0  # pseudo-labels of less similar donors count as missing


USUAL = Choice()


@dataclass(frozen=True)
class Selection:
    """The utterances of a corpus that are exported. Created by `select`."""

    corpus: str
    table: pd.DataFrame  # `schema.columns`, in the order of the manifest, numbered from 0
    stores: Mapping[str, FeatureStore]  # modality → features; only modalities that the cache has
    limits: Mapping[str, int]  # modality → number of rows to keep of each utterance, from the first
    labels: LabelSet
    notes: tuple[str, ...]  # sentences for the user: what is exported, and what is left out or cut, and why
    emotions: str = ANNOTATED  # their source

    def features(self, modality: str, utterance_id: str) -> np.ndarray:
        """Return the features of one utterance, (T, D) float32, cut to the limit.

        Raises:
            DamagedFileError: The values differ from those that were written.
        """
        return self.stores[modality][utterance_id][: self.limits.get(modality)].astype(np.float32)

    def lengths(self, modality: str) -> np.ndarray:
        """Return the number of rows of each utterance after limits, (N,) int64."""
        return np.minimum(_lengths(self.stores[modality], self.table), self.limits.get(modality, np.iinfo(np.int64).max))

    def encoder(self, modality: str) -> str:
        """Return the name of the encoder that made the features."""
        made_by = self.stores[modality].attrs.get("encoder", "")
        return str(made_by["name"] if isinstance(made_by, dict) else made_by)


def select(corpus: CachedCorpus, limits: Mapping[str, int], is_labelled: bool, choice: Choice = USUAL) -> Selection:
    """Open a corpus and select the utterances that can be exported.

    Args:
        corpus: A corpus of a cache.
        limits: Modality → number of rows to keep of each utterance, from the first. Other modalities have no limit.
        is_labelled: True if the other tool needs a sentiment and a split for every utterance.
        choice: Features and source of emotions.

    Raises:
        InputError: The corpus lacks the features or the emotions that are asked for, no utterance can be exported, a limit is below 1,
            or a file is damaged.
    """
    for modality, limit in limits.items():
        if limit < 1:
            raise InputError(f"The limit of {modality} is {limit} rows, expected 1 or more.")
    for modality in choice.modalities or ():
        expect(corpus.features, modality, f"features of {corpus.name}")
    wanted = choice.modalities or [modality for modality in MODALITIES if modality in corpus.features]
    stores = {modality: FeatureStore.open(corpus.features[modality]) for modality in wanted}
    if not stores:
        raise InputError(f"{corpus.manifest}: {corpus.name} has no text and no audio features. Run BuildFeatures with an encoder.")
    table, labels = read_labelled(corpus.manifest)
    reasons = _reasons(table, is_labelled, {name: store for name, store in stores.items() if name in corpus.joined})
    chosen = table[reasons == ""].reset_index(drop=True)
    if chosen.empty:
        raise InputError(f"{corpus.manifest}: none of {len(table):,} utterances can be exported: {_counted(reasons)}.")
    notes = [f"{len(chosen):,} of {len(table):,} utterances of {corpus.name}: {told_splits(chosen)}"]
    if len(chosen) < len(table):
        notes.append(f"left out: {_counted(reasons[reasons != ''])}")
    for modality in (one for one in stores if one in limits):
        cut = int((_lengths(stores[modality], chosen) > limits[modality]).sum())
        notes.append(f"{modality}: {cut:,} utterances cut to their first {limits[modality]:,} rows")
    if choice.emotions != ANNOTATED:
        source = lookup(EMOTION_SOURCES, choice.emotions, "source of emotions")
        chosen[list(labels.emotions)] = source(corpus, chosen, labels, choice.minimum_similarity)
        without = int(chosen[list(labels.emotions)].isna().any(axis=1).sum())
        lacking = f"; {without:,} utterances have none" if without else ""
        notes.append(f"emotions: pseudo-labels, which no person has annotated{lacking}")
    elif corpus.pseudo_labels is not None:
        notes.append("left out: the pseudo-labels")
    return Selection(corpus.name, chosen, stores, limits, labels, tuple(notes), choice.emotions)


def expect_modalities(choice: Choice, known: Collection[str], form: str) -> None:
    """Raise InputError if features are asked for that a format cannot hold; `known` are those it can."""
    if unknown := [name for name in choice.modalities or () if name not in known]:
        raise InputError(f"--modality is {shown(unknown[0])}, but the format {form} holds {', '.join(known)} only.")


def told_splits(table: pd.DataFrame) -> str:
    """Return the numbers of utterances per split, as in "1,284 train, 229 valid, 686 test"."""
    counts = Counter(table["split"])
    return ", ".join(f"{counts[split]:,} {split or 'no split'}" for split in (*SPLITS, "") if counts[split])


def expect_new(path: Path) -> None:
    """Raise InputError if `path` exists, because an export replaces nothing."""
    if path.exists():
        raise InputError(f"{path}: exists already, and an export replaces nothing. Remove it or choose another --out.")


def _reasons(table: pd.DataFrame, is_labelled: bool, joined: Mapping[str, FeatureStore]) -> pd.Series:
    """Return the reason why each utterance is left out; empty if it is exported."""
    reasons = pd.Series("", index=table.index, dtype=object)
    for name, store in joined.items():
        reasons[table["utterance_id"].isin(store.attrs.get("missing", ()))] = f"without {name} features"
    if is_labelled:
        reasons[~table["split"].isin(SPLITS)] = "without a split"
        reasons[table["sentiment"].isna()] = "without a sentiment"
    reasons[table["excluded"] != ""] = "excluded"
    return reasons


def _counted(values: pd.Series) -> str:
    return ", ".join(f"{count:,} {value}" for value, count in Counter(values).items())


def _lengths(store: FeatureStore, table: pd.DataFrame) -> np.ndarray:
    length_of = dict(zip(store.ids, store.lengths.tolist(), strict=True))
    if missing := [name for name in table["utterance_id"] if name not in length_of]:
        raise InputError(
            f"{store.path}: {len(missing):,} utterances are not in it, first {shown(missing[0])}. Run BuildFeatures again."
        )
    return np.array([length_of[name] for name in table["utterance_id"]], np.int64)
