"""`python -m heads fit`: train one head, with one seed or several. How a run is trained is in `heads.training.fit`; configurations and
presets are in `heads.runs.config`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heads.commands import _flags
from heads.models.options import nested, parse_assignments
from heads.models.registry import HEADS
from heads.models.tasks import TASKS
from heads.runs.config import DEFAULT_PRESET, make_config

if TYPE_CHECKING:
    from heads.runs.folder import RunFolder
    from heads.runs.run_data import RunData

HELP = "train a head; an interrupted run goes on, a finished one is printed again"
DESCRIPTION = (
    "Trains one head, once for each seed, prints the metrics of the validation split, and writes a page about each run, report.html. An"
    " interrupted run goes on; a finished run is not retrained, its metrics are printed again. The test split is not read: use evaluate"
    " for that."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    _flags.add_cache(parser)
    parser.add_argument("--corpus", required=True, metavar="NAME", help="name of the corpus in the cache")
    parser.add_argument("--head", default="mmolre", metavar="HEAD", help=f"one of {', '.join(HEADS)} (default mmolre)")
    parser.add_argument("--preset", default=DEFAULT_PRESET, metavar="PRESET", help=_flags.PRESET_HELP)
    parser.add_argument("--task", choices=tuple(TASKS), help="sentiment, emotions or both (default both)")
    _flags.add_emotions(parser)
    words = "treat pseudo-labels from less similar donor sentences as missing (default 0)"
    parser.add_argument("--minimum-similarity", type=float, metavar="COSINE", help=words)
    parser.add_argument(
        "--modalities", action=_flags.ListOf, metavar="MODALITY", help="text, audio (default both), vision, …: see docs/feature_sets.md"
    )
    words = "train one run with each of these seeds (default: the preset's, 1)"
    parser.add_argument("--seed", "--seeds", action=_flags.ListOf, of=int, metavar="SEED", help=words)
    words = "set any option, e.g. train.lr=3e-4; list HEAD prints them all"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=words)
    _flags.add_memory(parser)
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="folder for run folders (default runs)")
    _flags.add_device(parser)
    words = "do not write report.html, the page of a run (python -m heads report writes it later)"
    parser.add_argument("--no-report", action="store_true", help=words)


def run(args: argparse.Namespace) -> int:
    """Train one run for each seed and print the metrics of the validation split.

    Raises:
        InputError: The configuration, cache or device cannot be used, a folder holds another run, or memory runs out.
    """
    config = make_config(args.head, args.corpus, args.preset, changes(args))  # refuses a mistyped name before torch is imported

    from heads.evaluation.console import layer_notes, results
    from heads.runs.folder import run_folder
    from heads.runs.run_data import choose_device, memory_bytes, open_run_data
    from heads.training.fit import with_seed

    device = choose_device(args.device)
    run_data = open_run_data(config, args.cache, device, memory_bytes(args.memory_gb))
    found, pages = {}, []
    for seed in dict.fromkeys(args.seed or [config.seed]):
        seeded = with_seed(run_data, seed)
        folder = run_folder(seeded.config, args.out)
        found[folder.path.name] = _train(seeded, folder)
        if not args.no_report:
            pages.append(_page(seeded, folder))
    print(results(found, "valid"))
    if notes := layer_notes(found):
        print(f"\n{notes}")
    if pages:
        print("\npages: " + "\n       ".join(map(str, pages)))
    return 0


def changes(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that flags and --set change, as a nested mapping; --set has the last word.

    Raises:
        InputError: A value of --set is not NAME=VALUE.
    """
    flags = {
        "task": args.task,
        "data.emotions": args.emotions,
        "data.minimum_similarity": args.minimum_similarity,
        "data.modalities": args.modalities,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    return nested(given | parse_assignments(args.set))


def _train(run_data: RunData, folder: RunFolder) -> dict[str, Any]:
    """Train one run behind a progress bar and return its metrics."""
    from heads.evaluation.console import training_bar
    from heads.training.fit import facts, fit, steps

    state = "already finished" if folder.is_complete else facts(run_data)
    print(f"{folder.path}: {state}", flush=True)
    with training_bar(folder.path.name, steps(run_data)) as advance:
        return fit(run_data, folder, advance)


def _page(run_data: RunData, folder: RunFolder) -> Path:
    """Write the page of a run, if there is none yet, and return its path."""
    path = folder.path / "report.html"
    if not path.is_file():
        from heads.reports.content import Media
        from heads.reports.gathering import of_trained  # imports matplotlib
        from heads.reports.run_page import write_page

        write_page(of_trained(run_data, folder), path, Media())
    return path
