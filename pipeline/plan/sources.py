"""Which utterances an encoder can read, and the digests of what it reads of each: its text or media, and its context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from data.feature_sets import modality_of
from data.fingerprint import digest
from pipeline.encoding.context import expect_whole_recordings, expect_whole_videos, is_segment, most_clips, preceding
from pipeline.plan.records import CONTEXT_MARK, CorpusPlan
from pipeline.settings import Settings


def rows_and_sources(settings: Settings, corpus: CorpusPlan, feature_set: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Returns the rows of the manifest that an encoder can read, and of each the digest of what it reads, context included."""
    table, modality = corpus.corpus.utterances, modality_of(feature_set)
    rows = readable_rows(table, modality)
    chosen = table.iloc[list(rows)]
    sources = _sources(chosen, [corpus.media_digests[row] for row in rows], modality)
    if before := _contexts(settings, corpus.settings.name, chosen, feature_set):
        sources = _with_context(sources, before)
    return rows, sources


def readable_rows(table: pd.DataFrame, modality: str) -> tuple[int, ...]:
    """Returns the rows of a manifest that have something to read for an encoder of this modality."""
    if modality != "audio":  # a text can be encoded even if its clip cannot be used
        return tuple(range(len(table)))
    return tuple(np.flatnonzero((table["media"] != "") & (table["excluded"] == "")).tolist())


def _sources(table: pd.DataFrame, media_digests: Sequence[str], modality: str) -> tuple[str, ...]:
    if modality != "audio":
        return tuple(digest(text) for text in table["text"])
    times = zip(media_digests, table["start_s"], table["end_s"], strict=True)
    return tuple(digest([medium, None if np.isnan(start) else start, None if np.isnan(end) else end]) for medium, start, end in times)


def _contexts(settings: Settings, name: str, table: pd.DataFrame, feature_set: str) -> list[tuple[int, ...]]:
    """Returns for each utterance the places of those whose digests identify its context; empty if the encoder reads no context.

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
        return [() if is_segment(*cut) else places for cut, places in before]
    return []


def _with_context(sources: Sequence[str], before: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Adds to the digest of each utterance that of the utterances before it that are its context, if there are any."""
    contexts = ([sources[place] for place in places] for places in before)
    return tuple(own + CONTEXT_MARK + digest(read) if read else own for own, read in zip(sources, contexts, strict=True))
