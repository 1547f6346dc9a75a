"""An epoch of training MMoLRE on cached features, and the same epoch with the encoders in the loop, MMML's way, in one run.

    python tests/benchmarks/bench_epoch.py [--root MOSI_LIKE_ROOT] [--clips 32] [--preset light paper-mosi] [--rounds 1]
                                           [--device cpu|cuda] [--precision float32|bfloat16]

All epochs go through heads.training.loop: forward, backward, clipping and AdamW, in batches of 8. Only where a batch comes from
differs:

    encoders tuned     clips decoded, padded to 96 tokens and 6 s (299 frames), encoded by full-size RoBERTa-base and
                       Data2Vec-audio-base with random weights, which are trained too: what MMML does
    encoders frozen    the same without their backward pass
    cached, padded     features from memory, at MMML's lengths
    cached, shuffled   padded to the longest clip of a batch
    ours               in batches of like lengths
    ours, bfloat16     and in bfloat16 autocast

Cached features are random, float16, and as long as the clips' own. Work is what each way executes, padding included,
counted by torch; a backward pass counts as two forward passes. On a GPU also: an epoch of 1,284 clips, CMU-MOSI's, in bfloat16.
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import mmml
import numpy as np
import torch
import transformers
from timing import in_turns, launches, peak_gflops, spread
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from data.cache import CachedCorpus
from data.feature_store import FeatureWriter
from data.media import SAMPLE_RATE_HZ
from data.reporting.tables import aligned
from data.targets import Targets
from data.tensors import Batch, CorpusTensors
from heads.evaluation.predictions import autocast
from heads.runs.build import build_head
from heads.runs.config import RunConfig, make_config
from heads.runs.folder import RunFolder
from heads.training.loop import Run, train_epoch
from heads.training.plan import epoch_plan
from heads.training.single_engine import SingleEngine
from pipeline.settings import SAMPLE

FULL = {"text": mmml.TOKENS, "audio": mmml.frames(mmml.SECONDS * SAMPLE_RATE_HZ)}
MOSI_CLIPS = 1284
Plan = Sequence[np.ndarray]
Work = Callable[[Any, Any], np.ndarray]
"""(tokens, frames) of utterances → GFLOP of a forward pass for each alone."""


class Setup(NamedTuple):
    """What all presets have in common."""

    options: argparse.Namespace
    folder: Path  # for feature files
    clips: mmml.Recordings
    lengths: Mapping[str, np.ndarray]  # modality → (N,) rows of features of each clip
    encoders: mmml.Encoders
    encoder_gflop: float  # forward, of a padded clip
    model: Mapping[str, Any] = MappingProxyType({})  # options of the head that differ from the preset

    @property
    def dims(self) -> dict[str, int]:
        """Modality → D of the encoders."""
        return {modality: getattr(self.encoders, modality).config.hidden_size for modality in FULL}


def lengths_of(tokenizer: Any, clips: mmml.Recordings) -> dict[str, np.ndarray]:
    """Modality → (N,) rows of features of each clip, at most MMML's."""
    tokens = [len(tokenizer(mmml.sentence_case(text))["input_ids"]) for text in clips.texts]
    frames = [mmml.frames(round(seconds * SAMPLE_RATE_HZ)) for seconds in clips.seconds]
    return {"text": np.minimum(tokens, FULL["text"]), "audio": np.minimum(frames, FULL["audio"])}


