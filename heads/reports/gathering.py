"""Gathers what a page about runs is made from: run folders, and the cache where it can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from data.errors import InputError
from heads.models.registry import HEADS
from heads.reports import clips
from heads.reports.clips import Clips
from heads.reports.content import Content
from heads.reports.probing import Probe, probe, rows_of
from heads.reports.results import Result, read
from heads.runs.evaluate import FinishedRuns
from heads.runs.folder import RunFolder
from heads.runs.run_data import RunData

_NO_FACTS = "Texts, lengths, speakers, donors of pseudo-labels and sounds are missing: {}"
_NO_PROBE = "{}: what each modality adds and the experts of each clip are missing: {}"


@dataclass(frozen=True)
class Sources:
    """Where to look besides the run folders.

    Attributes:
        cache: Folder that BuildFeatures made; None: where each run found its features, and a note if it cannot be read there.
        has_cache: False to look into no cache.
        root: Folder of the corpus with its media; None: that which the cache was built from.
    """

    cache: Path | None = None
    has_cache: bool = True
    root: Path | None = None


def gather(folders: Sequence[RunFolder], split: str, sources: Sources, device: torch.device) -> Content:
    """Reads finished runs, and asks each again where its features can be read. On the test split that is recorded as an opening.

    Args:
        folders: Runs on one corpus.
        split: valid, or test if it was opened before.
        sources: Where to look besides.
        device: Holds features and heads.

    Raises:
        InputError: A run is not finished, is damaged or has not opened the split; runs are of several corpora; the cache or the folder
            of the media was named and cannot be used.
    """
    results = read(folders, split)
    if not sources.has_cache:
        notes = [_NO_FACTS.format("this page was made without the cache."), _NO_PROBE.format("All runs", "for the same reason.")]
        return Content(results, clips.unknown(_ids(results)), {}, notes)
    facts, notes = facts_of(results[0].content, _ids(results), sources)
    probes: dict[str, Probe] = {}
    finished = FinishedRuns(sources.cache, device)
    for result in results:
        try:
            run_data = finished.reopen(result.folder)
            rows = rows_of(run_data, result)
        except InputError as error:
            if sources.cache is not None:
                raise
            notes.append(_NO_PROBE.format(result.name, error))
            continue
        if split == "test":
            result.folder.record_opening(split, "checkpoint")
        probes[result.name] = probe(run_data, result, rows)
    notes += [f"{name}: {one.doubt}" for name, one in probes.items() if one.doubt]
    return Content(results, facts, probes, notes)


def of_trained(run_data: RunData, folder: RunFolder) -> Content:
    """Gathers the same for the validation split of a run whose data are loaded.

    A simple baseline is not asked again: it would be fitted again, which can take as long as before.
    """
    results = read([folder], "valid")
    facts, notes = facts_of(results[0].content, _ids(results), Sources())
    (result,) = results
    if HEADS[run_data.config.head].simple:
        again = f"a simple baseline is fitted again to find it. To do so: python -m heads report {folder.path}"
        left_out = [f"What each modality adds is missing: {again}"] if run_data.tensors.dims else []
        return Content(results, facts, {}, [*notes, *left_out])
    try:
        return Content(results, facts, {result.name: probe(run_data, result, rows_of(run_data, result))}, notes)
    except InputError as error:  # such as a lack of memory: the run is complete all the same
        return Content(results, facts, {}, [*notes, _NO_PROBE.format(result.name, error)])


def facts_of(content: Mapping[str, Any], ids: Sequence[str], sources: Sources) -> tuple[Clips, list[str]]:
    """Reads what the cache says about utterances; if it cannot be read and was not named, notes say why.

    Args:
        content: Of config.json of a run.
        ids: Utterances of its corpus.
        sources: Where to look.

    Raises:
        InputError: The cache or the folder of the media was named and cannot be used.
    """
    try:
        return clips.read(sources.cache or Path(content["made"]["cache"]), content["config"]["corpus"], ids, sources.root), []
    except InputError as error:
        if sources.cache is not None or sources.root is not None:
            raise
        return clips.unknown(ids), [_NO_FACTS.format(error)]


def _ids(results: Sequence[Result]) -> list[str]:
    ids = results[0].table.index
    for result in results[1:]:
        ids = ids.union(result.table.index, sort=False)
    return [str(name) for name in pd.Index(ids)]
