"""A small cache for tests, as a build writes it: manifest, text and audio features, the index, and optionally a ledger.

The videos have 3, 5 or 4 clips in turn, and their splits are train, valid, test, train in turn. Text has 2 to 9 rows per utterance and
audio 3 to 30. Features are noise plus the labels, along the same directions in every cache, so that a head can learn them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from data.cache import CachedCorpus, merge_corpora
from data.feature_store import FeatureWriter
from data.labels import EMOTIONS, polarity_of_sentiment
from data.manifest import write_manifest, write_table
from data.schema import COLUMNS, TEXT_COLUMNS
from pipeline.pseudo_labels.rule import LEDGER_COLUMNS

CLIPS = (3, 5, 4)
SPLITS = ("train", "valid", "test", "train")
ROWS = {"text": (2, 9), "audio": (3, 30)}
MINIMUM_SIMILARITY = -0.5
"""Similarity below which an utterance of the ledger abstains."""


def make_cache(
    folder: Path,
    corpus: str = "mosi",
    utterances: int = 24,
    text_dim: int = 8,
    audio_dim: int = 6,
    seed: int = 0,
    emotions: bool = True,
    ledger: bool = False,
    labelled: bool = True,
    layers: Mapping[str, Sequence[int]] = MappingProxyType({}),
    averaged: int = 1,
) -> Path:
    """Write a corpus into a cache, beside other corpora in it, and return the folder.

    Args:
        folder: The cache, which is created if it is missing.
        corpus: Name of the corpus in the cache.
        utterances: N. From 9 utterances on, all three splits have some.
        text_dim: D of the text features.
        audio_dim: D of the audio features.
        seed: Seed of labels, lengths and noise.
        emotions: True if the manifest has emotions.
        ledger: True if there are pseudo-labels, with similarities from -1 to 1.
        labelled: True if there are any labels.
        layers: Modality → numbers of the layers that lie side by side in its file; the one in the middle is the most like the labels.
        averaged: Frames of the encoder of which an audio row is the mean.
    """
    rng = np.random.default_rng(seed)
    table, signal = _utterances(corpus, utterances, rng)
    features = {}
    for modality, dim in {"text": text_dim, "audio": audio_dim}.items():
        features[modality] = folder / "features" / f"{corpus}-{modality}.h5"
        identity = {"frames_averaged": averaged} if modality == "audio" and averaged > 1 else {}
        identity |= {"layers": list(layers[modality])} if modality in layers else {}
        _write_features(features[modality], corpus, modality, dim, list(table["utterance_id"]), signal, rng, identity)
    made = CachedCorpus(
        corpus,
        folder / "manifests" / f"{corpus}.parquet",
        features,
        folder / "pseudo_labels" / f"{corpus}.parquet" if ledger else None,
    )
    if made.pseudo_labels:
        write_table(made.pseudo_labels, _ledger(table, rng), {"target": corpus})
    hidden = [*(EMOTIONS if not (emotions and labelled) else ()), *(() if labelled else ("sentiment",))]
    write_manifest(made.manifest, table.assign(**dict.fromkeys(hidden, np.nan)), {"corpus": corpus})
    merge_corpora(folder, [made], folder / "report.html")
    return folder


def _utterances(corpus: str, count: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a manifest with all labels, and the labels alone, (N, 7)."""
    videos = [video for video in range(count) for _ in range(CLIPS[video % len(CLIPS)])][:count]
    positions = [position for video in range(count) for position in range(CLIPS[video % len(CLIPS)])][:count]
    sentiment = rng.integers(-15, 16, count) / 5
    intensities = rng.integers(1, 10, (count, len(EMOTIONS))) / 3 * (rng.random((count, len(EMOTIONS))) < 0.4)
    words = {"negative": "The ending made me leave early", "neutral": "It runs two hours", "positive": "I would watch it twice"}
    known = {
        "utterance_id": [f"{corpus}{video}[{position + 1}]" for video, position in zip(videos, positions, strict=True)],
        "corpus": corpus,
        "video_id": [f"{corpus}{video}" for video in videos],
        "clip_id": [str(position + 1) for position in positions],
        "position": positions,
        "split": [SPLITS[video % len(SPLITS)] for video in videos],
        "text": [f"{words[polarity_of_sentiment(value)]}, take {i}." for i, value in enumerate(sentiment)],
        "label_source": "made up",
        "sentiment": sentiment,
        **dict(zip(EMOTIONS, intensities.T, strict=True)),
    }
    table = pd.DataFrame({**dict.fromkeys(COLUMNS, np.nan), **dict.fromkeys(TEXT_COLUMNS, ""), **known}, columns=list(COLUMNS))
    return table, np.column_stack([sentiment, intensities])


def _write_features(
    path: Path, corpus: str, modality: str, dim: int, ids: list[str], signal: np.ndarray, rng: np.random.Generator, identity: dict
) -> None:
    low, high = ROWS[modality]
    lengths = rng.integers(low, high + 1, len(ids)).tolist()
    directions = np.random.default_rng(len(modality)).standard_normal((signal.shape[1], dim)) / 2
    facts = {"corpus": corpus, "modality": modality, "encoder": "made up", "identity": identity, "truncated": []}
    count = len(identity.get("layers", [0]))
    strengths = [1.0 if layer == count // 2 else 0.1 for layer in range(count)]
    with FeatureWriter(path, ids, lengths, count * dim, "float16", facts, [""] * len(ids)) as writer:
        for index, length in enumerate(lengths):
            parts = [strength * (signal[index] @ directions) + rng.standard_normal((length, dim)) for strength in strengths]
            writer.write(index, np.concatenate(parts, axis=1))


def _ledger(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return a ledger: the labels of the manifest, with one emotion in five inverted, so that they resemble the true labels."""
    similarity = rng.uniform(-1, 1, len(table))
    true = table[list(EMOTIONS)].to_numpy()
    given = np.where(rng.random(true.shape) < 0.2, np.where(true > 0, 0.0, 1.0), true)
    abstains = similarity < MINIMUM_SIMILARITY
    given[abstains] = np.nan
    known = {
        "utterance_id": table["utterance_id"],
        "polarity": table["sentiment"].map(polarity_of_sentiment),
        "similarity": similarity,
        "runner_up_similarity": similarity - 0.1,
        "margin": 0.1,
        "tied": 1,
        "abstained": np.where(abstains, f"similarity below {MINIMUM_SIMILARITY:g}", ""),
        **dict(zip(EMOTIONS, given.T, strict=True)),
    }
    return pd.DataFrame({**dict.fromkeys(LEDGER_COLUMNS, ""), **known}, columns=list(LEDGER_COLUMNS))
