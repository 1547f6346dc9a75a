"""`python -m heads layers`: which layer of the cached features says most. Measured in `heads.evaluation.layer_probe`."""

from __future__ import annotations

import argparse
from pathlib import Path

from heads.commands import _flags
from heads.models.tasks import TASKS
from heads.runs.config import make_config

HELP = "which layer of the cached features says most: ridge on each, measured on valid"
DESCRIPTION = (
    "Fits ridge regression on each cached layer alone, averaged over time, and on the mean of all, and prints the metrics of the"
    " validation split. A build keeps several layers with layers = all in luigi.cfg. The test split is not read."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    _flags.add_cache(parser)
    parser.add_argument("--corpus", required=True, metavar="NAME", help="name of the corpus in the cache")
    parser.add_argument("--task", choices=tuple(TASKS), default="both", help="sentiment, emotions or both (default both)")
    _flags.add_emotions(parser)
    parser.add_argument("--modalities", action=_flags.ListOf, metavar="MODALITY", help="text, audio (default both)")
    words = "folder for NAME.csv and NAME.svg (default layers)"
    parser.add_argument("--out", type=Path, default=Path("layers"), metavar="DIR", help=words)


def run(args: argparse.Namespace) -> int:
    """Print a row for each modality and layer, and write the same as CSV and as a picture.

    Raises:
        InputError: The cache lacks the corpus or its labels, or its features hold one layer.
    """
    data = {name: value for name, value in (("emotions", args.emotions), ("modalities", args.modalities)) if value is not None}
    config = make_config("ridge", args.corpus, changes={"task": args.task, "data": data})

    import torch

    from data.atomic import atomic_path
    from data.reporting.tables import aligned
    from heads.evaluation.layer_chart import draw
    from heads.evaluation.layer_probe import best, probe
    from heads.runs.run_data import open_run_data

    table = probe(open_run_data(config, args.cache, torch.device("cpu")).tensors, args.task)
    measures = [str(name) for name in table.columns[2:]]
    rows = [[row["modality"], row["layer"], *(f"{row[name]:.3f}" for name in measures)] for row in table.to_dict("records")]
    print(aligned(rows, ["modality", "layer", *measures], left=2))
    for modality, metric, layer, value in best(table, args.task):
        print(f"best single layer of {modality} by {metric}: {layer} ({value:.3f})")
    path = args.out / f"{args.corpus}.svg"
    draw(table, args.task, args.corpus, path)
    with atomic_path(path.with_suffix(".csv")) as temporary:
        table.to_csv(temporary, index=False)
    print(f"{path} and {path.with_suffix('.csv').name}")
    return 0
