"""The configuration of a run: head, corpus, data, losses and training. Presets are YAML files in `heads/presets`.

Options are built from text and checked in `heads.models.options`; the options of a head are beside that head. This module imports
torch only with a head.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from data.errors import InputError, reason, shown
from data.feature_sets import DEFAULT, expect_own_name, modality_of
from data.labels import LabelSet
from data.lookup import expect, lookup
from heads.evaluation.metrics import CLASS_METRIC, DEFAULT_METRICS, higher_is_better, metric_named, metrics_of
from heads.models import options, own
from heads.models.options import FREE, ZERO_OR_NOT, option
from heads.models.registry import HEADS, MEDIAN, Entry, find
from heads.models.strict_yaml import parse_yaml
from heads.models.tasks import CROSS_ENTROPY, TASKS, LossOptions

PRESETS = {path.stem: path for path in sorted((Path(__file__).parent.parent / "presets").glob("*.yaml"))}
DEFAULT_PRESET, NATIVE = "light", "native"
_OF_RECIPE = ("train", "loss", "data", "model")
"""Sections of options that the RECIPE of a head of one's own may set."""

EMOTION_CHOICES = ("auto", "annotated", "pseudo")
"""auto: annotated where the corpus has them, else pseudo. The others are `data.targets.EMOTION_SOURCES`, which is not imported here
because pandas comes with it; a test compares the two."""

AUTO = "auto"
PRECISIONS = ("float32", "tf32", "bfloat16")
"""Precisions of products. A run that is trained has one of them in its configuration and its key, never "auto"."""

_MODALITIES_WITH_SETS = ("text", "audio")
"""Modalities of which a cache may have several feature sets; each has an option of its name in `DataOptions`."""

LARGEST_SEED = 2**32 - 1
"""The largest seed of scikit-learn and of NumPy's older generators; a table of trials has no room for more than 64 bits."""


@dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """Numbers of the cached layers that a run reads, in this order; None: all that are cached."""

    text: tuple[int, ...] | None = option(None, least=-1, omitted=True)
    audio: tuple[int, ...] | None = option(None, least=-1, omitted=True)

    def picked(self) -> dict[str, tuple[int, ...]]:
        """Returns modality → picked layers, for modalities of which some are picked."""
        return {modality: numbers for modality in ("text", "audio") if (numbers := getattr(self, modality)) is not None}


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The part of the cache that a run reads.

    modalities: text, audio, or features of another tool under the name of their import.
    text: The set of text features, [text.NAME] of luigi.cfg: NAME, a list of several, or default (the section [text]).
    audio: The same for [audio.NAME].
    emotions: annotated; pseudo (from the table of pseudo-labels, the ledger); auto: annotated if the corpus has any, else pseudo.
    minimum_similarity: Pseudo emotions below it count as unlabelled.
    """

    modalities: tuple[str, ...] = ("text", "audio")
    text: tuple[str, ...] | str | None = option(None, omitted=True)
    audio: tuple[str, ...] | str | None = option(None, omitted=True)
    emotions: str = option("auto", choices=EMOTION_CHOICES, kind="source of emotions", in_pack=FREE)
    minimum_similarity: float = option(0.0, in_pack=FREE)
    text_limit: int | None = 96  # tokens; MMML's
    audio_limit: int | None = 299  # frames of the encoder: 6 s, MMML's
    like_lengths: bool = True  # batches of clips of like length: less padding, same clips in an epoch
    layers: LayerOptions = field(default_factory=LayerOptions)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The recipe of training: batches, optimizer, schedule, early stopping.

    patience: Epochs without a better validation value before training stops.
    select: The validation value that selects the epoch: loss, mae, mean_wf1, or any metric.
    keep: Further validation values whose best epoch is kept beside it.
    optimizer: adam has weight decay as an L2 penalty.
    warmup: Share of the steps of max_epochs in which the learning rate rises to `lr`.
    schedule: After the warmup: constant, linear (to zero), plateau (lowered when the validation loss does not fall).
    plateau_patience: Epochs without a lower validation loss before the learning rate is lowered.
    plateau_factor: The factor by which it is lowered.
    clip_norm: Largest norm of the gradient of all parameters.
    clip_value: Largest absolute value of each number of the gradient.
    reset_optimizer: Forgets the optimizer's moments at the end of every epoch, as MMML does.
    average: Decay of a moving average of the parameters, which is then evaluated and kept instead of them; 0: none.
    precision: float32, tf32 (GPU), bfloat16 (autocast); auto: tf32 on CUDA, else float32 (`with_precision`).
    length_multiple: Lengths of training batches are rounded up to a multiple of it, so that there are few shapes; the padding is masked
        and changes the result by rounding only. None: 16 on CUDA, else 1.
    modality_dropout: Probability with which each modality of an utterance is replaced by learned features in training, never two at a
        time; 0: never. The run can then predict clips that lack one.
    step: eager, or graphed: steps are recorded as CUDA graphs (`heads.training.graphed_steps`).
    """

    batch_size: int = option(32, above=0)
    accumulate: int = option(1, above=0)  # batches a step
    max_epochs: int = option(50, above=0, in_pack=FREE)
    patience: int = option(8, above=0, in_pack=FREE)
    select: str = option("loss", in_pack=FREE)
    keep: tuple[str, ...] = option(("mae", "mean_wf1"), in_pack=FREE)
    optimizer: str = option("adamw", choices=("adamw", "adam"))
    lr: float = option(1e-4, above=0, in_pack=FREE)
    weight_decay: float = option(0.01, least=0, in_pack=FREE)
    warmup: float = option(0.05, least=0, below=1, in_pack=FREE)
    schedule: str = option("constant", choices=("constant", "linear", "plateau"), in_pack=FREE)
    plateau_patience: int = option(10, least=0, in_pack=FREE)
    plateau_factor: float = option(0.1, above=0, in_pack=FREE)
    clip_norm: float | None = option(1.0, above=0, in_pack=FREE)
    clip_value: float | None = option(None, above=0, in_pack=FREE)
    reset_optimizer: bool = option(False, in_pack=FREE)
    average: float = option(0.0, least=0, below=1, in_pack=FREE)
    precision: str = option(AUTO, choices=(AUTO, *PRECISIONS))
    length_multiple: int | None = option(None, omitted=True)
    modality_dropout: float = option(0.0, least=0, most=0.5, in_pack=ZERO_OR_NOT, omitted=True)
    step: str = option("eager", choices=("eager", "graphed"), omitted=True)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that determines a run's result, besides the features themselves."""

    head: str  # a key of HEADS, or the full name of a head of one's own
    corpus: str
    preset: str = option(DEFAULT_PRESET, in_pack=FREE)
    task: str = option("both", choices=TASKS)
    seed: int = option(1, least=0, most=LARGEST_SEED, in_pack=FREE)
    data: DataOptions = field(default_factory=DataOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    model: Any = None  # the head's own Options
    head_source: str | None = option(None, omitted=True)  # of a head of one's own: `heads.models.own.OwnHead.source`

    @property
    def reads_features(self) -> bool:
        """True if the head reads features."""
        return self.head != MEDIAN

    def as_dict(self) -> dict[str, Any]:
        """Returns a nested mapping that JSON can hold."""
        return options.as_dict(self)

    def key(self) -> str:
        """Returns a short hash of everything but the seed, and but the folder of a head of one's own."""
        parts = self.as_dict() | {"seed": None, "head": own.short_name(self.head)}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]

    def __reduce__(self) -> tuple[Any, ...]:
        """Sends a configuration to another process as what config.json holds, and the source of a head of one's own with it."""
        entry = HEADS[self.head]
        text = entry.own.text if entry.own is not None and own.is_file(self.head) else None
        return _received, (self.as_dict(), text)


def _received(values: dict[str, Any], text: bytes | None) -> RunConfig:
    if text is not None:
        own.from_text(values["head"], text)
    return from_mapping(values, "a configuration from another process")


def make_config(
    head: str, corpus: str, preset: str | None = None, changes: Mapping[str, Any] | None = None, where: str = "--set"
) -> RunConfig:
    """Makes a configuration from a preset and changes.

    Args:
        head: A name that `heads.models.registry.find` knows.
        corpus: Name in the cache.
        preset: A key of `PRESETS`, or the path of a YAML file; None: the default preset of the head.
        changes: Nested mapping of the options that differ from the preset.
        where: The source of the changes, for messages.

    Raises:
        InputError: A name or value is unknown, or is one of the arguments above.
    """
    head = find(head)
    entry = HEADS[head]
    preset = preset or default_preset(head)
    is_file = preset.endswith((".yaml", ".yml"))
    path = Path(preset) if is_file else lookup(PRESETS, preset, "preset")
    values = _for_head(read_yaml(path) if is_file else _shipped(preset), head, entry, str(path))
    if entry.own is not None and preset == NATIVE:
        values = _with_recipe(values, entry.own)
    for name in ("head", "corpus", "preset", "head_source"):
        if name in values or name in (changes or {}):
            source = str(path) if name in values else where
            raise InputError(f"{source}: {name} cannot be set here. Give --{'head' if name == 'head_source' else name}.")
    config = from_mapping({"head": head, "corpus": corpus, "preset": preset, "task": entry.task or "both"} | values, str(path))
    config = change(config, changes or {}, where)
    if entry.task and config.task != entry.task:
        raise InputError(f"Head {shown(head)} learns the task {shown(entry.task)} only, asked for {shown(config.task)}.")
    return config


