"""`python -m heads`: train heads on cached features, and look at the results.

Here are the parser of the whole command line and the handling of errors. What a command takes and does is in its module of
`heads.commands`.
"""

import argparse
import contextlib
import os
import sys

from data.arguments import Parser
from data.errors import InputError
from data.stopping import Stopped, stoppable
from heads.commands import COMMANDS

_EXAMPLES = """examples:
  python -m heads list mmolre --preset paper-mosi                           its options, with the values of a preset
  python -m heads fit --cache cache --corpus mosi                           MMoLRE, light preset, seed 1
  python -m heads fit --cache cache --corpus mosi --preset paper-mosi --seed 1 11 111
  python -m heads fit --cache cache --corpus mosi --head ridge              a simple baseline, which every head has to beat
  python -m heads sweep GRID.yaml --cache cache --out sweep --dry-run       how many trials, how much memory and time
  python -m heads tables --cache cache --out tables --only table1 --heads mmolre,mult --seeds 1,11
  python -m heads evaluate runs/mosi-mmolre-light-*-seed1 --split test      opens the test split and records that it did
  python -m heads predict runs/mosi-mmolre-light-*-seed1 --cache other --corpus clips --out predictions.parquet
  python -m heads report runs/mosi-mmolre-light-*-seed1                     a page: curves, errors, modalities, every clip
  python -m heads score mfn.csv --corpus mosi --split test                  metrics of another tool's predictions
  python -m heads compare 'runs/mosi-mmolre-*' 'runs/mosi-ridge-*'          is A better than B, clip by clip? Quotes keep seeds together

The values of a list are separated by blanks or commas: --seed 1 11 111 or --seed 1,11,111.

exit status: 0 success, 1 a trial of sweep or tables failed (the others are finished) or the output was not read to its end,
2 the command could not be carried out, 130 interrupted, 143 or 138 stopped by TERM or USR1: fit, sweep and tables save first
"""

_RESUMABLE = ("fit", "sweep", "tables")
"""Commands that go on where they were interrupted."""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit status; an error that the user can cause is printed as one line."""
    args = parser().parse_args(argv)
    try:
        with stoppable() if args.command in _RESUMABLE else contextlib.nullcontext():
            status = COMMANDS[args.command].run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, `head` for one, has seen enough; Python's own flush at exit must not find the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Stopped as stop:
        print(f"Stopped by {stop.name}. The same command goes on where it was saved.", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        goes_on = " The same command goes on where it was last saved." if args.command in _RESUMABLE else ""
        print(f"Interrupted.{goes_on}", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; the name of the command becomes `command`."""
    raw = argparse.RawDescriptionHelpFormatter
    whole = Parser(prog="python -m heads", description="Train heads on cached features.", epilog=_EXAMPLES, formatter_class=raw)
    commands = whole.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.HELP, description=command.DESCRIPTION))
    return whole


if __name__ == "__main__":
    sys.exit(main())
