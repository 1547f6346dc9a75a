"""Padded batches from cached features, at the size of MOSI: one epoch of ours, resident and streamed, and of a torch DataLoader.

    python tests/benchmarks/bench_batches.py [--clips 2199] [--batch 8] [--rounds 5] [--device cpu] [--folder DISK] [--quick]

Every clip has text (T, 768) with a mean of 20 rows and audio (T, 768) with a mean of 202, float16; batches are float32 on the device.
The DataLoader has all clips in memory, as tensors; its dataset gives one clip, `pad_sequence` collates, in this process. All three
make the same batches, shuffled, and the first of them are compared before anything is timed. The epochs of a round take turns,
beginning with another one each time; the table shows medians and the slowest.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from data.batching import shuffled
from data.cache import CachedCorpus
from data.feature_store import FeatureStore, FeatureWriter
from data.targets import Targets
from data.tensors import Batch, CorpusTensors

DIM = 768
MEAN_ROWS = {"text": 20, "audio": 202}

Epoch = Callable[[], Iterable[Batch]]


def make_corpus(folder: Path, count: int) -> tuple[CachedCorpus, Targets]:
    """Feature files of random values; lengths spread like those of speech, up to three times the mean."""
    rng = np.random.default_rng(0)
    ids = [f"video{i // 24}[{i % 24}]" for i in range(count)]
    paths = {modality: folder / f"{modality}.h5" for modality in MEAN_ROWS}
    for modality, mean in MEAN_ROWS.items():
        lengths = np.clip(rng.gamma(3, mean / 3, count).round(), 2, 3 * mean).astype(int).tolist()
        with FeatureWriter(paths[modality], ids, lengths, DIM, "float16", {}, [""] * count) as writer:
            for index, length in enumerate(lengths):
                writer.write(index, rng.standard_normal((length, DIM), "f4"))
    videos, splits = np.array([name.partition("[")[0] for name in ids]), np.full(count, "train")
    sentiment, emotions = rng.uniform(-3, 3, count).astype("f4"), rng.integers(0, 2, (count, 6)).astype("f4")
    targets = Targets(tuple(ids), splits, videos, np.arange(count) % 24, sentiment, emotions, ("",) * count)
    return CachedCorpus("mosi", folder / "manifest.parquet", paths, None), targets


class Clips(Dataset):
    """The usual way: one clip by its number."""

    def __init__(self, corpus: CachedCorpus, targets: Targets) -> None:
        self.features = {}
        for modality, path in corpus.features.items():
            with FeatureStore.open(path) as store:
                self.features[modality] = [torch.from_numpy(store[name]) for name in targets.ids]
        self.sentiment, self.emotions = torch.from_numpy(targets.sentiment), torch.from_numpy(targets.emotions)

    def __getitem__(self, row: int) -> tuple[dict[str, Tensor], Tensor, Tensor, int]:
        return {modality: clips[row] for modality, clips in self.features.items()}, self.sentiment[row], self.emotions[row], row


def collate(clips: Sequence[tuple[dict[str, Tensor], Tensor, Tensor, int]]) -> Batch:
    parts, sentiment, emotions, rows = zip(*clips, strict=True)
    features, masks = {}, {}
    for modality in MEAN_ROWS:
        values = [part[modality] for part in parts]
        lengths = torch.tensor([len(value) for value in values])
        features[modality] = pad_sequence(values, batch_first=True).float()
        masks[modality] = torch.arange(features[modality].shape[1]) < lengths[:, None]
    return Batch(features, masks, torch.stack(sentiment), torch.stack(emotions), torch.tensor(rows))


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    for batch in batches:
        features, masks = ({m: value.to(device) for m, value in part.items()} for part in batch[:2])
        yield Batch(features, masks, *(value.to(device) for value in batch[2:5]))


def check(epochs: Mapping[str, Epoch], count: int = 5) -> None:
    """Fails unless all make the same batches."""
    for batches in zip(*(epoch() for epoch in epochs.values()), range(count), strict=False):
        ours, *others, _ = batches
        for other in others:
            for modality in MEAN_ROWS:
                torch.testing.assert_close(other.features[modality], ours.features[modality], rtol=0, atol=0)
                torch.testing.assert_close(other.masks[modality], ours.masks[modality])
            torch.testing.assert_close((other.sentiment, other.emotions, other.index), (ours.sentiment, ours.emotions, ours.index))


def seconds(epoch: Epoch, device: torch.device) -> float:
    start = time.perf_counter()
    for _ in epoch():
        pass
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(epochs: Mapping[str, Epoch], rounds: int, device: torch.device) -> dict[str, list[float]]:
    names = list(epochs)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            times[name].append(seconds(epochs[name], device))
    return times


def table(times: Mapping[str, Sequence[float]]) -> Iterator[str]:
    ours = statistics.median(next(iter(times.values())))
    yield f"{'':<16}{'s / epoch':>10}{'slowest':>10}{'× resident':>12}"
    for name, found in times.items():
        median = statistics.median(found)
        yield f"{name:<16}{median:>10.3f}{max(found):>10.3f}{median / ours:>12.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2199, help="default: %(default)s, as in CMU-MOSI")
    parser.add_argument("--batch", type=int, default=8, help="clips in a batch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--device", type=torch.device, default="cpu", help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=tempfile.gettempdir(), help="where to write, 0.8 GB (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="100 clips, 1 round: does it run?")
    args = parser.parse_args()
    count, rounds = (100, 1) if args.quick else (args.clips, args.rounds)

    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        corpus, targets = make_corpus(Path(name), count)
        plan = shuffled(np.arange(count), args.batch, np.random.default_rng(1))
        resident = CorpusTensors.load(corpus, targets, device=args.device)
        streamed = CorpusTensors.load(corpus, targets, device=args.device, memory_bytes=0)
        loader = DataLoader(Clips(corpus, targets), batch_sampler=[rows.tolist() for rows in plan], collate_fn=collate)
        epochs = {
            "resident": lambda: resident.batches(plan),
            "streamed": lambda: streamed.batches(plan),
            "DataLoader": lambda: on_device(loader, args.device),
        }
        check(epochs)
        print(f"{count:,} clips in {len(plan)} batches of {args.batch}, {args.device}, medians of {rounds} epochs")
        print("\n".join(table(measure(epochs, rounds, args.device))))


if __name__ == "__main__":
    main()
