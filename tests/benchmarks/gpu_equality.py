"""Equality, for `gpu.py`: what a GPU computes is what the CPU computes, alone, in packs, in batches and after an interruption.

In float64 whole trainings are compared. In float32 the first step is: Adam takes steps of full size for gradients that are zero but for
rounding, so that later steps differ by more than the rounding itself.
"""

import copy
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import small_packs
import tiny_checkpoints
import torch
from gpu_inputs import DIM, SMALL_DIM, SMALL_MODEL
from gpu_rows import Row, Rows, Setting, counted, equal, failed, figure, skipped
from random_cache import write_corpus
from small_heads import TRAINED
from torch import Tensor

from data.tensors import CorpusTensors
from heads.models.registry import HEADS
from heads.runs.config import make_config
from heads.runs.folder import RunFolder
from heads.runs.run_data import LoadedCache
from heads.training import loop
from heads.training.loop import Engine, Run, train_epoch
from heads.training.packed_engine import PackedEngine
from heads.training.single_engine import SingleEngine
from pipeline.encoding import encoders as encoding
from pipeline.encoding import extract
from pipeline.settings import CHECKOUT, EncoderSettings

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
"""Largest difference, relative to the largest value of what is compared."""

ALONE_TOLERANCE = 1e-5
"""Largest absolute difference of a feature to that of the utterance alone, in float32."""

CPU_TOLERANCE = 1e-4
"""The same to the CPU, whose sums have another order."""

EPOCHS = 2
SOME_HEADS = ("baseline-msa", "self-mm")
"""Of the short form: one in packs, and one that is trained alone, with labels of its own."""


class Trained(NamedTuple):
    """What K runs came to."""

    first_losses: Tensor  # (K,)
    gradients: Tensor  # (K, P), of the first step
    losses: Tensor  # (epochs, K)
    parameters: list[dict[str, Tensor]]

    def difference(self, other: "Trained", is_whole: bool) -> float:
        """Largest difference of the first step, or of the whole training, relative to the largest value of each part."""
        pairs = [(self.first_losses, other.first_losses), (self.gradients, other.gradients)]
        if is_whole:
            pairs.append((self.losses, other.losses))
            for mine, theirs in zip(self.parameters, other.parameters, strict=True):
                pairs += [(mine[name], theirs[name]) for name in theirs]
        return max(relative(a, b) for a, b in pairs)


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value; NaN unless all values are finite."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    difference, largest = float((found - expected).abs().max()), float(expected.abs().max())
    return difference / largest if largest else difference


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    """New parameters have this type, and so has what heads bring back to full precision after autocast by `Tensor.float`."""
    before, as_float = torch.get_default_dtype(), torch.Tensor.float
    torch.set_default_dtype(dtype)
    torch.Tensor.float = lambda self: self.to(dtype)  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.float = as_float  # type: ignore[method-assign]
        torch.set_default_dtype(before)


def in_type(tensors: CorpusTensors, dtype: torch.dtype) -> CorpusTensors:
    """The same features, with batches and labels of this type."""
    other = copy.copy(tensors)
    other._dtype = dtype
    other.sentiment, other.emotions = tensors.sentiment.to(dtype), tensors.emotions.to(dtype)
    return other


def train(runs: Sequence[Run], make: Callable[[], Engine], epochs: int) -> Trained:
    """Trains runs for some epochs with one engine."""
    engine: Any = make()
    step, accumulate = engine.step, engine.accumulate
    losses: list[Tensor] = []
    found: list[Tensor] = []

    def watched_accumulate(*arguments: Any) -> Tensor:
        loss = accumulate(*arguments)
        losses.append(loss.detach().reshape(-1).clone())
        return loss

    def watched_step(rates: Sequence[float]) -> None:
        if not found:
            found.append(gradients(engine))
        step(rates)

    engine.accumulate, engine.step = watched_accumulate, watched_step
    means = []
    for epoch in range(1, epochs + 1):
        means.append(train_epoch(runs, engine))
        for run in runs:
            run.history.append({"epoch": epoch, "valid_loss": 1.0})  # as if evaluated, so that the next epoch is the next
    return Trained(losses[0], found[0], torch.tensor(means), [engine.parameters(number) for number in range(len(runs))])


