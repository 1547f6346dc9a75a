"""`python -m heads params`: sizes of the paper's mixtures and heads. They are counted in `heads.commands._sizes`."""

import argparse

HELP = "parameters and multiply-accumulates of UniTSE and the standard MoE"
DESCRIPTION = "Prints parameters and multiply-accumulates of UniTSE beside the standard MoE, and parameters of the paper's heads."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: this command has no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print both tables."""
    from heads.commands import _sizes

    print(_sizes.render(_sizes.block_table()))
    print()
    print(_sizes.render(_sizes.head_table()))
    return 0
