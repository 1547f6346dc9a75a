"""`python -m heads params`: sizes of the paper's mixtures and heads, or of one head. They are counted in `heads.commands._sizes`."""

import argparse

from data.errors import InputError
from heads.commands import _flags

HELP = "parameters and multiply-accumulates of UniTSE and the standard MoE, or parameters of one head"
DESCRIPTION = (
    "Prints parameters and multiply-accumulates of UniTSE beside the standard MoE, and parameters of the paper's heads. With --head,"
    " prints the parameters of one head and of its parts, for features 768 wide."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--head", metavar="HEAD", help=_flags.HEAD_WORDS)
    _flags.add_preset(parser)
    _flags.add_set(parser)


def run(args: argparse.Namespace) -> int:
    """Print both tables, or that of one head.

    Raises:
        InputError: There is no such head, or an option is out of its range, or options are given without a head.
    """
    if args.head is None and (args.preset is not None or args.set):
        raise InputError("--preset and --set are for the sizes of one head. Name it by --head, or leave them out.")

    from heads.commands import _sizes

    if args.head is not None:
        print(_sizes.render(_sizes.table_of(args.head, args.preset, args.set)))
        return 0
    print(_sizes.render(_sizes.block_table()))
    print()
    print(_sizes.render(_sizes.head_table()))
    return 0
