"""What each command of `python -m heads` can be given. What the commands do is in `heads.__main__`."""

import argparse
from pathlib import Path
from typing import Any

from data.schema import SPLITS
from data.targets import EMOTION_SOURCES
from heads.base import TASKS
from heads.config import DEFAULT_PRESET, PRESETS
from heads.registry import HEADS

_EXAMPLES = """examples:
  python -m heads fit --cache cache --corpus mosi                           MMoLRE, light preset, seed 1
  python -m heads fit --cache cache --corpus mosi --preset paper-mosi --seed 1 11 111
  python -m heads fit --cache cache --corpus mosi --head ridge              what every head has to beat
  python -m heads evaluate runs/mosi-mmolre-light-*-seed1 --split test      opens the test split, and writes down that it did
  python -m heads predict runs/mosi-mmolre-light-*-seed1 --cache other --corpus clips --out predictions.parquet
  python -m heads score mfn.csv --corpus mosi --split test                  what another tool predicted

exit status: 0 all is well, 1 a trial of sweep or tables failed (the others are complete) or the output was not read to its end,
2 the command could not be carried out, 130 interrupted
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; the name of the command becomes `command`."""
    raw = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(
        prog="python -m heads", description="Train heads on cached features.", epilog=_EXAMPLES, formatter_class=raw
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_list(commands)
    _add_fit(commands)
    _add_sweep(commands)
    _add_tables(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_score(commands)
    return made


def _add_list(commands: Any) -> None:
    listing = commands.add_parser("list", help="all heads: what they are, where they come from, which options they have")
    listing.add_argument("head", nargs="?", help="print the options of this head, with the values of the preset")
    listing.add_argument("--preset", default=DEFAULT_PRESET, help=f"{', '.join(PRESETS)}, or a YAML file (default {DEFAULT_PRESET})")
    commands.add_parser("params", help="parameters and multiply-accumulates of UniTSE and the standard MoE")


def _add_fit(commands: Any) -> None:
    fit = commands.add_parser("fit", help="train a head; an interrupted run goes on, a complete one is shown again")
    fit.add_argument("--cache", type=Path, default=Path("cache"), help="folder that BuildFeatures made (default cache)")
    fit.add_argument("--corpus", required=True, help="name of the corpus in the cache")
    fit.add_argument("--head", default="mmolre", help=f"one of {', '.join(HEADS)} (default mmolre)")
    fit.add_argument("--preset", default=DEFAULT_PRESET, help=f"{', '.join(PRESETS)}, or a YAML file (default {DEFAULT_PRESET})")
    fit.add_argument("--task", choices=TASKS, help="sentiment, emotions or both (default both)")
    fit.add_argument("--emotions", choices=EMOTION_SOURCES, help="labels of the corpus or of the ledger (default: what there is)")
    fit.add_argument("--minimum-similarity", type=float, help="pseudo emotions of less similar donors count as unlabelled (default 0)")
    fit.add_argument("--modalities", nargs="+", metavar="M", help="text, audio (default both)")
    fit.add_argument("--seed", type=int, nargs="+", help="one run for each (default: the preset's, 1)")
    fit.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any option, e.g. train.lr=3e-4; see list HEAD")
    fit.add_argument(
        "--memory-gb", type=float, help="of features on the device; more stream from disk (default: 80 %% of what is free)"
    )
    fit.add_argument("--out", type=Path, default=Path("runs"), help="where run folders go (default runs)")
    _add_device(fit)


def _add_sweep(commands: Any) -> None:
    sweep = commands.add_parser("sweep", help="train all configurations of a grid file; the same command goes on where it was stopped")
    sweep.add_argument("grid", type=Path, metavar="GRID.yaml", help="see heads/grid.py and heads/grids")
    sweep.add_argument("--cache", type=Path, default=Path("cache"), help="folder that BuildFeatures made (default cache)")
    sweep.add_argument("--corpus", help="name of the corpus in the cache, if the grid file does not say")
    sweep.add_argument("--out", type=Path, required=True, metavar="DIR", help="where trials, tables and report go")
    sweep.add_argument("--dry-run", action="store_true", help="print how many trials there are, how they pack, memory and time")
    sweep.add_argument("--metric", help="validation metric that trials are compared by (default mae; mean_wf1 for emotions alone)")
    sweep.add_argument("--pack-size", type=int, metavar="N", help="trials at a time (default: what the memory of the device allows)")
    sweep.add_argument("--devices", nargs="+", metavar="D", help="one worker each: cpu, cuda:0, cuda:1, … (default: auto)")
    sweep.add_argument("--executor", choices=("local", "ray"), default="local", help="default local; ray: a cluster")
    sweep.add_argument("--ray-address", metavar="A", help="of a running Ray cluster; a local one is started without")
    sweep.add_argument("--search", choices=("optuna",), help="let Optuna choose the points of the grid's random section")
    sweep.add_argument("--prune", choices=("asha",), help="stop trials early that are behind")
    sweep.add_argument("--memory-gb", type=float, help="of features on a device; more stream from disk")
    sweep.add_argument("--tensorboard", action="store_true", help="write an event file of TensorBoard into every run folder")


def _add_tables(commands: Any) -> None:
    tables = commands.add_parser("tables", help="the paper's tables and figures, ours beside the paper's; trains what is missing")
    tables.add_argument("--only", nargs="+", metavar="T", help="table1, table2, table3, fig2, fig3 (default: all)")
    tables.add_argument("--heads", nargs="+", metavar="H", help="only these; also heads that the paper does not have there")
    tables.add_argument("--seeds", nargs="+", metavar="S", help="one run of each row for each (default 1 11 111)")
    tables.add_argument(
        "--preset",
        help="native or paper (as published; MMoLRE's family needs a GPU then), common (one recipe, small), light, another preset, or"
        " a YAML file (default: common for table1 and table2, paper for the others)",
    )
    tables.add_argument("--corpora", nargs="+", metavar="C", help="mosi, mosei (default: those of them that are in the cache)")
    tables.add_argument("--split", choices=("valid", "test"), default="valid", help="test opens the test split (default valid)")
    tables.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="NAME=[CORPUS:]FILE",
        help="a row of another tool's predictions for table1, and for table2 if it has emotions; FILE as for score, CORPUS if its ids"
        " do not say; may be repeated",
    )
    tables.add_argument("--cache", type=Path, default=Path("cache"), help="folder that BuildFeatures made (default cache)")
    tables.add_argument("--out", type=Path, required=True, metavar="DIR", help="where tables and trials go")
    tables.add_argument("--dry-run", action="store_true", help="print how many runs there are, how they pack, memory and time")
    tables.add_argument("--pack-size", type=int, metavar="N", help="runs at a time (default: what the memory of the device allows)")
    tables.add_argument("--devices", nargs="+", metavar="D", help="one worker each: cpu, cuda:0, cuda:1, … (default: auto)")
    tables.add_argument("--executor", choices=("local", "ray"), default="local", help="default local; ray: a cluster")
    tables.add_argument("--ray-address", metavar="A", help="of a running Ray cluster; a local one is started without")
    tables.add_argument("--memory-gb", type=float, help="of features on a device; more stream from disk")
    tables.set_defaults(tensorboard=False)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="metrics of finished runs on a split; opening the test split is written down")
    evaluate.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="run folders")
    evaluate.add_argument("--sweep", type=Path, metavar="DIR", help="instead of run folders: the best of a sweep by validation")
    evaluate.add_argument(
        "--top", type=int, metavar="K", help="how many configurations of --sweep, each with all its seeds (default 1)"
    )
    evaluate.add_argument("--metric", help="validation metric that --sweep is ranked by (default mae; mean_wf1 for emotions alone)")
    evaluate.add_argument("--split", choices=SPLITS, default="valid", help="default valid")
    evaluate.add_argument("--checkpoint", default="checkpoint", help="checkpoint (the chosen epoch, default), best-mae, …")
    evaluate.add_argument("--cache", type=Path, help="where the features are now (default: where the run found them)")
    _add_device(evaluate)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="predictions of a finished run for any corpus, labelled or not")
    predict.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    predict.add_argument("--cache", type=Path, help="cache with the features (default: the run's)")
    predict.add_argument("--corpus", help="name in the cache (default: the run's)")
    predict.add_argument("--out", type=Path, required=True, help="Parquet file to write, one row an utterance")
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
    score.add_argument("--cache", type=Path, default=Path("cache"), help="folder that BuildFeatures made (default cache)")
    score.add_argument("--corpus", required=True, help="name of the corpus in the cache")
    score.add_argument("--emotions", choices=EMOTION_SOURCES, help="labels of the corpus or of the ledger (default: what there is)")
    score.add_argument(
        "--split", choices=("valid", "test"), default="valid", help="every labelled utterance of it must be in FILE (default valid)"
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (the GPU if there is one), cpu, cuda, cuda:1, … (default auto)")