def cached(folder: Path, lengths: Mapping[str, np.ndarray], dims: Mapping[str, int], device: str) -> CorpusTensors:
    """Random features and labels of clips of these lengths, all for training but one more, which is for validation."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    count = len(lengths["text"]) + 1
    ids = [f"clip{number}" for number in range(count)]
    paths = {modality: folder / f"{modality}.h5" for modality in lengths}
    for modality, values in lengths.items():
        rows = [*values.tolist(), 1]
        with FeatureWriter(paths[modality], ids, rows, dims[modality], "float16", {}, [""] * count) as writer:
            for place, length in enumerate(rows):
                writer.write(place, rng.standard_normal((length, dims[modality]), "f4"))
    splits = np.array([*["train"] * (count - 1), "valid"])
    sentiment, emotions = rng.uniform(-3, 3, count).astype("f4"), rng.integers(0, 2, (count, 6)).astype("f4")
    targets = Targets(tuple(ids), splits, np.array(ids), np.zeros(count, np.int64), sentiment, emotions, ("",) * count)
    return CorpusTensors.load(CachedCorpus("mosi", folder / "manifest.parquet", paths, None), targets, device=device)


class Padded:
    """Batches of cached features at MMML's lengths."""

    def __init__(self, tensors: CorpusTensors) -> None:
        self.tensors, self.device = tensors, tensors.device

    def batches(self, plan: Plan, _length_multiple: int = 1) -> Iterator[Batch]:  # the lengths are fixed
        for batch in self.tensors.batches(plan):
            missing = {modality: FULL[modality] - mask.shape[1] for modality, mask in batch.masks.items()}
            features = {modality: functional.pad(x, (0, 0, 0, missing[modality])) for modality, x in batch.features.items()}
            masks = {modality: functional.pad(mask, (0, missing[modality])) for modality, mask in batch.masks.items()}
            yield batch._replace(features=features, masks=masks)


class Encoded:
    """Batches from the files themselves, by encoders that are trained or not."""

    def __init__(self, tensors: CorpusTensors, setup: Setup, is_tuned: bool) -> None:
        self.tensors, self.device = tensors, tensors.device
        self.setup, self.is_tuned = setup, is_tuned

    def batches(self, plan: Plan, _length_multiple: int = 1) -> Iterator[Batch]:  # the lengths are fixed
        encoders = self.setup.encoders
        for model in (encoders.text, encoders.audio):
            model.train(self.is_tuned)
        for labels in self.tensors.batches(plan):
            with torch.set_grad_enabled(self.is_tuned), autocast(self.device, self.setup.options.precision):
                features, masks = encoders.encode(self.setup.clips, labels.index.tolist())
            yield labels._replace(features=features, masks=masks)


class Way(NamedTuple):
    """One kind of epoch."""

    config: RunConfig
    source: CorpusTensors | Padded | Encoded
    forward_gflop: float  # of all clips
    gflop: float  # with the backward pass of what is trained


def configure(preset: str, precision: str, like_lengths: bool = False, model: Mapping[str, Any] = MappingProxyType({})) -> RunConfig:
    """A preset at MMML's batch size, with some other options of the head."""
    train, data = {"batch_size": mmml.BATCH, "precision": precision}, {"emotions": "annotated", "like_lengths": like_lengths}
    return make_config("mmolre", "mosi", preset, {"train": train, "data": data, "model": dict(model)})


def head_gflop(config: RunConfig, tensors: CorpusTensors) -> Work:
    """The work of the head, counted on shapes; exact for all, for it is a polynomial of degree 2 in both lengths."""
    head = build_head(config, tensors).to("meta")

    def count(tokens: int, frames: int) -> float:
        steps = {"text": tokens, "audio": frames}
        features = {modality: torch.empty(1, length, tensors.dims[modality], device="meta") for modality, length in steps.items()}
        masks = {modality: torch.empty(1, length, dtype=torch.bool, device="meta") for modality, length in steps.items()}
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            head(Batch(features, masks, *(torch.empty(0) for _ in range(3))))
        return counter.get_total_flops() / 1e9

    def terms(tokens: Any, frames: Any) -> np.ndarray:
        t, a = np.broadcast_arrays(np.asarray(tokens, float), np.asarray(frames, float))
        return np.stack([np.ones_like(t), t, a, t * t, t * a, a * a], -1)

    nodes = list(itertools.product((1, 40, FULL["text"]), (1, 150, FULL["audio"])))
    coefficients = np.linalg.lstsq(terms(*zip(*nodes, strict=True)), np.array([count(*node) for node in nodes]))[0]
    return lambda tokens, frames: terms(tokens, frames) @ coefficients


