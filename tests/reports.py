"""A small build report whose every number is known, and a reader of the page made from it."""

import dataclasses
import functools
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from data.labels import EMOTIONS
from data.schema import COLUMNS, validate
from pipeline.pseudo_labels.rule import LEDGER_COLUMNS
from pipeline.report.page import BuildReport, CorpusSummary, FeatureSummary, LedgerSummary, render_report

INLINE = {"a", "code", "data", "small", "span", "strong"}
METHODS = {"ours": 0.4, "random": 0.3, "majority": 0.1}


def manifest(corpus: str, count: int = 12, **columns: Any) -> pd.DataFrame:
    """`count` utterances, four a video: half train, a quarter each valid and test; 90 s and one more word each.

    Args:
        columns: A value for all rows, or one per row.
    """
    splits = ["train"] * (count // 2) + ["valid"] * (count // 4) + ["test"] * (count - count // 2 - count // 4)
    table = {
        **dict.fromkeys(COLUMNS, ""),
        **dict.fromkeys(("start_s", "end_s", "sentiment", *EMOTIONS), np.nan),
        "corpus": corpus,
        "utterance_id": [f"{corpus}-{number:02d}" for number in range(count)],
        "video_id": [f"v{number // 4}" for number in range(count)],
        "position": [number % 4 for number in range(count)],
        "split": splits,
        "text": [" ".join(["word"] * (number + 1)) for number in range(count)],
        "media": "clip.wav",
        "duration_s": 90.0,
    }
    return validate(pd.DataFrame(table | columns, columns=list(COLUMNS)), corpus)


def corpus(table: pd.DataFrame, *findings: tuple[str, str, str]) -> CorpusSummary:
    name = table["corpus"].iloc[0]
    found = [dict(zip(("kind", "where", "message"), finding, strict=True)) for finding in findings]
    return CorpusSummary(name, "own layout", table, f"manifests/{name}.parquet", found)


def features(name: str, modality: str, lengths: list[int], **changes: Any) -> FeatureSummary:
    summary = FeatureSummary(
        corpus=name,
        modality=modality,
        encoder=f"{modality}-encoder",
        trained=True,
        path=f"features/{name}-{modality}.h5",
        num_utterances=len(lengths),
        num_rows=sum(lengths),
        dim=8,
        dtype="float16",
        size_bytes=sum(lengths) * 16,
        lengths=np.array(lengths),
        provenance={"device": "two cores", "identity": {"layer": -1, "weights": "5eed"}},
    )
    return dataclasses.replace(summary, **changes)


def ledger(table: pd.DataFrame, donors: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """Row n of the target takes from row n of the donors, which are as many; the next row is the runner-up."""
    after = [*donors["utterance_id"][1:], donors["utterance_id"].iloc[0]]
    rows = {
        "utterance_id": table["utterance_id"],
        "polarity": "positive",
        "donor_id": donors["utterance_id"],
        "donor_corpus": donors["corpus"],
        "donor_split": donors["split"],
        "donor_text": donors["text"],
        "similarity": np.linspace(0.5, 1.0, len(table)),
        "runner_up_id": after,
        "runner_up_corpus": donors["corpus"],
        "runner_up_similarity": 0.4,
        "margin": np.linspace(0.5, 1.0, len(table)) - 0.4,
        "tied": 1,
        "neighbours": "",
        "rule": "cosine, same polarity",
        "abstained": "",
        **{emotion: donors[emotion] for emotion in EMOTIONS},
    }
    return pd.DataFrame(rows | columns, columns=list(LEDGER_COLUMNS))


def audit_result(f1: dict[str, float] = METHODS) -> dict[str, Any]:
    """What `pipeline.pseudo_labels.audit.audit` returns for one corpus, with every F1 as given and every accuracy 0.25 above it."""
    scores = {method: {key: {"accuracy": v + 0.25, "f1": v} for key in (*EMOTIONS, "mean")} for method, v in f1.items()}
    positives = dict(zip(EMOTIONS, range(9, 3, -1), strict=True))
    return {"possible": True, "num_utterances": 70, "abstained": 3, "positives": positives, **scores}


def build(**changes: Any) -> BuildReport:
    """Two corpora, all kinds of features, one ledger."""
    given = dict(zip(EMOTIONS, np.eye(6).tolist(), strict=True))  # the first six have one emotion each
    emotions = {name: [*column, *[0.0] * 6] for name, column in given.items()}
    mosi = manifest("mosi", sentiment=np.linspace(-3, 3, 12).round(2), label_source="label.csv")
    mosei = manifest("mosei", sentiment=1.0, label_source="labels.csd", **emotions)
    lengths = list(range(3, 15))
    report = BuildReport(
        title="Features of mosi, mosei",
        corpora=[corpus(mosi), corpus(mosei)],
        features=[
            features("mosi", "text", lengths),
            features("mosi", "audio", [90 * n for n in lengths], trained=False),
            features("mosi", "sentence", [1] * 12),
            features("mosei", "sentence", [1] * 12),
        ],
        ledgers=[LedgerSummary("mosi", ledger(mosi, mosei), "pseudo_labels/mosi.parquet", {"mosei": audit_result()})],
        settings={"dtype": "float16", "text": {"layer": -1}, "corpora": [{"name": "mosi"}, {"name": "mosei"}]},
        computed=["shard mosi text 00", "features mosi text"],
        reused=["manifest mosi"],
        cache_dir="/data/cache",
        seconds=75.0,
        version="1.2.3",
    )
    return dataclasses.replace(report, **changes)


class Page:
    """The page as a tree; it is well-formed XML behind its doctype."""

    def __init__(self, report: BuildReport) -> None:
        self.html = render_report(report)
        self.root = ET.fromstring(self.html.removeprefix("<!DOCTYPE html>"))

    def one(self, path: str) -> ET.Element:
        (found,) = self.root.findall(path)
        return found

    def section(self, path: str) -> str:
        """The words of one element."""
        return words(self.one(path))


@functools.cache
def usual() -> Page:
    """The page of `build()`, rendered once. Not to be changed."""
    return Page(build())


def words(element: ET.Element) -> str:
    """All its text but that of styles, with single blanks."""
    return " ".join("".join(_text(element)).split())


def _text(element: ET.Element) -> Iterator[str]:
    if element.tag != "style":
        yield element.text or ""
        for child in element:
            apart = "" if child.tag in INLINE else " "
            yield apart
            yield from _text(child)
            yield apart + (child.tail or "")


def cells(table: ET.Element) -> list[list[str]]:
    """The words of a table's body."""
    return [[words(cell) for cell in row] for row in table.findall("tbody/tr")]


def numbers(element: ET.Element) -> list[float]:
    """The exact numbers below an element, in order."""
    return [float(data.get("value")) for data in element.iter("data")]
