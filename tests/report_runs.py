"""Runs for pages: a cache with media, donors and speakers, and heads that route, learn one task, or read whole videos."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import small_runs
from caches import make_cache
from projects import write_wav

from data.cache import open_corpus
from data.manifest import read_attributes, read_manifest, read_table, write_manifest, write_table
from heads.runs.folder import RunFolder

SHORT = {"train.max_epochs": 2, "train.keep": []}
DONOR = "So this is what <they> call a sequel & more"


class Made(NamedTuple):
    """A cache and finished runs on it."""

    cache: Path
    root: Path  # folder of the media
    runs: dict[str, RunFolder]


def make_runs(folder: Path) -> Made:
    """Train runs of a moment: mmolre on both tasks, pre-fusion on sentiment with two seeds, ridge on sentiment, cogmen on emotions."""
    cache = with_media(make_cache(folder / "cache", utterances=36, ledger=True), folder / "media")
    made = {
        "mmolre": small_runs.run(cache, folder / "runs", "mmolre", SHORT),
        "seed 1": small_runs.run(cache, folder / "runs", "baseline-msa", SHORT),
        "seed 2": small_runs.run(cache, folder / "runs", "baseline-msa", {**SHORT, "seed": 2}),
        "ridge": small_runs.run(cache, folder / "runs", "ridge", {"task": "msa"}),
        "cogmen": small_runs.run(cache, folder / "runs", "cogmen", {**SHORT, "task": "mer"}),
    }
    return Made(cache, folder / "media", made)


def with_media(cache: Path, root: Path) -> Path:
    """Give the clips of mosi sounds in recordings of their videos, two speakers and lengths; and their donors a text."""
    corpus = open_corpus(cache, "mosi")
    table = read_manifest(corpus.manifest)
    start = table["position"].to_numpy(float)
    speakers = np.where(np.arange(len(table)) % 3 == 0, "Ann", "Bo")
    table = table.assign(media=table["video_id"] + ".wav", start_s=start, end_s=start + 0.5, duration_s=0.5, speaker=speakers)
    for name in table["media"].unique():
        write_wav(root / name, 0.1 * np.sin(np.arange(6 * 16_000) / 9))
    write_manifest(corpus.manifest, table, read_attributes(corpus.manifest) | {"root": str(root)})
    ledger = read_table(corpus.pseudo_labels)
    write_table(corpus.pseudo_labels, ledger.assign(donor_text=DONOR, donor_id="d1", donor_corpus="meld"), {"target": "mosi"})
    return cache
