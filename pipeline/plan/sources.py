"""Which utterances an encoder can read, and the digests of what it reads of each: its text or media, and its context."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from data.feature_sets import modality_of
from data.fingerprint import digest
from pipeline.encoding.context import expect_whole_recordings, expect_whole_videos, is_segment, most_clips, preceding
from pipeline.plan.records import CONTEXT_MARK, CorpusPlan
from pipeline.settings import Settings


def rows_and_sources(settings: Settings, corpus: CorpusPlan, feature_set: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Returns the rows of the manifest that an encoder can read, and of each the digest of what it reads, context included."""
    modality = modality_of(feature_set)
    rows, sources = corpus.readable_rows(modality), corpus.own_sources(modality)
    before = _contexts(settings, corpus.settings.name, corpus.corpus.utterances.iloc[list(rows)], feature_set)
    return rows, sources if before is None else _with_context(sources, before)


def _contexts(settings: Settings, name: str, table: pd.DataFrame, feature_set: str) -> Iterable[Sequence[int]] | None:
    """Returns for each utterance the places of those whose digests identify its context; None if the encoder reads no context.

    How long previous clips are is not known here, so all that the seconds of context may reach into count. Of a segment, the digest of
    its recording and its start say what is before it.
    """
    encoder, modality = settings.encoder(feature_set), modality_of(feature_set)
    if modality == "text" and encoder.context:
        expect_whole_videos(table, name, "context")
        return preceding(table, encoder.context)
    if modality == "audio" and encoder.context_s:
        expect_whole_videos(table, name, "context_s")
        expect_whole_recordings(table, name, "context_s")
        times = zip(table["start_s"], table["end_s"], strict=True)
        before = zip(times, preceding(table, most_clips(encoder.context_s)), strict=True)
        return (() if is_segment(*cut) else places for cut, places in before)
    return None


def _with_context(sources: Sequence[str], before: Iterable[Sequence[int]]) -> tuple[str, ...]:
    """Adds to the digest of each utterance that of the utterances before it that are its context, if there are any."""
    contexts = ([sources[place] for place in places] for places in before)
    return tuple(own + CONTEXT_MARK + digest(read) if read else own for own, read in zip(sources, contexts, strict=True))
