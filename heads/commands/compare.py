"""`python -m heads compare`: is A better than B, and on which clips? The tests are in `heads.evaluation.comparison`."""

from __future__ import annotations

import argparse
import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError
from data.lookup import expect
from heads.commands import _flags

if TYPE_CHECKING:
    import pandas as pd

    from heads.evaluation.comparison import MetricTest
    from heads.runs.folder import RunFolder

HELP = "is A better than B, clip by clip? Two runs, or a run and another tool's predictions"
DESCRIPTION = (
    "Compares two predictors on the same utterances: the difference of each metric with its 95 % interval and p value (paired bootstrap"
    " over utterances), corrected for the number of metrics (Holm), a Wilcoxon test of the utterances' own values, and the clips on"
    " which the absolute errors of sentiment differ most. --out writes a page with all clips as well. Nothing is trained or recorded."
)
_SENTIMENT, _EMOTIONS = ("mae", "corr", "acc2_has0", "acc2_non0", "acc7"), ("mean_acc", "mean_wf1", "mean_macro_f1", "mean_ap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    words = "a run folder; a pattern in quotes for a run with several seeds ('runs/mosi-mmolre-*'); or a CSV file, as for score"
    parser.add_argument("a", metavar="A", help=words)
    parser.add_argument("b", metavar="B", help="the same; at least one of the two is a run")
    parser.add_argument(
        "--split", choices=("valid", "test"), default="valid", help="test: both runs have opened it before (default valid)"
    )
    words = "metrics to compare (default: " + ", ".join(_SENTIMENT + _EMOTIONS) + ", of what both predict)"
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
    from heads.evaluation.comparison import compare, differing
    from heads.evaluation.metrics import METRICS

    _flags.expect_page(args.out)
    if args.clips < 0:
        raise InputError(f"--clips is {args.clips}, expected 0 or more.")
    names = args.metric or []
    for name in names:
        expect(METRICS, name, "metric")
    a, b = _tables(args.a, args.b, args.split, args.cache), _tables(args.b, args.a, args.split, args.cache)
    both = [name for name in ("sentiment", "happiness") if all(name in table for table in (*a, *b))]
    if not both:
        raise InputError(f"{args.a} and {args.b}: one predicts sentiment and the other emotions, so there is nothing to compare.")
    names = list(dict.fromkeys(names)) or [*(_SENTIMENT if "sentiment" in both else ()), *(_EMOTIONS if "happiness" in both else ())]
    tests = compare(a, b, names)
    clips = differing(a, b).head(args.clips) if any(METRICS[name].task == "msa" for name in names) else None
    notes: list[str] = []
    if args.out is not None:
        sides = (args.a, a), (args.b, b)
        notes = _page(sides, args.split, tests, args.out, (args.cache, args.media_folder), (args.media, args.media_mb))
    if args.json:
        about = {"a": args.a, "b": args.b, "split": args.split, "seeds": [len(a), len(b)]}
        print(json.dumps(about | _content(tests, clips), indent=2, allow_nan=False))
    else:
        print(f"A  {args.a}{_seeds(a)}\nB  {args.b}{_seeds(b)}\n{args.split}, {len(a[0]):,} utterances\n")
        print(_text(tests, clips))
        print("\n".join(["", *notes, str(args.out)]) if args.out else "", end="\n" if args.out else "")
    return 0


def _page(
    sides: Sequence[tuple[str, list[pd.DataFrame]]],
    split: str,
    tests: Sequence[MetricTest],
    out: Path,
    places: tuple[Path | None, Path | None],
    media: tuple[str, float],
) -> list[str]:
    """Write the page and return notes on what is missing in it; `places` are the cache and the folder of the media."""
    from heads.reports import comparison_page
    from heads.reports.comparison_page import Side
    from heads.reports.content import Media
    from heads.reports.gathering import Sources, facts_of

    run = next(run for name, _ in sides for run in ([] if Path(name).is_file() else _runs(name)))
    ids = [str(name) for name in sides[0][1][0]["utterance_id"]]
    cache, root = places
    facts, notes = facts_of(run.config(), ids, Sources(cache, root=root))
    a, b = (Side(name, tables) for name, tables in sides)
    sound = Media(media[0], _flags.media_bytes(media[1]))
    said = comparison_page.write_page(a, b, split, tests, facts, notes, out, sound)
    return [*notes, *([said] if said else [])]


def _tables(name: str, other: str, split: str, cache: Path | None) -> list[pd.DataFrame]:
    """Read the predictions of a predictor, one table a seed."""
    if Path(name).is_file():
        runs = _runs(other)
        if not runs:
            raise InputError(f"{name} and {other}: at least one of the two has to be a run, which says what the labels are.")
        return [_of_file(Path(name), runs[0], split, cache)]
    runs = _runs(name)
    if not runs:
        raise InputError(f"{name}: is no run folder, no pattern of some, and no CSV file.")
    keys = {run.path.name.rpartition("-seed")[0] for run in runs}
    if len(keys) > 1:
        raise InputError(f"{name}: names runs of {len(keys)} configurations ({', '.join(sorted(keys))}), expected seeds of one.")
    from heads.reports.results import predictions

    return [predictions(run, split) for run in runs]


def _runs(name: str) -> list[RunFolder]:
    from heads.runs.folder import RunFolder

    paths = [Path(name)] if Path(name).is_dir() else sorted(map(Path, glob.glob(name)))
    return [RunFolder(path) for path in paths if path.is_dir()]


def _of_file(path: Path, run: RunFolder, split: str, cache: Path | None) -> pd.DataFrame:
    """Read the predictions of another tool for the utterances that a run has labels of."""
    import torch

    from heads.runs.evaluate import reopen
    from heads.runs.external import read_predictions
    from heads.runs.folder import predictions_table

    file, run_data = read_predictions(path), reopen(run, cache, torch.device("cpu"))
    if run_data.config.task not in (file.task, *(("msa", "mer") if file.task == "both" else ())):
        raise InputError(f"{path}: predicts {file.task}, and the run {run.path} {run_data.config.task}. Give what the run predicts.")
    return predictions_table(file.predictions(run_data, split), run_data.tensors.targets)


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
