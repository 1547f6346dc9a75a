"""The feature store beside other ways to keep the same features, at the size of MOSI: writing, size, reading all, random reads.

    python tests/benchmarks/bench_feature_store.py [--clips 2199] [--rounds 3] [--formats NAME …] [--random 1000] [--folder DISK]

Every clip has text (T, 768) with a mean of 20 rows and audio (T, 768) with a mean of 202, float16. Each round writes all
alternatives and then reads each three times, all in an order drawn anew each time, so that a slow moment of the machine meets
them all. Each reading is a process of its own, as features are loaded once a process: a second reading would get the memory of the
first back if it is in small pieces, and not if it is in one. "plain file" is the limit: the bare values, unchecked.

    write    until the file is on disk (fsync)
    cold     all clips as arrays, the file just dropped from the page cache; `disk` is the least share of it that was then read from the
             disk (/proc/self/io), 100 % if every read was cold
    all      the same again, the file in the page cache
    random   1,000 clips by id, in random order, opening included (loading, for a format that can only be loaded as a whole)

The first table has medians. The second has the spread, CPU seconds, which a busy machine changes less, and ours as a multiple of
others: the median of the ratios of single rounds.
"""

import argparse
import multiprocessing
import os
import pickle
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from timing import spread

from data.feature_store import FeatureStore, FeatureWriter

DIM = 768
MEAN_ROWS = {"text": 20, "audio": 202}
RANDOM_READS = 1000
READS_PER_ROUND = 3

Clips = Mapping[str, Mapping[str, np.ndarray]]  # modality → id → (T, D) float16
Wanted = list[tuple[str, str]]  # (modality, id)


class Seconds(NamedTuple):
    """What one piece of work took."""

    wall: float
    cpu: float


Times = dict[str, dict[str, list[Seconds]]]  # format → column → one a round


class Format(NamedTuple):
    """One way to keep clips in one folder. Both readers return (T, D) arrays, by `all` in the order of the clips."""

    write: Callable[[Path, Clips], None]
    read_all: Callable[[Path], list[np.ndarray]]
    read_some: Callable[[Path, Wanted], list[np.ndarray]]


def make_clips(count: int) -> Clips:
    """Clips of random values; their lengths spread like those of speech, up to three times the mean."""
    rng = np.random.default_rng(0)
    clips: dict[str, dict[str, np.ndarray]] = {}
    for modality, mean in MEAN_ROWS.items():
        lengths = np.clip(rng.gamma(3, mean / 3, count).round(), 2, 3 * mean).astype(int)
        clips[modality] = {f"video{i // 24}_{i % 24}": rng.standard_normal((n, DIM), "f4").astype("f2") for i, n in enumerate(lengths)}
    return clips


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    return ((modality, folder / f"{modality}.bin") for modality in MEAN_ROWS)


def write_store(folder: Path, clips: Clips) -> None:
    for modality, path in _files(folder):
        values = list(clips[modality].values())
        ids, lengths = list(clips[modality]), [len(v) for v in values]
        with FeatureWriter(path, ids, lengths, DIM, "float16", {"modality": modality}, ["0" * 12] * len(ids)) as writer:
            for index, value in enumerate(values):
                writer.write(index, value)


def open_store(path: Path, compares: bool) -> FeatureStore:
    """Open a store; if it is not to compare, as if all values had been compared before."""
    store = FeatureStore.open(path)
    store._is_compared[:] = not compares
    return store


def read_store(folder: Path, compares: bool = True) -> list[np.ndarray]:
    arrays = []
    for _, path in _files(folder):
        with open_store(path, compares) as store:
            arrays += np.split(store.read_all(), store.offsets[1:-1])
    return arrays


def read_some_store(folder: Path, wanted: Wanted, compares: bool = True) -> list[np.ndarray]:
    stores = {modality: open_store(path, compares) for modality, path in _files(folder)}
    return [stores[modality][name] for modality, name in wanted]


def write_datasets(folder: Path, clips: Clips) -> None:
    for modality, path in _files(folder):
        with h5py.File(path, "w") as file:
            for name, value in clips[modality].items():
                file[name] = value


