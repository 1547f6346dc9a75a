"""`python -m heads`: train heads on a feature cache, and look at what came out.

Each command is one function here; the work is in `heads.experiment`, `heads.evaluation` and below them.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.atomic import atomic_path
from data.errors import InputError
from data.schema import SPLITS
from data.targets import EMOTION_SOURCES
from heads.base import TASKS
from heads.config import DEFAULT_PRESET, PRESETS, make_config
from heads.options import nested, parse_assignments
from heads.registry import HEADS

_EXAMPLES = """examples:
  python -m heads fit --cache cache --corpus mosi                           MMoLRE, light preset, seed 1
  python -m heads fit --cache cache --corpus mosi --preset paper-mosi --seed 1 11 111
  python -m heads fit --cache cache --corpus mosi --head ridge              what every head has to beat
  python -m heads evaluate runs/mosi-mmolre-light-*-seed1 --split test      opens the test split, and writes down that it did
  python -m heads predict runs/mosi-mmolre-light-*-seed1 --cache other --corpus clips --out predictions.parquet

exit status: 0 all is well, 2 the command could not be carried out, 130 interrupted (the same command goes on)
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # the reader, `head` for one, has seen enough; Python's own flush at exit must not find the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on where it was last saved.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m heads", description="Train heads on cached features.", epilog=_EXAMPLES, formatter_class=raw
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_list(commands)
    _add_fit(commands)
    _add_sweep(commands)
    _add_tables(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    return parser


def _add_list(commands: Any) -> None:
    listing = commands.add_parser("list", help="all heads: what they are, where they come from, which options they have")
    listing.add_argument("head", nargs="?", help="print the options of this head, with the values of the preset")
    listing.add_argument("--preset", default=DEFAULT_PRESET, help=f"{', '.join(PRESETS)}, or a YAML file (default {DEFAULT_PRESET})")
    listing.set_defaults(run=_list)
    parameters = commands.add_parser("params", help="parameters and multiply-accumulates of UniTSE and the standard MoE")
    parameters.set_defaults(run=_params)


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
    fit.set_defaults(run=_fit)


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
    sweep.set_defaults(run=_sweep)


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
    tables.add_argument("--cache", type=Path, default=Path("cache"), help="folder that BuildFeatures made (default cache)")
    tables.add_argument("--out", type=Path, required=True, metavar="DIR", help="where tables and trials go")
    tables.add_argument("--pack-size", type=int, metavar="N", help="runs at a time (default: what the memory of the device allows)")
    tables.add_argument("--devices", nargs="+", metavar="D", help="one worker each: cpu, cuda:0, cuda:1, … (default: auto)")
    tables.add_argument("--executor", choices=("local", "ray"), default="local", help="default local; ray: a cluster")
    tables.add_argument("--ray-address", metavar="A", help="of a running Ray cluster; a local one is started without")
    tables.add_argument("--memory-gb", type=float, help="of features on a device; more stream from disk")
    tables.set_defaults(run=_tables, tensorboard=False)


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
    evaluate.set_defaults(run=_evaluate)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="predictions of a finished run for any corpus, labelled or not")
    predict.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    predict.add_argument("--cache", type=Path, help="cache with the features (default: the run's)")
    predict.add_argument("--corpus", help="name in the cache (default: the run's)")
    predict.add_argument("--out", type=Path, required=True, help="Parquet file to write, one row an utterance")
    _add_device(predict)
    predict.set_defaults(run=_predict)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (the GPU if there is one), cpu, cuda, cuda:1, … (default auto)")


def _list(args: argparse.Namespace) -> None:
    from heads import listing
    from heads.console import table
    from heads.options import flat

    if args.head is None:
        print(table(listing.rows(), listing.HEADER, left=len(listing.HEADER) - 1))
        return
    config = make_config(args.head, "CORPUS", args.preset)
    for name, value in flat(config):
        if name not in ("head", "corpus", "preset", "seed"):
            print(f"{name} = {json.dumps(value)}")  # as --set takes it


def _params(args: argparse.Namespace) -> None:
    from heads import parameters

    print(parameters.render(parameters.block_table()))
    print()
    print(parameters.render(parameters.head_table()))


def _fit(args: argparse.Namespace) -> None:
    from heads import experiment, materials
    from heads.console import results

    device = materials.choose_device(args.device)
    config = make_config(args.head, args.corpus, args.preset, _changes(args))
    material = materials.open_material(config, args.cache, device, materials.memory_bytes(args.memory_gb))
    found = {}
    for seed in dict.fromkeys(args.seed or [config.seed]):
        one = experiment.with_seed(material, seed)
        folder = experiment.run_folder(one.config, args.out)
        found[folder.path.name] = _fit_one(one, folder)
    print(results(found, "valid"))


def _fit_one(material: Any, folder: Any) -> dict[str, Any]:
    from heads import experiment
    from heads.console import training_bar

    state = "complete already" if folder.is_complete else f"{experiment.facts(material)}"
    print(f"{folder.path}: {state}", flush=True)
    with training_bar(folder.path.name, experiment.steps(material)) as advance:
        return experiment.fit(material, folder, advance)


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags and --set say, as a nested mapping."""
    flags = {
        "task": args.task,
        "data.emotions": args.emotions,
        "data.minimum_similarity": args.minimum_similarity,
        "data.modalities": args.modalities,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    return nested(given | parse_assignments(args.set))


def _sweep(args: argparse.Namespace) -> None:
    from heads.sweep_command import sweep

    sweep(args)


def _tables(args: argparse.Namespace) -> None:
    from heads.tables import tables

    tables(args)


def _evaluate(args: argparse.Namespace) -> None:
    from heads import evaluation, materials
    from heads.console import results
    from heads.runs import RunFolder

    device = materials.choose_device(args.device)
    found, name = {}, args.split if args.checkpoint == "checkpoint" else f"{args.split}-{args.checkpoint}"
    for shown, path in _shown(_chosen(args)).items():
        folder = RunFolder(path)
        material = evaluation.reopen(folder, args.cache, device)
        found[shown] = evaluation.evaluate(material, folder, args.split, args.checkpoint)
    print(results(found, name))
    if args.sweep:
        from heads.sweep_command import write_results

        print(f"{write_results(args.sweep, args.metric)}: the report, written again")


def _chosen(args: argparse.Namespace) -> list[Path]:
    """The run folders that are evaluated."""
    if bool(args.runs) == bool(args.sweep):
        raise InputError("Give either run folders or --sweep DIR.")
    if args.sweep:
        from heads.sweep_command import best_runs

        return best_runs(args.sweep, 1 if args.top is None else args.top, args.metric)
    if args.top is not None or args.metric is not None:
        raise InputError("--top and --metric choose among the trials of --sweep DIR, which is not given.")
    return args.runs


def _shown(paths: Sequence[Path]) -> dict[str, Path]:
    """What each run folder, taken once, is called in tables: its name, or its path where several have that name."""
    unlike = {path.resolve(): path for path in paths}
    counts = Counter(path.name for path in unlike)
    return {str(path) if counts[place.name] > 1 else place.name: path for place, path in unlike.items()}


def _predict(args: argparse.Namespace) -> None:
    from heads import evaluation, materials
    from heads.runs import RunFolder

    device = materials.choose_device(args.device)
    table = evaluation.predict(RunFolder(args.folder), args.cache, args.corpus, device)
    with atomic_path(args.out) as temporary:
        table.to_parquet(temporary, index=False)
    print(f"{args.out}: {len(table):,} utterances")


if __name__ == "__main__":
    sys.exit(main())
