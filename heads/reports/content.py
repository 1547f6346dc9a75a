"""What the page of runs is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from data.reporting import audio
from heads.reports.clips import Clips
from heads.reports.plots import SERIES, Series
from heads.reports.probing import Probe
from heads.reports.results import Result, ranked


@dataclass(frozen=True)
class Media:
    """Where the sound of the players comes from, and how many bytes of it a page may hold."""

    source: str = audio.LINK
    limit_bytes: int = audio.LIMIT_BYTES


@dataclass(frozen=True)
class Content:
    """All that a page is made from.

    Attributes:
        results: Runs on one split of one corpus.
        facts: What the cache says about their utterances.
        probes: Name of a run → what it said when it was asked again.
        notes: What is missing, in sentences.
    """

    results: Sequence[Result]
    facts: Clips
    probes: Mapping[str, Probe] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def shown(self) -> list[tuple[Series, Result]]:
        """The runs that charts show, each with its colour."""
        return [(Series(result.name, number), result) for number, result in enumerate(self.results[:SERIES])]

    def learned(self, task: str) -> list[tuple[Series, Result]]:
        """Those of the runs in charts that predict msa or mer."""
        return [(series, result) for series, result in self.shown if task in result.tasks]

    @property
    def tasks(self) -> list[str]:
        return [task for task in ("msa", "mer") if any(task in result.tasks for result in self.results)]

    @property
    def order(self) -> pd.Index:
        """Utterances that all runs predict, the largest mean error first, see `ranked`."""
        shared = self.results[0].table.index
        for result in self.results[1:]:
            shared = shared[shared.isin(result.table.index)]
        return ranked(self.results, shared)
