"""The configuration of a run: what is trained on what, and how. Presets are YAML files in `heads/presets`.

How options are built from text is in `heads.models.options`; what a head can be told is beside that head.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from data.errors import InputError
from data.lookup import expect, lookup
from data.targets import EMOTION_SOURCES
from heads.evaluation.metrics import HIGHER_IS_BETTER, SENTIMENT_METRICS
from heads.models import options
from heads.models.base import TASKS
from heads.models.losses import EMOTION_LOSSES, REDUCTIONS, SENTIMENT_LOSSES, LossOptions
from heads.models.mmolre import FamilyOptions
from heads.models.registry import HEADS, MEDIAN

PRESETS = {path.stem: path for path in sorted((Path(__file__).parent.parent / "presets").glob("*.yaml"))}
DEFAULT_PRESET = "light"

PRECISIONS = ("float32", "tf32", "bfloat16")
OPTIMIZERS = ("adamw", "adam")
SCHEDULES = ("constant", "linear", "plateau")
EMOTION_CHOICES = ("auto", *EMOTION_SOURCES)
"""auto: annotated where the corpus has them, else pseudo."""

LARGEST_SEED = 2**32 - 1
"""Of a run, as scikit-learn and NumPy's older generators have it; a table of trials has no room for more than 64 bits."""

