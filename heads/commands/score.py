"""`python -m heads score`: metrics of predictions that another tool made. Files are read in `heads.runs.external`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from heads.commands import _flags

HELP = "metrics of predictions that another tool made, from CSV files"
DESCRIPTION = (
    "Prints metrics and intervals of another tool's predictions, computed as evaluate computes them. Nothing is trained, written or"
    " recorded."
)
_EPILOG = (
    "With --split test, the printed numbers are a statement about the test split, but there is no run folder to record the opening in:"
    " the tool that made the predictions is responsible for what its epoch and settings were chosen on."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = _EPILOG
    words = "CSV: id (ours, or <video_id>$_$<clip_id>), and sentiment, or the probabilities of all emotions, or both"
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help=words)
    _flags.add_cache(parser)
    parser.add_argument("--corpus", required=True, metavar="NAME", help="name of the corpus in the cache")
    _flags.add_emotions(parser)
    words = "FILE must have every labelled utterance of it (default valid)"
    parser.add_argument("--split", choices=("valid", "test"), default="valid", help=words)


def run(args: argparse.Namespace) -> int:
    """Print the metrics of each file, side by side.

    Raises:
        InputError: A file cannot be read or is not complete, or the corpus has no such labels.
    """
    import torch

    from data.cache import open_corpus
    from data.manifest import read_labels
    from heads.evaluation.console import results
    from heads.models.registry import MEDIAN
    from heads.runs.config import make_config
    from heads.runs.contents import without_nan
    from heads.runs.evaluate import assess
    from heads.runs.external import read_predictions
    from heads.runs.run_data import LoadedCache

    paths = list(dict.fromkeys(args.files))
    loaded, found, sources = LoadedCache(args.cache, torch.device("cpu"), memory_bytes=0), {}, set()
    counts = Counter(path.stem for path in paths)
    chosen = {"emotions": args.emotions} if args.emotions else {}
    labels = read_labels(open_corpus(args.cache, args.corpus).manifest)
    for path in paths:
        file = read_predictions(path, labels)
        # the head that reads no feature has the labels that every head would have
        run_data = loaded.open(make_config(MEDIAN, args.corpus, changes={"task": file.task, "data": chosen}))
        values, intervals = assess(file.predictions(run_data, args.split), run_data.tensors)
        name = str(path) if counts[path.stem] > 1 else path.stem
        found[name] = without_nan({**labels.noted(), args.split: values, f"{args.split}_interval": intervals})
        sources.add(run_data.config.data.emotions)
    emotions = "emotions (pseudo-labels)" if "pseudo" in sources else "emotions"
    print(results(found, args.split, has_all_intervals=True, emotions=emotions))
    return 0
