"""Overhead of a shard with N workers: a fresh process for each task, as Luigi does by itself, and processes that stay.

    python tests/benchmarks/bench_workers.py [--workers 1 2 4] [--shards 32] [--fresh-shards 8]

Builds of audio (tiny-data2vec) and text (minilm) features, half of the shards each, one thread a worker. The overhead of a shard is the
time from its start until its result is in, without the time inside the encoder: fork, imports, loading the encoder, locks, checks, the
file. The first shard of a process that stays pays its start; it has a column of its own, and `190 shards` is the mean of a build of
MOSEI's size, with one start a worker. CPU seconds are those of the workers' processes, which a busy machine changes less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_scale import write_corpus

CHECKOUT = Path(__file__).parents[2]
MOSEI_SHARDS = 190
GOAL_S = 0.2
_CLIPS_PER_SHARD = 7  # one video of bench_scale

_DRIVER = """
import json, os, sys, time
import luigi, luigi.worker
from pipeline import luigi_setup, steps, tasks
way, workers, log = sys.argv[1], int(sys.argv[2]), sys.argv[3]
luigis_own = luigi.worker.Worker
luigi_setup.install()
kept = luigi.worker.Worker
luigi.worker.Worker = luigis_own if way == "fresh" else kept
luigi.configuration.get_config().set("worker", "force_multiprocessing", "true")
luigi.configuration.get_config().set("core", "workers", str(workers))

def write(**entry):
    with open(log, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\\n")

def run_task(self, task_id, run_task=luigis_own._run_task):
    write(task=task_id, start=time.perf_counter())
    run_task(self, task_id)

def add_task(self, *args, add_task=luigis_own._add_task, **kwargs):
    write(task=kwargs["task_id"], end=time.perf_counter(), status=kwargs["status"])
    add_task(self, *args, **kwargs)

luigis_own._run_task, luigis_own._add_task = run_task, add_task
inside = [0.0, 0.0]

def extract(*args, extract=steps.extract.extract):
    wall, cpu = time.perf_counter(), time.process_time()
    extract(*args)
    inside[:] = time.perf_counter() - wall, time.process_time() - cpu

steps.extract.extract = extract

@tasks.FeatureShard.event_handler(luigi.Event.SUCCESS)
def ended(task):
    write(task=task.task_id, process=os.getpid(), cpu=time.process_time(), wall_inside=inside[0], cpu_inside=inside[1])

sys.exit(not luigi.build([tasks.BuildFeatures()], workers=workers, log_level="WARNING"))
"""


def overheads(folder: Path, way: str, workers: int) -> list[tuple[bool, float, float]]:
    """(is the first of its process, wall seconds, CPU seconds) of the overhead of each shard of a build, in the order of their ends."""
    log = folder / f"{way}{workers}.jsonl"
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        subprocess.run(
            [sys.executable, "-c", _DRIVER, way, str(workers), str(log)],
            cwd=folder, check=True, stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": str(workers), "PYTHONPATH": str(CHECKOUT), "BENCH_CACHE": cache},
        )  # fmt: skip
    starts, ends, shards = {}, {}, {}
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        name = entry["task"]
        if "start" in entry:
            starts[name] = entry["start"]
        elif "process" in entry:
            shards[name] = entry
        elif entry["status"] == "DONE":
            ends[name] = entry["end"]
    used: dict[int, float] = {}  # process → its CPU seconds until the end of its last shard
    found = []
    for name, shard in shards.items():
        wall = ends[name] - starts[name] - shard["wall_inside"]
        cpu = shard["cpu"] - used.get(shard["process"], 0.0) - shard["cpu_inside"]
        found.append((shard["process"] not in used, wall, cpu))
        used[shard["process"]] = shard["cpu"]
    return found


def write_project(folder: Path, shards: int) -> None:
    """A corpus whose videos are shards of their own, and luigi.cfg."""
    write_corpus(folder / "corpus", shards // 2 * _CLIPS_PER_SHARD, 1.0)
    (folder / "luigi.cfg").write_text(
        f'[corpora]\nfolders = {{"clips": "{folder / "corpus"}"}}\n[build]\ncache = ${{BENCH_CACHE}}\ndevice = cpu\n'
        f"shard_clips = {_CLIPS_PER_SHARD}\n[pseudo_labels]\ntargets = []\ndonors = []\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    parser.add_argument("--shards", type=int, default=32, help="shards with processes that stay (default 32)")
    parser.add_argument("--fresh-shards", type=int, default=8, help="shards with a fresh process each (default 8)")
    options = parser.parse_args()
    print("seconds of overhead a shard, wall (CPU)")
    columns = ("fresh process", "stays: first", "stays: later", f"{MOSEI_SHARDS} shards")
    print("  ".join(["workers", *(f"{column:>16}" for column in columns), "ratio"]))
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        folders = {way: Path(name) / way for way in ("fresh", "kept")}
        for way, count in (("fresh", options.fresh_shards), ("kept", options.shards)):
            folders[way].mkdir()
            write_project(folders[way], count)
        for workers in options.workers:
            fresh = overheads(folders["fresh"], "fresh", workers)
            kept = overheads(folders["kept"], "kept", workers)
            row, ratios = [], []
            for kind in (1, 2):
                old = statistics.mean(one[kind] for one in fresh)
                first = statistics.mean(one[kind] for one in kept if one[0])
                later = statistics.mean(one[kind] for one in kept if not one[0])
                mean = later + (first - later) * workers / MOSEI_SHARDS
                row.append((old, first, later, mean))
                ratios.append(old / mean)
            cells = "  ".join(f"{f'{wall:.2f} ({cpu:.2f})':>16}" for wall, cpu in zip(*row, strict=True))
            print(f"{workers:>7}  {cells}  {ratios[0]:.0f} ({ratios[1]:.0f})", flush=True)
            worst = max(worst, row[0][3])
    print(f"goal: at most {GOAL_S} s a shard; {'met' if worst <= GOAL_S else f'missed, {worst:.2f} s'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
