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
    rows = counts.examples(ledger, None)
    wanted = dict.fromkeys((corpus, name) for row in rows for corpus, name in _utterances(target, row))
    known = {corpus: manifests[corpus].set_index("utterance_id") for corpus in {corpus for corpus, _ in wanted} & manifests.keys()}
    clips = {
        f"{corpus}/{name}": Clip(roots[corpus] / media, *known[corpus].loc[name, ["start_s", "end_s", "duration_s"]])
        for corpus, name in wanted
        if corpus in known and name in known[corpus].index and (media := known[corpus].loc[name, "media"])
    }
    return players(clips, source, folder)


def _utterances(target: str, row: Mapping[str, Any]) -> tuple[tuple[str, str], tuple[str, str]]:
    return (target, row["utterance_id"]), (row["donor_corpus"], row["donor_id"])
