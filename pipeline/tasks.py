"""The DAG of a build, and its settings. The work itself is in `pipeline.steps`, the names of all outputs in `pipeline.plan`.

    Manifest ──▶ FeatureShard (audio) ──┐
                 FeatureShard (text) ───┼─▶ Features ──┐
                 FeatureShard (sentence)┘      └─▶ PseudoLabels ──▶ Report ──▶ BuildFeatures

Every task is one corpus, one modality, one key: its parameters are its identity for a central scheduler too, so workers on several
machines with the same settings and the same cache directory divide the work, each output computed once.
"""

from __future__ import annotations

import difflib
import os
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import luigi
from luigi.configuration import get_config

from data.atomic import remove_strays
from data.corpora import CORPORA
from data.errors import InputError
from data.lookup import lookup
from pipeline import console, devices, explain, report_step, steps
from pipeline.plan import Plan, make_plan
from pipeline.pseudo_labels import Rule
from pipeline.settings import CHECKOUT, SAMPLE, CorpusSettings, EncoderSettings, Settings

_GPU = f"gpu_{os.uname().nodename}"
_STARTED = time.monotonic()


class corpora(luigi.Config):
    """Where the corpora are. A corpus without a root is not used; without any root, the bundled sample is."""

    mosi = luigi.OptionalStrParameter(default=None)
    mosei = luigi.OptionalStrParameter(default=None)
    meld = luigi.OptionalStrParameter(default=None)
    iemocap = luigi.OptionalStrParameter(default=None)
    folders = luigi.DictParameter(default={}, description="name → root of corpora in the `folder` layout")
    features = luigi.ListParameter(default=[], description="corpora that get token features; [] means all")
    modalities = luigi.ListParameter(default=["text", "audio"], description="of those token features")


class build(luigi.Config):
    """Where results go and how they are computed."""

    cache = luigi.Parameter(default=str(CHECKOUT / "cache"))
    dtype = luigi.Parameter(default="float16")
    precision = luigi.Parameter(default="float32")
    on_bad_media = luigi.Parameter(default="stop")
    device = luigi.Parameter(default="auto")
    shard_clips = luigi.IntParameter(default=512)


class text(luigi.Config):
    """The encoder of token features."""

    model = luigi.Parameter(default="minilm")
    revision = luigi.Parameter(default="")
    layer = luigi.IntParameter(default=-1)
    case = luigi.Parameter(default="sentence")
    max_tokens = luigi.IntParameter(default=0)


class audio(luigi.Config):
    """The encoder of speech."""

    model = luigi.Parameter(default="tiny-data2vec")
    revision = luigi.Parameter(default="")
    layer = luigi.IntParameter(default=-1)


class sentence(luigi.Config):
    """The encoder that compares sentences for pseudo labels."""

    model = luigi.Parameter(default="minilm")
    revision = luigi.Parameter(default="")
    case = luigi.Parameter(default="sentence")
    max_tokens = luigi.IntParameter(default=0)
    pooling = luigi.Parameter(default="auto")


class pseudo_labels(luigi.Config):
    """Which corpora get emotion labels from which others, and by what rule."""

    targets = luigi.OptionalListParameter(default=None, description="null: mosi, if a donor is configured")
    donors = luigi.OptionalListParameter(default=None, description="null: mosei, meld and iemocap, those that are configured")
    neighbours = luigi.IntParameter(default=1)
    minimum_similarity = luigi.FloatParameter(default=-1.0)
    donor_splits = luigi.ListParameter(default=["train"])
    tie_tolerance = luigi.FloatParameter(default=1e-6)
    surprise_polarity = luigi.Parameter(default="")
    categories = luigi.DictParameter(default={})


_SECTIONS: Mapping[str, type[luigi.Config]] = {
    section.__name__: section for section in (corpora, build, text, audio, sentence, pseudo_labels)
}


