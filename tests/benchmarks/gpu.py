"""Acceptance of everything that runs on a GPU, in one command and a few minutes: equality with the CPU, and speed beside its goals.

    python tests/benchmarks/gpu.py [--device cuda|cpu] [--minutes 8] [--out FILE] [--small] [--parts NAME …]

Needs what a usual CUDA image has (torch, transformers, h5py, pandas, pyarrow, scikit-learn, pytest), neither Luigi nor PyAV nor a
network. All inputs are made here: random weights and features, synthetic speech. `--small` is the same at sizes that a CPU does in
seconds; its figures of speed mean nothing.

Parts come in the order of their importance, each in a process of its own, for a time that --minutes gives it; what earlier parts leave
goes to the later ones. A part that is not over by then is stopped, and the table says so; one that fails is a row with its error. The
exit status is 0 if all equalities hold, 1 if one does not hold or could not be shown. Goals of speed do not change it.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import checkout
import gpu_adaptation
import gpu_equality
import gpu_extraction
import gpu_inputs
import gpu_steps
import gpu_sweeps
import torch
import transformers
from gpu_rows import Row, Rows, Setting, failed, figure, skipped

from data.packages import installed_version
from data.reporting.tables import aligned

HEADER = ["part", "what", "figure", "goal", "reached"]
LEAST_S = 0.5
"""A part does not begin with less time."""


@dataclass(frozen=True)
class Part:
    """A part of the command."""

    name: str
    seconds: float  # of the usual 8 minutes
    run: Callable[[Setting], Rows]
    is_equality: bool = False


def describe_machine(setting: Setting) -> Rows:
    """The name of the device, in a note, and its memory."""
    if setting.is_gpu:
        facts = torch.cuda.get_device_properties(0)
        note = f"{facts.name}, compute capability {facts.major}.{facts.minor}, CUDA {torch.version.cuda}, {os.cpu_count()} CPU cores"
        yield figure("memory", facts.total_memory / 1e9, "GB", note)
    else:
        yield figure(
            "threads", torch.get_num_threads(), "", f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPU cores"
        )


MACHINE = Part("machine", 15, describe_machine)
PARTS = (
    Part("equality: heads", 85, gpu_equality.heads, True),
    Part("equality: encoders", 20, gpu_equality.encoders, True),
    Part("equality: resumed", 15, gpu_equality.resumed, True),
    Part("equality: pytest", 30, gpu_equality.pytest_gpu, True),
    Part("inputs", 25, gpu_inputs.write_corpora),
    Part("sweeps: light", 75, gpu_sweeps.light),
    Part("sweeps: paper-mosi", 30, gpu_sweeps.paper),
    Part("sweeps: pack sizes", 35, gpu_sweeps.sizes),
    Part("experts", 20, gpu_steps.experts),
    Part("steps: launches", 20, gpu_steps.launches_and_busy),
    Part("extraction", 45, gpu_extraction.extraction),
    Part("decoding", 15, gpu_extraction.decoding),
    Part("adaptation", 30, gpu_adaptation.adaptation),
    Part("epochs", 30, gpu_adaptation.epochs),
    Part("sweeps: train.step", 50, gpu_sweeps.kinds_of_step),
)  # fmt: skip
"""In the order in which they run. Compiling takes longest and comes last."""


class Runner:
    """Runs parts in processes of their own, each for a limited time."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.method = options, folder, "fork"
        self.taken: dict[str, dict[str, float]] = {}  # name of a part → its seconds, and those of processors

    def rows(self, part: Part, seconds: float) -> Iterator[Row]:
        """Yields the rows of a part while it makes them; the last one tells if it was stopped, failed or crashed."""
        setting = Setting(self.options.device, self.options.small, self.folder, time.monotonic() + seconds)
        began, used = time.monotonic(), _processor_seconds()
        for row in self._results(part, setting, seconds):
            yield row._replace(part=part.name)
        self.taken[part.name] = {"seconds": time.monotonic() - began, "processor_seconds": _processor_seconds() - used}

    def _results(self, part: Part, setting: Setting, seconds: float) -> Iterator[Row]:
        if seconds < LEAST_S:
            yield skipped("all of it", "no time is left", part.is_equality)
            return
        context = multiprocessing.get_context(self.method)
        ours, theirs = context.Pipe(duplex=False)
        process: Any = context.Process(target=_work, args=(part.run, part.is_equality, setting, theirs))  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forks of a process with threads; ours has done no work yet
            process.start()
        theirs.close()
        try:
            while ours.poll(max(0, setting.ends - time.monotonic())):
                yield ours.recv()
        except EOFError:  # it has ended
            process.join(max(LEAST_S, setting.ends - time.monotonic()))  # its libraries have to end, too
            if process.exitcode:
                yield failed("its process", f"ended with status {process.exitcode}", part.is_equality)
        else:
            yield skipped("the rest", f"its {seconds:.0f} s were over", part.is_equality)
        finally:
            _kill(process)
            ours.close()


