"""`python -m pipeline explain`: what BuildFeatures would compute, and why, without running it."""

import argparse
import sys

from pipeline import tasks
from pipeline.explain import explain


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    words = "Reads luigi.cfg and the cache that it names, and says what BuildFeatures would compute, and why."
    commands.add_parser("explain", help="say what would be computed, and why; runs nothing", description=words)
    parser.parse_args(argv)
    print("\n".join(explain(tasks.current_plan())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
