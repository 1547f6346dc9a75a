"""What a cache says about the utterances of a page: text, video, speaker, length, donor of pseudo-labels, and the sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data.cache import CachedCorpus, open_corpus
from data.errors import InputError, shown
from data.manifest import read_attributes, read_manifest, read_table
from data.reporting import audio
from data.reporting.audio import Clip, Players

_LEDGER_COLUMNS = ("utterance_id", "donor_id", "donor_corpus", "donor_text", "similarity")
_NUMBERS = ("duration_s", "words", "similarity")


@dataclass(frozen=True)
class Clips:
    """Facts of utterances.

    Attributes:
        table: By utterance_id: text, video_id, speaker, media, start_s, end_s, duration_s, words (NaN without text), donor_id,
            donor_corpus, donor_text, similarity (NaN without a donor).
        root: Folder of the corpus, with its media; None if it is not known.
    """

    table: pd.DataFrame
    root: Path | None = None

    def has(self, column: str) -> bool:
        """True if any utterance has this fact."""
        values = self.table[column]
        return bool((values.notna() if column in _NUMBERS else values != "").any())

    def players(self, ids: Sequence[str], source: str, folder: Path, limit_bytes: int) -> Players:
        """Finds the sounds of utterances for a page in `folder`; the first ones have the first claim on the limit."""
        rows = self.table.loc[list(ids)]
        rows = rows[rows["media"] != ""]
        if not len(rows):
            return Players({}, "No players: the corpus has no media." if source != audio.NONE else "")
        if self.root is None:
            return (
                Players({}, "No players: the folder of the media is not known. Give it by --media-folder.")
                if source != audio.NONE
                else Players({}, "")
            )
        spans = zip(rows["media"], rows["start_s"], rows["end_s"], rows["duration_s"], strict=True)
        clips = {str(name): Clip(self.root / path, *times) for name, (path, *times) in zip(rows.index, spans, strict=True)}
        return audio.players(clips, source, folder, limit_bytes)


def unknown(ids: Sequence[str]) -> Clips:
    """Makes the facts of utterances of which nothing is known but their ids."""
    texts = ("text", "video_id", "speaker", "media", "donor_id", "donor_corpus", "donor_text")
    columns = {**dict.fromkeys(texts, ""), **dict.fromkeys(("start_s", "end_s", *_NUMBERS), np.nan)}
    return Clips(pd.DataFrame(columns, index=pd.Index(list(ids), name="utterance_id")))


def read(cache: Path, corpus: str, ids: Sequence[str], root: Path | None) -> Clips:
    """Reads the facts of utterances.

    Args:
        cache: Folder that BuildFeatures made.
        corpus: Name of the corpus in it.
        ids: The utterances.
        root: Folder of the corpus; by default the one that it was built from.

    Raises:
        InputError: The cache cannot be read, lacks the corpus, or does not have all of these utterances; there is no folder `root`.
    """
    found = open_corpus(cache, corpus)
    manifest = read_manifest(found.manifest).set_index("utterance_id")
    if missing := [name for name in ids if name not in manifest.index]:
        raise InputError(
            f"{cache}: {len(missing):,} of {len(ids):,} utterances of the run are not in its corpus {corpus}, first"
            f" {shown(missing[0])}."
        )
    table = manifest.loc[list(ids), ["text", "video_id", "speaker", "media", "start_s", "end_s", "duration_s"]]
    table = table.assign(words=_words(table["text"])).join(_donors(found, ids))
    return Clips(table, _root(found, root))


def _root(corpus: CachedCorpus, given: Path | None) -> Path | None:
    if given is not None:
        if not given.is_dir():
            raise InputError(f"--media-folder: {given} is no folder, expected that of the corpus, with its media.")
        return given
    built_from = read_attributes(corpus.manifest).get("root")
    return Path(built_from) if isinstance(built_from, str) else None


def _words(texts: pd.Series) -> pd.Series:
    return pd.Series([float(len(str(text).split())) if text else np.nan for text in texts], index=texts.index)


def _donors(corpus: CachedCorpus, ids: Sequence[str]) -> pd.DataFrame:
    if corpus.pseudo_labels is None:
        return unknown(ids).table[list(_LEDGER_COLUMNS[1:])]
    ledger = read_table(corpus.pseudo_labels, _LEDGER_COLUMNS).set_index("utterance_id")
    ledger = ledger[~ledger.index.duplicated()].reindex(list(ids))
    texts = {name: ledger[name].fillna("") for name in _LEDGER_COLUMNS[1:-1]}
    return ledger.assign(**texts)


def traits(clips: Clips, table: pd.DataFrame, emotions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Lists what experts may be specific to: true sentiment, each emotion, and the number of words.

    Args:
        clips: Facts of the utterances of `table`.
        table: Predictions beside labels, by utterance_id.
        emotions: Emotion → (n,) 1 where it is present, NaN where unlabelled.
    """
    found = {"sentiment": table["sentiment_true"].to_numpy(float)} if "sentiment_true" in table else {}
    return {**found, **emotions, "words": clips.table.loc[table.index, "words"].to_numpy(float)}
