"""Reads the settings of luigi.cfg and of the command line, as typed Luigi config classes.

Their meaning for a build is in `pipeline.settings`; each of them is explained in the shipped luigi.cfg. Luigi's own settings are in
`pipeline.luigi_setup`.
"""

from __future__ import annotations

import configparser
import contextlib
import difflib
import json
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import get_config
from luigi.parameter import ParameterException, UnconsumedParameterWarning
from luigi.task_register import Register

from data.corpora import CORPORA
from data.errors import InputError, shown
from data.feature_sets import expect_own_name, modality_of
from data.label_sets import OPEN, Statement, parse
from data.labels import MOSEI_LABELS
from data.lookup import expect, lookup
from pipeline import config_file
from pipeline.pseudo_labels import Rule
from pipeline.settings import CHECKOUT, SAMPLE, AdaptSettings, CorpusSettings, EncoderSettings, Settings

Section = TypeVar("Section", bound=luigi.Config)

_LARGEST = 2**31 - 1
_LONGEST_NAME, _LONGEST_PATH = 255, 4096
"""Bytes of one part and of all of a path (Linux: NAME_MAX, PATH_MAX)."""


class TextParameter(luigi.Parameter[str]):
    """A text of one line."""

    def parse(self, x: str) -> str:
        return _one_line(x)


class RootParameter(luigi.OptionalStrParameter):
    """A folder, or nothing."""

    def parse(self, x: str) -> str | None:
        return _one_line(x) or None


class WholeParameter(luigi.IntParameter):
    """A whole number that fits into 32 bits."""

    def parse(self, x: str) -> int:
        number = int(x)
        if abs(number) > _LARGEST:
            raise ValueError(f"expected a whole number of at most {_LARGEST:,}")
        return number


class NamesParameter(luigi.ListParameter):
    """A JSON list of texts."""

    def parse(self, x: str) -> tuple[str, ...]:
        names = _json(x)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError('expected a list of names, such as ["mosi", "meld"]')
        return tuple(map(_one_line, names))


class OptionalNamesParameter(luigi.OptionalListParameter):
    """A JSON list of texts, or null."""

    def parse(self, x: str) -> tuple[str, ...] | None:
        return None if x.strip() in ("", "null") else NamesParameter().parse(x)


class TableParameter(luigi.DictParameter):
    """A JSON object of texts."""

    def parse(self, x: str) -> dict[str, str]:
        table = _json(x)
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise ValueError('expected names with their values, such as {"interviews": "/data/interviews"}')
        return {_one_line(name): _one_line(value) for name, value in table.items()}


def _one_line(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValueError("expected one line without control characters; a line that begins with a space continues the line above")
    return text


def _json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            raise ValueError("a name occurs twice")
        return table

    try:
        return json.loads(text, object_pairs_hook=once)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at character {error.pos + 1}); names stand in double quotes") from None


_LAYERS = "-1 (last hidden state), a number (0: embeddings; n: after block n), a list 6,9,12, all, or mean(-4..-1)."


class corpora(luigi.Config):
    """The folders of the corpora. A corpus without a root is not used; without any root, the bundled sample is built."""

    mosi: RootParameter = RootParameter(description="Root of CMU-MOSI.")
    mosei: RootParameter = RootParameter(description="Root of CMU-MOSEI.")
    meld: RootParameter = RootParameter(description="Root of MELD.")
    iemocap: RootParameter = RootParameter(description="Root of IEMOCAP.")
    folders: TableParameter = TableParameter(
        default={}, description='Your own clips: name → folder with a label.csv, such as {"interviews": "/data/interviews"}.'
    )
    features: NamesParameter = NamesParameter(default=(), description="Corpora that get token features; [] means all.")
    modalities: NamesParameter = NamesParameter(default=("text", "audio"), description="Modalities of the token features.")
    labels: TableParameter = TableParameter(
        default={}, description='Label sets: corpus → statement, such as {"meld": "meld7", "sims": "[-1, 1]"}; see docs/labels.md.'
    )
    iemocap_test_session: WholeParameter = WholeParameter(
        default=5, description="Session of IEMOCAP that is the test split; the session before it is valid."
    )