def read_datasets(folder: Path) -> list[np.ndarray]:
    arrays = []
    for _, path in _files(folder):
        with h5py.File(path) as file:
            arrays += [file[name][()] for name in sorted(file, key=_number)]
    return arrays


def _number(name: str) -> tuple[int, int]:
    video, clip = name.removeprefix("video").split("_")
    return int(video), int(clip)


def read_some_datasets(folder: Path, wanted: Wanted) -> list[np.ndarray]:
    files = {modality: h5py.File(path) for modality, path in _files(folder)}
    arrays = [files[modality][name][()] for modality, name in wanted]
    for file in files.values():
        file.close()
    return arrays


def write_gzip(folder: Path, clips: Clips) -> None:
    for modality, path in _files(folder):
        with h5py.File(path, "w") as file:
            values = np.concatenate(list(clips[modality].values()))
            file.create_dataset("values", data=values, chunks=(64, DIM), compression="gzip", compression_opts=1)
            file["offsets"] = np.cumsum([0, *map(len, clips[modality].values())])
            file["ids"] = list(clips[modality])


def read_gzip(folder: Path) -> list[np.ndarray]:
    arrays = []
    for _, path in _files(folder):
        with h5py.File(path) as file:
            arrays += np.split(file["values"][()], file["offsets"][1:-1])
    return arrays


def read_some_gzip(folder: Path, wanted: Wanted) -> list[np.ndarray]:
    files = {modality: h5py.File(path) for modality, path in _files(folder)}
    offsets = {modality: file["offsets"][()] for modality, file in files.items()}
    places = {modality: {name: i for i, name in enumerate(file["ids"].asstr()[()])} for modality, file in files.items()}
    arrays = []
    for modality, name in wanted:
        place = places[modality][name]
        arrays.append(files[modality]["values"][offsets[modality][place] : offsets[modality][place + 1]])
    for file in files.values():
        file.close()
    return arrays


def write_pickle(folder: Path, clips: Clips) -> None:
    for modality, path in _files(folder):
        values = list(clips[modality].values())
        padded = np.zeros((len(values), max(map(len, values)), DIM), "f2")
        for row, value in zip(padded, values, strict=True):
            row[: len(value)] = value
        with path.open("wb") as file:
            pickle.dump({"id": list(clips[modality]), "lengths": list(map(len, values)), "values": padded}, file, protocol=4)


def _load_pickle(path: Path) -> dict[str, np.ndarray]:
    loaded = pickle.loads(path.read_bytes())
    parts = zip(loaded["id"], loaded["values"], loaded["lengths"], strict=True)
    return {name: padded[:length] for name, padded, length in parts}


def read_pickle(folder: Path) -> list[np.ndarray]:
    return [value for _, path in _files(folder) for value in _load_pickle(path).values()]


def read_some_pickle(folder: Path, wanted: Wanted) -> list[np.ndarray]:
    loaded = {modality: _load_pickle(path) for modality, path in _files(folder)}
    return [loaded[modality][name].copy() for modality, name in wanted]


def write_torch(folder: Path, clips: Clips) -> None:
    for modality, path in _files(folder):
        torch.save({name: torch.from_numpy(value) for name, value in clips[modality].items()}, path)


def read_torch(folder: Path) -> list[np.ndarray]:
    return [value.numpy() for _, path in _files(folder) for value in torch.load(path).values()]


def read_some_torch(folder: Path, wanted: Wanted) -> list[np.ndarray]:
    loaded = {modality: torch.load(path, mmap=True) for modality, path in _files(folder)}
    return [loaded[modality][name].clone().numpy() for modality, name in wanted]


def write_plain(folder: Path, clips: Clips) -> None:
    for modality, path in _files(folder):
        with path.open("wb") as file:
            for value in clips[modality].values():
                file.write(value.data)
        sizes = [value.nbytes for value in clips[modality].values()]
        path.with_suffix(".index").write_bytes(pickle.dumps((list(clips[modality]), np.cumsum([0, *sizes]).tolist())))


