"""An interrupted build leaves no stray file and no traceback, has a status of its own, and goes on with the same command."""

import os
import signal
import time
from subprocess import CompletedProcess

import pytest
from projects import Project, features, finish

LIMIT_S = 60


@pytest.fixture(autouse=True)
def heard():
    """Lets processes hear SIGINT, which they ignore if the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(project: Project, number: int, *arguments: str) -> CompletedProcess[str]:
    """A build that gets the signal while its first shards are being made: it imports the encoder's library then."""
    process = project.start("--log-level", "WARNING", *arguments, fresh=True)
    end = time.monotonic() + LIMIT_S
    while not list(project.cache.glob("locks/shards~*.lock")) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(process.pid, number)
    return finish(process)


@pytest.mark.parametrize(
    ("number", "arguments"), [(signal.SIGTERM, ()), (signal.SIGINT, ("--workers", "2")), (signal.SIGUSR1, ("--workers", "2"))]
)
def test_an_interrupted_build_leaves_nothing_behind_and_goes_on(project, finished, number, arguments):
    project.configure(
        corpora={"folders": '{"clips": "clips"}', "modalities": '["text"]'}, pseudo_labels={"targets": "[]", "donors": "[]"}
    )
    result = interrupted(project, number, *arguments)
    assert result.returncode == 128 + number, result.stderr
    left = "what was in hand is finished" if number == signal.SIGUSR1 else "no incomplete file is left"
    line = f"interrupted ({signal.Signals(number).name}): {left}; the same command goes on."
    assert result.stderr.splitlines()[-1] == line
    assert "Traceback" not in result.stderr
    assert list(project.cache.rglob("*.tmp~*")) == []
    assert list(project.cache.rglob("*.lock")) in ([], [project.cache / ".index.lock"])
    if number == signal.SIGUSR1:
        plan = project.plan(modalities=("text",), targets=(), donors=())
        made = [shard.path.exists() for features in plan.features.values() for shard in features.shards]
        assert any(made), "the shards in hand"
        assert not all(made)
    if arguments:
        return  # one build that goes on is enough
    result = project.build("--log-level", "WARNING")
    assert result.returncode == 0, result.stderr
    assert features(project).items() <= features(finished).items()
