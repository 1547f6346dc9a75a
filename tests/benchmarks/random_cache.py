"""A cache of random features and labels for benchmarks, of the size of a real corpus."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.cache import CachedCorpus, add_corpus, open_corpus
from data.feature_store import FeatureWriter
from data.labels import EMOTIONS
from data.manifest import write_manifest
from data.schema import COLUMNS, TEXT_COLUMNS

CLIPS_PER_VIDEO = 25
MEAN_ROWS = {"text": 17, "audio": 200}


def write_corpus(folder: Path, clips_of: Mapping[str, int], dims: Mapping[str, int]) -> CachedCorpus:
    """Writes "mosi" in float16.

    Args:
        folder: The cache.
        clips_of: Split → number of its clips, in videos of 25.
        dims: Modality → D. Text has a mean of 17 rows, audio of 200.
    """
    rng = np.random.default_rng(0)
    places = [(split, *divmod(i, CLIPS_PER_VIDEO)) for split, count in clips_of.items() for i in range(count)]
    ids = [f"{split}{video}[{clip}]" for split, video, clip in places]
    known = {
        "utterance_id": ids,
        "corpus": "mosi",
        "video_id": [f"{split}{video}" for split, video, _ in places],
        "clip_id": [str(clip) for *_, clip in places],
        "position": [clip for *_, clip in places],
        "split": [split for split, *_ in places],
        "label_source": "random",
        "sentiment": rng.integers(-15, 16, len(ids)) / 5,
        **{emotion: rng.integers(0, 2, len(ids)) for emotion in EMOTIONS},
    }
    manifest = pd.DataFrame({**dict.fromkeys(COLUMNS, np.nan), **dict.fromkeys(TEXT_COLUMNS, ""), **known}, columns=list(COLUMNS))
    write_manifest(folder / "mosi.parquet", manifest, {})
    paths = {modality: folder / f"{modality}.h5" for modality in dims}
    for modality, path in paths.items():
        _write_features(path, ids, MEAN_ROWS[modality], dims[modality], rng)
    add_corpus(folder, CachedCorpus("mosi", folder / "mosi.parquet", paths, None))
    return open_corpus(folder, "mosi")


def _write_features(path: Path, ids: Sequence[str], mean: int, dim: int, rng: np.random.Generator) -> None:
    """Lengths are spread like those of speech, up to three times the mean."""
    lengths = np.clip(rng.gamma(3, mean / 3, len(ids)).round(), 2, 3 * mean).astype(int).tolist()
    with FeatureWriter(path, ids, lengths, dim, "float16", {}, [""] * len(ids)) as writer:
        for place, length in enumerate(lengths):
            writer.write(place, rng.standard_normal((length, dim), "f4"))
