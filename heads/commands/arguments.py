"""What each command of `python -m heads` can be given. What the commands do is in `heads.__main__`."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data.schema import SPLITS
from data.targets import EMOTION_SOURCES
from heads.models.registry import HEADS
from heads.models.tasks import TASKS
from heads.runs.config import DEFAULT_PRESET, PRESETS

_EXAMPLES = """examples:
  python -m heads list mmolre --preset paper-mosi                           its options, with the values of a preset
  python -m heads fit --cache cache --corpus mosi                           MMoLRE, light preset, seed 1
  python -m heads fit --cache cache --corpus mosi --preset paper-mosi --seed 1 11 111
  python -m heads fit --cache cache --corpus mosi --head ridge              what every head has to beat
  python -m heads sweep GRID.yaml --cache cache --out sweep --dry-run       how many trials, how much memory and time
  python -m heads tables --cache cache --out tables --only table1 --heads mmolre,mult --seeds 1,11
  python -m heads evaluate runs/mosi-mmolre-light-*-seed1 --split test      opens the test split, and writes down that it did
  python -m heads predict runs/mosi-mmolre-light-*-seed1 --cache other --corpus clips --out predictions.parquet
  python -m heads score mfn.csv --corpus mosi --split test                  what another tool predicted

Lists are given with blanks or commas between: --seed 1 11 111 or --seed 1,11,111.

