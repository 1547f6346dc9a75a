"""The page that a build ends with: one HTML file that needs no network.

This module holds what the page is made from and how its sections are put together. Prose is in `templates/`, charts are in
`pipeline.report.charts`, tables in `pipeline.report.tables`, counts in `pipeline.report.counts`, and the look in
`data.reporting`. No file of a cache is read here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from data.feature_sets import modality_of
from data.labels import MOSEI_LABELS, LabelSet
from data.layers import stored_layers
from data.reporting.audio import Players
from data.reporting.numbers import duration, size
from data.reporting.tables import Cell
from data.tuning import FROZEN, encoder_words, note
from pipeline.report import counts as count
from pipeline.report import tables
from pipeline.report.counts import ROWS

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class FeatureSummary:
    """One feature file."""

    corpus: str
    modality: str  # a key of ROWS, or a further set of features of one: "text.roberta"
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
    context_cut: Sequence[str] = ()  # ids of utterances whose context was longer than the room that they left
    provenance: Mapping[str, Any] = field(default_factory=dict)  # weights, revision, layer, precision, versions, device, when …
    tuning: str = FROZEN  # a word of `data.tuning`
    precision_error: Mapping[str, Any] | None = None  # measured against float32, where the arithmetic was bfloat16

    @property
    def rows(self) -> str:
        """The rows of the file in words."""
        averaged = self._identity.get("frames_averaged", 1)
        return ROWS[modality_of(self.modality)] if averaged == 1 else f"means of {averaged} frames"

    @property
    def columns(self) -> str:
        """The width of the file, as layers × width where it holds several."""
        layers = len(stored_layers(self._identity))
        return f"{self.dim}" if layers < 2 else f"{layers} layers × {self.dim // layers}"

    @property
    def _identity(self) -> Mapping[str, Any]:
        return self.provenance.get("identity", {})


@dataclass(frozen=True)
class AdaptationSummary:
    """One encoder that learned the task; None where its checkpoint has been deleted since."""

    name: str  # corpora and modality
    folder: str  # relative to the cache
    record: Mapping[str, Any] | None  # adapt.json


@dataclass(frozen=True)
class CorpusSummary:
    """One corpus as it was read and decoded."""

    name: str
    layout: str
    manifest: pd.DataFrame  # data.schema.columns
    manifest_path: str  # relative to the cache
    findings: Sequence[Mapping[str, str]] = ()  # kind, where, message
    labels: LabelSet = MOSEI_LABELS


@dataclass(frozen=True)
class LedgerSummary:
    """The pseudo-labels of one corpus; `audit` maps each audited corpus to the result of `pipeline.pseudo_labels.audit.audit`."""

    target: str
    ledger: pd.DataFrame  # pipeline.pseudo_labels.rule.LEDGER_COLUMNS
    path: str  # relative to the cache
    audit: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    players: Players = field(default_factory=Players)  # of the examples, by "corpus/id"


@dataclass(frozen=True)
class BuildReport:
    """The content of the page of one build."""

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
    adaptations: Sequence[AdaptationSummary] = ()


def render_report(report: BuildReport) -> str:
    """Renders the page of a build.

    Args:
        report: Description of the build. The same report gives the same page.

    Returns:
        One HTML5 document with its style and charts inside. All text of corpora, encoders and settings is escaped.
    """
    # Jinja and matplotlib take a second to import. Luigi's workers, which import this module with the tasks, need neither.
    from data.reporting.page import Section, Tile, fragment, render_page

    manifests = {corpus.name: corpus.manifest for corpus in report.corpora}
    usual = {corpus.name: corpus.manifest for corpus in report.corpora if corpus.labels.same_emotions(MOSEI_LABELS)}
    corpora = [{"number": n, **_corpus_view(corpus, report.features)} for n, corpus in enumerate(report.corpora, 1)]
    ledgers = [{"number": n, **_ledger_view(ledger, report.features, usual)} for n, ledger in enumerate(report.ledgers, 1)]
    size_bytes = sum(feature.size_bytes for feature in report.features)
    files = tables.feature_table(report.features, size_bytes) if report.features else None
    return render_page(
        "BuildFeatures report",
        report.title,
        [Tile(*tile) for tile in _tiles(report, manifests, ledgers, size_bytes)],
        [
            *(
                Section(
                    f"corpus-{view['number']}",
                    view["summary"].name,
                    fragment(TEMPLATES, "corpus.html", view=view),
                    data={"corpus": view["summary"].name},
                )
                for view in corpora
            ),
            *(
                Section(
                    f"adapted-{number}",
                    f"Adapted encoder: {one.name}",
                    fragment(TEMPLATES, "adaptation.html", view=_adaptation_view(one)),
                    data={"adapted": one.name},
                )
                for number, one in enumerate(report.adaptations, 1)
            ),
            Section("features", "Feature files", fragment(TEMPLATES, "features.html", report=report, files=files)),
            *(
                Section(
                    f"labels-{view['number']}",
                    f"Pseudo-labels of emotions in {view['summary'].target}",
                    fragment(TEMPLATES, "ledger.html", view=view),
                    nav=f"Pseudo-labels of {view['summary'].target}",
                    data={"ledger": view["summary"].target},
                )
                for view in ledgers
            ),
            Section("use", "How to use the features", fragment(TEMPLATES, "use.html", snippet=_snippet(report), note=_note(report))),
            Section("settings", "Settings", fragment(TEMPLATES, "settings.html", report=report)),
        ],
        _notes(report, corpora, ledgers),
        warning="Before you use these files",
        maker=f"BuildFeatures, version {report.version}",
        lead=fragment(TEMPLATES, "lead.html", report=report, took=duration(report.seconds)),
    )


def _tiles(
    report: BuildReport, manifests: Mapping[str, pd.DataFrame], ledgers: Sequence[Mapping[str, Any]], size_bytes: int
) -> list[tuple[str, Cell, str]]:
    utterances = sum(map(len, manifests.values()))
    usable = sum(len(count.usable(manifest)) for manifest in manifests.values())
    hours = sum(count.hours(manifest) for manifest in manifests.values())
    files, corpora = len(report.features), len(report.corpora)
    return [
        ("corpus" if corpora == 1 else "corpora", tables.count_cell(corpora), "total-corpora"),
        ("utterances" + (f", {usable:,} usable" if usable != utterances else ""), tables.count_cell(utterances), "total-utterances"),
        ("hours of usable media", tables.hours(hours), "total-hours"),
        (f"in {files:,} feature file{'' if files == 1 else 's'}", Cell(size(size_bytes), size_bytes), "total-size"),
        *(
            (
                f"{view['summary'].target} clips with pseudo-labels, of {view['counts']['utterances']:,}",
                tables.count_cell(view["counts"]["labelled"]),
                "",
            )
            for view in ledgers
        ),
    ]


def _notes(report: BuildReport, corpora: Sequence[Mapping[str, Any]], ledgers: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Lists what a user of the files must know first, as HTML."""
    notes = [Markup("{}").format(_note(report))]
    notes += [
        Markup(
            '{} <span class="badge">untrained</span> made the {}: those features show that everything runs and say nothing about'
            " accuracy."
        ).format(encoder, ", ".join(made))
        for encoder, made in _untrained(report.features).items()
    ]
    notes += [
        Markup('{}, {}: computed in bfloat16; its <a href="#precision">error</a> was measured.').format(one.corpus, one.modality)
        for one in report.features
        if one.precision_error is not None
    ]
    notes += [
        Markup('<a href="#corpus-{}">{}</a>: {} excluded, each named with its reason.').format(
            view["number"], view["summary"].name, _plural(view["num_excluded"], "utterance is", "utterances are")
        )
        for view in corpora
        if view["num_excluded"]
    ]
    notes += [
        Markup("{}, {}: {} longer than the encoder takes, and cut.").format(
            one.corpus, one.modality, _plural(len(one.truncated), "utterance was", "utterances were")
        )
        for one in report.features
        if one.truncated
    ]
    notes += [
        Markup("{}, {}: the context of {} longer than the encoder takes, and lost its beginning.").format(
            one.corpus, one.modality, _plural(len(one.context_cut), "utterance was", "utterances was")
        )
        for one in report.features
        if one.context_cut
    ]
    for view in ledgers:
        if abstained := view["counts"]["utterances"] - view["counts"]["labelled"]:
            notes.append(
                Markup('<a href="#labels-{}">{}</a>: {} got no pseudo-labels.').format(
                    view["number"], view["summary"].target, _plural(abstained, "clip", "clips")
                )
            )
    return notes