def _work(run: Callable[[Setting], Rows], is_equality: bool, setting: Setting, connection: Connection) -> None:
    """The life of the process of a part."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32, in convolutions too
    try:
        for row in run(setting):
            connection.send(row)
    except Exception as error:  # whatever it is, the other parts go on
        connection.send(failed("the rest", error, is_equality))
    finally:
        connection.close()


def _processor_seconds() -> float:
    """Of processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _kill(process: Any) -> None:
    """Ends a process and those that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # over, or not yet with a group of its own
        process.kill()
    process.join()


def run_all(runner: Runner, parts: Sequence[Part], minutes: float, save: Callable[[Sequence[Row]], None]) -> list[Row]:
    """Runs the parts one after another. Each gets what is left of the minutes but for the shares of those that follow.

    `save` is called with all rows after every part.
    """
    ends = time.monotonic() + 60 * minutes
    scale = 60 * minutes / sum(part.seconds for part in (MACHINE, *PARTS))
    found = list(runner.rows(MACHINE, MACHINE.seconds * scale))
    if any(row.is_reached is False for row in found):  # a GPU cannot be used in forks here
        runner.method = "spawn"
        found = list(runner.rows(MACHINE, 2 * MACHINE.seconds * scale))
    for row in found:
        tell(row)
    for number, part in enumerate(parts):
        reserved = sum(later.seconds for later in parts[number + 1 :]) * scale
        for row in runner.rows(part, ends - time.monotonic() - reserved):
            tell(row)
            found.append(row)
        save(found)
    return found


def tell(row: Row) -> None:
    """Prints a row as soon as it is there."""
    words = [f"{row.part}: {row.what}: {row.figure}", row.goal, row.verdict, row.note]
    print("  ".join(filter(None, words)), file=sys.stderr, flush=True)


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    lines = aligned([[row.part, row.what, row.figure, row.goal, row.verdict] for row in rows], HEADER, left=2).splitlines()
    width = max(map(len, lines))
    return "\n".join(
        f"{line:<{width}}  {note}".rstrip() for line, note in zip(lines, ["note", *(row.note for row in rows)], strict=True)
    )


def not_shown(rows: Sequence[Row]) -> list[Row]:
    """The equalities that do not hold, or could not be shown."""
    return [row for row in rows if row.is_equality and not row.is_reached]


def record(options: argparse.Namespace, runner: Runner, rows: Sequence[Row], seconds: float) -> dict[str, Any]:
    """The content of the JSON file."""
    names = ("torch", "triton", "transformers", "numpy", "h5py", "pandas", "pyarrow", "scikit-learn", "safetensors", "luigi", "av")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout.CHECKOUT, capture_output=True, text=True).stdout.strip()
    return {
        "device": options.device,
        "small": options.small,
        "minutes": options.minutes,
        "seconds": round(seconds, 1),
        "commit": commit or None,
        "machine": next((row.note for row in rows if row.part == MACHINE.name), ""),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in names},
        "parts": {name: {key: round(value, 2) for key, value in taken.items()} for name, taken in runner.taken.items()},
        "equal": not not_shown(rows),
        "rows": [row._asdict() for row in rows],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=8.0, help="default: %(default)g")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON with all figures")
    parser.add_argument("--small", action="store_true", help="sizes for a test of this command on a CPU")
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", default=names, choices=names, metavar="NAME", help="default: all")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mmolre-gpu-") as name:
        runner = Runner(options, Path(name))

        def save(found: Sequence[Row]) -> None:
            if options.out:
                content = record(options, runner, found, time.monotonic() - began)
                options.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

        rows = run_all(runner, [part for part in PARTS if part.name in options.parts], options.minutes, save)
    seconds = time.monotonic() - began
    print(table(rows))
    missed = [row for row in rows if row.is_reached is False and not row.is_equality]
    unequal = not_shown(rows)
    equalities = f"{len(unequal)} NOT shown" if unequal else "all shown"
    print(f"\n{seconds:.0f} s; equalities: {equalities}; goals of speed missed, or errors: {len(missed)}")
    return int(bool(unequal))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends the part in hand, too
    sys.exit(main())
