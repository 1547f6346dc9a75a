"""Gathers the results of a build for its report and for its summary on the console.

The look of the page is in `pipeline.report.page`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from data.atomic import atomic_path
from data.feature_store import FeatureStore
from data.manifest import read_attributes, read_manifest, read_table
from data.packages import installed_version
from data.tuning import encoder_words, tuning_of
from pipeline.adaptation.checkpoint import read_record
from pipeline.plan import AdaptationPlan, CorpusPlan, FeaturePlan, LedgerPlan, Output, Plan
from pipeline.report.page import AdaptationSummary, BuildReport, CorpusSummary, FeatureSummary, LedgerSummary, render_report
from pipeline.report.sounds import sounds


def make_report(plan: Plan, computed: Sequence[Output], reused: Sequence[Output], seconds: float) -> None:
    """Writes the HTML page about all outputs of the plan.

    Args:
        computed: The outputs that were missing when the build began.
        reused: The outputs that existed when the build began.
        seconds: The time since then.
    """
    cache = plan.settings.cache
    corpora = [_corpus(plan, corpus) for corpus in plan.corpora.values()]
    manifests = {corpus.name: corpus.manifest for corpus in corpora}
    report = BuildReport(
        title="Features of " + ", ".join(plan.corpora),
        corpora=corpora,
        features=[_features(plan, features) for features in plan.features.values()],
        ledgers=[_ledger(plan, ledger, manifests) for ledger in plan.ledgers.values()],
        settings=settings_shown(plan),
        computed=[f"{output.kind} {output.name}" for output in computed if output.kind != "report"],
        reused=[f"{output.kind} {output.name}" for output in reused],
        cache_dir=str(cache),
        seconds=seconds,
        version=installed_version("mmolre") or "not installed",
        adaptations=[_adaptation(plan, adaptation) for adaptation in plan.distinct_adaptations()],
    )
    with atomic_path(plan.report) as temporary:
        temporary.write_text(render_report(report), encoding="utf-8")


def settings_shown(plan: Plan) -> dict[str, object]:
    """Returns the settings of a build as JSON-able values."""
    return json.loads(json.dumps(dataclasses.asdict(plan.settings), default=str))


def summary(plan: Plan, computed: Sequence[Output], reused: Sequence[Output], seconds: float) -> str:
    """Returns the summary at the end of a build: the outputs that were computed, those that were reused, and where they are."""
    width = max([8, *(len(features.name) for features in plan.features.values())])
    lines = ["", f"BuildFeatures: {_counts(computed, 'computed')}; {_counts(reused, 'reused')}; {seconds:.1f} s"]
    for features in plan.features.values():
        with FeatureStore.open(features.path) as store:
            size = features.path.stat().st_size / 1e6
            name = encoder_words(store.attrs["encoder"])
            lines.append(
                f"  {features.corpus.settings.name:<8} {features.name:<{width}} {len(store):>7,} utterances "
                f"{int(store.offsets[-1]):>10,} × {store.dim:<4} {size:>9,.1f} MB  {name}"
            )
    for name, ledger in plan.ledgers.items():
        abstained, count = _filled(ledger.path, "abstained")
        lines.append(f"  {name:<8} pseudo labels {count - abstained:,} of {count:,} utterances")
    for name, corpus in plan.corpora.items():
        excluded, _ = _filled(corpus.manifest, "excluded")
        if excluded:
            lines.append(f"  {name:<8} {excluded:,} utterances excluded, by name in the report")
    return "\n".join([*lines, f"  cache    {plan.settings.cache}", f"  report   {plan.report}"])


def _filled(path: Path, column: str) -> tuple[int, int]:
    """Returns the number of texts in a column of a table that are not empty, and of all. No other column is read."""
    texts = read_table(path, [column])[column]
    return int((texts != "").sum()), len(texts)


def _counts(chosen: Sequence[Output], word: str) -> str:
    kinds = [output.kind for output in chosen]
    named = [
        f"{kinds.count(kind)} {kind}{'s' * (kind in ('manifest', 'encoder', 'shard') and kinds.count(kind) > 1)}"
        for kind in dict.fromkeys(kinds)
    ]
    return f"{word} {', '.join(named) or 'nothing'}"


def _corpus(plan: Plan, corpus: CorpusPlan) -> CorpusSummary:
    attributes = read_attributes(corpus.manifest)
    findings = [{"kind": kind, "where": where, "message": message} for kind, where, message in attributes["findings"]]
    path = str(corpus.manifest.relative_to(plan.settings.cache))
    return CorpusSummary(
        corpus.settings.name, attributes["layout"], read_manifest(corpus.manifest), path, findings, corpus.corpus.labels
    )


def _features(plan: Plan, features: FeaturePlan) -> FeatureSummary:
    with FeatureStore.open(features.path) as store:
        shown = ("encoder", "identity", "products", "device", "packages", "when")
        return FeatureSummary(
            corpus=features.corpus.settings.name,
            modality=features.name,
            encoder=features.encoder.name,
            trained=features.encoder.trained,
            path=str(features.path.relative_to(plan.settings.cache)),
            num_utterances=len(store),
            num_rows=int(store.offsets[-1]),
            dim=store.dim,
            dtype=store.dtype.name,
            size_bytes=features.path.stat().st_size,
            lengths=store.lengths,
            truncated=store.attrs["truncated"],
            context_cut=store.attrs.get("context_cut", ()),
            provenance={name: store.attrs[name] for name in shown},
            precision_error=store.attrs["precision_error"],
            tuning=tuning_of(store.attrs["encoder"]),
        )


def _adaptation(plan: Plan, adaptation: AdaptationPlan) -> AdaptationSummary:
    record = read_record(adaptation.folder) if adaptation.record.is_file() else None
    return AdaptationSummary(adaptation.name, str(adaptation.folder.relative_to(plan.settings.cache)), record)


def _ledger(plan: Plan, ledger: LedgerPlan, manifests: Mapping[str, pd.DataFrame]) -> LedgerSummary:
    target, table = ledger.target.settings.name, read_table(ledger.path)
    roots = {name: corpus.settings.root for name, corpus in plan.corpora.items()}
    return LedgerSummary(
        target=target,
        ledger=table,
        path=str(ledger.path.relative_to(plan.settings.cache)),
        audit=read_attributes(ledger.path)["audit"],
        players=sounds(target, table, manifests, roots, plan.settings.players, plan.report.parent),
    )