class build(luigi.Config):
    """The folder of the results, and how they are computed."""

    cache: TextParameter = TextParameter(default=str(CHECKOUT / "cache"), description="Folder of all results.")
    dtype: TextParameter = TextParameter(default="float16", description="Type of the stored values: float16 or float32.")
    precision: TextParameter = TextParameter(default="float32", description="Arithmetic of the encoders: float32 or bfloat16.")
    on_bad_media: TextParameter = TextParameter(
        default="stop", description="Treatment of clips that cannot be decoded: stop (the build lists them) or exclude."
    )
    device: TextParameter = TextParameter(default="auto", description="auto (a GPU if there is one), cpu or cuda.")
    shard_clips: WholeParameter = WholeParameter(
        default=512, description="Largest number of utterances in a shard, the unit of work and the most that a kill loses."
    )
    decoders: WholeParameter = WholeParameter(
        default=0, description="Recordings that a worker decodes at a time: 1 in its own process, more in others; 0: automatic."
    )
    players: TextParameter = TextParameter(
        default="link", description="Sounds of the report's players: link (the media where they lie), embed (in the page) or none."
    )


class text(luigi.Config):
    """The encoder of token features."""

    model: TextParameter = TextParameter(default="minilm", description="minilm, roberta-base, roberta-large, owner/name or a folder.")
    revision: TextParameter = TextParameter(default="", description="Branch, tag or commit of a hub model; empty: its main branch.")
    layers: TextParameter = TextParameter(default="-1", description=_LAYERS)
    case: TextParameter = TextParameter(default="sentence", description="sentence (first character unchanged), lower or keep.")
    max_tokens: WholeParameter = WholeParameter(default=0, description="Longest text in tokens; 0: as many as the model takes.")
    context: WholeParameter = WholeParameter(
        default=0, description="Previous utterances of the video that are read before each text; only its own tokens are stored."
    )
    adapted: luigi.BoolParameter = luigi.BoolParameter(
        default=False, description="The model is the folder of an encoder that a build has adapted; its features count as that build's."
    )


class audio(luigi.Config):
    """The encoder of speech."""

    model: TextParameter = TextParameter(
        default="tiny-data2vec",
        description="tiny-data2vec (untrained), data2vec-audio-base, data2vec-audio-large, owner/name or a folder.",
    )
    revision: TextParameter = TextParameter(default="", description="Branch, tag or commit of a hub model; empty: its main branch.")
    layers: TextParameter = TextParameter(default="-1", description=_LAYERS)
    frame_rate_hz: luigi.FloatParameter = luigi.FloatParameter(
        default=0.0, description="Frames a second that are stored, each the mean of several of the encoder's; 0: all of them."
    )
    context_s: luigi.FloatParameter = luigi.FloatParameter(
        default=0.0, description="Seconds of the video's speech that are read before each clip; only its own frames are stored."
    )
    adapted: luigi.BoolParameter = luigi.BoolParameter(
        default=False, description="The model is the folder of an encoder that a build has adapted; its features count as that build's."
    )


class sentence(luigi.Config):
    """The encoder that compares sentences for pseudo-labels."""

    model: TextParameter = TextParameter(
        default="minilm", description="minilm, sup-simcse-roberta-base, unsup-simcse-roberta-base, …-large, owner/name or a folder."
    )
    revision: TextParameter = TextParameter(default="", description="Branch, tag or commit of a hub model; empty: its main branch.")
    case: TextParameter = TextParameter(default="sentence", description="sentence (first character unchanged), lower or keep.")
    max_tokens: WholeParameter = WholeParameter(default=0, description="Longest text in tokens; 0: as many as the model takes.")
    pooling: TextParameter = TextParameter(default="auto", description="auto (by the model), mean, cls or pooler.")


class pseudo_labels(luigi.Config):
    """The corpora that get emotion labels, the corpora that give them, and the rule."""

    targets: OptionalNamesParameter = OptionalNamesParameter(
        description="Corpora that get pseudo-labels; null: mosi, if a donor is configured."
    )
    donors: OptionalNamesParameter = OptionalNamesParameter(
        description="Corpora that give them; null: those of mosei, meld and iemocap that are configured."
    )
    neighbours: WholeParameter = WholeParameter(default=1, description="Number of nearest donors that vote.")
    minimum_similarity: luigi.FloatParameter = luigi.FloatParameter(
        default=-1.0, description="Cosine below which a clip gets no labels (it abstains)."
    )
    donor_splits: NamesParameter = NamesParameter(default=("train",), description="Splits of the donors that give labels.")
    tie_tolerance: luigi.FloatParameter = luigi.FloatParameter(
        default=1e-6, description="Cosines that differ by no more than this count as equal."
    )
    surprise_polarity: TextParameter = TextParameter(
        default="", description="Polarity of IEMOCAP's surprise: negative, neutral or positive; empty: no donor."
    )
    categories: TableParameter = TableParameter(
        default={}, description='Emotions for categories that have no counterpart among ours, such as {"fru": "anger"}.'
    )


