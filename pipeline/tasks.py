"""The tasks of a build and what each of them requires.

    Manifest ──▶ FeatureShard (audio) ──┐
                 FeatureShard (text) ───┼─▶ Features ──┐
                 FeatureShard (sentence)┘      └─▶ PseudoLabels ──▶ Report ──▶ BuildFeatures

    With [adapt] corpora: Manifest (audio), PseudoLabels (if they teach) ──▶ AdaptedEncoder ──▶ FeatureShard of its modality

A new task needs three files: its output is named in `pipeline.plan`, its work is a function of `pipeline.steps`, and it takes its place
here. Settings are in `pipeline.config`; what Luigi itself needs is in `pipeline.luigi_setup`.

The parameters of a task are its identity for a central scheduler too. Workers on several machines that have the same settings and the
same cache directory therefore divide the work, and each output is computed once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import luigi
import luigi.interface

from data import stopping
from data.atomic import remove_strays
from pipeline import console, outputs, steps
from pipeline.encoding import devices, encoders
from pipeline.one_maker import if_nobody_makes, only_maker, remove_stale
from pipeline.plan import AdaptationPlan, CorpusPlan, FeaturePlan, LedgerPlan, Plan, ShardPlan
from pipeline.report import gather
from pipeline.this_build import Build, current_build


class _File(luigi.Target):
    """A file that counts as existing only when it is whole."""

    def __init__(self, path: Path, is_whole: Callable[[Path], bool] = outputs.exists) -> None:
        self.path, self._is_whole = path, is_whole

    def exists(self) -> bool:
        return self._is_whole(self.path)

    def __str__(self) -> str:
        return str(self.path)


class _Task(luigi.Task):
    """A task of the build of this process."""

    def output(self) -> _File:
        raise NotImplementedError  # every task has its own

    @property
    def build(self) -> Build:
        return current_build()

    @property
    def plan(self) -> Plan:
        return current_build().plan

    @contextlib.contextmanager
    def alone(self, make_another: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Yields, once no other process makes the output of this task, whether it is still missing; see `only_maker`."""
        target = self.output()
        with only_maker(self.plan.settings.cache, target.path, make_another):
            yield not target.exists()


class Manifest(_Task):
    """The utterances of one corpus, validated, with durations and exclusions."""

    priority = 1_000  # first of all: media that cannot be used stop a build before it has encoded for hours
    corpus: luigi.Parameter[str] = luigi.Parameter()
    key: luigi.Parameter[str] = luigi.Parameter()

    @classmethod
    def of(cls, planned: CorpusPlan) -> Manifest:
        return cls(corpus=planned.settings.name, key=planned.key)

    @property
    def planned(self) -> CorpusPlan:
        return self.plan.corpora[self.corpus]

    def output(self) -> _File:
        return _File(self.planned.manifest)

    def run(self) -> None:
        with self.alone() as is_missing, self.build.bar.in_hand() as advance:
            if is_missing:
                steps.make_manifest(self.planned, self.plan.settings.on_bad_media, _threads(), advance)


class AdaptedEncoder(_Task):
    """An encoder that has learned the task on the training splits of some corpora; all features of a set come from it."""

    corpus: luigi.Parameter[str] = luigi.Parameter(description="Corpora that teach, joined by '+'.")
    modality: luigi.Parameter[str] = luigi.Parameter()
    key: luigi.Parameter[str] = luigi.Parameter()

    @classmethod
    def of(cls, planned: AdaptationPlan) -> AdaptedEncoder:
        return cls(corpus=planned.taught_by, modality=planned.feature_set, key=planned.key)

    @property
    def planned(self) -> AdaptationPlan:
        return self.plan.adaptations[self.modality]

    @property
    def resources(self) -> dict[str, int]:
        return _gpu(self.plan)

    def requires(self) -> Sequence[luigi.Task]:
        manifests = self.planned.corpora if self.planned.modality == "audio" else []
        return [*map(Manifest.of, manifests), *map(PseudoLabels.of, self.planned.ledgers.values())]

    def output(self) -> _File:
        return _File(self.planned.record)

    def run(self) -> None:
        with self.alone() as is_missing:
            if is_missing:
                with devices.claim(self.plan.settings.device) as device, self.build.bar.in_hand() as advance:
                    steps.make_adapted_encoder(self.plan, self.planned, device, _threads(), advance, console.say)


class FeatureShard(_Task):
    """The features of some videos of a corpus: the unit of work, and the most that a killed process loses."""

    corpus: luigi.Parameter[str] = luigi.Parameter()
    modality: luigi.Parameter[str] = luigi.Parameter()  # or a further set of it, "text.roberta"
    shard: luigi.Parameter[str] = luigi.Parameter()
    key: luigi.Parameter[str] = luigi.Parameter()

    @property
    def features(self) -> FeaturePlan:
        return self.plan.features[self.corpus, self.modality]

    @property
    def priority(self) -> int:
        """Shards of one encoder follow each other, so that a worker loads it once. Above 0, which Luigi raises requirements to."""
        sets = list(dict.fromkeys(name for _, name in self.plan.features))
        return len(sets) - sets.index(self.modality)

    @property
    def encoder(self) -> str:
        """Name of what the process of this task has to load; `pipeline.luigi_worker` prefers one that has it."""
        return self.modality

    @property
    def planned(self) -> ShardPlan:
        return self.features.shard_named[self.shard]

    @property
    def resources(self) -> dict[str, int]:
        return _gpu(self.plan)

    def requires(self) -> Sequence[luigi.Task]:
        adaptation = self.plan.adaptations.get(self.modality)
        manifest = [Manifest.of(self.features.corpus)] if self.features.modality == "audio" else []
        return [*manifest, *([] if adaptation is None else [AdaptedEncoder.of(adaptation)])]

    def output(self) -> _File:
        return _File(self.planned.path, outputs.shard_is_sound)

    def run(self) -> None:
        with self.alone(self._make_another) as is_missing:
            if is_missing:
                self._make()

    def _make(self) -> None:
        claim = devices.claim(self.plan.settings.device, encoders.kept_on())
        with claim as device, self.build.bar.in_hand() as advance:
            steps.make_shard(self.plan, self.features, self.planned, device, _threads(), advance)

    def _make_another(self) -> bool:
        """Makes the next missing shard that nobody makes, if there is one: builds without a scheduler divide the shards this way."""
        for features in self.plan.features.values():
            for shard in () if stopping.is_asked() or Features.of(features).complete() else features.shards:
                task = FeatureShard(corpus=features.corpus.settings.name, modality=features.name, shard=shard.name, key=shard.key)
                if shard.path.exists() or not all(required.complete() for required in task.requires()):
                    continue
                with if_nobody_makes(self.plan.settings.cache, shard.path) as is_ours:
                    if is_ours and not task.complete():
                        task._make()
                        return True
        return False


