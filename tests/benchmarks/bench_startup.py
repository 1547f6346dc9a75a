"""CPU time until `python -m heads` answers: --help and a mistyped head, beside a program that imports all heads first.

    python tests/benchmarks/bench_startup.py [--rounds 9]

The ways take turns; every call is a process of its own. The table shows medians of user and system CPU time in seconds, and their
ratio; the eager way is the same command after all modules of heads have been imported. It fails if a ratio is above a third.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
EAGER = """
import sys
from heads.models.registry import HEADS
assert all(entry.head or entry.simple for entry in HEADS.values())
from heads.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
COMMANDS = {"--help": ["--help"], "a mistyped head": ["fit", "--cache", "none", "--corpus", "mosi", "--head", "mmorle"]}
LARGEST = 1 / 3


def cpu_seconds(command: list[str]) -> float:
    """User and system CPU time of a process."""
    before = os.times()
    subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="calls of each way (default 9)")
    rounds = parser.parse_args().rounds
    largest = 0.0
    print(f"{'':16}  eager s  lazy s  ratio")
    for name, arguments in COMMANDS.items():
        ways = {"eager": [sys.executable, "-c", EAGER, *arguments], "lazy": [sys.executable, "-m", "heads", *arguments]}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds + 1):
            for way, command in ways.items():
                times[way].append(cpu_seconds(command))
        eager, lazy = (statistics.median(values[1:]) for values in times.values())  # the first round fills the page cache
        largest = max(largest, lazy / eager)
        print(f"{name:16}  {eager:7.2f}  {lazy:6.2f}  {lazy / eager:5.2f}")
    print(f"target: a ratio of at most {LARGEST:.2f}; {'met' if largest <= LARGEST else 'missed'}")
    return int(largest > LARGEST)


if __name__ == "__main__":
    sys.exit(main())