class adapt(luigi.Config):
    """Encoders that learn the task on training splits before they make features. Off without corpora; 0 is the modality's default."""

    corpora: NamesParameter = NamesParameter(default=(), description="Corpora whose training splits teach; [] means no adaptation.")
    modalities: NamesParameter = NamesParameter(default=("text",), description="Modalities whose encoders learn.")
    tasks: TextParameter = TextParameter(default="msa", description="msa (sentiment), mer (emotions) or both.")
    emotions: TextParameter = TextParameter(default="auto", description="auto, annotated or pseudo.")
    minimum_similarity: luigi.FloatParameter = luigi.FloatParameter(
        default=0.0, description="Cosine of the donor below which a pseudo-label does not teach."
    )
    method: TextParameter = TextParameter(default="full", description="full, lora or last_n.")
    last_blocks: WholeParameter = WholeParameter(default=4, description="Number of blocks that learn with last_n.")
    lora_rank: WholeParameter = WholeParameter(default=16, description="Rank of LoRA's matrices.")
    lora_alpha: WholeParameter = WholeParameter(default=32, description="Scale of LoRA's matrices, times their rank.")
    lora_dropout: luigi.FloatParameter = luigi.FloatParameter(default=0.05, description="Dropout before LoRA's matrices.")
    epochs: WholeParameter = WholeParameter(default=0, description="Epochs at most; 0: 5 for text, 20 for audio.")
    patience: WholeParameter = WholeParameter(default=0, description="Epochs without a better validation loss; 0: 3 and 8.")
    batch_size: WholeParameter = WholeParameter(default=0, description="Clips of a forward pass at most; 0: 16 and 8.")
    accumulation: WholeParameter = WholeParameter(default=1, description="Forward passes of an optimiser step.")
    lr: luigi.FloatParameter = luigi.FloatParameter(default=0.0, description="Learning rate; 0: 3e-5 and 1e-5, lora ten times that.")
    weight_decay: luigi.FloatParameter = luigi.FloatParameter(default=0.01, description="Weight decay of AdamW.")
    warmup: luigi.FloatParameter = luigi.FloatParameter(default=0.1, description="Share of the steps in which the learning rate rises.")
    clip_norm: luigi.FloatParameter = luigi.FloatParameter(default=1.0, description="Largest norm of the gradients.")
    seed: WholeParameter = WholeParameter(default=1, description="Seed of order, dropout and linear layers.")
    precision: TextParameter = TextParameter(default="float32", description="float32 or bfloat16 (autocast).")
    gradient_checkpointing: luigi.BoolParameter = luigi.BoolParameter(
        default=False, description="Computes activations twice to keep fewer of them."
    )
    batch_tokens: WholeParameter = WholeParameter(default=4096, description="Padded tokens of a forward pass.")
    batch_seconds: luigi.FloatParameter = luigi.FloatParameter(default=60.0, description="Padded seconds of a forward pass.")
    max_seconds: luigi.FloatParameter = luigi.FloatParameter(default=6.0, description="Longer clips are cut while an encoder learns.")


SECTIONS: Mapping[str, type[luigi.Config]] = {
    section.__name__: section for section in (corpora, build, text, audio, sentence, adapt, pseudo_labels)
}

_WITH_SETS: Mapping[str, type[luigi.Config]] = {"text": text, "audio": audio}
"""Sections beside which luigi.cfg may have others with the same keys, one for each further set: [text.roberta]."""


def set_sections() -> dict[str, type[luigi.Config]]:
    """Returns the sections of luigi.cfg that are further sets of features, such as "text.roberta", with the class of their keys."""
    return {name: _WITH_SETS[modality_of(name)] for name in get_config().sections() if "." in name and modality_of(name) in _WITH_SETS}


_LUIGI_SECTIONS = ("core", "worker", "retcode", "resources", "scheduler", "logging", "email", "execution_summary", "task_history")


