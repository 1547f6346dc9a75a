"""Adapting encoders once, caching their features and training 24 heads on them, against fine-tuning them inside every trial.

    python tests/benchmarks/bench_adaptation.py [--text mpnet|minilm|FOLDER] [--audio random|none|FOLDER] [--precision float32|bfloat16]
                                                [--heads mmolre baseline-msa ridge] [--trials 24] [--steps 6]

A corpus of CMU-MOSI's size: 1,284 training, 229 validation and 686 test clips, texts of 3 to 24 random words, 1 to 7 s of noise. Text
is encoded by all-mpnet-base-v2 (extra `bench`), audio by a model of Data2Vec-audio-base's size with random weights: values do not
matter for the time of a step.

Measured are some optimiser steps of each encoder, the loss of some validation clips, the encoding of some clips (writing all features
takes 1.4 s more, see bench_feature_store.py), and the training of each head, preset light, for 20 epochs, on a cache of random
features; ours trains one after the other. Totals are multiples of these. Ours adapts each encoder for the epochs of its recipe, 5 of
text and 20 of audio, encodes all clips, and trains the heads. The alternative fine-tunes in every trial: text alone for 5 epochs, or
both encoders together for the 20 of audio. What the head costs in that loop is not counted.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import mpnet
import numpy as np
import torch
import transformers
from mmml import make_checkpoints
from random_cache import write_corpus

from data.media import SAMPLE_RATE_HZ
from data.reporting.tables import aligned
from heads.runs.config import make_config
from heads.runs.folder import RunFolder
from heads.runs.run_data import LoadedCache
from heads.training.fit import fit
from pipeline.adaptation import training
from pipeline.adaptation.clips import Clips, Labels, in_memory, shortened
from pipeline.adaptation.model import TaskModel
from pipeline.adaptation.recipe import Recipe
from pipeline.encoding import encoders, extract
from pipeline.encoding.checkpoints import locate
from pipeline.settings import AdaptSettings, EncoderSettings

WORDS = ["really", "this", "plot", "was", "a", "calm", "delight", "though", "nobody", "in", "our", "row", "laughed", "or", "cried"]
CLIPS = {"train": 1284, "valid": 229, "test": 686}
EPOCHS = 20
"""Of a head. With the preset light, early stopping ended trainings on real MOSI text after 15 to 30."""

SAMPLE = 64
"""Clips that are encoded, and validation clips of which the loss is computed."""


@dataclass(frozen=True)
class Costs:
    """Seconds of one encoder."""

    epoch: float  # of adaptation or fine-tuning, validation included
    epochs: int  # of its recipe
    encoding: float  # of all clips


def inputs(modality: str, count: int) -> Iterator[tuple[int, Any]]:
    """Yields (row, random text or noise) of some clips; the same ones in every call."""
    random = np.random.default_rng(0)
    for row in range(count):
        if modality == "text":
            yield row, " ".join(random.choice(WORDS, size=int(random.integers(3, 25))))
        else:
            yield row, random.standard_normal(int(random.uniform(1, 7) * SAMPLE_RATE_HZ), "f4")


def clips(encoder: Any, recipe: Recipe, split: str, count: int) -> Clips:
    """Returns clips of a split, ready for the encoder, with random sentiments."""
    ids = [f"{split}{number}" for number in range(count)]
    prepared = extract.prepare(encoder, inputs(recipe.modality, count), ids)
    if recipe.modality == "audio" and split == "train":
        prepared = shortened(encoder, prepared, recipe.settings.max_seconds)
    items = in_memory(prepared)
    sentiment = np.random.default_rng(1).uniform(-3, 3, count).astype("f4")
    return Clips(tuple(ids), items, Labels(sentiment, np.full((count, 6), np.nan, "f4")), tuple(item.cost for item in items))


class Measured(NamedTuple):
    """Seconds of the parts of an adaptation, of which whole corpora are multiples."""

    recipe: Recipe
    step: float  # of the optimizer
    validated: float  # a clip
    encoded: float  # a clip

    def of(self, clips: Mapping[str, int]) -> Costs:
        """The costs of a corpus with so many clips in each split."""
        epoch = self.step * -(-clips["train"] // self.recipe.step_size) + self.validated * clips["valid"]
        return Costs(epoch, self.recipe.settings.epochs, self.encoded * sum(clips.values()))


def measure(modality: str, model: str, precision: str, num_steps: int, device: str = "cpu", sample: int = SAMPLE) -> Measured:
    """Times some steps, and the validation and encoding of `sample` clips, after a first time that is not counted."""
    settings, recipe = EncoderSettings(model), Recipe.of(AdaptSettings(precision=precision), modality)
    fixed = encoders.load(modality, settings, device, "float32")
    prepared = list(extract.prepare(fixed, inputs(modality, sample), [str(row) for row in range(sample)]))
    if device != "cpu":
        extract.extract(fixed, iter(prepared), lambda row, values: None)  # warms up
    encoded = timed(lambda: extract.extract(fixed, iter(prepared), lambda row, values: None)) / sample
    source = locate(modality, settings)
    encoder = encoders.make(modality, source, settings, device, trainable=True)
    train, valid = (clips(encoder, recipe, *one) for one in (("train", recipe.step_size * num_steps), ("valid", sample)))
    job = training.Job(modality, "", recipe, source, Path(), {})
    course = training.Course(job, TaskModel(encoder, recipe), train, valid)
    course.learn(1, lambda count: None)  # warms up
    step = timed(lambda: course.learn(2, lambda count: None)) / num_steps
    return Measured(recipe, step, timed(course.validate) / sample, encoded)


def train_head(head: str, modalities: list[str], loaded: LoadedCache, folder: Path) -> float:
    """Returns the seconds in which one head trains to its end."""
    train = {"max_epochs": EPOCHS, "patience": EPOCHS}
    config = make_config(head, "mosi", changes={"task": "msa", "data": {"modalities": modalities}, "train": train})
    return timed(lambda: fit(loaded.open(config), RunFolder(folder / f"{head}-{len(modalities)}")))


def timed(work: Callable[[], Any]) -> float:
    """Returns the seconds that some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_gb() -> float:
    """Returns the largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def rows(costs: Mapping[str, Costs], heads: Mapping[str, float], trials: int) -> Iterator[list[str]]:
    """Yields what one set of modalities costs in both ways."""
    names = " + ".join(costs)
    together = max(one.epochs for one in costs.values())
    theirs = trials * together * sum(one.epoch for one in costs.values())
    adapting = sum(one.epoch * one.epochs for one in costs.values())
    encoding = sum(one.encoding for one in costs.values())
    yield [f"{names}: fine-tuning inside each of {trials} trials", f"{theirs / 60:,.1f} min", ""]
    yield [f"{names}: adapting once", f"{adapting / 60:,.1f} min", ""]
    yield [f"{names}: encoding {sum(CLIPS.values()):,} clips", f"{encoding / 60:,.1f} min", ""]
    for head, seconds in heads.items():
        ours = adapting + encoding + trials * seconds
        yield [f"{names}: ours with {trials} × {head} of {seconds:.1f} s", f"{ours / 60:,.1f} min", f"{theirs / ours:.1f}×"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default="mpnet")
    parser.add_argument("--audio", default="random")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="of learning; encoding is in float32")
    parser.add_argument("--heads", nargs="+", default=["mmolre", "baseline-msa", "ridge"])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--steps", type=int, default=6, help="optimiser steps that are measured")
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {"text": str(mpnet.folder()) if options.text == "mpnet" else options.text}
        if options.audio != "none":
            models["audio"] = str(make_checkpoints(folder)["audio"]) if options.audio == "random" else options.audio
        write_corpus(folder, CLIPS, dict.fromkeys(models, 768))
        loaded = LoadedCache(folder, torch.device("cpu"))
        sets = [["text"]] + [["text", "audio"]] * ("audio" in models)
        heads = [{head: train_head(head, one, loaded, folder) for head in options.heads} for one in sets]
        light = peak_gb()
        costs = {modality: measure(modality, model, options.precision, options.steps).of(CLIPS) for modality, model in models.items()}
    print(f"{models}, {options.precision}, {torch.get_num_threads()} threads; steps are measured, totals follow from them")
    table = [[f"{modality}: one epoch of adaptation", f"{one.epoch:,.1f} s", ""] for modality, one in costs.items()]
    for used, seconds in zip(sets, heads, strict=True):
        table += rows({modality: costs[modality] for modality in used}, seconds, options.trials)
    table += [["peak memory of training heads", f"{light:.1f} GB", ""], ["peak memory of adapting", f"{peak_gb():.1f} GB", ""]]
    print(aligned(table, ["", "time or memory", "ours is faster"]))


if __name__ == "__main__":
    main()