def _set_defaults() -> None:
    """Luigi's own settings where the user has set nothing; they are read after this module is imported."""
    config = get_config()
    defaults = {
        "core": {"log_level": "WARNING", "no_lock": "true"},
        "worker": {"check_complete_on_run": "true"},
        "retcode": {
            "missing_data": "20", "not_run": "25", "task_failed": "30", "scheduling_error": "35", "unhandled_exception": "40",
        },
    }  # fmt: skip
    scheduler = (
        "default-scheduler-host",
        "default_scheduler_host",
        "default-scheduler-url",
        "default_scheduler_url",
        "scheduler_host",
    )
    if not any(argument.startswith("--scheduler") for argument in sys.argv) and not any(
        config.has_option("core", name) for name in scheduler
    ):
        defaults["core"]["local_scheduler"] = "true"
    if gpus := devices.count_gpus():
        defaults["resources"] = {_GPU: str(gpus)}
    for section, values in defaults.items():
        for name, value in values.items():
            if not config.has_option(section, name) and not config.has_option(section, name.replace("_", "-")):
                config.set(section, name, value)


class _Worker(luigi.worker.Worker):
    """Stays until other workers have finished what they have in hand, and counts what they made as done.

    Luigi's own worker leaves when nothing is left to take, and with an exit status that says the build failed.
    """

    def _keep_alive(self, response: Any) -> bool:
        return bool(response.running_tasks)

    def run(self) -> bool:
        succeeded = super().run()
        main = self._add_task_history[0][0]
        if main.complete():
            self._add_task_history += [(task, "DONE", True) for task in self._scheduled_tasks.values()]
        else:
            print(f"error: {main.task_family} has not finished; the next run goes on from what is there.", file=sys.stderr)
        return succeeded


_set_defaults()
luigi.worker.Worker = _Worker  # what the command line makes; Luigi has no setting for it
console.install_one_line_errors("luigi-interface")


def read_settings() -> Settings:
    """The settings of luigi.cfg and the command line.

    Raises:
        InputError: A section or a key is misspelt, or a value is not what is allowed.
    """
    _refuse_misspelt()
    where, how, rule = _read(corpora), _read(build), _read(pseudo_labels)
    encoders = {section.__name__: EncoderSettings(**_read(section).param_kwargs) for section in (text, audio, sentence)}
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


def _read(section: type[luigi.Config]) -> Any:
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
        if name in _SECTIONS:
            for setting in config[name]:
                lookup(dict(_SECTIONS[name].get_params()), setting.replace("-", "_"), f"setting in section [{name}] of luigi.cfg:")
        elif near := difflib.get_close_matches(name, _SECTIONS, n=1, cutoff=0.75):
            raise InputError(f"luigi.cfg: unknown section [{name}]. Did you mean [{near[0]}]? Ours are: {', '.join(_SECTIONS)}.")