exit status: 0 all is well, 1 a trial of sweep or tables failed (the others are complete) or the output was not read to its end,
2 the command could not be carried out, 130 interrupted
"""

_PRESETS = f"{', '.join(PRESETS)}, or a YAML file (default {DEFAULT_PRESET})"


class _List(argparse.Action):
    """Values that are given apart or with commas between."""

    def __init__(self, option_strings: Sequence[str], dest: str, of: Callable[[str], Any] = str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs="+", **options)
        self.of = of

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        texts = [text for part in values for text in part.split(",") if text]
        try:
            found = [self.of(text) for text in texts]
        except ValueError as error:
            raise argparse.ArgumentError(self, f"{' '.join(values)!r}, expected whole numbers, for example 1,11,111") from error
        if not found:
            raise argparse.ArgumentError(self, f"{' '.join(values)!r} names nothing")
        setattr(namespace, self.dest, found)


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; the name of the command becomes `command`."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m heads", description="Train heads on cached features.", epilog=_EXAMPLES, formatter_class=raw
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_list(commands)
    _add_params(commands)
    _add_fit(commands)
    _add_sweep(commands)
    _add_tables(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_score(commands)
    return parser


def _add_list(commands: Any) -> None:
    words = "Prints a line for each head. Of one HEAD it prints all options, as --set of fit and grid files take them."
    listing = commands.add_parser(
        "list", help="all heads: what they are, where they come from, which options they have", description=words
    )
    listing.add_argument("head", nargs="?", metavar="HEAD", help="print the options of this head, with the values of the preset")
    listing.add_argument("--preset", metavar="PRESET", help=_PRESETS)


def _add_params(commands: Any) -> None:
    words = "Prints parameters and multiply-accumulates of UniTSE beside the standard MoE, and parameters of the paper's heads."
    commands.add_parser("params", help="parameters and multiply-accumulates of UniTSE and the standard MoE", description=words)


def _add_fit(commands: Any) -> None:
    words = (
        "Trains one head, once for each seed, and prints the metrics of the validation split. An interrupted run goes on; a complete"
        " one is shown again. The test split is not looked at: evaluate opens it."
    )
    fit = commands.add_parser("fit", help="train a head; an interrupted run goes on, a complete one is shown again", description=words)
    _add_cache(fit)
    fit.add_argument("--corpus", required=True, metavar="NAME", help="name of the corpus in the cache")
    fit.add_argument("--head", default="mmolre", metavar="HEAD", help=f"one of {', '.join(HEADS)} (default mmolre)")
    fit.add_argument("--preset", default=DEFAULT_PRESET, metavar="PRESET", help=_PRESETS)
    fit.add_argument("--task", choices=TASKS, help="sentiment, emotions or both (default both)")
    _add_emotions(fit)
    fit.add_argument(
        "--minimum-similarity",
        type=float,
        metavar="COSINE",
        help="pseudo emotions of less similar donors count as unlabelled (default 0)",
    )
    fit.add_argument("--modalities", action=_List, metavar="MODALITY", help="text, audio (default both)")
    fit.add_argument("--seed", "--seeds", action=_List, of=int, metavar="SEED", help="one run for each (default: the preset's, 1)")
    fit.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any option, e.g. train.lr=3e-4; see list HEAD")
    _add_memory(fit)
    fit.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default runs)")
    _add_device(fit)


def _add_sweep(commands: Any) -> None:
    words = (
        "Trains all configurations of a grid file, ranks them by the validation split and writes run folders, a table and a report"
        " below DIR. Stopped, it goes on by the same command. Exit status 1 says that a trial failed."
    )
    sweep = commands.add_parser(
        "sweep", help="train all configurations of a grid file; the same command goes on where it was stopped", description=words
    )
    sweep.add_argument("grid", type=Path, metavar="GRID.yaml", help="see heads/sweeps/grid.py and heads/grids")
    _add_cache(sweep)
    sweep.add_argument("--corpus", metavar="NAME", help="name of the corpus in the cache, if the grid file does not say")
    sweep.add_argument("--out", type=Path, required=True, metavar="DIR", help="where trials, tables and report go")
    sweep.add_argument(
        "--metric", metavar="METRIC", help="validation metric that trials are compared by (default mae; mean_wf1 for emotions alone)"
    )
    sweep.add_argument("--search", choices=("optuna",), help="let Optuna choose the points of the grid's random section")
    sweep.add_argument("--prune", choices=("asha",), help="stop trials early that are behind")
    _add_training(sweep)


def _add_tables(commands: Any) -> None:
    words = (
        "Trains what the paper's tables and figures need on cached features and prints them, ours beside the paper's; files go below"
        " DIR. What is trained already is not trained again. Exit status 1 says that a trial failed."
    )
    tables = commands.add_parser(
        "tables", help="the paper's tables and figures, ours beside the paper's; trains what is missing", description=words
    )
    tables.add_argument("--only", action=_List, metavar="TABLE", help="table1, table2, table3, fig2, fig3 (default: all)")
    tables.add_argument(
        "--heads",
        action=_List,
        metavar="HEAD",
        help="only these heads; heads that the paper does not list there are added as rows of their own",
    )
    tables.add_argument("--seeds", action=_List, of=int, metavar="SEED", help="seeds to train each row with (default 1 11 111)")
    tables.add_argument(
        "--preset",
        metavar="PRESET",
        help="native or paper (as published; MMoLRE's family needs a GPU then), common (one recipe, small), light, another preset, or"
        " a YAML file (default: common for table1 and table2, paper for the others)",
    )
    tables.add_argument("--corpora", action=_List, metavar="NAME", help="mosi, mosei (default: those of them that are in the cache)")
    tables.add_argument("--split", choices=("valid", "test"), default="valid", help="test opens the test split (default valid)")
    tables.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="NAME=[CORPUS:]FILE",
        help="a row of another tool's predictions for table1, and for table2 if it has emotions; FILE as for score, CORPUS if its ids"
        " do not say; may be repeated",
    )
    _add_cache(tables)
    tables.add_argument("--out", type=Path, required=True, metavar="DIR", help="where tables and trials go")
    _add_training(tables)


def _add_evaluate(commands: Any) -> None:
    words = (
        "Prints and writes the metrics of finished runs on a split. Each opening of a split is written down in opened.csv of the run"
        " folder; the test split is for when nothing is left to choose."
    )
    evaluate = commands.add_parser(
        "evaluate", help="metrics of finished runs on a split; opening the test split is written down", description=words
    )
    evaluate.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="run folders")
    evaluate.add_argument("--sweep", type=Path, metavar="DIR", help="instead of run folders: the best of a sweep by validation")
    evaluate.add_argument(
        "--top", type=int, metavar="N", help="how many configurations of --sweep, each with all its seeds (default 1)"
    )
    evaluate.add_argument(
        "--metric", metavar="METRIC", help="validation metric that --sweep is ranked by (default mae; mean_wf1 for emotions alone)"
    )
    evaluate.add_argument("--split", choices=SPLITS, default="valid", help="default valid")
    evaluate.add_argument(
        "--checkpoint", default="checkpoint", metavar="NAME", help="checkpoint (the chosen epoch, default), best-mae, …"
    )
    evaluate.add_argument("--cache", type=Path, metavar="DIR", help="where the features are now (default: where the run found them)")
    _add_device(evaluate)


def _add_predict(commands: Any) -> None:
    words = (
        "Writes the predictions of a finished run for every utterance of a corpus, labelled or not, beside its labels; those of the"
        " test split stay out."
    )
    predict = commands.add_parser("predict", help="predictions of a finished run for any corpus, labelled or not", description=words)
    predict.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    predict.add_argument("--cache", type=Path, metavar="DIR", help="cache with the features (default: the run's)")
    predict.add_argument("--corpus", metavar="NAME", help="name in the cache (default: the run's)")
    predict.add_argument("--out", type=Path, required=True, metavar="FILE", help="Parquet file to write, one row an utterance")
    _add_device(predict)


def _add_score(commands: Any) -> None:
    words = "Predictions of another tool, by the same metrics and intervals as evaluate. Nothing is trained, written or recorded."
    test = (
        "With --split test this is a statement about the test split, but there is no run folder in which the opening could be written"
        " down: the tool that made the predictions answers for what its epoch and settings were chosen on."
    )
    score = commands.add_parser(
        "score", help="metrics of predictions that another tool made, from CSV files", description=words, epilog=test
    )
    score.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="CSV: id (ours, or <video_id>$_$<clip_id>), and sentiment, or the probabilities of all six emotions, or both",
    )
    _add_cache(score)
    score.add_argument("--corpus", required=True, metavar="NAME", help="name of the corpus in the cache")
    _add_emotions(score)
    score.add_argument(
        "--split", choices=("valid", "test"), default="valid", help="every labelled utterance of it must be in FILE (default valid)"
    )


def _add_cache(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cache", type=Path, default=Path("cache"), metavar="DIR", help="folder that BuildFeatures made (default cache)"
    )


def _add_emotions(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--emotions", choices=EMOTION_SOURCES, help="labels of the corpus or of the ledger of pseudo labels (default: what there is)"
    )


def _add_memory(command: argparse.ArgumentParser) -> None:
    words = "GB of device memory for features; what does not fit is read from disk (default: 80 %% of what is free)"
    command.add_argument("--memory-gb", type=float, metavar="GB", help=words)


def _add_training(command: argparse.ArgumentParser) -> None:
    """How many trials are trained."""
    command.add_argument("--dry-run", action="store_true", help="print how many trials there are, how they pack, memory and time")
    command.add_argument("--pack-size", type=int, metavar="N", help="trials at a time (default: what the memory of the device allows)")
    command.add_argument("--devices", action=_List, metavar="DEVICE", help="one worker each: cpu, cuda:0, cuda:1, … (default: auto)")
    command.add_argument(
        "--executor", choices=("local", "ray"), default="local", help="local: processes on this machine (default); ray: a Ray cluster"
    )
    command.add_argument("--ray-address", metavar="ADDRESS", help="of a running Ray cluster; a local one is started without")
    _add_memory(command)
    command.add_argument("--tensorboard", action="store_true", help="write an event file of TensorBoard into every run folder")


def _add_device(command: argparse.ArgumentParser) -> None:
    words = "auto (the GPU if there is one), cpu, cuda, cuda:1, … (default auto)"
    command.add_argument("--device", default="auto", metavar="DEVICE", help=words)
