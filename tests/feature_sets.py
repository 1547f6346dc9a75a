"""Further feature sets for the caches of `caches`: of noise, with the rows of a set that is there or with others."""

import dataclasses
from pathlib import Path

import numpy as np

from data.cache import merge_corpora, open_corpus
from data.feature_store import FeatureStore, FeatureWriter

BERT = {"files": {"config.json": "c", "tokenizer.json": "bert"}, "case": "sentence", "max_tokens": 0}
"""Facts of an encoder of texts."""


def add_set(
    cache: Path,
    name: str,
    dim: int = 5,
    identity: dict[str, object] = BERT,
    longer: int = 0,
    dtype: str = "float16",
    corpus: str = "mosi",
    seed: int = 0,
) -> Path:
    """Write features as long as those of the modality of `name` into a cache, beside the others, and return their file.

    Args:
        cache: A cache.
        name: Name of the set, such as "text.roberta".
        dim: D.
        identity: The facts of the encoder.
        longer: Rows that the last utterance has more.
        dtype: Type of the stored values.
        corpus: Name of the corpus.
        seed: Of the noise.
    """
    known = open_corpus(cache, corpus)
    with FeatureStore.open(known.features[name.partition(".")[0]]) as store:
        ids, lengths = store.ids, store.lengths.tolist()
    lengths[-1] += longer
    path, rng = cache / "features" / f"{corpus}-{name}.h5", np.random.default_rng(seed)
    encoder = {"name": name.partition(".")[2], "revision": "", "trained": True}
    facts = {"corpus": corpus, "modality": name.partition(".")[0], "encoder": encoder, "identity": identity, "truncated": []}
    with FeatureWriter(path, ids, lengths, dim, dtype, facts, [""] * len(ids)) as writer:
        for index, length in enumerate(lengths):
            writer.write(index, rng.standard_normal((length, dim)))
    merge_corpora(cache, [dataclasses.replace(known, features={**known.features, name: path})], cache / "report.html")
    return path