def read_settings() -> Settings:
    """Reads the settings of luigi.cfg and of the command line.

    Raises:
        InputError: A file or a value cannot be read, a section or a key is misspelt, or a value is not allowed.
    """
    expect_usable_files()
    where, how, rule = _read(corpora), _read(build), _read(pseudo_labels)
    encoders = {section.__name__: _read_encoder(section.__name__, section) for section in (text, audio, sentence)}
    sets = {name: _read_encoder(name, section) for name, section in set_sections().items()}
    roots = {name: root for name in CORPORA if (root := getattr(where, name, None))}
    folders = dict(where.folders)
    if not roots and not folders:
        roots = {name: str(SAMPLE / name) for name in ("mosi", "mosei", "meld", "iemocap")}
    stated = _read_labels(where, [*roots, *folders])
    session = where.iemocap_test_session
    chosen = [
        CorpusSettings(name, name, _path("corpora", name, root), stated.get(name, OPEN), session if name == "iemocap" else None)
        for name, root in roots.items()
    ]
    chosen += [
        CorpusSettings(name, "folder", _path("corpora", "folders", root), stated.get(name, OPEN)) for name, root in folders.items()
    ]
    usual = [name for name in ("mosei", "meld", "iemocap") if name in roots and _has_usual_emotions(stated.get(name, OPEN))]
    donors = usual if rule.donors is None else list(rule.donors)
    targets = [name for name in ("mosi",) if name in roots and donors] if rule.targets is None else list(rule.targets)
    return Settings(
        cache=_path("build", "cache", how.cache).absolute(),
        corpora=tuple(chosen),
        sets=sets,
        features=tuple(where.features),
        modalities=tuple(where.modalities),
        dtype=how.dtype,
        precision=how.precision,
        on_bad_media=how.on_bad_media,
        device=how.device,
        shard_clips=how.shard_clips,
        decoders=how.decoders,
        players=how.players,
        targets=tuple(targets),
        donors=tuple(donors),
        rule=Rule(
            neighbours=rule.neighbours,
            minimum_similarity=rule.minimum_similarity,
            donor_splits=tuple(rule.donor_splits),
            tie_tolerance=rule.tie_tolerance,
            surprise_polarity=rule.surprise_polarity,
            categories=dict(rule.categories),
        ),
        adapt=_read_adapt(),
        **encoders,
    )


def expect_usable_files() -> None:
    """Checks all that the files of settings say, Luigi's own sections too, but not what the values of ours mean.

    Raises:
        InputError: A file or a value cannot be read, or a section or a key is misspelt.
    """
    config_file.expect_readable_files()
    config = get_config()
    with _without_warnings():
        for section in config.sections():
            for key in config[section]:
                _expect_value(section, key)
        _rename_layer()
        _refuse_misspelt()
        for family, _, name, parameter in Register.get_all_params():
            if family not in SECTIONS and config.has_section(family):
                _expect_type(family, name, parameter)
    for key in config["resources"] if config.has_section("resources") else ():
        if key not in config.defaults() and not str(config.get("resources", key)).strip().isdecimal():
            raise InputError(
                f"luigi.cfg, section [resources]: {key} is {shown(config.get('resources', key))}, expected a whole number."
            )


def _rename_layer() -> None:
    """Reads the setting `layer` of older files as `layers`, and says so."""
    config = get_config()
    for section in ("text", "audio"):
        values = dict(config.items(section, raw=True)) if config.has_section(section) else {}
        if "layer" not in values or "layer" in config.defaults():
            continue
        if "layers" in values:
            raise InputError(f"luigi.cfg, section [{section}]: layers and its old name layer are both set. Keep layers.")
        config.remove_option(section, "layer")
        config.set(section, "layers", value := values["layer"])
        print(f"luigi.cfg, section [{section}]: layer = {value} is read as layers = {value}; rename it.", file=sys.stderr)


def _expect_value(section: str, key: str) -> None:
    try:
        get_config().get(section, key)
    except configparser.InterpolationError as error:
        raw = dict(get_config().items(section, raw=True)).get(key)
        reason = {
            configparser.InterpolationSyntaxError: "'%' has a meaning there: write %% for a percent sign",
            configparser.InterpolationDepthError: "it refers to itself: write the value itself",
            configparser.InterpolationMissingOptionError: "%(name)s stands for another key, and there is none of this name",
        }.get(type(error), "${NAME} stands for an environment variable, and there is none of this name")
        raise InputError(f"luigi.cfg, section [{section}]: {key} is {shown(raw)}: {reason}.") from None


def _read_labels(where: corpora, names: Sequence[str]) -> dict[str, Statement]:
    """Reads name of a corpus → what is stated about its labels."""
    for name in where.labels:
        expect(names, name, "corpus in [corpora] labels:")
    return {name: parse(text, f"luigi.cfg, section [corpora]: labels of {name}") for name, text in where.labels.items()}


def _has_usual_emotions(statement: Statement) -> bool:
    return statement.label_set().same_emotions(MOSEI_LABELS)


