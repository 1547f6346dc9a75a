"""Charts of the build report: lengths, sentiment, emotions and similarities. `data.reporting.charts` draws them.

Importing this module imports matplotlib, which Luigi's workers do without: `pipeline.report.page` imports it when it renders.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from data.labels import EMOTIONS, SENTIMENT_RANGE
from data.reporting.charts import bar_groups_svg, histogram, histogram_svg, lines_svg, signed_bars_svg
from pipeline.report import counts as count

if TYPE_CHECKING:
    from pipeline.report.page import FeatureSummary


SENTIMENT_BIN, SIMILARITY_BIN = 0.5, 0.05


def length_charts(name: str, good: pd.DataFrame, features: "Sequence[FeatureSummary]") -> list[dict[str, Any]]:
    """Draws the lengths of usable utterances in words, in seconds, and in rows of each feature file; no chart where none is known.

    Args:
        name: Name of the corpus.
        good: Usable utterances of its manifest.
        features: Its feature files of utterances.
    """
    words = np.array([len(text.split()) for text in good["text"]], int)
    charts = [
        _length_chart(name, "Words", words, whole=True),
        _length_chart(name, "Seconds", good["duration_s"].dropna().to_numpy(), whole=False),
        *(_length_chart(name, f.rows.capitalize(), np.asarray(f.lengths), whole=True, made_by=f) for f in features),
    ]
    return [chart for chart in charts if chart]


def sentiment_charts(
    name: str, by_split: Mapping[str, pd.DataFrame], scale: tuple[float, float] = SENTIMENT_RANGE
) -> list[dict[str, Any]]:
    """Draws one histogram a split, with one scale for all, so that splits can be compared. In [-3, 3] bins are centred on the half
    points; other scales have ten steps, which are the labels of CH-SIMS."""
    rated = {split: count.usable(rows)["sentiment"].dropna().to_numpy() for split, rows in by_split.items()}
    width = SENTIMENT_BIN if scale == SENTIMENT_RANGE else scale[1] / 5
    low, high = scale[0] - width / 2, scale[1] + width / 2
    drawn = [
        (number, split, histogram({split: values}, width=width, low=low, high=high, centred=True))
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


def emotion_chart(title: str, groups: Mapping[str, pd.DataFrame], emotions: Sequence[str] = EMOTIONS) -> dict[str, Any] | None:
    """Draws the share of utterances with each emotion, one bar for each group; None where no group has emotion labels."""
    shares = count.emotion_shares(groups, emotions)
    if not shares:
        return None
    totals = {name: whole for name, (_, whole) in shares[count.NO_EMOTION].items()}
    label = f"{title}: share of utterances with each emotion, for {', '.join(f'{name} ({n})' for name, n in totals.items())}"
    return {"title": title, "svg": bar_groups_svg(shares, label), "totals": totals, "shares": shares}


def learning_curve(name: str, record: Mapping[str, Any]) -> Markup:
    """Draws the losses of an adaptation by epoch; a mark stands at the epoch that was chosen.

    Args:
        name: Corpora and modality.
        record: Content of adapt.json (`pipeline.adaptation.checkpoint`).
    """
    history, selected = record["history"], record["selected"]
    epochs = [row["epoch"] for row in history]
    series = {words: [row[key] for row in history] for key, words in (("train_loss", "training"), ("valid_loss", "validation"))}
    chosen = series["validation"][epochs.index(selected)]
    label = f"{name}: training and validation loss of {len(epochs)} epochs, epoch {selected} chosen"
    mark = (selected, chosen, f"epoch {selected}, chosen: validation loss {chosen:.4f}")
    return lines_svg(epochs, series, label, ("epoch", "loss"), mark)


def similarity_chart(target: str, series: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Draws the similarities of clips to their nearest donors; None where no clip has one.

    Args:
        target: Name of the corpus that took the labels.
        series: "labelled" and "abstained" → (N,) similarities.
    """
    values = np.concatenate(list(series.values()))
    if not len(values):
        return None
    hist = histogram({name: part for name, part in series.items() if len(part)}, width=SIMILARITY_BIN, high=1.0)
    facts = count.summary(values)
    label = f"{target}: similarity of {hist.total} clips to their nearest donor, median {facts['median']:.3f}"
    svg = histogram_svg(hist, label, "cosine", first_colour=0 if len(series["labelled"]) else 1)
    return {"svg": svg, "num": hist.total, "summary": facts, "abstained": len(series["abstained"])}


def gain_chart(target: str, gains: Mapping[str, Mapping[str, tuple[float, float]]]) -> dict[str, Any] | None:
    """Draws by how many points of F1 the nearest donor is better than a random one; None where no audit was possible.

    Args:
        target: Name of the corpus that took the labels.
        gains: Emotion → audited corpus → F1 of the nearest and of a random donor (`counts.gains`).
    """
    if not gains:
        return None
    bars = {
        emotion: {
            corpus: (100 * (near - random), f"{corpus}, {emotion}: F1 {near:.1%} of the nearest donor, {random:.1%} of a random one")
            for corpus, (near, random) in found.items()
        }
        for emotion, found in gains.items()
    }
    corpora = list(gains["mean"])
    label = f"{target}: F1 of the nearest donor minus that of a random one, by emotion, on {', '.join(corpora)}"
    return {"svg": signed_bars_svg(bars, label), "corpora": corpora}


def _length_chart(
    name: str, unit: str, values: np.ndarray, *, whole: bool, made_by: "FeatureSummary | None" = None
) -> dict[str, Any] | None:
    if not len(values):
        return None
    title = f"{unit} per utterance"
    encoder = f" by {made_by.encoder}{'' if made_by.trained else ' (untrained)'}" if made_by else ""
    label = f"{name}: {title.lower()}{encoder}, {len(values)} utterances"
    svg = histogram_svg(histogram({"utterances": values}, whole=whole), label, unit.lower())
    return {"title": title, "made_by": made_by, "svg": svg, "num": len(values), "summary": count.summary(values)}
