"""Tells whether the rows of several feature files are the same tokens or frames, so that their features can be joined by width.

The names of feature sets are in `data.feature_sets`, the facts of a feature file in `data.feature_store`. Features are joined in
`data.tensors`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.feature_sets import modality_of
from data.feature_store import FeatureStore

_VOCABULARY = (
    "vocab.txt", "vocab.json", "merges.txt", "added_tokens.json", "sentencepiece.bpe.model", "spiece.model", "spm.model",
    "tokenizer.model", "bpe.codes",
)  # fmt: skip
"""Files of a checkpoint that decide how a text becomes tokens, if it has no tokenizer.json, which holds all of it."""

_SAME = {"text": ("case", "max_tokens"), "audio": ("decoder", "truncation")}
"""Modality → facts of an encoder that have to be the same."""


def difference(paths: Mapping[str, Path], ids: Sequence[str]) -> str | None:
    """Say why the rows of two or more sets of features of one modality are not the same tokens or frames; None if they are.

    They are if both were made here, of equal texts by equal tokenizers or of equal waveforms, and every utterance has as many rows in
    one as in the other.

    Args:
        paths: Feature set → its file.
        ids: The utterances that count.

    Raises:
        InputError: A file cannot be used.
    """
    (first, path), *others = paths.items()
    with FeatureStore.open(path) as store:
        for name, other_path in others:
            with FeatureStore.open(other_path) as other:
                reason = _unlike_facts(first, store, name, other) or _unlike_lengths(first, store, name, other, ids)
            if reason:
                return reason
    return None


def _unlike_facts(first: str, store: FeatureStore, name: str, other: FeatureStore) -> str | None:
    made, made_too = (one.attrs.get("identity") or {} for one in (store, other))
    for which, identity in ((first, made), (name, made_too)):
        if "files" not in identity:
            return f"the features {which} are of another tool and do not say what their rows are"
    modality = modality_of(first)
    if modality == "text" and _tokenizer(made["files"], made_too["files"]) != _tokenizer(made_too["files"], made["files"]):
        return f"the tokenizers of {first} and {name} differ"
    for fact in _SAME[modality]:
        if made.get(fact) != made_too.get(fact):
            return f"{fact} is {made.get(fact)!r} for {first} and {made_too.get(fact)!r} for {name}"
    return None


def _tokenizer(files: Mapping[str, Any], others: Mapping[str, Any]) -> Mapping[str, Any]:
    """Pick file name → digest of the files that identify a tokenizer, to be compared with that of `others`."""
    names = ("tokenizer.json",) if "tokenizer.json" in files and "tokenizer.json" in others else _VOCABULARY
    return {name: files[name] for name in names if name in files}


def _unlike_lengths(first: str, store: FeatureStore, name: str, other: FeatureStore, ids: Sequence[str]) -> str | None:
    lengths, lengths_too = (dict(zip(one.ids, one.lengths.tolist(), strict=True)) for one in (store, other))
    unlike = [one for one in ids if one in lengths and one in lengths_too and lengths[one] != lengths_too[one]]
    if not unlike:
        return None
    counts = f"{lengths[unlike[0]]:,} in {first} and {lengths_too[unlike[0]]:,} in {name}"
    return f"{len(unlike):,} of {len(ids):,} utterances have other numbers of rows, first {unlike[0]!r}: {counts}"
