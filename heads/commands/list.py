"""`python -m heads list`: a table of all heads, or the options of one.

Heads are registered in `heads.models.registry`, and what the table says of them is in `heads.models.facts`, so that no head is imported
for it, but for those that installed packages offer (`heads.models.own`). What a row of the paper's tables says about itself is in
`heads.tables.rows`.
"""

import argparse
import json
from typing import Any

from data.errors import InputError
from heads.commands import _flags
from heads.models.facts import FACTS, Facts
from heads.models.options import flat
from heads.models.own import installed
from heads.models.registry import HEADS, MEDIAN, Entry, find
from heads.runs.config import make_config

HELP = "all heads: what they are, where they come from, which options they have"
DESCRIPTION = (
    "Prints one line for each head. If you name a HEAD, prints all its options, in the form that --set of fit and grid files take."
)

HEADER = ("head", "paper", "published", "learns", "reads", "context", "packable", "reproduction", "what it is", "parameters")

_WORDS = {True: "yes", False: "no"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    words = f"print the options of this head, with the values of the preset; also {_flags.OWN_HEAD}"
    parser.add_argument("head", nargs="?", metavar="HEAD", help=words)
    _flags.add_preset(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table of heads, or the options of one head.

    Raises:
        InputError: The head or preset is unknown, or there is a preset without a head.
    """
    if args.head is None and args.preset is not None:
        raise InputError("--preset is for the options of one head. Name a HEAD, or leave --preset out.")
    if args.head is None:
        from data.reporting.tables import aligned

        offered, faults = installed_rows()
        print(aligned([*rows(), *offered], HEADER, left=len(HEADER) - 1))
        for fault in faults:
            print(fault)
        return 0
    print("\n".join(option_lines(args.head, args.preset)))
    return 0


def rows() -> list[list[str]]:
    """Return a row for each head, with the columns of `HEADER`.

    published: The tasks it was published for on CMU-MOSI or CMU-MOSEI, in whatever form; that it learns any other is our extension.
        "–": none, as for mixtures that come from recommendation and vision.
    reads: The modalities that the head needs; "more" if it takes any others besides, "any" if it takes any and needs none.
    context: "yes" if the head reads whole videos.
    packable: "yes" if many runs can be trained as one.
    reproduction: faithful; variant, if cached features leave out a part that makes the method what it is; simple baseline.
    parameters: Number of parameters with default options, for features 768 wide.
    """
    return [_row(name, entry) for name, entry in HEADS.items()]


def installed_rows() -> tuple[list[list[str]], list[str]]:
    """Return a row for each head that an installed package offers, and a line for each that cannot be used."""
    rows, faults = [], []
    for name, point in installed().items():
        offered = f"{point.value}, of {point.dist.name if point.dist else 'an installed package'}, offered as head {name}"
        if name in HEADS:
            faults.append(f"{offered}: this program has a head of that name. Use it as {point.value}.")
            continue
        try:
            find(name)
            rows.append(_row_of(name, HEADS[name], _facts(HEADS[name])))
        except InputError as error:
            faults.append(f"{offered}: {error}")
    return rows, faults


def _facts(entry: Entry) -> Facts:
    """Make a head without memory for its weights and return its facts, as `heads.models.facts` has them of the program's own."""
    import torch

    from heads.models.own import errors_in_short

    head: Any = entry.head  # subclasses take options too
    if head is None:
        raise TypeError("A simple baseline has no facts.")
    dims = dict.fromkeys(head.needs or ("text", "audio"), 768)
    with torch.device("meta"), errors_in_short():
        made = head(entry.options(), dims, entry.task or "both")
    count = sum(parameter.numel() for parameter in made.parameters())
    return Facts(count, head.needs, head.takes_more, head.context, head.packable)


def option_lines(head: str, preset: str | None = None) -> list[str]:
    """Return one line NAME = VALUE for each option of a head; values are JSON, which --set takes as it is.

    Raises:
        InputError: The head or preset is unknown.
    """
    config = make_config(head, "CORPUS", preset)
    apart = ("head", "head_source", "corpus", "preset", "seed")
    options = [(name, value) for name, value in flat(config) if name not in apart]
    return [f"{name} = {json.dumps(value)}" for name, value in options]


def _row(name: str, entry: Entry) -> list[str]:
    if entry.simple is not None:
        reads = "any" if entry.simple != MEDIAN else "none"
        return [name, entry.source, "–", entry.task or "both", reads, "no", "no", "simple baseline", entry.summary, "–"]
    return _row_of(name, entry, FACTS[name])


def _row_of(name: str, entry: Entry, facts: Facts) -> list[str]:
    more = ("more" if facts.needs else "any",) if facts.takes_more else ()
    tasks = entry.published or "–", entry.task or "both", ", ".join([*facts.needs, *more])
    can = _WORDS[facts.context], _WORDS[facts.packs]
    return [name, entry.source, *tasks, *can, entry.reproduction, entry.summary, f"{facts.parameters:,}"]