def _path(section: str, key: str, root: str) -> Path:
    if not root.strip():
        raise InputError(f"luigi.cfg, section [{section}]: {key} is empty, expected a folder.")
    reason = "there is no user of this name here"
    with contextlib.suppress(RuntimeError):
        path = Path(root).expanduser()
        if len(os.fsencode(path)) < _LONGEST_PATH and all(len(os.fsencode(part)) <= _LONGEST_NAME for part in path.parts):
            return path
        reason = "longer than a path can be"
    raise InputError(f"luigi.cfg, section [{section}]: {key} is {shown(root)}: {reason}.")


def _read_adapt() -> AdaptSettings:
    values: dict[str, Any] = _read(adapt).param_kwargs
    values |= {name: tuple(values[name]) for name in ("corpora", "modalities")}
    try:
        return AdaptSettings(**values)
    except InputError as error:
        raise InputError(f"luigi.cfg: {error}") from None


def _read_encoder(name: str, section: type[luigi.Config]) -> EncoderSettings:
    """Reads the section `name`, which has the keys of the class `section`; a key that is not given has the default of the class."""
    with _without_warnings():
        for setting, parameter in section.get_params():
            _expect_type(name, setting, parameter)
        values: dict[str, Any] = {setting: parameter.task_value(name, setting) for setting, parameter in section.get_params()}
    try:
        if not values["model"].strip():
            raise InputError("model is empty, expected a name or a folder.")
        return EncoderSettings(**values)
    except InputError as error:
        raise InputError(f"luigi.cfg, section [{name}]: {error}") from None


def _read(section: type[Section]) -> Section:
    with _without_warnings():
        for setting, parameter in section.get_params():
            _expect_type(section.__name__, setting, parameter)
        return section()


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps quiet about keys with dashes, which are allowed, and about keys of [DEFAULT]; misspelt keys are refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UnconsumedParameterWarning)
        yield


def _expect_type(section: str, setting: str, parameter: luigi.Parameter[Any]) -> None:
    try:
        parameter.task_value(section, setting)
    except (ValueError, TypeError, ParameterException) as error:
        command_line = CmdlineParser.get_instance()
        given = getattr(command_line.known_args, f"{section}_{setting}", None) if command_line else None
        if given is not None:
            place = f"--{section}-{setting}".replace("_", "-")
        else:
            place, given = f"luigi.cfg, section [{section}]: {setting}", get_config().get(section, setting, None)
        reason = " ".join(str(error).split()).rstrip(".")
        if len(reason) > 200 or not reason.isprintable():
            reason = "not a value of its type"
        raise InputError(f"{place} is {shown(given)}: {reason}.") from error


def _refuse_misspelt() -> None:
    config = get_config()
    _refuse_other_section("DEFAULT", list(config.defaults()))  # Luigi would not read it for a section that is not in the file
    known, sets = {*SECTIONS, *_LUIGI_SECTIONS}, set_sections()
    for name in config.sections():
        if (section := SECTIONS.get(name) or sets.get(name)) is not None:
            for setting in config[name]:
                if setting not in config.defaults():
                    lookup(dict(section.get_params()), setting.replace("-", "_"), f"setting in section [{name}] of luigi.cfg:")
        _refuse_misspelt_set(name)
        if name not in {*known, *sets}:
            _refuse_other_section(name, [key for key in config[name] if key not in config.defaults()])


def _refuse_misspelt_set(section: str) -> None:
    """Raises InputError for a section with a dot that is meant for a further set of features, but is none."""
    family, dot, own_name = section.partition(".")
    if not dot:
        return
    if family in _WITH_SETS:
        expect_own_name(own_name, f"luigi.cfg, section [{section}]")
    elif family in SECTIONS:
        raise InputError(f"luigi.cfg: unknown section [{section}]: only {' and '.join(_WITH_SETS)} have sets with names of their own.")
    elif near := difflib.get_close_matches(family, _WITH_SETS, n=1, cutoff=0.75):
        raise InputError(f"luigi.cfg: unknown section [{section}]. Did you mean [{near[0]}.{own_name}]?")


def _refuse_other_section(name: str, keys: Sequence[str]) -> None:
    """Refuses a section without a reader if it has the name or a key of one of ours; others may be of Luigi's own extensions."""
    near = difflib.get_close_matches(name, {*SECTIONS, *_LUIGI_SECTIONS}, n=1, cutoff=0.75)
    if near:
        raise InputError(f"luigi.cfg: unknown section [{name}]. Did you mean [{near[0]}]? Available: {', '.join(SECTIONS)}.")
    for key in keys:
        owners = [section for section, kind in SECTIONS.items() if key.replace("-", "_") in dict(kind.get_params())]
        if owners:
            raise InputError(f"luigi.cfg, section [{name}]: {key!r} is a setting of [{'], ['.join(owners)}]. Put it there.")