_TRAIN_POSITIVE = ("batch_size", "accumulate", "max_epochs", "patience", "lr", "plateau_factor", "clip_norm", "clip_value")
_POSITIVE = {f"train.{name}" for name in _TRAIN_POSITIVE}
_NOT_NEGATIVE = {"train.weight_decay", "train.plateau_patience", "loss.sentiment_weight", "loss.emotion_weight"}
_SHARES = {"train.warmup", "train.average"}
_MAY_BE_ZERO = {"past", "future", "memory"}
"""Whole numbers of a model that are no sizes or counts of its parts; their heads say what they may be."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What is read from the cache."""

    modalities: tuple[str, ...] = ("text", "audio")
    emotions: str = "auto"  # annotated, pseudo (from the ledger), auto: annotated if the corpus has any, else pseudo
    minimum_similarity: float = 0.0  # pseudo emotions below it count as unlabelled
    text_limit: int | None = 96  # tokens; MMML's
    audio_limit: int | None = 299  # frames: 6 s, MMML's
    like_lengths: bool = True  # batches of clips of like length: less padding, same clips in an epoch


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How it is optimised."""

    batch_size: int = 32
    accumulate: int = 1  # batches a step
    max_epochs: int = 50
    patience: int = 8  # epochs without a better validation value
    select: str = "loss"  # the validation value that chooses the epoch: loss, mae, mean_wf1, or any metric
    keep: tuple[str, ...] = ("mae", "mean_wf1")  # further validation values whose best epoch is kept beside it
    optimizer: str = "adamw"  # adamw, adam (weight decay as an L2 penalty)
    lr: float = 1e-4
    weight_decay: float = 0.01
    warmup: float = 0.05  # share of the steps of max_epochs in which the learning rate rises to `lr`
    schedule: str = "constant"  # after that: constant, linear (to zero), plateau (lowered when the validation loss stays)
    plateau_patience: int = 10  # epochs without a lower validation loss before it is lowered
    plateau_factor: float = 0.1  # what it is multiplied with then
    clip_norm: float | None = 1.0  # of the gradient of all parameters
    clip_value: float | None = None  # of every number of the gradient
    reset_optimizer: bool = False  # forgets the optimizer's moments at the end of every epoch, as MMML does
    average: float = 0.0  # decay of a moving average of the parameters, which is then what is evaluated and kept; 0: none
    precision: str = "float32"  # float32, tf32 (GPU), bfloat16 (autocast)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that determines a run's result, besides the features themselves."""

    head: str
    corpus: str
    preset: str = DEFAULT_PRESET
    task: str = "both"
    seed: int = 1
    data: DataOptions = field(default_factory=DataOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    model: Any = None  # the head's own Options

    @property
    def reads_features(self) -> bool:
        """Whether the head looks at features."""
        return self.head != MEDIAN

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, nested."""
        return dataclasses.asdict(self)

    def key(self) -> str:
        """A short hash of everything but the seed."""
        parts = self.as_dict() | {"seed": None}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]


def make_config(
    head: str, corpus: str, preset: str = DEFAULT_PRESET, changes: Mapping[str, Any] | None = None, where: str = "--set"
) -> RunConfig:
    """A preset with changes.

    Args:
        head: A key of `HEADS`.
        corpus: Name in the cache.
        preset: A key of `PRESETS`, or the path of a YAML file.
        changes: Nested mapping of what differs from the preset.
        where: Where the changes come from, for messages.

    Raises:
        InputError: A name or value is unknown, or is one of the arguments above.
    """
    entry = lookup(HEADS, head, "head")
    path = Path(preset) if preset.endswith((".yaml", ".yml")) else lookup(PRESETS, preset, "preset")
    values = _for_head(read_yaml(path), head, entry.options, str(path))
    for name in ("head", "corpus", "preset"):
        if name in values or name in (changes or {}):
            raise InputError(f"{str(path) if name in values else where}: {name} cannot be set here. Give --{name}.")
    config = from_mapping({"head": head, "corpus": corpus, "preset": preset, "task": entry.task or "both"} | values, str(path))
    config = change(config, changes or {}, where)
    if entry.task and config.task != entry.task:
        raise InputError(f"Head {head!r} learns the task {entry.task!r} only, asked for {config.task!r}.")
    return config


def from_mapping(values: Mapping[str, Any], where: str) -> RunConfig:
    """A configuration from what `as_dict` gave, or a part of it.

    Raises:
        InputError: A name or value is unknown.
    """
    values = dict(values)
    model = values.pop("model", None)
    config = options.build(RunConfig, values, where)
    entry = lookup(HEADS, config.head, f"head in {where}")
    chosen = options.build(entry.options, {} if model is None else model, f"{where}: model")
    return _checked(dataclasses.replace(config, model=chosen), where)


def change(config: RunConfig, values: Mapping[str, Any], where: str) -> RunConfig:
    """A copy with some options changed, as in `options.change`; the model's under "model"."""
    values = dict(values)
    model = options.change(config.model, values.pop("model", {}), f"{where}: model")
    bare = options.change(dataclasses.replace(config, model=None), values, where)
    return _checked(dataclasses.replace(bare, model=model), where)


class _Loader(yaml.SafeLoader):
    """Refuses a name that is given twice in a mapping, of which YAML takes the last."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        known = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in known:
                raise yaml.composer.ComposerError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            known.add(key.value)
        return node


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping.

    Raises:
        InputError: The file is missing or no YAML mapping, or a name is given twice.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file.") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping of names to values, found {type(values).__name__}.")
    return values


def _for_head(values: dict[str, Any], head: str, kind: type, where: str) -> dict[str, Any]:
    """A preset serves several heads: what it says under "heads" is for one of them; its model section is for MMoLRE's family, and what
    this head has no option for is left out, unless none of the family has it."""
    own = _section(values.pop("heads", None), f"{where}: heads")
    for name in own:
        lookup(HEADS, str(name), f"head in {where}")
    given = dict(options.items(_section(values.pop("model", None), f"{where}: model")))
    family = [entry.options for entry in HEADS.values() if issubclass(entry.options, FamilyOptions)]
    known = {name for one in family for name in options.names(one)}
    if unknown := [name for name in given if name not in known]:
        raise InputError(
            f"{where}: model: no head of MMoLRE's family has an option {unknown[0]!r}. What is for another head goes below heads."
        )
    own_options = options.names(kind) if issubclass(kind, FamilyOptions) else []
    kept = {name: value for name, value in given.items() if name in own_options}
    only = dict(options.items(_section(own.get(head), f"{where}: heads.{head}")))
    return options.nested(dict(options.items(values)) | {f"model.{name}": value for name, value in kept.items()} | only)


def _section(values: Any, where: str) -> Mapping[str, Any]:
    if values is not None and not isinstance(values, Mapping):
        raise InputError(f"{where} is {values!r}, expected names with values.")
    return values or {}


def _checked(config: RunConfig, where: str) -> RunConfig:
    lookup(TASKS, config.task, "task")
    expect(PRECISIONS, config.train.precision, "precision")
    expect(OPTIMIZERS, config.train.optimizer, "optimizer")
    expect(SCHEDULES, config.train.schedule, "schedule")
    expect(EMOTION_CHOICES, config.data.emotions, "source of emotions")
    lookup(SENTIMENT_LOSSES, config.loss.sentiment, "sentiment loss")
    lookup(EMOTION_LOSSES, config.loss.emotion, "emotion loss")
    lookup(REDUCTIONS, config.loss.emotion_reduction, "reduction")
    for name, value in options.flat(dataclasses.replace(config, model=None)):
        if name in _POSITIVE and value is not None and not value > 0:
            raise InputError(f"{where}: {name} is {value}, expected more than 0.")
        if name in _NOT_NEGATIVE and value < 0:
            raise InputError(f"{where}: {name} is {value}, expected 0 or more.")
        if name in _SHARES and not 0 <= value < 1:
            raise InputError(f"{where}: {name} is {value}, expected 0 to below 1.")
    if not 0 <= config.seed <= LARGEST_SEED:
        raise InputError(f"{where}: seed is {config.seed}, expected 0 to {LARGEST_SEED}.")
    _check_sizes(config.model, where)
    if not config.data.modalities and config.reads_features:
        raise InputError(f"{where}: data.modalities is empty, expected text, audio or both.")
    if len(set(config.data.modalities)) < len(config.data.modalities):
        raise InputError(f"{where}: data.modalities names one twice: {', '.join(config.data.modalities)}.")
    _check_selection(config, where)
    return config


def _check_sizes(model: Any, where: str) -> None:
    for name, value in options.flat(model):
        numbers = value if isinstance(value, tuple) else (value,)
        if name.rpartition(".")[2] not in _MAY_BE_ZERO and any(type(number) is int and number < 1 for number in numbers):
            raise InputError(f"{where}: model.{name} is {value}, expected 1 or more.")
        if name.endswith("lr_factor") and not value > 0:
            raise InputError(f"{where}: model.{name} is {value}, expected more than 0.")


def _check_selection(config: RunConfig, where: str) -> None:
    """The chosen epoch needs a value; one that is only kept beside it may be of a task that is not learned."""
    for name in (config.train.select, *config.train.keep):
        lookup(HIGHER_IS_BETTER, name, "metric")
    task = "msa" if config.train.select in SENTIMENT_METRICS else "mer"
    if config.train.select != "loss" and task not in TASKS[config.task]:
        raise InputError(f"{where}: train.select is {config.train.select}, which task {config.task!r} does not have.")
