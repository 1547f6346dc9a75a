"""Sounds of the build report's players: those of the examples of pseudo-labels, clips and donors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from data.reporting.audio import Clip, Players, players
from pipeline.report import counts


def sounds(
    target: str, ledger: pd.DataFrame, manifests: Mapping[str, pd.DataFrame], roots: Mapping[str, Path], source: str, folder: Path
) -> Players:
    """Finds the sounds of the examples of a ledger.

    Args:
        target: Name of the corpus that took the labels.
        ledger: Its ledger.
        manifests: Manifests of the build by corpus.
        roots: Folder of each corpus.
        source: `players` of the settings.
        folder: Folder of the page.

    Returns:
        Addresses by "corpus/id". Utterances that have no media are not counted.
    """
    known = {corpus: _clips(manifest, roots[corpus]) for corpus, manifest in manifests.items()}
    wanted = (pair for row in counts.examples(ledger, None) for pair in _utterances(target, row))
    clips = {f"{corpus}/{name}": known[corpus][name] for corpus, name in wanted if name in known.get(corpus, {})}
    return players(clips, source, folder)


def _clips(manifest: pd.DataFrame, root: Path) -> dict[str, Clip]:
    """Returns id → clip of the utterances that have media."""
    columns = ["utterance_id", "media", "start_s", "end_s", "duration_s"]
    rows = manifest.loc[manifest["media"] != "", columns].itertuples(index=False)
    return {name: Clip(root / media, *times) for name, media, *times in rows}


def _utterances(target: str, row: Mapping[str, Any]) -> tuple[tuple[str, str], tuple[str, str]]:
    return (target, row["utterance_id"]), (row["donor_corpus"], row["donor_id"])