def plan_gflop(config: RunConfig, tensors: CorpusTensors, rows: np.ndarray, work: Work) -> float:
    """Forward work of an epoch's batches, each padded to its longest clip."""
    lengths = tensors.lengths
    return sum(len(part) * float(work(*(lengths[m][part].max() for m in FULL))) for part in epoch_plan(config, tensors, rows, 1))


def ways(preset: str, setup: Setup, tensors: CorpusTensors, work: Work) -> dict[str, Way]:
    """The epochs to compare, each with one thing less to do than the one before."""
    precision, rows, model = setup.options.precision, np.arange(len(setup.clips.texts)), setup.model
    plain, ours = configure(preset, precision, False, model), configure(preset, precision, True, model)
    bfloat16 = configure(preset, "bfloat16", True, model)
    full, encoding = len(rows) * float(work(*FULL.values())), len(rows) * setup.encoder_gflop
    shuffled, alike = (plan_gflop(config, tensors, rows, work) for config in (plain, ours))
    found = {
        "encoders tuned": Way(plain, Encoded(tensors, setup, True), full + encoding, 3 * (full + encoding)),
        "encoders frozen": Way(plain, Encoded(tensors, setup, False), full + encoding, 3 * full + encoding),
        "cached, padded": Way(plain, Padded(tensors), full, 3 * full),
        "cached, shuffled": Way(plain, tensors, shuffled, 3 * shuffled),
        "ours": Way(ours, tensors, alike, 3 * alike),
    }
    return found if precision == "bfloat16" else found | {"ours, bfloat16": Way(bfloat16, tensors, alike, 3 * alike)}


def train(engine: SingleEngine, way: Way, rows: np.ndarray) -> None:
    """One epoch on some rows."""
    run = engine.run
    run.config, run.tensors, run.rows = way.config, way.source, rows
    run.steps_per_epoch = len(run.plan())
    train_epoch([run], engine)


def rows_of(
    times: Mapping[str, Sequence[float]], found: Mapping[str, Way], count: int, peaks: Mapping[str, float]
) -> Iterator[list[str]]:
    """The table of one preset."""
    ours, before = statistics.median(times["ours"]), None
    for name, values in times.items():
        median, way = statistics.median(values), found[name]
        cells = [name, spread(values), f"{median / count:.3f}", f"{count / median:.2f}", f"{median / ours:.2f}×"]
        cells.append(f"{before / median:.2f}×" if before else "")
        yield [*cells, f"{way.forward_gflop / count:.1f}", f"{way.gflop / median / peaks[way.config.train.precision]:.0%}"]
        before = median


class Epochs(NamedTuple):
    """The ways of one preset, ready to be timed."""

    engine: SingleEngine
    found: Mapping[str, Way]
    rows: np.ndarray
    work: Work

    @classmethod
    def prepare(cls, preset: str, setup: Setup) -> "Epochs":
        """Caches features, and takes one step of each way."""
        config = configure(preset, setup.options.precision, False, setup.model)
        tensors = cached(setup.folder / preset, setup.lengths, setup.dims, setup.options.device)
        engine = SingleEngine(Run(config, tensors, RunFolder(setup.folder / preset / "run")))
        engine.optimizer.add_param_group({"params": [*setup.encoders.text.parameters(), *setup.encoders.audio.parameters()]})
        work = head_gflop(config, tensors)
        made = cls(engine, ways(preset, setup, tensors, work), np.arange(len(setup.clips.texts)), work)
        for way in made.found.values():
            train(engine, way, made.rows[: mmml.BATCH])
        return made

    def times(self, rounds: int, device: str) -> dict[str, list[float]]:
        """Way → seconds of an epoch in each round."""
        return in_turns({name: partial(train, self.engine, way, self.rows) for name, way in self.found.items()}, rounds, device)


