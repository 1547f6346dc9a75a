"""Adapting an encoder once, caching its features and training 24 heads on them, against fine-tuning it inside every trial.

    python tests/benchmarks/bench_adaptation.py [--model minilm|FOLDER] [--steps 6] [--trials 24]
                                                [--heads mmolre ridge] [--precision float32|bfloat16]

The corpus has CMU-MOSI's size, 1,284 training, 229 validation and 686 test clips, with random sentences of 3 to 24 words. Measured are
a few optimiser steps of the adaptation and the validation clips, the caching of all texts, and one training of each head (preset light,
one after the other, without packing), to its end; totals are multiples of these. Ours is 5 epochs of adaptation, the caching, and the
trials. The alternative is 5 epochs of fine-tuning in every trial; what the head itself costs there is not counted. Weights and labels
do not matter for the time of a step.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from data.reporting.tables import aligned
from heads.runs.config import make_config
from heads.runs.folder import RunFolder
from heads.runs.run_data import open_run_data
from heads.training.fit import fit
from pipeline import steps
from pipeline.adaptation import training
from pipeline.adaptation.clips import Clips, Labels, in_memory
from pipeline.adaptation.model import TaskModel
from pipeline.adaptation.recipe import Recipe
from pipeline.encoding import encoders, extract
from pipeline.encoding.checkpoints import locate
from pipeline.plan import Plan, make_plan
from pipeline.settings import AdaptSettings, CorpusSettings, EncoderSettings, Settings

WORDS = ["really", "this", "plot", "was", "a", "calm", "delight", "though", "nobody", "in", "our", "row", "laughed", "or", "cried"]
CLIPS = {"train": 1284, "valid": 229, "test": 686}


def write_corpus(root: Path) -> None:
    """Writes a label.csv of CMU-MOSI's size."""
    random = np.random.default_rng(0)
    splits = [split for split, count in CLIPS.items() for _ in range(count)]
    rows = [
        {
            "id": f"{split}{number // 20}_{number}",
            "video_id": f"{split}{number // 20}",
            "clip_id": number,
            "text": " ".join(random.choice(WORDS, size=int(random.integers(3, 25)))),
            "label": round(float(random.uniform(-3, 3)), 1),
            "mode": split,
        }
        for number, split in enumerate(splits)
    ]
    root.mkdir()
    pd.DataFrame(rows).to_csv(root / "label.csv", index=False)


def build(root: Path, model: str) -> Plan:
    """Plans a build of the corpus's text features."""
    settings = Settings(
        cache=root / "cache",
        corpora=(CorpusSettings("clips", "folder", root / "clips"),),
        text=EncoderSettings(model),
        audio=EncoderSettings("tiny-data2vec"),
        sentence=EncoderSettings(model),
        modalities=("text",),
        shard_clips=10_000,
    )
    return make_plan(settings)


def cache_features(plan: Plan) -> None:
    """Encodes all texts and writes their feature file, manifest and index."""
    features, corpus = plan.features["clips", "text"], plan.corpora["clips"]
    steps.make_manifest(corpus, "stop", 1, lambda count: None)
    steps.make_shard(plan, features, features.shards[0], "cpu", torch.get_num_threads(), lambda count: None)
    steps.merge_shards(plan, features)
    steps.write_index(plan)


def train_head(plan: Plan, head: str, out: Path) -> None:
    """Trains one head to its end."""
    config = make_config(head, "clips", changes={"task": "msa", "data": {"modalities": ["text"]}})
    fit(open_run_data(config, plan.settings.cache, torch.device("cpu")), RunFolder(out))


def course(plan: Plan, model: str, precision: str, num_steps: int) -> training.Course:
    """Returns an adaptation with so many optimiser steps an epoch."""
    recipe, settings = Recipe.of(AdaptSettings(precision=precision), "text"), EncoderSettings(model)
    source = locate("text", settings)
    encoder = encoders.make("text", source, settings, trainable=True)
    table = plan.corpora["clips"].corpus.utterances

    def clips(split: str, count: int) -> Clips:
        rows = table[table["split"] == split].head(count)
        items = in_memory(extract.prepare(encoder, enumerate(rows["text"]), rows["utterance_id"].tolist()))
        labels = Labels(rows["sentiment"].to_numpy(np.float32), np.full((count, 6), np.nan, np.float32))
        return Clips(tuple(rows["utterance_id"]), items, labels, tuple(item.cost for item in items))

    job = training.Job("clips text", "", recipe, source, plan.settings.cache / "encoders" / "none", {})
    train, valid = clips("train", recipe.step_size * num_steps), clips("valid", CLIPS["valid"])
    return training.Course(job, TaskModel(encoder, recipe), train, valid)


def timed(work: Callable[[], Any]) -> float:
    """Returns the seconds that some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_gb() -> float:
    """Returns the largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--steps", type=int, default=6, help="optimiser steps that are measured")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--heads", nargs="+", default=["mmolre", "ridge"])
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_corpus(root / "clips")
        plan = build(root, options.model)
        caching = timed(lambda: cache_features(plan))
        heads = {head: timed(lambda head=head: train_head(plan, head, root / head)) for head in options.heads}
        light = peak_gb()
        one = course(plan, options.model, options.precision, options.steps)
        one.learn(1, lambda count: None)  # warms up
        step = timed(lambda: one.learn(2, lambda count: None)) / options.steps
        validation = timed(one.validate)
    epochs = one.settings.epochs
    epoch = step * -(-CLIPS["train"] // one.job.recipe.step_size) + validation
    theirs = options.trials * epochs * epoch
    rows = [
        ["one optimiser step of 16 clips (measured)", f"{step:.2f} s"],
        ["one epoch of adaptation, validation included", f"{epoch:.1f} s"],
        [f"{epochs} epochs of adaptation", f"{epochs * epoch:.0f} s"],
        ["caching 2,199 texts (measured)", f"{caching:.1f} s"],
        ["peak memory of caching and of heads", f"{light:.1f} GB"],
        ["peak memory of adapting or fine-tuning", f"{peak_gb():.1f} GB"],
        [f"fine-tuning inside each of {options.trials} trials", f"{theirs / 60:.1f} min"],
    ]
    for head, seconds in heads.items():
        ours = epochs * epoch + caching + options.trials * seconds
        rows.append([f"one {head} (measured)", f"{seconds:.1f} s"])
        rows.append([f"ours: adapt once, cache, {options.trials} times {head}; ratio", f"{ours / 60:.1f} min; {theirs / ours:.1f}"])
    print(f"{options.model}, {options.precision}, {torch.get_num_threads()} threads; steps are measured, totals follow from them")
    print(aligned(rows, ["", "time or memory"]))


if __name__ == "__main__":
    main()
