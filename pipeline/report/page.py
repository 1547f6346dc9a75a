"""The page that a build ends with: one HTML file that needs nothing else, neither a network nor a script.

Here are what the page is made from and the views of it; layout and look are in `templates/`, the charts in
`pipeline.report.charts`, and what is counted in `pipeline.report.counts`. No file of a cache is read here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from data.labels import EMOTIONS, SENTIMENT_RANGE
from pipeline.report import counts as count
from pipeline.report.charts import bar_groups_svg, histogram, histogram_svg

ROWS = {"text": "tokens", "audio": "frames", "sentence": "embeddings"}
"""What one row of a feature file is, by modality."""
SENTIMENT_BIN, SIMILARITY_BIN = 0.5, 0.05


@dataclass(frozen=True)
class FeatureSummary:
    """One feature file."""

    corpus: str
    modality: str  # a key of ROWS
    encoder: str  # for people
    trained: bool  # False is shown as "untrained" wherever the encoder is named
    path: str  # relative to the cache
    num_utterances: int
    num_rows: int
    dim: int
    dtype: str
    size_bytes: int
    lengths: np.ndarray  # (N,) int, rows per utterance
    truncated: Sequence[str] = ()  # ids of utterances that were longer than the encoder takes
    provenance: Mapping[str, Any] = field(default_factory=dict)  # weights, revision, layer, precision, versions, device, when …
    precision_error: Mapping[str, Any] | None = None  # measured against float32, where the arithmetic was bfloat16


@dataclass(frozen=True)
class CorpusSummary:
    """One corpus as it was read and decoded."""

    name: str
    layout: str
    manifest: pd.DataFrame  # data.schema.COLUMNS
    manifest_path: str  # relative to the cache
    findings: Sequence[Mapping[str, str]] = ()  # kind, where, message


@dataclass(frozen=True)
class LedgerSummary:
    """The pseudo labels of one corpus; `audit` maps each audited corpus to what `pipeline.pseudo_labels.audit.audit` returned
    for it."""

    target: str
    ledger: pd.DataFrame  # pipeline.pseudo_labels.rule.LEDGER_COLUMNS
    path: str  # relative to the cache
    audit: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildReport:
    """Everything that the page of one build shows."""

    title: str
    corpora: Sequence[CorpusSummary]
    features: Sequence[FeatureSummary]
    ledgers: Sequence[LedgerSummary]
    settings: Mapping[str, Any]
    computed: Sequence[str]  # outputs that this build made
    reused: Sequence[str]  # outputs that were there
    cache_dir: str
    seconds: float
    version: str


def render_report(report: BuildReport) -> str:
    """Renders the page of a build.

    Args:
        report: What was built. The same report gives the same page.

    Returns:
        One HTML5 document with its style and charts inside. All text of corpora, encoders and settings is escaped.
    """
    manifests = {corpus.name: corpus.manifest for corpus in report.corpora}
    usable = pd.concat([count.usable(manifest) for manifest in manifests.values()]) if manifests else pd.DataFrame()
    return _template().render(
        report=report,
        num_utterances=sum(map(len, manifests.values())),
        num_usable=len(usable),
        hours=sum(count.counts(manifest)["hours"] or 0.0 for manifest in manifests.values()),
        size_bytes=sum(feature.size_bytes for feature in report.features),
        corpora=[{"number": n, **_corpus_view(corpus, report.features)} for n, corpus in enumerate(report.corpora, 1)],
        ledgers=[{"number": n, **_ledger_view(ledger, report.features, manifests)} for n, ledger in enumerate(report.ledgers, 1)],
        untrained=_untrained(report.features),
        snippet=_snippet(report),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": _size, "took": _took, "flat": _flat, "share": _share, "pretty": _pretty}
    environment.globals |= {"EMOTIONS": EMOTIONS, "METHODS": count.METHODS}
    return environment.get_template("report.html")


def _untrained(features: Sequence[FeatureSummary]) -> dict[str, list[str]]:
    """Untrained encoder → the features it made, in words."""
    made: dict[str, list[str]] = {}
    for feature in features:
        if not feature.trained:
            made.setdefault(feature.encoder, []).append(f"{feature.modality} of {feature.corpus}")
    return made


def _corpus_view(corpus: CorpusSummary, features: Sequence[FeatureSummary]) -> dict[str, Any]:
    manifest = corpus.manifest
    good = count.usable(manifest)
    excluded = manifest[manifest["excluded"] != ""]
    by_split = count.splits(manifest)
    return {
        "summary": corpus,
        "counts": count.counts(manifest),
        "splits": {name: count.counts(rows) for name, rows in by_split.items()},
        "sources": good.loc[good["label_source"] != "", "label_source"].value_counts().to_dict(),
        "categories": good.loc[good["category"] != "", "category"].value_counts().to_dict(),
        "polarities": count.polarity_counts(manifest),
        "lengths": _length_charts(corpus.name, good, [f for f in features if f.corpus == corpus.name and f.modality != "sentence"]),
        "sentiment": _sentiment_charts(corpus.name, by_split),
        "emotions": _emotion_chart(f"Emotions in {corpus.name}", {name: count.usable(rows) for name, rows in by_split.items()}),
        "excluded": excluded[["utterance_id", "split", "excluded"]].to_dict("records"),
        "findings": count.findings_by_kind(corpus.findings),
    }


def _length_charts(name: str, good: pd.DataFrame, features: Sequence[FeatureSummary]) -> list[dict[str, Any]]:
    words = np.array([len(text.split()) for text in good["text"]], int)
    charts = [
        _length_chart(name, "Words", words, whole=True),
        _length_chart(name, "Seconds", good["duration_s"].dropna().to_numpy(), whole=False),
        *(_length_chart(name, ROWS[f.modality].capitalize(), np.asarray(f.lengths), whole=True, made_by=f) for f in features),
    ]
    return [chart for chart in charts if chart["num"]]


def _length_chart(name: str, unit: str, values: np.ndarray, *, whole: bool, made_by: FeatureSummary | None = None) -> dict[str, Any]:
    title = f"{unit} per utterance"
    encoder = f" by {made_by.encoder}{'' if made_by.trained else ' (untrained)'}" if made_by else ""
    facts = count.summary(values) if len(values) else {}
    label = f"{name}: {title.lower()}{encoder}, {len(values)} utterances"
    svg = histogram_svg(histogram({"utterances": values}, whole=whole), label, unit.lower())
    return {"title": title, "made_by": made_by, "svg": svg, "num": len(values), "summary": facts}


def _sentiment_charts(name: str, by_split: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """One histogram a split, with bins centred on the half points and one scale for all, so that splits can be compared."""
    rated = {split: count.usable(rows)["sentiment"].dropna().to_numpy() for split, rows in by_split.items()}
    low, high = SENTIMENT_RANGE[0] - SENTIMENT_BIN / 2, SENTIMENT_RANGE[1] + SENTIMENT_BIN / 2
    drawn = [
        (number, split, histogram({split: values}, width=SENTIMENT_BIN, low=low, high=high, centred=True))
        for number, (split, values) in enumerate(rated.items())
        if len(values)
    ]
    top = max((hist.counts[split].max() / hist.total for _, split, hist in drawn), default=0.0)
    return [
        {
            "title": split,
            "num": hist.total,
            "mean": rated[split].mean(),
            "svg": histogram_svg(hist, f"{name}, {split}: sentiment of {hist.total} utterances", "sentiment", top, number),
        }
        for number, split, hist in drawn
    ]


def _emotion_chart(title: str, groups: Mapping[str, pd.DataFrame]) -> dict[str, Any] | None:
    shares = count.emotion_shares(groups)
    if not shares:
        return None
    totals = {name: whole for name, (_, whole) in shares[count.NO_EMOTION].items()}
    label = f"{title}: share of utterances with each emotion, for {', '.join(f'{name} ({n})' for name, n in totals.items())}"
    return {"title": title, "svg": bar_groups_svg(shares, label), "totals": totals, "shares": shares}


def _ledger_view(summary: LedgerSummary, features: Sequence[FeatureSummary], manifests: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    ledger = summary.ledger
    given = ledger[ledger["abstained"] == ""]
    donors = count.donor_rows(ledger, manifests)
    similarity = {
        "labelled": given["similarity"].to_numpy(),
        "abstained": ledger.loc[(ledger["abstained"] != "") & ledger["similarity"].notna(), "similarity"].to_numpy(),
    }
    groups = {"pseudo labels": given} if donors is None else {"pseudo labels": given, "donors": donors}
    return {
        "summary": summary,
        "counts": count.ledger_counts(ledger),
        "ties": count.ties(ledger, manifests),
        "similarity": _similarity_chart(summary.target, similarity),
        "margin": count.summary(margins) if len(margins := given["margin"].dropna()) else None,
        "emotions": _emotion_chart(f"Emotions given to {summary.target} and those of its donors", groups),
        "examples": count.examples(ledger, manifests.get(summary.target)),
        "audits": {n: (r, count.audit_verdict(r) if r["possible"] else "") for n, r in summary.audit.items()},
        "untrained": any(f.corpus == summary.target and f.modality == "sentence" and not f.trained for f in features),
    }


def _similarity_chart(target: str, series: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    values = np.concatenate(list(series.values()))
    if not len(values):
        return None
    hist = histogram({name: part for name, part in series.items() if len(part)}, width=SIMILARITY_BIN, high=1.0)
    facts = count.summary(values)
    label = f"{target}: similarity of {hist.total} clips to their nearest donor, median {facts['median']:.3f}"
    svg = histogram_svg(hist, label, "cosine", first_colour=0 if len(series["labelled"]) else 1)
    return {"svg": svg, "num": hist.total, "summary": facts, "abstained": len(series["abstained"])}


def _snippet(report: BuildReport) -> str:
    """Python that opens the files of the first corpus with features, and the first ledger, at the paths they have now."""
    first = next((feature.corpus for feature in report.features if feature.modality != "sentence"), None)
    lines = ["from pathlib import Path", ""]
    lines += ["import pandas as pd", ""] if report.ledgers else []
    lines += ["from data.feature_store import FeatureStore", "from data.manifest import read_manifest", ""]
    lines += [f"cache = Path({report.cache_dir!r})"]
    lines += [
        f"manifest = read_manifest(cache / {corpus.manifest_path!r})  # one row an utterance: text, split, labels"
        for corpus in report.corpora
        if first in (None, corpus.name)
    ][:1]
    for feature in report.features:
        if feature.corpus == first and feature.modality in ("text", "audio"):
            name = feature.modality
            untrained = "" if feature.trained else ", untrained"
            lines += [
                "",
                f"{name} = FeatureStore.open(cache / {feature.path!r})  # {feature.encoder}{untrained}",
                f"features = {name}[{name}.ids[0]]  # ({ROWS[name]}, {feature.dim}) {feature.dtype}",
                f"everything = {name}.read_all()  # all utterances one after the other; {name}.offsets says where each begins",
            ]
    lines += [
        line
        for ledger in report.ledgers[:1]
        for line in ("", f"ledger = pd.read_parquet(cache / {ledger.path!r})  # pseudo labels and where each came from")
    ]
    return "\n".join(lines)


def _size(size_bytes: int) -> str:
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def _took(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _pretty(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_pretty(item) for item in value) or "–"
    return "–" if value is None or value == "" or value == {} else str(value)


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level: {"a": {"b": 1}, "c": [{"d": 2}]} → {"a.b": 1, "c.1.d": 2}."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            value = dict(enumerate(value, 1))
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat
