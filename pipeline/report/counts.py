"""Numbers of the build report, counted from manifests and from ledgers (tables of pseudo-labels with their donors).

Labels and lengths are counted over the usable utterances of a manifest: those that no reader and no decoder excluded. The numbers are
shown by `pipeline.report.tables`, `pipeline.report.charts` and the templates of `pipeline.report.page`.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data.findings import FINDING_KINDS
from data.labels import EMOTIONS, POLARITIES, polarity_of_sentiment
from data.schema import SPLITS

ROWS = {"text": "tokens", "audio": "frames", "sentence": "embeddings"}
"""Modality → name of the rows of its feature files."""

NO_EMOTION = "no emotion"
TENTHS, PER_TENTH = 10, 10
"""Number of parts, equally many clips each, into which similarities are divided, and of examples from each."""
METHODS = {"ours": "nearest donor", "random": "random donor", "majority": "majority class"}
"""Methods that an audit compares: this rule, a random donor of the same polarity, and the more frequent answer for every emotion."""


def usable(manifest: pd.DataFrame) -> pd.DataFrame:
    """Returns the utterances that are not excluded."""
    return manifest[manifest["excluded"] == ""]


def splits(manifest: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Divides a manifest: split → rows, in the usual order; "no split" for rows without one. Splits that do not occur are left out."""
    found = {name or "no split": manifest[manifest["split"] == name] for name in (*SPLITS, "")}
    return {name: rows for name, rows in found.items() if len(rows)}


def counts(manifest: pd.DataFrame, emotions: Sequence[str] = EMOTIONS) -> dict[str, Any]:
    """Counts utterances, videos, hours and labels of a manifest with these emotions, or of one split of it."""
    good = usable(manifest)
    with_media = good[good["media"] != ""]
    return {
        "utterances": len(manifest),
        "usable": len(good),
        "excluded": len(manifest) - len(good),
        "videos": manifest["video_id"].nunique(),
        "hours": hours(manifest) if len(with_media) else None,
        "unmeasured": int(with_media["duration_s"].isna().sum()),
        "sentiment": int(good["sentiment"].notna().sum()),
        "emotions": len(labelled(good, emotions)),
    }


def hours(manifest: pd.DataFrame) -> float:
    """Returns the hours of the usable media of a manifest, 0 without any."""
    good = usable(manifest)
    return float(good.loc[good["media"] != "", "duration_s"].sum() / 3600)


def labelled(rows: pd.DataFrame, emotions: Sequence[str] = EMOTIONS) -> pd.DataFrame:
    """Returns the rows with a value for every emotion."""
    return rows[rows[list(emotions)].notna().all(axis=1)]


def summary(values: np.ndarray) -> dict[str, float]:
    """Returns the least, the median, the 95th percentile and the greatest of (N,) values, N > 0."""
    values = np.asarray(values, float)
    return {
        "least": values.min(),
        "median": np.median(values),
        "p95": np.quantile(values, 0.95, method="inverted_cdf"),  # a value that occurs: 95% are at most this
        "most": values.max(),
    }


def polarity_counts(manifest: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Counts usable utterances: split → polarity → count; the corpus's own polarity goes before the sign of the sentiment."""
    good = usable(manifest)
    polarity = pd.Series(
        [own or polarity_of_sentiment(sentiment) for own, sentiment in zip(good["polarity"], good["sentiment"], strict=True)],
        index=good.index,
        dtype=object,
    )
    if not (polarity != "").any():
        return {}
    groups = {**splits(good), "all": good}
    return {name: {kind: int((polarity[rows.index] == kind).sum()) for kind in POLARITIES} for name, rows in groups.items()}


def emotion_shares(groups: Mapping[str, pd.DataFrame], emotions: Sequence[str] = EMOTIONS) -> dict[str, dict[str, tuple[int, int]]]:
    """Counts emotion → group → (rows with it, labelled rows), and rows with none of them; groups without labels are left out."""
    rated = {name: rows for name, group in groups.items() if len(rows := labelled(group, emotions))}
    if not rated:
        return {}
    shares = {e: {name: (int((rows[e] > 0).sum()), len(rows)) for name, rows in rated.items()} for e in emotions}
    none = {name: (int((rows[list(emotions)] == 0).all(axis=1).sum()), len(rows)) for name, rows in rated.items()}
    return {**shares, NO_EMOTION: none}


def findings_by_kind(findings: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Groups findings by kind, each with its meaning; kinds in the order of `FINDING_KINDS`, then any other."""
    kinds = [*FINDING_KINDS, *sorted({finding["kind"] for finding in findings} - set(FINDING_KINDS))]
    found = {kind: [finding for finding in findings if finding["kind"] == kind] for kind in kinds}
    return [{"kind": kind, "meaning": FINDING_KINDS.get(kind, ""), "findings": rows} for kind, rows in found.items() if rows]


def ledger_counts(ledger: pd.DataFrame) -> dict[str, Any]:
    """Counts coverage, abstentions and donors of a ledger (`pipeline.pseudo_labels.rule.LEDGER_COLUMNS`)."""
    given = ledger[ledger["abstained"] == ""]
    used = given.groupby(["donor_corpus", "donor_id"], sort=True).agg(text=("donor_text", "first"), clips=("utterance_id", "size"))
    often = used.sort_values("clips", ascending=False, kind="stable").head(10).reset_index()
    return {
        "utterances": len(ledger),
        "labelled": len(given),
        "abstained": ledger.loc[ledger["abstained"] != "", "abstained"].value_counts().to_dict(),
        "rules": list(ledger["rule"].unique()),
        "donors": len(used),
        "corpora": given.groupby(["donor_corpus", "donor_split"]).size().to_dict(),
        "most_used": _records(often),
    }


def donor_rows(ledger: pd.DataFrame, manifests: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """Returns the emotion-labelled utterances of the corpora and splits that gave labels; None if one of their manifests is missing."""
    given = ledger[ledger["abstained"] == ""]
    wanted = given.groupby("donor_corpus")["donor_split"].unique().to_dict()
    if not wanted or not set(wanted) <= set(manifests):
        return None
    return pd.concat([manifests[str(name)][manifests[str(name)]["split"].isin(kept)] for name, kept in wanted.items()])


def ties(ledger: pd.DataFrame, manifests: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Lists labelled clips with several nearest donors; `differs` is True if the runner-up has other emotions (None: not known)."""
    tied = ledger[(ledger["tied"] > 1) & (ledger["abstained"] == "")]
    present = {name: _present(manifest) for name, manifest in manifests.items() if len(tied)}
    rows = _records(tied)
    for row in rows:
        first = present.get(row["donor_corpus"], {}).get(row["donor_id"])
        second = present.get(row["runner_up_corpus"], {}).get(row["runner_up_id"])
        row["differs"] = None if first is None or second is None else first != second
    return rows


def _present(manifest: pd.DataFrame) -> dict[str, tuple[bool, ...]]:
    rated = labelled(manifest)
    return dict(zip(rated["utterance_id"], map(tuple, (rated[list(EMOTIONS)] > 0).to_numpy().tolist()), strict=True))


def examples(ledger: pd.DataFrame, target: pd.DataFrame | None, per_tenth: int = PER_TENTH) -> list[dict[str, Any]]:
    """Picks labelled clips with their own text from each tenth of the similarities, by a hash of the id.

    They do not depend on the order of the rows. Each has "tenth", its number from 1 (least similar) with the similarities in it.

    Args:
        ledger: Ledger of the target.
        target: Manifest of the target; None if it is not part of the build.
        per_tenth: Number of clips of each tenth at most.
    """
    texts = {} if target is None else dict(zip(target["utterance_id"], target["text"], strict=True))
    rows = _records(ledger[ledger["abstained"] == ""])
    rows.sort(key=lambda row: (row["similarity"], row["utterance_id"]))
    edges = [len(rows) * part // TENTHS for part in range(TENTHS + 1)]
    found = []
    for number, part in enumerate((rows[low:high] for low, high in itertools.pairwise(edges)), 1):
        picked = sorted(part, key=lambda row: hashlib.sha256(row["utterance_id"].encode()).hexdigest())[:per_tenth]
        name = f"{number}: {part[0]['similarity']:.3f} to {part[-1]['similarity']:.3f}" if part else ""
        found += [{**row, "tenth": name, "text": texts.get(row["utterance_id"]), "emotions": _present_in(row)} for row in picked]
    return found


def _present_in(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(emotion, row[emotion]) for emotion in EMOTIONS if row[emotion] > 0]


def gains(audits: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Returns emotion, or "mean" → audited corpus → F1 of the nearest donor and of a random donor, of the audits that were possible."""
    done = {corpus: result for corpus, result in audits.items() if result["possible"]}
    return {
        name: {corpus: (result["ours"][name]["f1"], result["random"][name]["f1"]) for corpus, result in done.items()}
        for name in (*EMOTIONS, "mean")
        if done
    }


def audit_verdict(result: Mapping[str, Any]) -> str:
    """Says in one sentence if the rule beats its two references in mean F1, with the differences in points."""
    f1 = {method: result[method]["mean"]["f1"] for method in METHODS}
    over = {method: 100 * (f1["ours"] - f1[method]) for method in ("random", "majority")}
    beats = [f"{points:+.1f} points against the {METHODS[method]}" for method, points in over.items()]
    kind = "better than both" if min(over.values()) > 0 else "not better than both"
    return f"Mean F1 of the nearest donor is {f1['ours']:.1%}, {kind}: {', '.join(beats)}."


def excluded(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Lists the excluded utterances with their splits and reasons."""
    return _records(manifest[manifest["excluded"] != ""][["utterance_id", "split", "excluded"]])


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Makes a dictionary of each row, by column."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
