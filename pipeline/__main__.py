"""The command `python -m pipeline explain`: what BuildFeatures would compute, and why, without running it."""

import sys

from data.arguments import Parser
from data.errors import InputError
from pipeline.config_file import expect_readable_files


def main(argv: list[str] | None = None, prog: str = "python -m pipeline") -> int:
    """Runs the command line and returns the exit status. `prog` is the name of the program in its help."""
    parser = Parser(prog=prog, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    words = "Reads luigi.cfg and the cache that it names, and prints what BuildFeatures would compute, and why. Runs nothing."
    commands.add_parser("explain", help="print what would be computed, and why; run nothing", description=words)
    parser.parse_args(argv)
    try:
        expect_readable_files()  # before Luigi, which reads them as soon as it is imported
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    from pipeline.explain import explain
    from pipeline.this_build import current_build

    print("\n".join(explain(current_build().plan)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
