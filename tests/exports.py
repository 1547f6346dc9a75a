"""Corpora that are exported, and what must be in the files: labels and features of the cache, read without the code of exports."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from caches import make_cache

from data.cache import CachedCorpus, open_corpus
from data.feature_store import FeatureStore
from data.labels import EMOTIONS
from data.manifest import read_manifest, read_table, write_manifest

SIMILAR = 0.2
"""A minimum similarity that some donors of `make_corpus` have."""


def make_corpus(folder: Path) -> CachedCorpus:
    """Make a corpus with pseudo-labels, an utterance that is excluded, and one without a split, whose texts need care."""
    corpus = open_corpus(make_cache(folder / "cache", utterances=12, ledger=True), "mosi")
    table = read_manifest(corpus.manifest)
    table.loc[0, "excluded"] = "silent"
    table.loc[1, ["split", "text"]] = ["", "=1+1, “quoted”\nin two lines"]
    table.loc[2, "sentiment"] = np.nan
    write_manifest(corpus.manifest, table.assign(duration_s=1.5), {})
    return corpus


def expected_labels(corpus: CachedCorpus, emotions: str = "annotated", minimum_similarity: float = 0.0) -> pd.DataFrame:
    """Return the usable utterances, with the emotions of the manifest or of the ledger."""
    table = read_manifest(corpus.manifest)
    table = table[table["excluded"] == ""].reset_index(drop=True)
    if emotions == "pseudo" and corpus.pseudo_labels:
        ledger = read_table(corpus.pseudo_labels).set_index("utterance_id").loc[table["utterance_id"]].reset_index()
        table[list(EMOTIONS)] = ledger[list(EMOTIONS)].where(ledger["similarity"] >= minimum_similarity)
    return table


def expected_features(corpus: CachedCorpus, limits: Mapping[str, int] | None = None) -> dict[str, dict[str, Any]]:
    """Return modality → utterance id → (T, D) float32."""
    found: dict[str, dict[str, Any]] = {}
    for modality, path in corpus.features.items():
        with FeatureStore.open(path) as store:
            found[modality] = {name: store[name].astype(np.float32)[: (limits or {}).get(modality)] for name in store.ids}
    return found
