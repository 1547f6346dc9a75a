"""The commands of `python -m heads`, one module each, and what several of them share (modules that start with an underscore).

A command module has `HELP` (one line in the list of commands), `DESCRIPTION`, `add_arguments(parser)` and `run(args)`, which returns
the exit status. `argparse.Namespace` ends in `run`: everything below takes plain values or a frozen dataclass. All printing to the
standard output is here. The work itself is in the rooms below: `heads.training`, `heads.sweeps`, `heads.tables` and `heads.runs`; the
parser and the handling of errors are in `heads.__main__`.

Importing this package imports neither torch nor pandas, so that `--help` answers at once; `run` imports what it needs.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from heads.commands import compare, evaluate, fit, layers, list, params, predict, report, score, sweep, tables

__all__ = ["COMMANDS", "Command"]


class Command(Protocol):
    """A module of this package that is a command."""

    @property
    def HELP(self) -> str:
        """One line for the list of commands."""
        ...

    @property
    def DESCRIPTION(self) -> str:
        """One sentence or more above the flags in `--help`."""
        ...

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the flags and positional arguments of this command."""
        ...

    def run(self, args: Namespace) -> int:
        """Carry out the command and return the exit status.

        Raises:
            InputError: The command cannot be carried out as it was asked for.
        """
        ...


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "list": list,
        "params": params,
        "layers": layers,
        "fit": fit,
        "sweep": sweep,
        "tables": tables,
        "evaluate": evaluate,
        "predict": predict,
        "score": score,
        "report": report,
        "compare": compare,
    }
)
"""Name → command, in the order of `--help`."""
