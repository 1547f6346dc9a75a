"""Small runs that can be trained in one pack and differ in everything that may differ there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import small_runs
import torch
from caches import make_cache
from small_heads import TRAINED, small_options

from heads.models import options
from heads.models.registry import HEADS
from heads.runs.config import make_config
from heads.runs.folder import RunFolder
from heads.runs.run_data import LoadedCache
from heads.training.loop import Run
from heads.training.packed_engine import signature

TOGETHER = [name for name in TRAINED if HEADS[name].packs]
"""Heads that can be trained together."""

MIXTURES = {
    "mlore": {"model.mixture.blocks": 1, "model.mixture.ranks": [1, 2, 3], "model.mixture.task_rank": 2},
    "mod-squad": {"model.mixture.blocks": 1, "model.mixture.experts": 3, "model.mixture.hidden": 4},
    "demt": {"model.mixture.blocks": 1, "model.mixture.width": 8, "model.mixture.heads": 2},
}
TRAIN = {"train.batch_size": 8, "train.max_epochs": 2, "train.patience": 9, "train.warmup": 0.1, "train.average": 0.0}

UNLIKE = [
    {
        "seed": 1,
        "train.lr": 0.003,
        "train.weight_decay": 0.0,
        "train.clip_norm": None,
        "train.schedule": "linear",
        "train.max_epochs": 1,
        "loss.sentiment_weight": 0.5,
    },
    {
        "seed": 2,
        "train.lr": 0.001,
        "train.weight_decay": 0.1,
        "train.clip_norm": 0.5,
        "train.average": 0.5,
        "train.warmup": 0.5,
        "train.reset_optimizer": True,
        "loss.emotion_weight": 2.0,
    },
    {
        "seed": 7,
        "train.lr": 0.005,
        "train.clip_value": 0.02,
        "train.schedule": "plateau",
        "train.plateau_patience": 0,
        "train.plateau_factor": 0.2,
        "train.patience": 2,
        "train.average": 0.8,
    },
]
"""Differences of three runs of a pack, besides dropout, top-k and labels."""

LABELS = [
    {"data.emotions": "annotated", "train.select": "mae"},
    {"data.emotions": "pseudo", "data.minimum_similarity": -0.2},
    {"data.emotions": "pseudo", "data.minimum_similarity": 0.3, "train.keep": ["acc7"]},
]
"""Their labels, if sentiment is learned: then missing emotions leave no row out."""

Changes = Mapping[str, object]
"""Dotted name → value."""


def make_cache_for_packs(folder: Path, layers: Mapping[str, Sequence[int]] = MappingProxyType({})) -> LoadedCache:
    """Make and open a cache of two corpora with emotions and a ledger, and several layers of some modalities."""
    for corpus in ("mosi", "mosei"):
        make_cache(folder, corpus=corpus, utterances=30, ledger=True, layers=layers)
    return LoadedCache(folder, torch.device("cpu"))


def run(loaded: LoadedCache, head: str = "pre-fusion", changes: Changes = {}, folder=None) -> Run:  # noqa: B006 - never changed
    """Make a small run that has not begun."""
    if head in MIXTURES or not hasattr(HEADS[head].options(), "mixture"):
        mixture = MIXTURES.get(head, {})
    else:
        names = options.names(HEADS[head].options)
        mixture = {name: value for name, value in small_runs.SMALL_MIXTURE.items() if name.removeprefix("model.") in names}
    given = dict(options.items({"model": small_options(head)})) | mixture | TRAIN | dict(changes)
    corpus, preset = str(given.pop("corpus", "mosi")), str(given.pop("preset", "light"))
    run_data = loaded.open(make_config(head, corpus, preset, options.nested(given)))
    return Run(run_data.config, run_data.tensors, RunFolder(folder or loaded.cache / "no run"))


def signature_of(run: Run) -> object:
    """Return the signature of a run."""
    return signature(run.config, run.tensors)


def unlike(head: str) -> list[Changes]:
    """Return three points for this head that differ in everything that may differ."""
    names = options.names(HEADS[head].options)
    dropout = [name for name in names if name.endswith("dropout")]
    points = []
    for number, point in enumerate(UNLIKE):
        labels = LABELS[number] if HEADS[head].task != "mer" else {}
        rates = {f"model.{name}": 0.1 + 0.15 * number for name in dropout}
        top_k = {"model.mixture.top_k": number + 1} if "mixture.top_k" in names else {}
        points.append({**point, **labels, **rates, **top_k} | ({"train.select": "loss"} if HEADS[head].task == "mer" else {}))
    return points
