"""The DAG of a build. Its settings are in `pipeline.config`, the names of all outputs in `pipeline.plan`, the work in `pipeline.steps`.

    Manifest ──▶ FeatureShard (audio) ──┐
                 FeatureShard (text) ───┼─▶ Features ──┐
                 FeatureShard (sentence)┘      └─▶ PseudoLabels ──▶ Report ──▶ BuildFeatures

Every task is one corpus, one modality, one key: its parameters are its identity for a central scheduler too, so workers on several
machines with the same settings and the same cache directory divide the work, each output computed once.
"""

from __future__ import annotations

import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import luigi

from data.atomic import remove_strays
from data.errors import InputError
from pipeline import config, console, explain, steps
from pipeline.encoding import devices
from pipeline.plan import Plan, make_plan
from pipeline.report import gather

_STARTED = time.monotonic()


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


config.set_defaults()
luigi.worker.Worker = _Worker  # what the command line makes; Luigi has no setting for it
console.install_one_line_errors("luigi-interface")
# Threads that wait by spinning take the cores from whoever else computes on this machine, and from each other: beside one busy
# process, encoding was 3 times slower; on a quiet machine it costs 5 %. libgomp reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@lru_cache(maxsize=1)
def current_plan() -> Plan:
    """The plan of this process; made once, inherited by Luigi's forks. A mistake in the settings ends the process with one line."""
    try:
        settings = config.read_settings()
        remove_strays(settings.cache)
        with console.file_bar() as progress:
            return make_plan(settings, progress)
    except (InputError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


@lru_cache(maxsize=1)
def _at_start() -> tuple[list[explain.Output], list[explain.Output]]:
    """The outputs that were missing and those that were there when this process began."""
    return explain.survey(current_plan())


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
        return {config.GPU_RESOURCE: 1} if devices.wants_gpu(current_plan().settings.device) else {}

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
        gather.make_report(current_plan(), *_at_start(), time.monotonic() - _STARTED)


class BuildFeatures(luigi.Task):
    """Features, pseudo labels and the report of all configured corpora: the main command."""

    def requires(self) -> list[luigi.Task]:
        _at_start()
        report = Report(current_plan().report.stem.rpartition("-")[2])
        return [report, *report.requires()]

    def complete(self) -> bool:
        return not explain.missing(current_plan()) and steps.index_is_current(current_plan())

    def run(self) -> None:
        steps.write_index(current_plan())
        _bar.end()
        print(gather.summary(current_plan(), *_at_start(), time.monotonic() - _STARTED), flush=True)


@BuildFeatures.event_handler(luigi.Event.DEPENDENCY_DISCOVERED)
def _show_bar(_task: luigi.Task, _dependency: luigi.Task) -> None:
    _bar.start({output.path: output.utterances for output in _at_start()[0] if output.kind in ("manifest", "shard")})


@BuildFeatures.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_nothing_to_do(_task: luigi.Task) -> None:
    print(gather.summary(current_plan(), *explain.survey(current_plan()), time.monotonic() - _STARTED), flush=True)


def _manifest(corpus: str) -> Manifest:
    return Manifest(corpus, current_plan().corpora[corpus].key)


def _features(corpus: str, modality: str) -> Features:
    return Features(corpus, modality, current_plan().features[corpus, modality].key)


def _threads() -> int:
    """Threads for one of the workers that share this machine: two torch jobs on the same cores slow each other down."""
    cores = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0] or len(os.sched_getaffinity(0))
    return max(1, int(cores) // max(1, luigi.interface.core().workers))
