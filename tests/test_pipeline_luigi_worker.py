"""Builds with several workers: processes that stay, one load of an encoder each, and what is left when processes are killed.

The builds are forks of this process, which has imported torch; `begin` says what they do differently.
"""

import collections
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import luigi
import pytest
from projects import Project, features, write_project

from data.errors import InputError
from pipeline import config, interruption, luigi_setup, tasks, this_build
from pipeline.encoding import encoders
from pipeline.settings import CorpusSettings, Settings

LIMIT_S = 280
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Forked:
    """A build in a process group of its own, and the files that it writes."""

    process: BaseProcess
    log: Path
    loads: Path  # a line for each encoder that is loaded: number of the process, modality

    def end(self) -> int:
        """Waits for it and returns its exit status."""
        self.process.join(LIMIT_S)
        assert self.process.exitcode is not None, self.said()
        return self.process.exitcode

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def loaded(self) -> list[list[str]]:
        return [line.split() for line in self.loads.read_text(encoding="utf-8").splitlines()] if self.loads.exists() else []


def settings_of(project: Project) -> Settings:
    """Text and audio features of the clips: 10 shards. Their encoders have been tried."""
    clips = (CorpusSettings("clips", "folder", project.clips),)
    return project.plan(corpora=clips, targets=(), donors=()).settings


def begin(project: Project, workers: int, trick: Callable[[], None] = lambda: None) -> Forked:
    """Starts a build; `trick` is called whenever one of its processes loads an encoder, before it does."""
    name = project.root / f"build{len(list(project.root.glob('*.log')))}"
    log, loads = name.with_suffix(".log"), name.with_suffix(".loads")
    log.touch()
    process = FORK.Process(target=_build, args=(settings_of(project), workers, log, loads, trick))
    process.start()
    return Forked(process, log, loads)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, tiny_bert) -> dict[str, dict[str, object]]:
    """The features that one worker makes, in the process of the build."""
    project = write_project(tmp_path_factory.mktemp("one_worker") / "project", tiny_bert)
    made = begin(project, 1)
    assert made.end() == 0, made.said()
    assert {process for process, _ in made.loaded()} == {str(made.process.pid)}
    return features(project)


@pytest.fixture
def start(project):
    """Starts a build with two workers; those that have not ended are killed after the test."""
    started = []

    def begin_with_two(trick: Callable[[], None] = lambda: None) -> Forked:
        started.append(begin(project, 2, trick))
        return started[-1]

    yield begin_with_two
    for one in started:
        if one.process.is_alive():
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.join()


def _build(settings: Settings, workers: int, log: Path, loads: Path, trick: Callable[[], None]) -> None:
    os.setsid()
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    make = encoders.make

    def counted(modality: str, *arguments: object, **options: object) -> object:
        with loads.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {modality}\n")
        trick()
        return make(modality, *arguments, **options)

    encoders.make = counted
    config.read_settings = lambda: settings
    this_build.current_build.cache_clear()
    encoders.drop()
    luigi_setup.install()
    interruption.install()
    succeeded = luigi.build([tasks.BuildFeatures()], workers=workers, local_scheduler=True, log_level="WARNING")
    sys.exit(int(not succeeded))


def shards(project: Project) -> list[Path]:
    return list(project.cache.glob("shards/*/*/[!.]*.h5"))


def has_ended(process: str) -> bool:
    """A process that nobody has waited for has ended, too."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_each_worker_loads_an_encoder_once_and_the_bytes_are_those_of_one_worker(start, project, expected):
    made = start()
    assert made.end() == 0, made.said()
    assert len(shards(project)) == 10
    assert features(project) == expected
    counts = collections.Counter(map(tuple, made.loaded()))
    assert set(counts.values()) == {1}
    assert {modality for _, modality in counts} == {"text", "audio"}
    assert 1 <= len({process for process, _ in counts}) <= 2
    assert str(made.process.pid) not in {process for process, _ in counts}
    assert all(has_ended(process) for process, _ in counts)


def test_a_worker_that_is_killed_loses_its_shard_alone_and_the_next_build_ends_alike(start, project, expected):
    def kill_the_first() -> None:
        try:
            (project.root / "killed").touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    made = start(kill_the_first)
    assert made.end() == 1
    assert len(shards(project)) == 9
    lines = made.said().splitlines()
    (line,) = [line for line in lines if "its process was ended" in line]
    assert line.startswith("error: FeatureShard(corpus=clips, ")
    assert "(SIGKILL; by the system if memory is short: use fewer --workers or a smaller shard_clips)." in line
    assert lines[-1] == "error: BuildFeatures has not finished. The next run continues from the files that exist."
    assert "Traceback" not in made.said()
    again = start()
    assert again.end() == 0, again.said()
    assert features(project) == expected
    assert list(project.cache.rglob("*.tmp~*")) == []
    assert not (project.cache / "locks").exists()


def test_workers_end_with_a_build_that_is_killed_and_clean_up(start, project):
    made = start(lambda: time.sleep(LIMIT_S))
    wait_until(lambda: len(made.loaded()) == 2)
    assert len(list(project.cache.glob("locks/*.lock"))) == 2
    os.kill(made.process.pid, signal.SIGKILL)
    wait_until(lambda: all(has_ended(process) for process, _ in made.loaded()))
    assert list(project.cache.glob("locks/*.lock")) == []
    assert list(project.cache.rglob("*.tmp~*")) == []
    assert "Traceback" not in made.said()


def test_an_error_of_many_shards_is_one_line_of_each_worker(start, project):
    def fail() -> None:
        raise InputError("the weights are gone. Get them again.")

    made = start(fail)
    assert made.end() == 1
    lines = [line for line in made.said().splitlines() if "the weights are gone" in line]
    assert 1 <= len(lines) <= 2
    assert all("FeatureShard(corpus=clips, " in line and line.endswith("): the weights are gone. Get them again.") for line in lines)
    assert "Traceback" not in made.said()
    assert shards(project) == []
