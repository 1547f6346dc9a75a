"""Tables of the build report, from what `pipeline.report.counts` counted. `data.reporting` renders them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data.labels import EMOTIONS, POLARITIES
from data.reporting.numbers import DASH, MINUS, share, size
from data.reporting.tables import Cell, Chip, Column, Row, Table
from data.tuning import FROZEN
from pipeline.report.counts import METHODS, PER_TENTH

if TYPE_CHECKING:
    from pipeline.report.page import FeatureSummary


def count_cell(value: int) -> Cell:
    """Makes a cell of a count."""
    return Cell(f"{value:,}", value)


def split_table(name: str, splits: Mapping[str, Mapping[str, Any]], all_splits: Mapping[str, Any]) -> Table:
    """Utterances, videos, hours and labels of each split of a corpus, from `counts.counts`."""
    numeric = ("utterances", "excluded", "usable", "videos", "hours", "with sentiment", "with emotions")
    unknown = all_splits["unmeasured"]
    more = f"; {unknown:,} of unknown duration are not in the hours" if unknown else ""
    return Table.of(
        [Column("split", "words"), *map(Column, numeric)],
        [_split_row(split, found) for split, found in splits.items()],
        f"Counts per split. Labels are counted over usable utterances{more}.",
        f"{name}: counts per split",
        _split_row("all", all_splits),
    )


def polarity_table(name: str, polarities: Mapping[str, Mapping[str, int]], has_sentiment: bool) -> Table:
    """Polarity of usable utterances in each split of a corpus, from `counts.polarity_counts`; its last row is over all splits."""
    rows = [[split, *(_part(value, sum(kinds.values())) for value in kinds.values())] for split, kinds in polarities.items()]
    own = "" if has_sentiment else "; this corpus has polarities of its own"
    caption = f"Polarity. A sentiment of exactly 0 is neutral{own}."
    return Table.of([Column("split", "words"), *map(Column, POLARITIES)], rows[:-1], caption, f"{name}: polarity per split", rows[-1])


def excluded_table(name: str, excluded: Sequence[Mapping[str, str]]) -> Table:
    """Excluded utterances of a corpus, by name, with their reasons."""
    rows = [[row["utterance_id"], row["split"] or DASH, row["excluded"]] for row in excluded]
    columns = [Column("utterance", "words"), Column("split", "words"), Column("why", "long")]
    return Table.of(columns, rows, label=f"{name}: excluded utterances")


def feature_table(features: "Sequence[FeatureSummary]", size_bytes: int) -> Table:
    """Feature files of a build."""
    rows = [
        [
            one.corpus,
            one.modality,
            encoder_cell(one),
            *map(count_cell, (one.num_utterances, one.num_rows, one.dim)),
            one.dtype,
            Cell(size(one.size_bytes), one.size_bytes),
            one.path,
        ]
        for one in features
    ]
    columns = [
        *(Column("corpus", "words"), Column("modality", "words"), Column("encoder", "long"), Column("utterances"), Column("rows")),
        *(Column("width"), Column("type", "words"), Column("size"), Column("file", "code")),
    ]
    files = "file" if len(features) == 1 else "files"
    return Table.of(columns, rows, f"{len(features):,} {files}, {size(size_bytes)}", "Feature files")


def encoder_cell(feature: "FeatureSummary") -> Cell:
    """Makes a cell of an encoder's name; one that is untrained or not frozen says so."""
    apart = [*([] if feature.trained else ["untrained"]), *([] if feature.tuning == FROZEN else [feature.tuning])]
    return Cell(feature.encoder, badge=", ".join(apart))


def tie_table(target: str, ties: Sequence[Mapping[str, Any]]) -> Table:
    """Clips with several nearest donors, from `counts.ties`."""
    said = {None: "not known", True: "differ", False: "the same"}
    rows = [
        [
            tie["utterance_id"],
            count_cell(tie["tied"]),
            f"{tie['similarity']:.6f}".replace("-", MINUS),
            f"{tie['donor_corpus']}/{tie['donor_id']}",
            f"{tie['runner_up_corpus']}/{tie['runner_up_id']}",
            said[tie["differs"]],
        ]
        for tie in ties
    ]
    columns = [
        *(Column("clip", "words"), Column("equal donors"), Column("similarity"), Column("gives", "words")),
        *(Column("runner-up", "words"), Column("emotions", "words")),
    ]
    return Table.of(columns, rows, label=f"{target}: ties")