def read_plain(folder: Path) -> list[np.ndarray]:
    arrays = []
    for _, path in _files(folder):
        _, offsets = pickle.loads(path.with_suffix(".index").read_bytes())
        values = np.fromfile(path, "f2").reshape(-1, DIM)
        arrays += np.split(values, np.array(offsets[1:-1]) // (2 * DIM))
    return arrays


def read_some_plain(folder: Path, wanted: Wanted) -> list[np.ndarray]:
    places = {}
    for modality, path in _files(folder):
        names, offsets = pickle.loads(path.with_suffix(".index").read_bytes())
        places |= {(modality, name): (path, offsets[i], offsets[i + 1] - offsets[i]) for i, name in enumerate(names)}
    found = (places[one] for one in wanted)
    return [np.fromfile(path, "f2", size // 2, offset=begin).reshape(-1, DIM) for path, begin, size in found]


FORMATS: Mapping[str, Format] = {
    "feature store": Format(write_store, read_store, read_some_store),
    "without comparing": Format(write_store, partial(read_store, compares=False), partial(read_some_store, compares=False)),
    "HDF5, a dataset per clip": Format(write_datasets, read_datasets, read_some_datasets),
    "HDF5, chunks, gzip 1": Format(write_gzip, read_gzip, read_some_gzip),
    "pickle, padded": Format(write_pickle, read_pickle, read_some_pickle),
    "torch.save, dict": Format(write_torch, read_torch, read_some_torch),
    "plain file": Format(write_plain, read_plain, read_some_plain),
}
OURS = "feature store"
OTHERS = ("torch.save, dict", "HDF5, a dataset per clip", "plain file")
COLUMNS = ("write", "cold", "all", "random")


def seconds(work: Callable[[], object]) -> Seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def read_seconds(work: Callable[[], object]) -> tuple[Seconds, int]:
    """Seconds of work in a fresh process that has imported everything, and the bytes that it has read from the disk."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "torch", "h5py"])
    with context.Pool(1) as pool:
        return pool.apply(_seconds_and_bytes, (work,))


def _seconds_and_bytes(work: Callable[[], object]) -> tuple[Seconds, int]:
    before = read_from_disk()
    return seconds(work), read_from_disk() - before


def read_from_disk() -> int:
    """Bytes that this process has had read from disks so far. Source: proc(5), `io`."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    return int(fields["read_bytes"])


def sync(folder: Path, drop: bool = False) -> None:
    """Puts the folder's files on disk and, with `drop`, out of the page cache."""
    for _, path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            if drop:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def time_writing(kind: Format, folder: Path, clips: Clips) -> Seconds:
    """Seconds to write the clips into a folder, the files of an earlier round gone before."""

    def write() -> None:
        kind.write(folder, clips)
        sync(folder)

    folder.mkdir(exist_ok=True)
    for _, path in _files(folder):
        path.unlink(missing_ok=True)
    return seconds(write)


def measure(names: list[str], clips: Clips, wanted: Wanted, rounds: int, disk: Path) -> tuple[Times, dict[str, int], dict[str, float]]:
    """Seconds by format and column, bytes by format, and the least share read from the disk; the files are deleted at the end."""
    columns = COLUMNS if wanted else COLUMNS[:-1]
    times: Times = {name: {column: [] for column in columns} for name in names}
    order = random.Random(0)
    cold = dict.fromkeys(names, 1.0)
    with tempfile.TemporaryDirectory(dir=disk) as root:
        folders = {name: Path(root) / name for name in names}
        for _ in range(rounds):
            for name in order.sample(names, len(names)):
                times[name]["write"].append(time_writing(FORMATS[name], folders[name], clips))
            for _ in range(READS_PER_ROUND):
                for name in order.sample(names, len(names)):
                    kind, folder, row = FORMATS[name], folders[name], times[name]
                    sync(folder, drop=True)
                    work = {"cold": partial(kind.read_all, folder), "all": partial(kind.read_all, folder)}
                    if wanted:
                        work["random"] = partial(kind.read_some, folder, wanted)
                    found = {column: read_seconds(one) for column, one in work.items()}
                    cold[name] = min(cold[name], found["cold"][1] / _size(folder))
                    for column, (taken, _) in found.items():
                        row[column].append(taken)
        return times, {name: _size(folder) for name, folder in folders.items()}, cold


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for _, path in _files(folder))


def check(kind: Format, clips: Clips, wanted: Wanted) -> None:
    """Fails unless the format gives back the very values."""
    expected = [value for modality in MEAN_ROWS for value in clips[modality].values()]
    with tempfile.TemporaryDirectory() as name:
        kind.write(Path(name), clips)
        for found, value in zip(kind.read_all(Path(name)), expected, strict=True):
            np.testing.assert_array_equal(found, value)
        for found, (modality, clip) in zip(kind.read_some(Path(name), wanted), wanted, strict=True):
            np.testing.assert_array_equal(found, clips[modality][clip])


def choose(clips: Clips, count: int) -> Wanted:
    rng = np.random.default_rng(1)
    names = list(clips["text"])
    return [(("text", "audio")[i % 2], names[rng.integers(len(names))]) for i in range(count)]


def table(times: Times, sizes: Mapping[str, int], cold: Mapping[str, float], raw_bytes: int) -> Iterator[str]:
    medians = {name: {column: statistics.median(one.wall for one in row[column]) for column in row} for name, row in times.items()}
    ours = medians[OURS]
    yield f"{'':<26}" + "".join(f"{column + ' s':>9} {'×ours':>6}" for column in ours) + f"{'disk':>6}{'MB':>9} {'over raw':>9}"
    for name, row in medians.items():
        cells = "".join(f"{row[column]:>9.3f} {row[column] / ours[column]:>6.1f}" for column in ours)
        yield f"{name:<26}{cells}{cold[name]:>6.0%}{sizes[name] / 1e6:>9.1f} {sizes[name] / raw_bytes - 1:>+9.2%}"


def spreads(times: Times) -> Iterator[str]:
    others = [name for name in OTHERS if name in times]
    yield f"{'':<34}{'seconds':>22}{'CPU s':>22}" + "".join(f"  {'ours ÷ ' + name:>32}" for name in others) + "  (CPU)"
    for column in times[OURS]:
        for name, row in times.items():
            walls, cpus = ([one[kind] for one in row[column]] for kind in (0, 1))
            cells = f"{column:<8}{name:<26}{spread(walls, 3):>22}{spread(cpus, 3):>22}"
            if name == OURS:
                cells += "".join(f"  {_ratio(row[column], times[other][column]):>32}" for other in others)
            yield cells


def _ratio(ours: Sequence[Seconds], others: Sequence[Seconds]) -> str:
    wall, cpu = (statistics.median(a[kind] / b[kind] for a, b in zip(ours, others, strict=True)) for kind in (0, 1))
    return f"{wall:.2f} ({cpu:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2199, help="default: %(default)s, as in CMU-MOSI")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS), metavar="NAME", help="default: all")
    parser.add_argument("--folder", type=Path, default=tempfile.gettempdir(), help="where to write, 6 GB (default: %(default)s)")
    parser.add_argument("--random", type=int, default=RANDOM_READS, help="random reads (default: %(default)s; 0: none)")
    parser.add_argument("--quick", action="store_true", help="100 clips, 1 round: does it run?")
    args = parser.parse_args()
    count, rounds = (100, 1) if args.quick else (args.clips, args.rounds)
    names = list(dict.fromkeys([OURS, *args.formats]))

    small = make_clips(30)
    for name in names:
        check(FORMATS[name], small, choose(small, 10))
    clips = make_clips(count)
    wanted = choose(clips, args.random)
    raw_bytes = sum(value.nbytes for values in clips.values() for value in values.values())
    times, sizes, cold = measure(names, clips, wanted, rounds, args.folder)
    reads = rounds * READS_PER_ROUND
    print(f"{count:,} clips, {raw_bytes / 1e6:,.1f} MB of float16 values, medians of {rounds} rounds of writing and {reads} of reading")
    print("\n".join([*table(times, sizes, cold, raw_bytes), "", *spreads(times)]))


if __name__ == "__main__":
    main()