def gradients(engine: Any) -> Tensor:
    """(K, P), zero where there is none."""
    if isinstance(engine, PackedEngine):
        return engine.flat.grad.detach().clone()
    parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in engine.head.parameters()]
    return torch.cat([part.detach().flatten() for part in parts])[None]


def alone(runs: Sequence[Run], epochs: int) -> Trained:
    """Trains runs one after another."""
    found = [train([run], lambda run=run: SingleEngine(run), epochs) for run in runs]
    first, gradient, losses = ([getattr(one, name) for one in found] for name in ("first_losses", "gradients", "losses"))
    return Trained(torch.cat(first), torch.cat(gradient), torch.cat(losses, 1), [one.parameters[0] for one in found])


class Caches(NamedTuple):
    """The same cache, opened on the CPU and on the device."""

    cpu: LoadedCache
    device: LoadedCache

    @classmethod
    def open(cls, folder: Path, device: str) -> "Caches":
        return cls(LoadedCache(folder, torch.device("cpu")), LoadedCache(folder, torch.device(device)))


MakeRuns = Callable[[LoadedCache, torch.dtype], list[Run]]


def compared(caches: Caches, make: MakeRuns, dtype: torch.dtype, packs: bool, epochs: int) -> dict[str, float]:
    """Way → its difference to training alone on the CPU."""
    is_whole = dtype == torch.float64
    with default(dtype):
        expected = alone(make(caches.cpu, dtype), epochs)
        found = {"alone": alone(make(caches.device, dtype), epochs).difference(expected, is_whole)}
        if packs:
            runs = make(caches.device, dtype)
            found["in packs"] = train(runs, lambda: PackedEngine(runs), epochs).difference(expected, is_whole)
    return found


def runs_of(head: str) -> MakeRuns:
    """Two small runs of a head that differ in everything that may differ in a pack."""

    def make(loaded: LoadedCache, dtype: torch.dtype) -> list[Run]:
        runs = [small_packs.run(loaded, head, changes) for changes in small_packs.unlike(head)[1:]]
        return [Run(run.config, in_type(run.tensors, dtype), run.folder) for run in runs]

    return make


def heads(setting: Setting) -> Rows:
    """All heads, small, on a small cache; then mmolre at the sizes of its presets."""
    folder = setting.folder / "small"
    small_packs.make_cache_for_packs(folder)
    caches = Caches.open(folder, setting.device)
    names = SOME_HEADS if setting.is_small else TRAINED
    for dtype in TOLERANCE:
        yield from _all_heads(caches, names, dtype, setting.small_or(1, EPOCHS))
    yield from _presets(setting)


def _all_heads(caches: Caches, names: Sequence[str], dtype: torch.dtype, epochs: int) -> Rows:
    found: dict[str, dict[str, float]] = {"alone": {}, "in packs": {}}
    for head in names:
        try:
            for way, difference in compared(caches, runs_of(head), dtype, HEADS[head].packs, epochs).items():
                found[way][head] = difference
        except Exception as error:  # the other heads go on
            yield failed(f"{head}, {_name(dtype)}", error, True)
    for way, differences in found.items():
        yield from _worst(f"heads {way}, CPU = GPU, {_name(dtype)}", differences, TOLERANCE[dtype])


