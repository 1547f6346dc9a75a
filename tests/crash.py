"""Kill builds and sweeps at random moments: `make crash SECONDS=600 SEED=1`, or `PYTHONPATH=tests python -m crash --help`.

A build or a sweep is started and killed with SIGKILL, with all its processes, again and again, until it ends by itself. Then its
files must be those of one that nothing disturbed, byte for byte except for times, and no temporary file may be left. The exit status
is 1 if this is not so.

Each of them is a fork of this process, which has imported torch and transformers: otherwise most kills would hit the imports, and most
of the time would be spent there. What it imports itself (Luigi, `pipeline.tasks`, `heads`), it imports anew.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import hashlib
import json
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from caches import make_cache
from projects import write_project
from small_runs import SMALL
from sweeps import write_grid

from data.feature_store import FeatureStore
from data.manifest import read_table

NAMES_ONLY = re.compile(r"report.*\.html|fingerprints\.json|trials\.parquet|(ranked|trials)\.(csv|md|tex)")
"""Files that contain times, of which only the names are compared."""


@dataclass(frozen=True)
class Work:
    """Something that can be killed and goes on."""

    name: str
    run: Callable[[], int | None]  # the command, in the forked process; returns its exit status
    place: Path  # its working directory
    folder: Path  # its results, removed after each comparison
    share: float  # of all kills


@dataclass
class Count:
    """What happened to one work."""

    kills: int = 0
    ends: int = 0
    faults: int = 0


def main() -> int:
    args = _parser().parse_args()
    rng, began = random.Random(args.seed), time.monotonic()
    _import_what_takes_long()
    with TemporaryDirectory(prefix="crash-") as folder:
        works = [work for work in (*_builds(Path(folder)), *_sweeps(Path(folder))) if work.name.startswith(args.only)]
        counts = {}
        for number, work in enumerate(works):
            left = args.seconds - (time.monotonic() - began)
            counts[work.name] = _disturb(work, round(args.kills * work.share), left / (len(works) - number), rng)
            print(_line(work, counts[work.name]), flush=True)
    kills, faults = (sum(getattr(count, name) for count in counts.values()) for name in ("kills", "faults"))
    print(f"{kills} kills, {faults} faults, {time.monotonic() - began:.0f} s, seed {args.seed}")
    return int(faults > 0)


def _disturb(work: Work, kills: int, seconds: float, rng: random.Random) -> Count:
    """Kill the work `kills` times, or for as long as there is time, and compare whenever it has ended."""
    until, count = time.monotonic() + seconds, Count()
    started = time.monotonic()
    _finish(work)
    duration = time.monotonic() - started
    expected = content(work.folder)
    shutil.rmtree(work.folder)
    while count.kills < kills and time.monotonic() < until:
        if _killed(_start(work), rng.uniform(0, duration)):
            count.kills += 1
        else:
            _compare(work, expected, count)
    _finish(work)
    _compare(work, expected, count)
    return count


def _start(work: Work) -> int:
    """Start a work in a process group of its own, and return the number of its process. What it prints goes into a file."""
    sys.stdout.flush()
    if child := os.fork():
        os.setpgid(child, child)
        return child
    status = 70
    try:
        os.setpgid(0, 0)
        os.chdir(work.place)
        log = os.open(_log(work), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        status = work.run() or 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _log(work: Work) -> Path:
    return work.folder.with_name(f"{work.folder.name}.log")


def _killed(process: int, after_s: float) -> bool:
    """Kill a process and its children after a time; return False if it has ended before."""
    until = time.monotonic() + after_s
    while time.monotonic() < until:
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.01)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def _finish(work: Work) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(_start(work), 0)[1])
    if status:
        last = "\n".join(_log(work).read_text(encoding="utf-8").splitlines()[-10:])
        raise SystemExit(f"{work.name} ended with status {status}, although nothing was killed here:\n{last}")


def _compare(work: Work, expected: dict[str, str], count: Count) -> None:
    """Compare the results of a work that has ended, say what differs, and remove them."""
    found = content(work.folder)
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    count.ends += 1
    count.faults += bool(different)
    if different:
        print(f"{work.name}: {len(different)} files differ or are left over, first {different[0]}", flush=True)
    shutil.rmtree(work.folder)


def content(folder: Path) -> dict[str, str]:
    """Relative path → hash of what a file says, without the times in it."""
    return {str(path.relative_to(folder)): _hash(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _hash(path: Path) -> str:
    return hashlib.sha256(b"".join(_parts(path))).hexdigest()


def _parts(path: Path) -> Iterator[bytes]:
    if NAMES_ONLY.fullmatch(path.name):
        return
    if path.suffix == ".h5":
        with FeatureStore.open(path) as store:
            facts = {name: value for name, value in store.attrs.items() if name != "when"}
            yield repr([facts, store.ids, store.sources, store.offsets.tolist(), store.checksums.tolist()]).encode()
            yield store.read_all().tobytes()
    elif path.suffix == ".parquet":
        yield read_table(path).to_csv().encode()
    elif path.name == "index.json":
        index = json.loads(path.read_text(encoding="utf-8"))
        yield json.dumps(index | {"corpora": {name: one | {"when": ""} for name, one in index["corpora"].items()}}).encode()
    elif path.name == "adapt.json":
        record = json.loads(path.read_text(encoding="utf-8"))
        yield json.dumps(record | {"made": record["made"] | {"when": ""}, "seal": ""}).encode()
    elif path.name == "history.csv":
        yield pd.read_csv(path).drop(columns="seconds").to_csv().encode()
    else:
        yield path.read_bytes()


def _builds(folder: Path) -> Iterator[Work]:
    project = write_project(folder / "project", Path("minilm"))
    for workers in (1, 2):
        yield Work(f"build, {workers} workers", _build(workers), project.root, project.cache, 0.28)
    learning = write_project(folder / "learning", Path("minilm"))
    learning.configure(adapt={"corpora": '["clips"]', "epochs": 4, "patience": 4, "batch_size": 4})
    yield Work("build that adapts", _build(1), learning.root, learning.cache, 0.16)


def _build(workers: int) -> Callable[[], int | None]:
    def run() -> int | None:
        from pipeline.luigi_command import main

        sys.argv = ["luigi", "--module", "pipeline", "BuildFeatures", "--workers", str(workers)]
        return main()

    return run


def _sweeps(folder: Path) -> Iterator[Work]:
    cache = make_cache(folder / "cache")
    short = SMALL | {"train.max_epochs": 20, "train.patience": 20}
    grid = write_grid(folder / "grid.yaml", short, grid={"train.lr": [0.001, 0.003, 0.01]}, seeds=[1, 2])
    for devices in (1, 2):
        out = folder / f"sweep{devices}"
        # one trial at a time, as on a CPU by default: of a pack that is killed, a trial may go on alone, equal to float tolerance only
        where = ["--cache", str(cache), "--out", str(out), "--pack-size", "1", "--devices", ",".join(["cpu"] * devices)]
        yield Work(f"sweep, {devices} devices", _sweep(["sweep", str(grid), *where]), folder, out, 0.14)


def _sweep(command: list[str]) -> Callable[[], int | None]:
    def run() -> int | None:
        from heads.__main__ import main

        return main(command)

    return run


def _import_what_takes_long() -> None:
    """Import what a build and a sweep need of other packages, without a thread that a fork would lose."""
    import torch  # noqa: F401
    import transformers  # noqa: F401
    from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer, BertModel, Data2VecAudioModel  # noqa: F401


def _line(work: Work, count: Count) -> str:
    return f"{work.name}: {count.kills} kills, ended {count.ends} times, {count.faults} times with other files"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m crash", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, metavar="S", help="time after which nothing is killed (default 3600)")
    parser.add_argument(
        "--kills",
        type=int,
        default=140,
        metavar="N",
        help="kills: 28 %% for each build, 16 %% for one that adapts, 14 %% for each sweep (default 140)",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("build", "sweep"), default="", help="builds alone, or sweeps alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
