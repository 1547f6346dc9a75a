"""Utterances on disk and in memory: labels, manifests, feature files, and the tensors that are made of them.

The modules of this folder hold the schema and the labels of utterances, the decoding of media, and the files of a cache (manifest,
feature file, index). `data.corpora` reads public corpora, `data.interchange` reads and writes the files of other tools,
`data.sample` holds the bundled corpora, and `python -m data` shows and checks all of them.

Not here: `pipeline` computes features, `heads` trains on them. Nothing here imports either of them.
"""

from typing import TYPE_CHECKING, Any

from data.errors import InputError
from data.labels import EMOTIONS, POLARITIES, SENTIMENT_RANGE

if TYPE_CHECKING:
    from data.dataset import load_corpus

__all__ = ["EMOTIONS", "POLARITIES", "SENTIMENT_RANGE", "InputError", "load_corpus"]


def __getattr__(name: str) -> Any:
    """Import torch when `data.load_corpus` is used, not before: everything else here works without it."""
    if name != "load_corpus":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from data.dataset import load_corpus

    return load_corpus