def _worst(what: str, differences: Mapping[str, float], most: float) -> Rows:
    """The largest difference, with the names of what is beyond the tolerance."""
    if not differences:
        yield failed(what, "nothing could be compared", True)
        return
    beyond = {name: value for name, value in differences.items() if not value <= most}
    worst = max(differences, key=lambda name: np.nan_to_num(differences[name], nan=np.inf))
    note = f"{len(differences)} heads, worst: {worst}"
    if beyond:
        note += "; beyond: " + ", ".join(f"{name} {value:.0e}" for name, value in beyond.items())
    yield equal(what, differences[worst], most, note=note)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _presets(setting: Setting) -> Rows:
    """mmolre at the sizes of its presets, on 24 clips of the lengths of a real corpus."""
    folder = setting.folder / "presets"
    dim = SMALL_DIM if setting.is_small else DIM
    write_corpus(folder, {"train": setting.small_or(8, 16), "valid": 8, "test": 0}, {"text": dim, "audio": dim})
    caches = Caches.open(folder, setting.device)
    for preset in ("light",) if setting.is_small else ("light", "paper-mosi"):
        for dtype in TOLERANCE:
            found = compared(caches, _preset_runs(preset, setting), dtype, True, 1)
            for way, difference in found.items():
                yield equal(f"mmolre {preset} {way}, CPU = GPU, {_name(dtype)}", difference, TOLERANCE[dtype])


def _preset_runs(preset: str, setting: Setting) -> MakeRuns:
    def make(loaded: LoadedCache, dtype: torch.dtype) -> list[Run]:
        changes: dict[str, Any] = {"data": {"emotions": "annotated"}, "train": {"batch_size": 8}}
        if setting.is_small:
            changes = {"model": SMALL_MODEL, "data": {"emotions": "annotated", "audio_limit": 32}, "train": {"batch_size": 8}}
        runs = []
        for seed in (1, 2):
            run_data = loaded.open(make_config("mmolre", "mosi", preset, changes | {"seed": seed}))
            runs.append(Run(run_data.config, in_type(run_data.tensors, dtype), RunFolder(loaded.cache / "no run")))
        return runs

    return make


def encoders(setting: Setting) -> Rows:
    """Small encoders of several architectures: batches against utterances alone, and the device against the CPU."""
    kinds = {"text": ("roberta", "bert", "deberta-v2", "mpnet"), "audio": ("data2vec-audio", "wav2vec2-group-norm", "hubert")}
    for modality, architectures in kinds.items():
        for architecture in architectures[:1] if setting.is_small else architectures:
            try:
                yield from _encoder(setting, modality, architecture)
            except Exception as error:  # the other architectures go on
                yield failed(f"{modality} encoder {architecture}", error, True)


def _encoder(setting: Setting, modality: str, architecture: str) -> Rows:
    write = tiny_checkpoints.write_text_checkpoint if modality == "text" else tiny_checkpoints.write_audio_checkpoint
    source = write(setting.folder / f"{modality}-{architecture}", architecture)
    settings = EncoderSettings(str(source.folder))
    encoder, reference = (encoding.make(modality, source, settings, device) for device in (setting.device, "cpu"))
    inputs = list(_utterances(modality))
    items = list(extract.prepare(encoder, inputs, [str(row) for row, _ in inputs]))
    together: dict[int, np.ndarray] = {}
    extract.extract(encoder, iter(items), together.__setitem__)
    single = {row: encoder.encode([item])[0] for row, item in items}
    on_cpu = {row: reference.encode([item])[0] for row, item in items}
    for what, expected, most in (("batched = alone", single, ALONE_TOLERANCE), ("GPU = CPU", on_cpu, CPU_TOLERANCE)):
        worst = max(float(np.abs(together[row] - expected[row]).max()) for row in expected)
        yield equal(f"{modality} encoder {architecture}, {what}, float32", worst, most, "absolute")


def _utterances(modality: str) -> Iterator[tuple[int, Any]]:
    random = np.random.default_rng(0)
    for row in range(12):
        if modality == "text":
            yield row, " ".join(random.choice(tiny_checkpoints.WORDS, size=int(random.integers(2, 30))))
        else:
            yield row, random.standard_normal(int(random.integers(2_000, 24_000)), "f4")


