"""Reads the settings of luigi.cfg and of the command line, as typed Luigi config classes.

Their meaning for a build is in `pipeline.settings`; each of them is explained in the shipped luigi.cfg. Luigi's own settings are in
`pipeline.luigi_setup`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import luigi
from luigi.configuration import get_config

from data.corpora import CORPORA
from data.errors import InputError
from data.lookup import lookup
from pipeline.pseudo_labels import Rule
from pipeline.settings import CHECKOUT, SAMPLE, CorpusSettings, EncoderSettings, Settings

Section = TypeVar("Section", bound=luigi.Config)


class corpora(luigi.Config):
    """The folders of the corpora. A corpus without a root is not used; without any root, the bundled sample is built."""

    mosi: luigi.OptionalStrParameter = luigi.OptionalStrParameter(default=None)
    mosei: luigi.OptionalStrParameter = luigi.OptionalStrParameter(default=None)
    meld: luigi.OptionalStrParameter = luigi.OptionalStrParameter(default=None)
    iemocap: luigi.OptionalStrParameter = luigi.OptionalStrParameter(default=None)
    folders: luigi.DictParameter = luigi.DictParameter(default={}, description="name → root of corpora in the `folder` layout")
    features: luigi.ListParameter = luigi.ListParameter(default=(), description="corpora that get token features; [] means all")
    modalities: luigi.ListParameter = luigi.ListParameter(default=("text", "audio"), description="modalities of those token features")


class build(luigi.Config):
    """The folder of the results, and how they are computed."""

    cache: luigi.Parameter[str] = luigi.Parameter(default=str(CHECKOUT / "cache"))
    dtype: luigi.Parameter[str] = luigi.Parameter(default="float16")
    precision: luigi.Parameter[str] = luigi.Parameter(default="float32")
    on_bad_media: luigi.Parameter[str] = luigi.Parameter(default="stop")
    device: luigi.Parameter[str] = luigi.Parameter(default="auto")
    shard_clips: luigi.IntParameter = luigi.IntParameter(default=512)


class text(luigi.Config):
    """The encoder of token features."""

    model: luigi.Parameter[str] = luigi.Parameter(default="minilm")
    revision: luigi.Parameter[str] = luigi.Parameter(default="")
    layer: luigi.IntParameter = luigi.IntParameter(default=-1)
    case: luigi.Parameter[str] = luigi.Parameter(default="sentence")
    max_tokens: luigi.IntParameter = luigi.IntParameter(default=0)


class audio(luigi.Config):
    """The encoder of speech."""

    model: luigi.Parameter[str] = luigi.Parameter(default="tiny-data2vec")
    revision: luigi.Parameter[str] = luigi.Parameter(default="")
    layer: luigi.IntParameter = luigi.IntParameter(default=-1)


class sentence(luigi.Config):
    """The encoder that compares sentences for pseudo-labels."""

    model: luigi.Parameter[str] = luigi.Parameter(default="minilm")
    revision: luigi.Parameter[str] = luigi.Parameter(default="")
    case: luigi.Parameter[str] = luigi.Parameter(default="sentence")
    max_tokens: luigi.IntParameter = luigi.IntParameter(default=0)
    pooling: luigi.Parameter[str] = luigi.Parameter(default="auto")


class pseudo_labels(luigi.Config):
    """The corpora that get emotion labels, the corpora that give them, and the rule."""

    targets: luigi.OptionalListParameter = luigi.OptionalListParameter(default=None, description="null: mosi, if a donor is configured")
    donors: luigi.OptionalListParameter = luigi.OptionalListParameter(
        default=None, description="null: those of mosei, meld and iemocap that are configured"
    )
    neighbours: luigi.IntParameter = luigi.IntParameter(default=1)
    minimum_similarity: luigi.FloatParameter = luigi.FloatParameter(default=-1.0)
    donor_splits: luigi.ListParameter = luigi.ListParameter(default=("train",))
    tie_tolerance: luigi.FloatParameter = luigi.FloatParameter(default=1e-6)
    surprise_polarity: luigi.Parameter[str] = luigi.Parameter(default="")
    categories: luigi.DictParameter = luigi.DictParameter(default={})


SECTIONS: Mapping[str, type[luigi.Config]] = {
    section.__name__: section for section in (corpora, build, text, audio, sentence, pseudo_labels)
}


def read_settings() -> Settings:
    """Reads the settings of luigi.cfg and of the command line.

    Raises:
        InputError: A section or a key is misspelt, or a value is not allowed.
    """
    _refuse_misspelt()
    where, how, rule = _read(corpora), _read(build), _read(pseudo_labels)
    encoders = {section.__name__: _read_encoder(section) for section in (text, audio, sentence)}
    roots = {name: root for name in CORPORA if (root := getattr(where, name, None))}
    if not isinstance(where.folders, Mapping):
        raise InputError(f'luigi.cfg, section [corpora]: folders is {where.folders!r}, expected {{"name": "root", …}}.')
    folders = dict(where.folders)
    if not roots and not folders:
        roots = {name: str(SAMPLE / name) for name in ("mosi", "mosei", "meld", "iemocap")}
    chosen = [CorpusSettings(name, name, Path(root).expanduser()) for name, root in roots.items()]
    chosen += [CorpusSettings(name, "folder", Path(root).expanduser()) for name, root in folders.items()]
    donors = [name for name in ("mosei", "meld", "iemocap") if name in roots] if rule.donors is None else list(rule.donors)
    targets = [name for name in ("mosi",) if name in roots and donors] if rule.targets is None else list(rule.targets)
    return Settings(
        cache=Path(how.cache).expanduser().absolute(),
        corpora=tuple(chosen),
        features=tuple(where.features),
        modalities=tuple(where.modalities),
        dtype=how.dtype,
        precision=how.precision,
        on_bad_media=how.on_bad_media,
        device=how.device,
        shard_clips=how.shard_clips,
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
        **encoders,
    )


def _read_encoder(section: type[luigi.Config]) -> EncoderSettings:
    values: dict[str, Any] = _read(section).param_kwargs
    return EncoderSettings(**values)


def _read(section: type[Section]) -> Section:
    name = section.__name__
    for setting, parameter in section.get_params():
        try:
            parameter.task_value(name, setting)
        except ValueError as error:
            given = get_config().get(name, setting, None)
            raise InputError(f"luigi.cfg, section [{name}]: {setting} is {given!r}: {error}.") from error
    return section()


def _refuse_misspelt() -> None:
    config = get_config()
    for name in config.sections():
        if name in SECTIONS:
            for setting in config[name]:
                lookup(dict(SECTIONS[name].get_params()), setting.replace("-", "_"), f"setting in section [{name}] of luigi.cfg:")
        elif near := difflib.get_close_matches(name, SECTIONS, n=1, cutoff=0.75):
            raise InputError(f"luigi.cfg: unknown section [{name}]. Did you mean [{near[0]}]? Available: {', '.join(SECTIONS)}.")