def from_mapping(values: Mapping[str, Any], where: str) -> RunConfig:
    """Makes a configuration from what `as_dict` returned, or a part of it.

    Raises:
        InputError: A name or value is unknown.
    """
    values = dict(values)
    model = values.pop("model", None)
    config = options.build(RunConfig, values, where)
    entry = HEADS[config.head] if own.is_reference(config.head) else HEADS[find(config.head, f"head in {where}")]
    chosen = options.build(entry.options, {} if model is None else model, f"{where}: model")
    return _checked(dataclasses.replace(config, model=chosen, head_source=_source(config, entry, where)), where)


def default_preset(head: str) -> str:
    """Returns the preset of a head for which none is chosen: native for a head of one's own with a RECIPE, else the usual one."""
    found = HEADS[head].own
    return NATIVE if found is not None and found.recipe else DEFAULT_PRESET


def _with_recipe(values: dict[str, Any], head: own.OwnHead) -> dict[str, Any]:
    """Returns the values of a preset with those of the head's RECIPE in their place."""
    recipe = dict(options.items(options.nested(dict(options.items(head.recipe)))))
    if wrong := [name for name in recipe if name.partition(".")[0] not in _OF_RECIPE]:
        raise InputError(f"{head.file}: RECIPE: {shown(wrong[0])} cannot be set here, only options of {', '.join(_OF_RECIPE)}.")
    return options.nested(dict(options.items(values)) | recipe)


def _source(config: RunConfig, entry: Entry, where: str) -> str | None:
    """Returns the source of a head of one's own, which has to be the one that the configuration names, if it names one."""
    if entry.own is None:
        if config.head_source is not None:
            raise InputError(f"{where}: head_source is {shown(config.head_source)}, but {config.head} is a head of this program.")
        return None
    if config.head_source not in (None, entry.own.source):
        raise InputError(
            f"{where}: head {shown(own.short_name(config.head))} was another version (source {config.head_source}) of {entry.own.file},"
            f" which has changed since (source {entry.own.source}). Restore that version, or train again with this one."
        )
    return entry.own.source


def change(config: RunConfig, values: Mapping[str, Any], where: str) -> RunConfig:
    """Returns a copy with some options changed, as in `options.change`; the model's under "model".

    Raises:
        InputError: A name or value is unknown.
    """
    values = dict(values)
    model = options.change(config.model, values.pop("model", {}), f"{where}: model")
    bare = options.change(dataclasses.replace(config, model=None), values, where)
    return _checked(dataclasses.replace(bare, model=model), where)


def default_precision(device_type: str) -> str:
    """Returns the precision that "auto" means on a device: tf32 on CUDA, where it costs heads nothing that seeds do not hide."""
    return "tf32" if device_type == "cuda" else "float32"


def with_precision(config: RunConfig, precision: str) -> RunConfig:
    """Returns the configuration with this precision in the place of "auto"; simple baselines, which do not train, have float32."""
    if config.train.precision != AUTO:
        return config
    settled = "float32" if HEADS[config.head].simple else precision
    return dataclasses.replace(config, train=dataclasses.replace(config.train, precision=settled))


def with_labels(config: RunConfig, labels: LabelSet) -> RunConfig:
    """Returns the configuration for the labels of its corpus: where they are classes, cross-entropy in the place of bce, and wf1 in
    that of mean_wf1 among the metrics that are kept.

    Raises:
        InputError: The loss is not one of such labels, or the metric that selects the epoch.
    """
    loss, train = config.loss, config.train
    if labels.is_exclusive and "mer" in TASKS[config.task]:
        if loss.emotion not in (CROSS_ENTROPY, LossOptions().emotion):
            raise InputError(f"loss.emotion is {loss.emotion}, but the emotions of {config.corpus} are classes: use {CROSS_ENTROPY}.")
        loss = dataclasses.replace(loss, emotion=CROSS_ENTROPY)
        kept = tuple(CLASS_METRIC if name == DEFAULT_METRICS["mer"] else name for name in train.keep)
        train = dataclasses.replace(train, keep=kept)
    elif loss.emotion == CROSS_ENTROPY and not labels.is_exclusive:
        raise InputError(f"loss.emotion is {CROSS_ENTROPY}, but the emotions of {config.corpus} are no classes: use bce.")
    if train.select != "loss":
        expect(metrics_of(labels), train.select, f"metric of the labels of {config.corpus} (train.select)")
    return dataclasses.replace(config, loss=loss, train=train)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        InputError: The file is missing or no YAML mapping, or a name is given twice.
    """
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file.") from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({reason(error)}).") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping of names to values, found {type(values).__name__}.")
    return values


@cache
def _parsed(preset: str) -> dict[str, Any]:
    return read_yaml(PRESETS[preset])


def _shipped(preset: str) -> dict[str, Any]:
    """Returns the content of a preset that comes with the program, parsed once in a process."""
    return copy.deepcopy(_parsed(preset))


@cache
def _options_of_family() -> frozenset[str]:
    """Lists the dotted names of all options of MMoLRE's family of heads."""
    from heads.models.mmolre import FamilyOptions  # imports torch

    kinds = {entry.options for entry in HEADS.values() if issubclass(entry.options, FamilyOptions)}
    return frozenset(name for kind in kinds for name in options.names(kind))


