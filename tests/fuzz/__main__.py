"""Damage files and read them: `make fuzz SECONDS=600 SEED=1`, or `PYTHONPATH=tests python -m fuzz --help`.

Prints a table of what happened, by reader, and each fault with the command that repeats it. The exit status is 1 if there was a fault.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz.harness import FAULTS, OUTCOMES, Outcome, make_input, run
from fuzz.readers import READERS, choose
from tqdm import tqdm

ROUND = 25
"""Cases of a reader before the next reader has its turn."""


def main() -> int:
    args = _parser().parse_args()
    began = time.monotonic()
    until = began + (args.seconds or float("inf"))
    outcomes: list[Outcome] = []
    total = sum(max(1, round(args.cases * reader.share)) for reader in choose(args.readers))
    with TemporaryDirectory(prefix="fuzz-") as folder, tqdm(total=total, unit=" files", disable=None) as bar:
        for outcome in _rounds(args, until, Path(folder)):
            outcomes.append(outcome)
            bar.update()
    faults = [outcome for outcome in outcomes if outcome.kind in FAULTS]
    print(_table(outcomes))
    for fault in faults:
        print(f"{fault.kind}: {fault.mutation} of {fault.file}: {fault.message}")
        print(f"    PYTHONPATH=tests python -m fuzz --seed {args.seed} --only {fault.number} '{fault.reader}'")
    print(f"{len(outcomes):,} files, {len(faults):,} faults, {time.monotonic() - began:.0f} s, seed {args.seed}")
    return int(bool(faults))


def _rounds(args: argparse.Namespace, until: float, folder: Path) -> Iterator[Outcome]:
    """Give each reader a number of cases in turn, so that a short run knows all readers."""
    inputs = {reader.name: make_input(reader, folder / str(number)) for number, reader in enumerate(choose(args.readers))}
    first, last = (args.only, args.only + 1) if args.only is not None else (0, args.cases)
    for start in range(first, last, ROUND):
        for valid in inputs.values():
            stop = max(first + 1, round(last * valid.reader.share))
            yield from run(valid, args.seed, range(start, min(stop, start + ROUND)), until)


def _table(outcomes: list[Outcome]) -> str:
    """Return one line per reader, with the number of files by outcome."""
    counts = Counter((outcome.reader, outcome.kind) for outcome in outcomes)
    readers = dict.fromkeys(outcome.reader for outcome in outcomes)
    rows = [[reader, *(f"{counts[reader, kind]:,}" for kind in OUTCOMES)] for reader in readers]
    total = Counter(outcome.kind for outcome in outcomes)
    rows = [["reader", *OUTCOMES], *rows, ["all", *(f"{total[kind]:,}" for kind in OUTCOMES)]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"some of {', '.join(READERS)} (default: all)")
    parser.add_argument("--seconds", type=float, metavar="S", help="time after which no file is begun (default: no limit)")
    parser.add_argument("--cases", type=int, default=400, metavar="N", help="files of each reader (default 400)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this case alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
