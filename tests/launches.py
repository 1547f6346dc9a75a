"""Trains and evaluates every head, and encodes clips, on a device that is not there, and counts launches, copies and waits.

    PYTHONPATH=tests python -m fake_cuda LIBRARY launches FOLDER everyday|all   prints each case as a line of JSON
    PYTHONPATH=tests python -m fake_cuda LIBRARY launches FOLDER CASE …         prints where the launches of some cases come from, the
                                                                                second time that each is run

`watch.py` says what is counted. The numbers are those of a small corpus: heads that read whole videos launch kernels for each utterance
of the longest video, and the longest here has five. Tables that the program keeps count in the first case that needs them.
"""

import functools
import gc
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from caches import make_cache
from tiny_checkpoints import WORDS, write_audio_checkpoint, write_text_checkpoint
from watch import Watch, on_the_device

from heads.models import options
from heads.models.registry import HEADS
from heads.runs.config import make_config
from heads.runs.folder import RunFolder
from heads.runs.run_data import LoadedCache
from heads.training.loop import Run, together
from heads.training.packed_engine import PackedEngine
from heads.training.single_engine import SingleEngine
from pipeline.encoding import encoders
from pipeline.settings import EncoderSettings

DEVICE = "cuda:0"


class Case(NamedTuple):
    """What is run."""

    head: str
    what: str = "step"  # or evaluation, or streamed step
    runs: int = 1  # of a pack
    preset: str = "light"
    precision: str = "float32"

    def __str__(self) -> str:
        return f"{self.what} of {self.head}{f' × {self.runs}' if self.runs > 1 else ''}, {self.preset}, {self.precision}"


_TRAINED = [name for name, entry in HEADS.items() if entry.head]
_RARELY = ("baseline-mer", "moe", "demt", "mult", "multilogue-net", "tbje", "mr", "corect")
"""Heads whose steps are not run every day: those that take seconds here, and those that are built as another one is."""


def everyday_cases() -> Iterator[Case]:
    """Yield a step of most heads alone, and one of all else that takes another way through the program.

    Operations in tf32 are those in float32, with another setting.
    """
    for name in _TRAINED:
        if name not in _RARELY:
            yield Case(name)
    yield Case("pre-fusion", runs=2)
    yield Case("pre-fusion", precision="bfloat16")
    yield Case("baseline-msa", precision="tf32")
    yield Case("baseline-msa", "streamed step")
    yield Case("pre-fusion", "evaluation", precision="bfloat16")


def further_cases() -> Iterator[Case]:
    """Yield what takes minutes: all other heads, packs of every head that has them, other evaluations, presets and native recipes.

    A native recipe differs in optimizer, clipping and sizes; that of misa clips values.
    """
    for name in _RARELY:
        yield Case(name)
    yield Case("mmolre", precision="bfloat16")
    yield Case("mmolre", preset="paper-mosi")
    for name in _TRAINED:
        if HEADS[name].packs:
            for runs in (2, 16):
                yield Case(name, runs=runs)
    for name in ("misa", "mmml", "unimse-head"):  # the latter two have a learning rate for each parameter
        yield Case(name, preset="native")
    for name in _TRAINED:
        yield Case(name, "evaluation", precision="bfloat16")


def cases(which: str) -> list[Case]:
    """Return the everyday cases, or "all"."""
    further = further_cases() if which == "all" else ()
    return list(dict.fromkeys([*everyday_cases(), *further]))