def _is_of_family(entry: Entry) -> bool:
    from heads.models.mmolre import FamilyOptions  # imports torch

    return issubclass(entry.options, FamilyOptions)


def _for_head(values: dict[str, Any], head: str, entry: Entry, where: str) -> dict[str, Any]:
    """Picks the values of a preset that concern one head.

    The section "heads" holds values for single heads. The section "model" is for MMoLRE's family: options that this head does not have
    are left out, unless no head of the family has them.
    """
    of_heads = _section(values.pop("heads", None), f"{where}: heads")
    of_heads = {find(str(name), f"head in {where}"): values for name, values in of_heads.items()}
    given = dict(options.items(_section(values.pop("model", None), f"{where}: model")))
    if unknown := [name for name in given if name not in _options_of_family()]:
        raise InputError(
            f"{where}: model: no head of MMoLRE's family has an option {shown(unknown[0])}. Options of another head go below heads."
        )
    own_options = options.names(entry.options) if _is_of_family(entry) else []
    kept = {name: value for name, value in given.items() if name in own_options}
    only = dict(options.items(_section(of_heads.get(head), f"{where}: heads.{head}")))
    return options.nested(dict(options.items(values)) | {f"model.{name}": value for name, value in kept.items()} | only)


def _with_sets(data: DataOptions, where: str) -> DataOptions:
    """Returns the options with one form for each choice of feature sets: None for the set without a name, a text for a single one."""
    for modality in _MODALITIES_WITH_SETS:
        chosen = getattr(data, modality)
        if chosen is None:
            continue
        names = (chosen,) if isinstance(chosen, str) else chosen
        if not names:
            raise InputError(f"{where}: data.{modality} is empty, expected names of feature sets, or nothing (null) for the usual one.")
        if len(set(names)) < len(names):
            raise InputError(f"{where}: data.{modality} names one twice: {', '.join(names)}.")
        if modality not in data.modalities:
            raise InputError(f"{where}: data.{modality} is {shown(chosen)}, but data.modalities has no {modality}.")
        for name in names:
            if name != DEFAULT:
                expect_own_name(name, f"{where}: data.{modality}")
        data = dataclasses.replace(data, **{modality: None if names == (DEFAULT,) else names[0] if len(names) == 1 else names})
    return data


def _section(values: Any, where: str) -> Mapping[str, Any]:
    if values is not None and not isinstance(values, Mapping):
        raise InputError(f"{where} is {shown(values)}, expected names with values.")
    return values or {}


def _checked(config: RunConfig, where: str) -> RunConfig:
    """Returns the configuration, checked: each option by what its field declares, then those that depend on each other."""
    options.check(config, where)
    if not config.data.modalities and config.reads_features:
        raise InputError(f"{where}: data.modalities is empty, expected text, audio or both.")
    if len(set(config.data.modalities)) < len(config.data.modalities):
        raise InputError(f"{where}: data.modalities names one twice: {', '.join(config.data.modalities)}.")
    for modality in config.data.modalities:
        if modality_of(modality) != modality:
            family, _, own = modality.partition(".")
            raise InputError(
                f"{where}: data.modalities has {shown(modality)}, a set of {family}. Name {family} there: data.{family}={own}."
            )
    config = dataclasses.replace(config, data=_with_sets(config.data, where))
    for name in (config.train.select, *config.train.keep):
        higher_is_better(name)  # raises if there is no such metric
    # the selected epoch needs a value; a metric that is only kept may be of a task that is not learned
    select = config.train.select
    if select != "loss" and metric_named(select).task not in TASKS[config.task]:
        raise InputError(f"{where}: train.select is {select}, which task {shown(config.task)} does not have.")
    return config
