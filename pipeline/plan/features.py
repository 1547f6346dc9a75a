"""Plans feature files and their shards."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data.feature_sets import modality_of
from data.fingerprint import digest
from pipeline.encoding.checkpoints import Source
from pipeline.plan.records import REVISION, CorpusPlan, FeaturePlan, ShardPlan
from pipeline.plan.sources import rows_and_sources
from pipeline.settings import Settings

_HASH_BITS = 256


def plan_features(
    settings: Settings, corpus: CorpusPlan, feature_set: str, encoder: Source, encoder_identity: Mapping[str, Any]
) -> FeaturePlan:
    """Names the feature file of a corpus and its shards. The identity is that of the encoder, adapted or not."""
    table, modality = corpus.corpus.utterances, modality_of(feature_set)
    name = corpus.settings.name
    rows, sources = rows_and_sources(settings, corpus, feature_set)
    ids, videos = (table[column].iloc[list(rows)].tolist() for column in ("utterance_id", "video_id"))
    encoder_key = digest([REVISION, encoder_identity])
    folder = settings.cache / "shards" / name / f"{modality}-{encoder_key}"
    shards = []
    for bits, members in cut_shards(videos, settings.shard_clips).items():
        key = digest([encoder_key, [(ids[i], sources[i]) for i in members]])
        shards.append(ShardPlan(bits, tuple(rows[i] for i in members), folder / f"{bits or 'all'}-{key}.h5", key))
    key = digest([encoder_key, list(zip(ids, sources, strict=True))])
    path = settings.cache / "features" / f"{name}-{modality}-{slug(encoder.name)}-{key}.h5"
    return FeaturePlan(corpus, feature_set, modality, encoder, encoder_identity, rows, sources, tuple(shards), path, key)


def cut_shards(video_ids: Sequence[str], limit: int) -> dict[str, list[int]]:
    """Groups rows into shards of whole videos, at most `limit` rows each unless one video has more.

    The shards are the leaves of a binary trie over the videos' hashes: a leaf that grows past the limit splits by the next bit. A new
    video therefore changes one shard and leaves the others alone, and the number of shards follows the size of the corpus.

    Returns:
        Leading hash bits ("" for a corpus that fits into one shard) → rows in order.
    """
    codes, names = pd.factorize(np.array(video_ids, dtype=object))
    hashes = [int.from_bytes(hashlib.sha256(name.encode()).digest()) for name in names]
    by_hash = sorted(range(len(names)), key=hashes.__getitem__)
    hashes.sort()
    place_of_video = np.empty(len(names), np.int64)
    place_of_video[by_hash] = np.arange(len(names))
    places = place_of_video[codes]  # (N,) of the video of each row, in the order of hashes
    rows = np.argsort(places, kind="stable")
    first_row = np.searchsorted(places[rows], np.arange(len(names) + 1))  # of each place in `rows`, and the end
    leaves: dict[str, list[int]] = {}

    def split(prefix: str, start: int, stop: int) -> None:
        inside = rows[first_row[start] : first_row[stop]]
        if stop - start == 1 or len(inside) <= limit:
            leaves[prefix] = np.sort(inside).tolist()
            return
        middle = bisect_left(hashes, int(f"{prefix}1".ljust(_HASH_BITS, "0"), 2), start, stop)
        for bit, (first, last) in enumerate([(start, middle), (middle, stop)]):
            if first < last:
                split(f"{prefix}{bit}", first, last)

    if len(names):
        split("", 0, len(names))
    return leaves


def slug(name: str) -> str:
    """Returns the name of an encoder as it stands in the names of files."""
    return "".join(c if c.isalnum() or c in "._" else "-" for c in name.rsplit("/", 1)[-1]).strip("-.")