@lru_cache(maxsize=1)
def current_plan() -> Plan:
    """The plan of this process; made once, inherited by Luigi's forks. A mistake in the settings ends the process with one line."""
    try:
        settings = read_settings()
        remove_strays(settings.cache)
        with console.file_bar() as progress:
            return make_plan(settings, progress)
    except (InputError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


@lru_cache(maxsize=1)
def _missing_at_start() -> tuple[explain.Output, ...]:
    return tuple(explain.missing(current_plan()))


_bar = console.BuildBar()


class _Output(luigi.Target):
    """A file that counts as there only when it is whole."""

    def __init__(self, path: Path, check: Any = explain.exists) -> None:
        self.path, self._check = path, check

    def exists(self) -> bool:
        return self._check(self.path)

    def __str__(self) -> str:
        return str(self.path)


class Manifest(luigi.Task):
    """One corpus's utterances, validated, with durations and exclusions."""

    corpus = luigi.Parameter()
    key = luigi.Parameter()

    def output(self) -> luigi.Target:
        return _Output(current_plan().corpora[self.corpus].manifest)

    def run(self) -> None:
        plan = current_plan()
        with _bar.in_hand() as advance:
            steps.make_manifest(plan.corpora[self.corpus], plan.settings.on_bad_media, _threads(), advance)


class FeatureShard(luigi.Task):
    """The features of some videos of a corpus: the unit of work, and of what a killed process loses."""

    corpus = luigi.Parameter()
    modality = luigi.Parameter()
    shard = luigi.Parameter()
    key = luigi.Parameter()

    @property
    def resources(self) -> dict[str, int]:
        return {_GPU: 1} if devices.wants_gpu(current_plan().settings.device) else {}

    def requires(self) -> list[luigi.Task]:
        return [_manifest(self.corpus)] if self.modality == "audio" else []

    def output(self) -> luigi.Target:
        return _Output(self._plan().path, explain.shard_is_sound)

    def run(self) -> None:
        plan = current_plan()
        with devices.claim(plan.settings.device) as device, _bar.in_hand() as advance:
            steps.make_shard(plan, plan.features[self.corpus, self.modality], self._plan(), device, _threads(), advance)

    def _plan(self) -> Any:
        shards = current_plan().features[self.corpus, self.modality].shards
        return next(shard for shard in shards if shard.name == self.shard)


class Features(luigi.Task):
    """One feature file, merged from its shards. Sentence embeddings are features of one row each."""

    corpus = luigi.Parameter()
    modality = luigi.Parameter()
    key = luigi.Parameter()

    def requires(self) -> list[luigi.Task]:
        features = current_plan().features[self.corpus, self.modality]
        return [FeatureShard(self.corpus, self.modality, shard.name, shard.key) for shard in features.shards]

    def output(self) -> luigi.Target:
        return _Output(current_plan().features[self.corpus, self.modality].path)

    def run(self) -> None:
        steps.merge_shards(current_plan(), current_plan().features[self.corpus, self.modality])


class PseudoLabels(luigi.Task):
    """The ledger of one corpus's pseudo emotion labels."""

    corpus = luigi.Parameter()
    key = luigi.Parameter()

    def requires(self) -> list[luigi.Task]:
        ledger = current_plan().ledgers[self.corpus]
        names = [corpus.settings.name for corpus in (ledger.target, *ledger.donors)]
        return [_manifest(name) for name in names] + [_features(name, "sentence") for name in names]

    def output(self) -> luigi.Target:
        return _Output(current_plan().ledgers[self.corpus].path)

    def run(self) -> None:
        with devices.claim(current_plan().settings.device) as device:
            steps.make_ledger(current_plan(), current_plan().ledgers[self.corpus], device)


class Report(luigi.Task):
    """The HTML page about everything that the cache holds for these settings."""

    key = luigi.Parameter()

    def requires(self) -> list[luigi.Task]:
        plan = current_plan()
        ledgers = [PseudoLabels(name, ledger.key) for name, ledger in plan.ledgers.items()]
        return [_manifest(name) for name in plan.corpora] + [_features(*name) for name in plan.features] + ledgers

    def output(self) -> luigi.Target:
        return _Output(current_plan().report)

    def run(self) -> None:
        report_step.make_report(current_plan(), _missing_at_start(), time.monotonic() - _STARTED)


class BuildFeatures(luigi.Task):
    """Features, pseudo labels and the report of all configured corpora: the main command."""

    def requires(self) -> list[luigi.Task]:
        _missing_at_start()
        report = Report(current_plan().report.stem.rpartition("-")[2])
        return [report, *report.requires()]

    def complete(self) -> bool:
        return not explain.missing(current_plan()) and steps.index_is_current(current_plan())

    def run(self) -> None:
        steps.write_index(current_plan())
        print(report_step.summary(current_plan(), _missing_at_start(), time.monotonic() - _STARTED), flush=True)


@BuildFeatures.event_handler(luigi.Event.DEPENDENCY_DISCOVERED)
def _show_bar(_task: luigi.Task, _dependency: luigi.Task) -> None:
    _bar.start({output.path: output.utterances for output in _missing_at_start() if output.kind in ("manifest", "shard")})


@BuildFeatures.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_nothing_to_do(_task: luigi.Task) -> None:
    print(report_step.summary(current_plan(), (), time.monotonic() - _STARTED), flush=True)


def _manifest(corpus: str) -> Manifest:
    return Manifest(corpus, current_plan().corpora[corpus].key)


def _features(corpus: str, modality: str) -> Features:
    return Features(corpus, modality, current_plan().features[corpus, modality].key)


def _threads() -> int:
    """Threads for one of the workers that share this machine: two torch jobs on the same cores slow each other down."""
    cores = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0] or len(os.sched_getaffinity(0))
    return max(1, int(cores) // max(1, luigi.interface.core().workers))