def donor_corpora_table(target: str, corpora: Mapping[tuple[str, str], int], labelled: int) -> Table:
    """Corpora and splits that gave labels, with the number of clips that took them."""
    rows = [[corpus, split or DASH, _part(clips, labelled)] for (corpus, split), clips in corpora.items()]
    columns = [Column("corpus", "words"), Column("split", "words"), Column("clips")]
    return Table.of(columns, rows, "Where the labels come from", f"{target}: donor corpora")


def donor_table(target: str, most_used: Sequence[Mapping[str, Any]]) -> Table:
    """Donors that gave their labels to the most clips."""
    rows = [[f"{one['donor_corpus']}/{one['donor_id']}", one["text"], count_cell(one["clips"])] for one in most_used]
    columns = [Column("donor", "words"), Column("sentence", "long"), Column("clips")]
    return Table.of(columns, rows, "Donors that gave to the most clips", f"{target}: donors most used")


def example_table(target: str, examples: Sequence[Mapping[str, Any]], sounds: Mapping[str, str]) -> Table:
    """Clips with their donors, from `counts.examples`; a reader sorts and filters them.

    Args:
        target: Name of the corpus that took the labels.
        examples: Labelled clips.
        sounds: "corpus/id" → address of its sound.
    """
    rows = [
        [
            one["utterance_id"],
            Cell(one["text"] or "(its manifest is not part of this build)", audio=sounds.get(f"{target}/{one['utterance_id']}", "")),
            Cell(one["donor_text"], below=(donor := f"{one['donor_corpus']}/{one['donor_id']}"), audio=sounds.get(donor, "")),
            Cell(f"{one['similarity']:.3f}".replace("-", MINUS), one["similarity"]),
            _emotion_cell(one["emotions"]),
            one["polarity"],
            one["tenth"],
        ]
        for one in examples
    ]
    columns = [
        *(Column("clip", "words"), Column("its text", "long"), Column("its donor", "long"), Column("similarity")),
        *(Column(name, "words", filter="choice") for name in ("emotions", "polarity", "tenth")),
    ]
    caption = f"Up to {PER_TENTH} clips of each tenth of the similarities, chosen by a hash of the clip's id"
    return Table.of(columns, rows, caption, f"{target}: examples", explored=True)


def audit_table(target: str, corpus: str, result: Mapping[str, Any]) -> Table:
    """Accuracy and F1 of the rule and of its references on a corpus whose labels are known (`pipeline.pseudo_labels.audit`)."""
    rows = [
        [
            emotion,
            count_cell(result["positives"][emotion]) if emotion in result["positives"] else "",
            *(
                Cell(f"{value:.1%}", value)
                for method in METHODS
                for value in (result[method][emotion]["accuracy"], result[method][emotion]["f1"])
            ),
        ]
        for emotion in (*EMOTIONS, "mean")
    ]
    columns = [Column("emotion", "words"), Column("have it")]
    columns += [Column(name, over=title) for title in METHODS.values() for name in ("accuracy", "F1")]
    more = f"; {result['abstained']:,} more abstained" if result["abstained"] else ""
    caption = f"{corpus}, {result['num_utterances']:,} test utterances as if unlabelled{more}"
    return Table.of(columns, rows[:-1], caption, f"{target}: audit on {corpus}", rows[-1])


def hours(value: float | None) -> Cell:
    """Makes a cell of hours; a dash where there is no media."""
    if value is None:
        return Cell(DASH)
    return Cell(f"{value:,.2f}" if value >= 0.1 or not value else f"{value:.2g}", value)


def _emotion_cell(emotions: Sequence[tuple[str, float]]) -> Cell:
    chips = tuple(Chip(name, f"{value:.2g}") for name, value in emotions)
    return Cell(", ".join(chip.name for chip in chips) or "no emotion", chips=chips or (Chip("no emotion"),))


def _split_row(name: str, split: Mapping[str, Any]) -> Row:
    counted = (count_cell(split[key]) for key in ("utterances", "excluded", "usable", "videos"))
    return [name, *counted, hours(split["hours"]), *(_part(split[key], split["usable"]) for key in ("sentiment", "emotions"))]


def _part(value: int, whole: int) -> Cell:
    return Cell(f"{value:,}", value, beside=share(value, whole) if whole and value != whole else "")
