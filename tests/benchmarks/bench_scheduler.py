"""What a shard costs the scheduler: N empty tasks below one, through a luigid on loopback and a worker process.

    python tests/benchmarks/bench_scheduler.py [--tasks 500 1000 2000 4000]

docs/scale.md extrapolates from this. luigid keeps every task in memory and looks through the pending ones whenever a worker asks for
work, so the cost of a task grows with their number.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_TASKS = """
import luigi

class Empty(luigi.Task):
    number, key = luigi.IntParameter(), luigi.Parameter(default="0123456789ab")
    done = False
    def complete(self):
        return self.done
    def run(self):
        self.done = True

class All(luigi.WrapperTask):
    count = luigi.IntParameter()
    def requires(self):
        return [Empty(number) for number in range(self.count)]
"""


def run(folder: Path, port: int, count: int) -> float:
    """Seconds that one worker takes for `count` empty tasks."""
    begin = time.perf_counter()
    command = ["-m", "luigi", "--module", "empty_tasks", "All", "--count", str(count), "--scheduler-port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, *command, "--log-level", "ERROR"], check=True, cwd=folder, env=environment)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    print(f"{'tasks':>8}{'s':>8}{'ms a task':>11}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty_tasks.py").write_text(_TASKS)
        for count in options.tasks:
            state = folder / f"state{count}"
            start = (
                f"from luigi.cmdline import luigid; luigid(['--port', '{port}', '--address', '127.0.0.1', '--state-path', '{state}'])"
            )
            with subprocess.Popen([sys.executable, "-c", start], stderr=subprocess.DEVNULL) as daemon:
                try:
                    _wait_for(port)
                    seconds = run(folder, port, count)
                finally:
                    daemon.kill()
            print(f"{count:>8,}{seconds:>8.1f}{1000 * seconds / count:>11.2f}", flush=True)


def _wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("luigid did not start.")


if __name__ == "__main__":
    main()