class Features(_Task):
    """One feature file, merged from its shards. Sentence embeddings are features of one row each."""

    corpus: luigi.Parameter[str] = luigi.Parameter()
    modality: luigi.Parameter[str] = luigi.Parameter()  # or a further set of it, "text.roberta"
    key: luigi.Parameter[str] = luigi.Parameter()

    @classmethod
    def of(cls, planned: FeaturePlan) -> Features:
        return cls(corpus=planned.corpus.settings.name, modality=planned.name, key=planned.key)

    @property
    def planned(self) -> FeaturePlan:
        return self.plan.features[self.corpus, self.modality]

    def requires(self) -> Sequence[luigi.Task]:
        return [
            FeatureShard(corpus=self.corpus, modality=self.modality, shard=shard.name, key=shard.key) for shard in self.planned.shards
        ]

    def output(self) -> _File:
        return _File(self.planned.path)

    def run(self) -> None:
        with self.alone() as is_missing:
            if is_missing:
                steps.merge_shards(self.plan, self.planned)


class PseudoLabels(_Task):
    """The ledger of one corpus: the table of its pseudo-labels with their donors."""

    corpus: luigi.Parameter[str] = luigi.Parameter()
    key: luigi.Parameter[str] = luigi.Parameter()

    @classmethod
    def of(cls, planned: LedgerPlan) -> PseudoLabels:
        return cls(corpus=planned.target.settings.name, key=planned.key)

    @property
    def planned(self) -> LedgerPlan:
        return self.plan.ledgers[self.corpus]

    def requires(self) -> Sequence[luigi.Task]:
        corpora = [self.planned.target, *self.planned.donors]
        embeddings = [self.plan.features[corpus.settings.name, "sentence"] for corpus in corpora]
        return [*map(Manifest.of, corpora), *map(Features.of, embeddings)]

    def output(self) -> _File:
        return _File(self.planned.path)

    def run(self) -> None:
        with self.alone() as is_missing:
            if is_missing:
                with devices.claim(self.plan.settings.device) as device:
                    steps.make_ledger(self.plan, self.planned, device)


class Report(_Task):
    """The HTML page about everything that the cache holds for these settings."""

    key: luigi.Parameter[str] = luigi.Parameter()

    def requires(self) -> Sequence[luigi.Task]:
        plan = self.plan
        return [
            *map(Manifest.of, plan.corpora.values()),
            *map(Features.of, plan.features.values()),
            *map(PseudoLabels.of, plan.ledgers.values()),
        ]

    def output(self) -> _File:
        return _File(self.plan.report)

    def run(self) -> None:
        gather.make_report(self.plan, *self.build.at_start, self.build.seconds())


class BuildFeatures(_Task):
    """Features, pseudo-labels and the report of all configured corpora: the main command."""

    def requires(self) -> Sequence[luigi.Task]:
        _ = self.build.at_start  # taken before the first task runs
        report = Report(key=self.plan.report_key)
        return [report, *report.requires()]

    def complete(self) -> bool:
        return not outputs.missing(self.plan) and steps.index_is_current(self.plan)

    def run(self) -> None:
        steps.write_index(self.plan)
        remove_stale(self.plan.settings.cache)
        remove_strays(self.plan.settings.cache)  # of workers that were still dying when this build began
        self.build.bar.end()
        print(gather.summary(self.plan, *self.build.at_start, self.build.seconds()), flush=True)


@BuildFeatures.event_handler(luigi.Event.DEPENDENCY_DISCOVERED)
def _show_bar(task: BuildFeatures, _dependency: luigi.Task) -> None:
    absent, _ = task.build.at_start
    shown = {output.path: output.utterances for output in absent if output.kind in ("manifest", "encoder", "shard")}
    if task.build.bar.start(shown) and (advice := task.build.advice()):
        console.say(advice)


@BuildFeatures.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_that_nothing_is_to_do(task: BuildFeatures) -> None:
    print(gather.summary(task.plan, *outputs.survey(task.plan), task.build.seconds()), flush=True)


def _gpu(plan: Plan) -> dict[str, int]:
    return {devices.GPU_RESOURCE: 1} if devices.wants_gpu(plan.settings.device) else {}


def _threads() -> int:
    """Returns the threads of one of the workers that share this machine: two torch jobs on the same cores slow each other down."""
    cores = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0] or len(os.sched_getaffinity(0))
    return max(1, int(cores) // max(1, luigi.interface.core().workers))
