"""`python -m heads compare`: is A better than B, and on which clips? The tests are in `heads.evaluation.comparison`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError
from heads.commands import _flags

if TYPE_CHECKING:
    import pandas as pd

    from heads.evaluation.comparison import MetricTest
    from heads.reports.predictors import Comparison

HELP = "is A better than B, clip by clip? Two runs, or a run and another tool's predictions"
DESCRIPTION = (
    "Compares two predictors on the same utterances: the difference of each metric with its 95 % interval and p value (paired bootstrap"
    " over utterances), corrected for the number of metrics (Holm), a Wilcoxon test of the utterances' own values, and the clips on"
    " which the absolute errors of sentiment differ most. --out writes a page with all clips as well. Nothing is trained or recorded."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    words = "a run folder; a pattern in quotes for a run with several seeds ('runs/mosi-mmolre-*'); or a CSV file, as for score"
    parser.add_argument("a", metavar="A", help=words)
    parser.add_argument("b", metavar="B", help="the same; at least one of the two is a run")
    parser.add_argument(
        "--split", choices=("valid", "test"), default="valid", help="test: both runs have opened it before (default valid)"
    )
    words = "metrics to compare (default: mae, corr, acc7, mean_wf1 and others, of what both predict)"
    parser.add_argument("--metric", nargs="+", metavar="METRIC", help=words)
    parser.add_argument("--clips", type=int, default=10, metavar="N", help="clips to list (default 10)")
    words = "folder where the features are now, to read a CSV file and for the page (default: where the run found them)"
    parser.add_argument("--cache", type=Path, metavar="DIR", help=words)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a page as well, with all clips: a name that ends in .html")
    _flags.add_media(parser)


def run(args: argparse.Namespace) -> int:
    """Print the comparison.

    Raises:
        InputError: A predictor cannot be read, has not opened the split, or the two cannot be compared.
    """
    from heads.reports.predictors import compare_named

    _flags.expect_page(args.out)
    if args.clips < 0:
        raise InputError(f"--clips is {args.clips}, expected 0 or more.")
    found = compare_named(args.a, args.b, args.split, args.metric or [], args.cache)
    clips = None if found.clips is None else found.clips.head(args.clips)
    notes: list[str] = []
    if args.out is not None:
        notes = _page((args.a, args.b), found, args.split, args.out, (args.cache, args.media_folder), (args.media, args.media_mb))
    if args.json:
        about = {"a": args.a, "b": args.b, "split": args.split, "seeds": [len(found.a), len(found.b)]}
        print(json.dumps(about | _content(found.tests, clips), indent=2, allow_nan=False))
    else:
        print(f"A  {args.a}{_seeds(found.a)}\nB  {args.b}{_seeds(found.b)}\n{args.split}, {len(found.a[0]):,} utterances\n")
        print(_text(found.tests, clips))
        print("\n".join(["", *notes, str(args.out)]) if args.out else "", end="\n" if args.out else "")
    return 0


def _page(
    names: tuple[str, str],
    found: Comparison,
    split: str,
    out: Path,
    places: tuple[Path | None, Path | None],
    media: tuple[str, float],
) -> list[str]:
    """Write the page and return notes on what is missing in it; `places` are the cache and the folder of the media."""
    from heads.reports import comparison_page
    from heads.reports.comparison_page import Side
    from heads.reports.content import Media
    from heads.reports.gathering import Sources, facts_of
    from heads.reports.predictors import runs_named

    run = next(run for name in names for run in ([] if Path(name).is_file() else runs_named(name)))
    ids = [str(name) for name in found.a[0]["utterance_id"]]
    cache, root = places
    facts, notes = facts_of(run.config(), ids, Sources(cache, root=root))
    a, b = (Side(name, tables, found.labels) for name, tables in zip(names, (found.a, found.b), strict=True))
    sound = Media(media[0], _flags.media_bytes(media[1]))
    said = comparison_page.write_page(a, b, split, found.tests, facts, notes, out, sound)
    return [*notes, *([said] if said else [])]


def _seeds(tables: Sequence[Any]) -> str:
    return f" (means of {len(tables)} seeds)" if len(tables) > 1 else ""


def _text(tests: Sequence[MetricTest], clips: pd.DataFrame | None) -> str:
    from data.reporting.tables import aligned

    header = ["metric", "A", "B", "A - B", "95 % interval", "p", "p (Holm)", "p (Wilcoxon)"]
    rows = [
        [
            one.metric,
            *(f"{value:.4f}" for value in (one.a, one.b)),
            f"{one.difference.difference:+.4f}",
            f"{one.difference.low:+.4f} to {one.difference.high:+.4f}",
            *("-" if value != value else f"{value:.3f}" for value in (one.difference.p_value, one.p_holm, one.p_wilcoxon)),
        ]
        for one in tests
    ]
    parts = [aligned(rows, header)]
    if clips is not None and len(clips):
        lines = [[row.utterance_id, *(f"{value:+.3f}" for value in row[2:])] for row in clips.itertuples()]
        parts.append(aligned(lines, ["differ most", "true", "A", "B", "|A - true| - |B - true|"]))
    return "\n\n".join(parts)


def _content(tests: Sequence[MetricTest], clips: pd.DataFrame | None) -> dict[str, object]:
    metrics = {}
    for one in tests:
        values = {"a": one.a, "b": one.b, **one.difference._asdict(), "p_holm": one.p_holm, "p_wilcoxon": one.p_wilcoxon}
        metrics[one.metric] = {name: float(value) if value == value else None for name, value in values.items()}
    listed = [] if clips is None else json.loads(clips.to_json(orient="records", double_precision=15))
    return {"metrics": metrics, "clips": listed}
