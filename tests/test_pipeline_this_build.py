"""A process has one build; a mistake in its settings ends the process with one line."""

import socket

import pytest
from projects import states

from data.errors import InputError
from pipeline import config, this_build
from pipeline.encoding import devices
from pipeline.this_build import Build, current_build


@pytest.fixture
def settings(monkeypatch):
    """A function that makes the build of this process one of these settings."""

    def use(settings):
        monkeypatch.setattr(config, "read_settings", lambda: settings)
        current_build.cache_clear()

    yield use
    current_build.cache_clear()


def test_a_process_has_one_build_of_the_settings_that_it_was_given(finished, settings):
    settings(finished.plan().settings)
    assert current_build() is current_build()
    assert current_build().plan.report == finished.plan().report
    absent, present = current_build().at_start
    assert absent == []
    assert {output.path for output in present} >= {finished.plan().report}


def test_outputs_at_the_start_stay_those_that_were_missing(project, settings):
    settings(project.plan().settings)
    absent, _ = current_build().at_start
    absent[0].path.parent.mkdir(parents=True)
    absent[0].path.write_bytes(b"made meanwhile")
    assert current_build().at_start[0] is absent


def test_what_killed_processes_have_left_is_removed_and_nothing_else(built, settings):
    before = states(built.cache)
    stray = built.cache / "features" / f".left.h5.tmp~{socket.gethostname()}~{2**22 + 1}"  # no process has so high a number
    stray.touch()
    settings(built.plan().settings)
    current_build()
    assert states(built.cache) == before


def test_seconds_are_counted_from_the_start(finished, settings, monkeypatch):
    settings(finished.plan().settings)
    now = [100.0]
    monkeypatch.setattr(this_build.time, "monotonic", lambda: now[0])
    one = Build()
    now[0] = 103.5
    assert one.seconds() == 3.5


@pytest.mark.parametrize("error", [InputError("dtype is wrong"), PermissionError(13, "Permission denied", "cache")])
def test_a_mistake_ends_the_process_with_one_line(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(config, "read_settings", fail)
    current_build.cache_clear()
    with pytest.raises(SystemExit, match=r"^error: ") as caught:
        current_build()
    assert str(error) in str(caught.value)
    assert current_build.cache_info().currsize == 0


@pytest.mark.parametrize(
    ("precision", "long", "has_amx", "said"),
    [("float32", 1, True, True), ("float32", 1, False, False), ("float32", 10**6, True, False), ("bfloat16", 1, True, False)],
)
def test_a_long_build_in_float32_says_that_the_processor_has_a_faster_way(
    monkeypatch, project, settings, precision, long, has_amx, said
):
    monkeypatch.setattr(this_build, "_LONG_BUILD", long)
    monkeypatch.setattr(devices, "multiplies_bfloat16", lambda: has_amx)
    settings(project.plan(precision=precision).settings)
    assert ("precision = bfloat16 in luigi.cfg" in current_build().advice()) is said