def compare(preset: str, setup: Setup) -> None:
    """Measures and prints one preset."""
    options, epochs = setup.options, Epochs.prepare(preset, setup)
    peaks = {precision: peak_gflops(options.device, getattr(torch, precision)) for precision in ("float32", "bfloat16")}
    times = epochs.times(options.rounds, options.device)
    alone = epochs.work(*(setup.lengths[modality] for modality in FULL)).mean()
    header = ["way", "s an epoch", "s a clip", "clips/s", "× ours", "gain over last", "GFLOP a clip, forward", "of peak"]
    print(f"\n{preset}, {options.precision} unless said; peak of a matrix product: ", end="")
    print(", ".join(f"{precision} {peak:,.0f} GFLOP/s" for precision, peak in peaks.items()))
    print(f"the head for a clip alone: {alone:.1f} GFLOP forward; the encoders for a padded one: {setup.encoder_gflop:.1f}")
    print(aligned(list(rows_of(times, epochs.found, len(epochs.rows), peaks)), header))


def whole_epoch(setup: Setup) -> None:
    """Measures and prints an epoch of paper-mosi at CMU-MOSI's size on a GPU."""
    device, folder = setup.options.device, setup.folder / "whole"
    config = configure("paper-mosi", "bfloat16", True)
    lengths = {modality: np.resize(values, MOSI_CLIPS) for modality, values in setup.lengths.items()}
    tensors = cached(folder, lengths, setup.dims, device)
    engine = SingleEngine(Run(config, tensors, RunFolder(folder / "run")))
    useful = float(head_gflop(config, tensors)(*(lengths[modality] for modality in FULL)).sum())
    way, rows = Way(config, tensors, useful, 3 * useful), np.arange(MOSI_CLIPS)
    train(engine, way, rows[: 10 * mmml.BATCH])
    peak = peak_gflops(device, torch.bfloat16)
    values = in_turns({"epoch": partial(train, engine, way, rows)}, setup.options.rounds, device)["epoch"]
    share = way.gflop / statistics.median(values) / peak
    count = launches(partial(train, engine, way, rows[: mmml.BATCH]))
    print(
        f"\npaper-mosi, bfloat16, {MOSI_CLIPS:,} clips: {spread(values)} s an epoch; {way.gflop / 1e3:,.0f} TFLOP of useful work, ",
        end="",
    )
    print(f"{share:.0%} of the measured peak of {peak:,.0f} GFLOP/s; {count:,} launches a step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=SAMPLE / "mosi", help="default: the bundled sample")
    parser.add_argument("--clips", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--preset", nargs="+", default=["light", "paper-mosi"], help="default: light paper-mosi")
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: %(default)s")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="of all ways (default: %(default)s)")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32, in convolutions too
    clips = mmml.in_files(*mmml.choose_clips(options.root, options.clips))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = mmml.make_checkpoints(folder)
        encoders = mmml.Encoders(paths, options.device, "eager")
        sizes = {"text": mmml.TOKENS, "audio": mmml.SECONDS * SAMPLE_RATE_HZ}
        encoder_gflop = sum(mmml.encoder_gflop(paths, modality, [size])[0] for modality, size in sizes.items())
        setup = Setup(options, folder, clips, lengths_of(encoders.tokenizer, clips), encoders, encoder_gflop)
        print(f"{options.clips} clips on {options.device}, {clips.seconds.mean():.2f} s, ", end="")
        print(f"{setup.lengths['text'].mean():.1f} tokens and {setup.lengths['audio'].mean():.0f} frames on average")
        for preset in options.preset:
            compare(preset, setup)
        if options.device != "cpu":
            whole_epoch(setup)


if __name__ == "__main__":
    main()