def _note(report: BuildReport) -> str:
    """Says how far the encoders know the task."""
    return note(_words(feature) for feature in report.features)


def _words(feature: FeatureSummary) -> str:
    return encoder_words({"name": feature.encoder, "trained": feature.trained, "tuning": feature.tuning})


def _adaptation_view(one: AdaptationSummary) -> dict[str, Any]:
    from pipeline.report import charts

    if one.record is None:
        return {"summary": one, "curve": None, "facts": {}}
    shown = ("base", "corpora", "train", "valid", "selected", "precision_effect", "made")
    facts = {name: one.record[name] for name in shown if one.record[name] is not None} | {"recipe": one.record["parts"]["recipe"]}
    of_input, base = ("case", "max_tokens", "context", "context_s"), one.record["parts"]["base"]
    reads = {name: base[name] for name in of_input if name in base}
    return {"summary": one, "curve": charts.learning_curve(one.name, one.record), "facts": facts | {"reads": reads}}


def _plural(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _untrained(features: Sequence[FeatureSummary]) -> dict[str, list[str]]:
    """Untrained encoder → the features it made, in words."""
    made: dict[str, list[str]] = {}
    for feature in features:
        if not feature.trained:
            made.setdefault(feature.encoder, []).append(f"{feature.modality} of {feature.corpus}")
    return made


def _corpus_view(corpus: CorpusSummary, features: Sequence[FeatureSummary]) -> dict[str, Any]:
    from pipeline.report import charts

    manifest, name, emotions = corpus.manifest, corpus.name, corpus.labels.emotions
    good = count.usable(manifest)
    excluded, by_split, counted = count.excluded(manifest), count.splits(manifest), count.counts(manifest, emotions)
    polarities, sentiment = count.polarity_counts(manifest), charts.sentiment_charts(name, by_split, corpus.labels.scale)
    own = [feature for feature in features if feature.corpus == name and feature.modality != "sentence"]
    return {
        "summary": corpus,
        "counts": counted,
        "splits": tables.split_table(name, {split: count.counts(rows, emotions) for split, rows in by_split.items()}, counted),
        "sources": good.loc[good["label_source"] != "", "label_source"].value_counts().to_dict(),
        "categories": good.loc[good["category"] != "", "category"].value_counts().to_dict(),
        "polarities": tables.polarity_table(name, polarities, bool(sentiment)) if polarities else None,
        "lengths": charts.length_charts(name, good, own),
        "sentiment": sentiment,
        "emotions": charts.emotion_chart(
            f"Emotions in {name}", {split: count.usable(rows) for split, rows in by_split.items()}, emotions
        ),
        "excluded": tables.excluded_table(name, excluded),
        "num_excluded": len(excluded),
        "findings": count.findings_by_kind(corpus.findings),
    }


def _ledger_view(summary: LedgerSummary, features: Sequence[FeatureSummary], manifests: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    from pipeline.report import charts

    ledger, target = summary.ledger, summary.target
    given = ledger[ledger["abstained"] == ""]
    donors, counted, ties = count.donor_rows(ledger, manifests), count.ledger_counts(ledger), count.ties(ledger, manifests)
    similarity = {
        "labelled": given["similarity"].to_numpy(),
        "abstained": ledger.loc[(ledger["abstained"] != "") & ledger["similarity"].notna(), "similarity"].to_numpy(),
    }
    groups = {"pseudo-labels": given} if donors is None else {"pseudo-labels": given, "donors": donors}
    return {
        "summary": summary,
        "counts": counted,
        "ties": ties,
        "tie_table": tables.tie_table(target, ties),
        "similarity": charts.similarity_chart(target, similarity),
        "margin": count.summary(margins) if len(margins := given["margin"].dropna().to_numpy()) else None,
        "emotions": charts.emotion_chart(f"Emotions given to {target} and those of its donors", groups),
        "corpora": tables.donor_corpora_table(target, counted["corpora"], counted["labelled"]),
        "most_used": tables.donor_table(target, counted["most_used"]),
        "examples": tables.example_table(target, count.examples(ledger, manifests.get(target)), summary.players.addresses),
        "players": summary.players.note,
        "gains": charts.gain_chart(target, count.gains(summary.audit)),
        "audits": [_audit_view(target, corpus, result) for corpus, result in summary.audit.items()],
        "untrained": any(f.corpus == target and f.modality == "sentence" and not f.trained for f in features),
    }


def _audit_view(target: str, corpus: str, result: Mapping[str, Any]) -> dict[str, Any]:
    if not result["possible"]:
        return {"corpus": corpus, "table": None, "reason": result["reason"]}
    return {"corpus": corpus, "table": tables.audit_table(target, corpus, result), "verdict": count.audit_verdict(result)}


def _snippet(report: BuildReport) -> str:
    """Writes Python that opens the files of the first corpus with features, and the first ledger, at their present paths."""
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
        if feature.corpus == first and feature.modality != "sentence":
            name = feature.modality.replace(".", "_").replace("-", "_")
            untrained = "" if feature.trained else ", untrained"
            lines += [
                "",
                f"{name} = FeatureStore.open(cache / {feature.path!r})  # {feature.encoder}{untrained}",
                f"features = {name}[{name}.ids[0]]  # ({feature.rows}, {feature.columns}) {feature.dtype}",
                f"everything = {name}.read_all()  # all utterances one after the other; {name}.offsets says where each begins",
            ]
    lines += [
        line
        for ledger in report.ledgers[:1]
        for line in ("", f"ledger = pd.read_parquet(cache / {ledger.path!r})  # pseudo-labels and where each came from")
    ]
    return "\n".join(lines)
