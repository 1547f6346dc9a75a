"""An output counts as existing only if it is whole; shards are needed only while their feature file is missing."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from projects import Project

from data.errors import UnreadableError
from data.feature_store import FeatureStore
from pipeline import outputs
from pipeline.outputs import exists, missing, shard_is_sound


def test_a_finished_build_needs_no_shards_and_misses_nothing(finished):
    plan = finished.plan()
    assert [output.kind for output in outputs.needed(plan)] == ["manifest"] * 2 + ["features"] * 4 + ["pseudo labels", "report"]
    absent, present = outputs.survey(plan)
    assert (absent, present) == ([], list(outputs.needed(plan)))
    assert missing(plan) == []


def test_each_feature_file_is_opened_once_however_often_a_build_asks(finished, monkeypatch):
    """And not once for each of its shards: at a million utterances, to open one takes seconds."""
    opened, is_intact = [], outputs.is_intact
    monkeypatch.setattr(outputs, "is_intact", lambda path: opened.append(path) or is_intact(path))
    outputs._intact_in_state.cache_clear()
    plan = finished.plan()
    assert len(plan.features["clips", "text"].shards) > 1
    monkeypatch.setattr(outputs.time, "time_ns", lambda: 2**63)  # the files are older than the clock's ticks
    for _ in range(3):
        assert missing(plan) == []
    assert sorted(opened) == sorted(features.path for features in plan.features.values())


def test_before_the_first_build_everything_is_missing(project):
    plan = project.plan()
    assert missing(plan) == list(plan.outputs()) == list(outputs.needed(plan))


def test_a_missing_feature_file_needs_its_shards_and_no_others(built):
    plan = built.plan()
    text = plan.features["clips", "text"]
    text.path.unlink()
    text.shards[0].path.unlink()
    assert {output.path for output in outputs.needed(plan) if output.kind == "shard"} == {shard.path for shard in text.shards}
    assert [output.path for output in missing(plan)] == [text.shards[0].path, text.path]


@pytest.mark.parametrize("kind", ["manifest", "features", "pseudo labels"])
def test_a_truncated_output_counts_as_missing(built: Project, kind):
    output = next(output for output in missing(built.plan(cache=built.root / "elsewhere")) if output.kind == kind)
    path = built.cache / output.path.relative_to(built.root / "elsewhere")
    assert exists(path)
    os.truncate(path, path.stat().st_size - 20)
    assert not exists(path)
    assert [missing_output.path for missing_output in missing(built.plan()) if missing_output.kind == kind] == [path]


def test_a_shard_changed_in_one_bit_is_not_sound(built):
    path = built.plan().features["clips", "text"].shards[0].path
    assert shard_is_sound(path)
    content = bytearray(path.read_bytes())
    with FeatureStore.open(path) as store:
        content[content.index(store.read_all().tobytes()) + 7] ^= 1
    path.write_bytes(content)
    assert not shard_is_sound(path)
    assert not shard_is_sound(path.with_name("absent.h5"))


@pytest.mark.parametrize("kind", ["manifest", "features", "pseudo labels"])
def test_an_output_that_cannot_be_read_now_is_not_missing(built: Project, monkeypatch, kind):
    path = next(output.path for output in built.plan().outputs() if output.kind == kind)

    def fail(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "open", fail)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UnreadableError, match=r"cannot be read \(Too many open files\)\. It may be whole: keep it"):
        exists(path)


def test_a_shard_that_is_rebuilt_is_read_again(built):
    path = built.plan().features["clips", "text"].shards[0].path
    whole = path.read_bytes()
    content = bytearray(whole)
    with FeatureStore.open(path) as store:
        content[content.index(store.read_all().tobytes())] ^= 1
    path.write_bytes(content)
    assert not shard_is_sound(path)
    path.unlink()
    path.write_bytes(whole)
    assert shard_is_sound(path)


def test_other_files_exist_as_they_are(tmp_path):
    (tmp_path / "report.html").touch()
    assert exists(tmp_path / "report.html")
    assert not exists(tmp_path)
    (tmp_path / "a.parquet").touch()
    (tmp_path / "a.h5").touch()
    assert not exists(tmp_path / "a.parquet")
    assert not exists(tmp_path / "a.h5")


@pytest.fixture
def nothing_remembered():
    """No file counts as whole because it was whole before."""
    outputs._intact_in_state.cache_clear()


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """This process can open no further file in the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_output_that_cannot_be_read_now_is_neither_missing_nor_damaged(finished, nothing_remembered):
    plan = finished.plan()
    paths = [plan.features["clips", "text"].path, plan.corpora["clips"].manifest, plan.ledgers["clips"].path]
    for path in paths:
        with no_descriptor_left(), pytest.raises(UnreadableError) as caught:
            exists(path)
        assert str(caught.value).startswith(f"{path}: cannot be read (Too many open files). It may be whole: keep it")
        assert exists(path)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("Unable to open file (file read failed: errno = 5, error message = 'Input/output error')"), "Input/output error"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_a_failure_inside_hdf5_is_not_called_damage(finished, nothing_remembered, monkeypatch, error, reason):
    path = finished.plan().features["clips", "text"].path

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(UnreadableError) as caught:
        exists(path)
    assert str(caught.value).startswith(f"{path}: cannot be read ({reason}). It may be whole: keep it")
