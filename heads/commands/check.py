"""`python -m heads check`: is a head of one's own what every head has to be? The checks are in `heads.models.contract`."""

import argparse

from heads.commands import _flags

HELP = "is a head of your own what a head has to be? Each check prints a line"
DESCRIPTION = (
    "Tries a head on small random batches: shapes, gradients, padding, independence of the other clips in a batch, missing labels,"
    " packs, seeds. They are the checks that the tests of this program run on its heads. Exit status 1 means that one failed."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("head", metavar="HEAD", help=_flags.HEAD_WORDS)
    _flags.add_preset(parser)
    _flags.add_set(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line for each check, and return 1 if one failed.

    Raises:
        InputError: There is no such head, it is a simple baseline, or an option is out of its range.
    """
    from heads.runs.contract_checks import outcomes

    faults = 0
    for name, fault in outcomes(args.head, args.preset, args.set):
        print(f"{name}: {'ok' if fault is None else f'FAILED: {fault}'}", flush=True)
        faults += fault is not None
    print("The head keeps the contract." if not faults else f"{faults} checks failed. docs/heads.md says what a head has to be.")
    return int(faults > 0)
