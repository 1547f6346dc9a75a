"""A cached corpus as shards of WebDataset: tar files in which the files of one utterance follow each other and share its key.

    <split>-000000.tar, <split>-000001.tar, …
        <key>.json             the columns of the utterance; numbers that are not known are null
        <key>.<modality>.npy   (T, D) float32, one for each modality
    about.json                 corpus, source of emotions, encoders, and the number of utterances of each shard

A key is the utterance id with "_" for "/" and ".", because WebDataset ends a key at its first dot. Utterances without a split are in
"unsplit-….tar".

Source: https://github.com/webdataset/webdataset
"""

import io
import json
import tarfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from data.atomic import atomic_folder
from data.cache import CachedCorpus
from data.errors import InputError, shown
from data.interchange.cached import USUAL, Choice, Selection, expect_new, select
from data.interchange.rows import described, labels_of
from data.schema import SPLITS

_SHARD_BYTES = 256 * 2**20
"""A shard gets no further utterance when it is this large."""

UNSPLIT = "unsplit"
ABOUT_FILE = "about.json"


def export_webdataset(corpus: CachedCorpus, out: Path, limits: Mapping[str, int], choice: Choice = USUAL) -> list[str]:
    """Write a corpus as a folder of shards.

    Args:
        corpus: A corpus of a cache.
        out: The folder, which appears complete or not at all.
        limits: Modality → number of rows to keep of each utterance, from the first.
        choice: Features and source of emotions.

    Returns:
        Sentences for the user: what was written and what was left out.

    Raises:
        InputError: `out` exists, the corpus cannot be exported, or two utterances would have the same key.
    """
    expect_new(out)
    selection = select(corpus, limits, is_labelled=False, choice=choice)
    keys = selection.table["utterance_id"].str.replace(r"[/.]", "_", regex=True)
    if keys.duplicated().any():
        raise InputError(f"{corpus.manifest}: two utterances would have the key {shown(keys[keys.duplicated()].iloc[0])}.")
    shards: dict[str, int] = {}
    with atomic_folder(out) as folder:
        for split in (*SPLITS, ""):
            rows = selection.table[selection.table["split"] == split]
            shards |= _write_split(folder, split or UNSPLIT, selection, rows, keys)
        (folder / ABOUT_FILE).write_text(json.dumps({**described(selection), "shards": shards}, indent=2) + "\n", encoding="utf-8")
    return [
        *selection.notes,
        f"shards: {len(shards)}; the files of an utterance: json, {', '.join(f'{name}.npy' for name in selection.stores)}",
    ]


def _write_split(folder: Path, split: str, selection: Selection, rows: pd.DataFrame, keys: pd.Series) -> dict[str, int]:
    """Write the shards of one split; return the name of each with its number of utterances."""
    shards: dict[str, int] = {}
    left = deque(zip(keys[rows.index], (row for _, row in rows.iterrows()), strict=True))
    while left:
        name = f"{split}-{len(shards):06}.tar"
        with tarfile.open(folder / name, "w", format=tarfile.PAX_FORMAT) as shard:
            count = 0
            while left and shard.offset < _SHARD_BYTES:
                key, row = left.popleft()
                labels = labels_of(row, selection.labels)
                _add(shard, f"{key}.json", json.dumps(labels, ensure_ascii=False).encode())
                for modality in selection.stores:
                    content = io.BytesIO()
                    np.save(content, selection.features(modality, row["utterance_id"]))
                    _add(shard, f"{key}.{modality.replace('.', '-')}.npy", content.getvalue())
                count += 1
        shards[name] = count
    return shards


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file without owner and time, so that the same corpus gives the same bytes."""
    facts = tarfile.TarInfo(name)
    facts.size = len(content)
    shard.addfile(facts, io.BytesIO(content))