class _Stopped(Exception):
    """Stands for whatever ends a process."""


def resumed(setting: Setting) -> Rows:
    """Runs that stop after their first epoch and go on from their files, alone and as a pack, against undisturbed ones."""
    folder = setting.folder / "resumed"
    small_packs.make_cache_for_packs(folder)
    loaded = LoadedCache(folder, torch.device(setting.device))
    with default(torch.float64):
        expected = _finals(loaded, folder / "undisturbed", False, False)
        for name, in_pack in (("alone", False), ("in a pack", True)):
            found = _finals(loaded, folder / name.replace(" ", "-"), in_pack, True)
            worst = max(relative(one[key], other[key]) for one, other in zip(found, expected, strict=True) for key in other)
            yield equal(f"resumed {name} = undisturbed, float64", worst, TOLERANCE[torch.float64])
    again = [_finals(loaded, folder / f"again-{number}", False, False) for number in range(2)]
    worst = max(relative(one[key], other[key]) for one, other in zip(*again, strict=True) for key in other)
    yield figure("the same run twice, float32", worst, "relative", "0: bit for bit")


def _finals(loaded: LoadedCache, folder: Path, in_pack: bool, is_stopped: bool) -> list[dict[str, Tensor]]:
    """The parameters of two runs of 2 epochs at their best epoch."""
    changes = [{**point, "train.max_epochs": 2, "train.patience": 9} for point in small_packs.unlike("pre-fusion")[:2]]

    def make() -> list[Run]:
        runs = [small_packs.run(loaded, "pre-fusion", one, folder / str(number)) for number, one in enumerate(changes)]
        return [Run(run.config, in_type(run.tensors, torch.get_default_dtype()), run.folder) for run in runs]

    def go(runs: Sequence[Run], advance: Callable[[int, str], None] = lambda steps, note: None) -> None:
        for group in [list(runs)] if in_pack else [[run] for run in runs]:
            engine = PackedEngine(group) if in_pack else SingleEngine(group[0])
            try:
                loop.train_runs(group, engine, _raise, advance=advance)
            except _Stopped:
                continue

    runs = make()
    if is_stopped:
        usual, loop.SAVE_EVERY_S = loop.SAVE_EVERY_S, 0.0
        try:
            go(runs, _stop_in_second_epoch(runs))
        finally:
            loop.SAVE_EVERY_S = usual
        runs = make()
        if any(run.folder.saved_epochs != 1 for run in runs):
            raise RuntimeError("the runs were not saved after their first epoch")
    go(runs)
    return [run.best[run.config.train.select] for run in runs]


def _raise(run: Run, error: Exception | None) -> None:
    if error:
        raise error


def _stop_in_second_epoch(runs: Sequence[Run]) -> Callable[[int, str], None]:
    last = {id(run): 0 for run in runs}

    def advance(steps: int, note: str) -> None:
        if not steps:
            return
        if any(run.epoch > last[id(run)] for run in runs):
            last.update({id(run): run.epoch for run in runs})
            raise _Stopped

    return advance


def pytest_gpu(setting: Setting) -> Rows:
    """The tests that need a GPU, in a process of their own."""
    what = "pytest -m gpu"
    if not setting.is_gpu:
        yield skipped(what, "there is no GPU")
        return
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(CHECKOUT)})
    yield from outcome(what, result.stdout, result.returncode)


def outcome(what: str, output: str, status: int) -> Iterator[Row]:
    """Rows of what pytest printed."""
    last = (output.strip().splitlines() or [""])[-1]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    if status or not counts:
        yield failed(what, f"status {status}: {last}", True)
    else:
        yield counted(f"{what}: passed", counts.get("passed", 0), 1, last)
        if counts.get("skipped"):
            yield skipped(f"{what}: {counts['skipped']} tests", "they say why with -rs")
