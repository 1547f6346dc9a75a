"""The feature sets that a run reads, and the streams that its head gets: one for each modality, or several where sets do not fit.

A stream is what heads call a modality: a name with one sequence of features for each utterance. Sets of one modality whose rows are the
same tokens or frames are joined by width in one stream, which every head reads. Other sets become streams of their own, "text" and
"text-roberta", for heads that take any number. Names of sets are in `data.feature_sets`. No torch is imported here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from data.alignment import difference
from data.cache import CachedCorpus
from data.errors import InputError
from data.feature_sets import DEFAULT, set_of
from data.schema import MODALITIES
from heads.models.registry import HEADS


def sets_of(data: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Lists the sets that a run reads, modality → their names in the cache, from the part `data` of its configuration as a mapping."""
    return {
        modality: tuple(set_of(modality, name) for name in _own_names(data.get(modality))) for modality in map(str, data["modalities"])
    }


def _own_names(chosen: Any) -> Sequence[str]:
    if chosen is None:
        return (DEFAULT,)
    return chosen if isinstance(chosen, (tuple, list)) else (chosen,)


def told(data: Mapping[str, Any]) -> str | None:
    """Names what a run reads, "text.roberta & text.deberta + audio"; None if it is the usual features of each modality.

    Args:
        data: As in `sets_of`.
    """
    sets = sets_of(data)
    if all(names == (modality,) and modality in MODALITIES for modality, names in sets.items()):
        return None
    return " + ".join(" & ".join(names) for names in sets.values())


def streams_of(head: str, corpus: CachedCorpus, sets: Mapping[str, Sequence[str]], ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns stream → the sets that are joined by width in it.

    Args:
        head: A key of `HEADS`.
        corpus: A corpus with these sets.
        sets: Modality → names of sets.
        ids: The utterances that the run reads.

    Raises:
        InputError: Sets of a modality do not fit together, and the head reads one stream of each modality.
    """
    streams: dict[str, tuple[str, ...]] = {}
    for modality, names in sets.items():
        reason = difference({name: corpus.features[name] for name in names}, ids) if len(names) > 1 else None
        if reason is None:
            streams[modality] = tuple(names)
        elif takes_any_streams(head):
            streams |= {name.replace(".", "-"): (name,) for name in names}
        else:
            able = ", ".join(name for name in HEADS if takes_any_streams(name))
            raise InputError(
                f"{corpus.name}: {', '.join(names)} cannot be joined by width: {reason}. Head {head!r} reads one stream of {modality}:"
                f" give it one set (data.{modality}), or choose a head that takes any number of streams: {able}."
            )
    return streams


def takes_any_streams(head: str) -> bool:
    """Returns True if a head reads any number of modalities of any name, and needs none of them."""
    kind = HEADS[head].head  # None for a simple baseline, which reads the means of all features
    return kind is None or (kind.takes_more and not kind.needs)