class Corpus:
    """A small cache, on the device, or streamed."""

    def __init__(self, folder: Path) -> None:
        cache = make_cache(folder / "cache", utterances=100, text_dim=96, audio_dim=96)
        device = torch.device(DEVICE)
        self.loaded, self.streamed = LoadedCache(cache, device), LoadedCache(cache, device, memory_bytes=0)

    def watched(self, case: Case, locate: bool) -> Watch:
        """Run a case and return what was counted."""
        source = self.streamed if case.what == "streamed step" else self.loaded
        changes = {"train.precision": case.precision, "data.emotions": "annotated"}
        seeds = range(1, case.runs + 1)
        opened = [source.open(make_config(case.head, "mosi", case.preset, options.nested({**changes, "seed": seed}))) for seed in seeds]
        runs = [Run(one.config, one.tensors, RunFolder(Path("none"))) for one in opened]
        engine = PackedEngine(runs) if case.runs > 1 else SingleEngine(runs[0])
        if case.what == "evaluation":
            with Watch(locate) as watch:
                engine.evaluate()
            return watch
        rates = [1e-3] * case.runs
        engine.begin(HEADS[case.head].head.stages[-1], [2] * case.runs)
        for parameter in [engine.flat] if isinstance(engine, PackedEngine) else engine.head.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        engine.step(rates)  # makes the state of the optimizer, so that the next step is one of many
        plan = [together(parts) for parts in zip(*(run.plan() for run in runs), strict=True)]
        keys = torch.zeros(case.runs, dtype=torch.int64, device=DEVICE)
        with Watch(locate) as watch:
            engine.accumulate(next(opened[0].tensors.batches(plan)), keys, 1.0)
            engine.step(rates)
        return watch


def known(locate: bool) -> Watch:
    """Do what has known counts: products, a wait, two copies that are waited for, and one that is not."""
    values = torch.ones(3, 3, device=DEVICE)
    with Watch(locate) as watch:
        product = values @ values
        product[0, 0].item()
        torch.ones(3).to(DEVICE, non_blocking=True)  # not from pinned memory
        torch.ones(3).pin_memory().to(DEVICE, non_blocking=True)
        product.add_(1).cpu()
    return watch


def mixed(locate: bool) -> Watch:
    """Add what is on two devices."""
    with Watch(locate) as watch:
        torch.ones(3, device=DEVICE).add_(torch.ones(3))
    return watch


def encoded(encoder: Any, inputs: list[Any], precision: str, locate: bool) -> Watch:
    """Encode a padded batch."""
    prepared = [encoder.prepare(one) for one in inputs]
    encoder.model = encoder.model.to(device=DEVICE, dtype=getattr(torch, precision))
    encoder.device, encoder.dtype = DEVICE, getattr(torch, precision)
    with Watch(locate) as watch:
        encoder.encode(prepared)
    return watch


def _encoder(modality: str, source: Any) -> Any:
    return encoders.make(modality, source, EncoderSettings("tiny"), trainable=True)  # weights are packed for the CPU otherwise


def everything(folder: Path, which: str) -> Iterator[tuple[str, Callable[[bool], Watch]]]:
    """Yield the name of each case, and what runs it."""
    sources = {
        "text": write_text_checkpoint(folder / "text", "roberta"),
        "audio": write_audio_checkpoint(folder / "audio", "data2vec-audio"),
    }
    texts, noise = [" ".join(WORDS[:count]) for count in (9, 5)], np.random.default_rng(0).standard_normal
    clips = {"text": texts, "audio": [noise(samples, "f4") for samples in (9_000, 16_000)]}
    made = {(m, precision): _encoder(m, source) for m, source in sources.items() for precision in ("float32", "bfloat16")}
    with on_the_device():
        yield "known operations", known
        yield "mixed devices", mixed
        for (modality, precision), encoder in made.items():
            yield f"encoding of {modality}, {precision}", functools.partial(encoded, encoder, clips[modality], precision)
        corpus = Corpus(folder)
        for case in cases(which):
            yield str(case), functools.partial(corpus.watched, case)


def main() -> None:
    folder, *asked = sys.argv[1:]
    gc.disable()  # it would take a fifth of the time, of a process that ends soon
    counted = asked if asked in (["everyday"], ["all"]) else []
    for name, run in everything(Path(folder), counted[0] if counted else "all"):
        if counted:
            print(json.dumps({"case": name, **_counted(run)}), flush=True)
        elif name in asked:
            run(False)  # makes tables
            watch = run(True)
            print(f"{name}: {watch.launches.total():,} launches")
            for counts in (watch.launches, watch.places):
                print(*(f"{count:7,d} {what}" for what, count in counts.most_common(60)), sep="\n")


def _counted(run: Callable[[bool], Watch]) -> dict[str, Any]:
    try:
        return run(False).facts()
    except (RuntimeError, NotImplementedError) as error:  # of mixed devices or dtypes, or of a result whose size is unknown
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
