"""Two builds on one cache without a scheduler do no work twice; the lock of a process that has ended is taken over."""

import multiprocessing
import os
import shutil
import signal
import threading

import pytest
from projects import features, finish

from pipeline import config, one_maker, steps, tasks, this_build
from pipeline.one_maker import FOLDER, if_nobody_makes, only_maker, remove_stale


def hold(cache, output, connection) -> None:
    with only_maker(cache, output):
        connection.send("held")
        connection.recv()


@pytest.fixture
def holder(tmp_path):
    """A process that makes an output, and the connection that lets it finish."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=hold, args=(tmp_path, tmp_path / "a" / "b.h5", theirs))
    process.start()
    assert ours.recv() == "held"
    yield process, ours
    process.kill()
    process.join()


def test_another_process_waits_and_says_for_whom(tmp_path, holder, capsys):
    process, connection = holder
    entered = threading.Event()

    def make() -> None:
        with only_maker(tmp_path, tmp_path / "a" / "b.h5"):
            entered.set()

    thread = threading.Thread(target=make)
    thread.start()
    assert not entered.wait(0.5)
    connection.send("finish")
    thread.join(10)
    assert entered.is_set()
    assert (
        capsys.readouterr().err == f"BuildFeatures: waits for b.h5, which process {process.pid} on {os.uname().nodename} is making.\n"
    )
    remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_outputs_do_not_wait(tmp_path, holder, capsys):
    with only_maker(tmp_path, tmp_path / "a" / "c.h5"):
        assert len(list((tmp_path / FOLDER).iterdir())) == 2
    assert capsys.readouterr().err == ""


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    process, _ = holder
    remove_stale(tmp_path)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with only_maker(tmp_path, tmp_path / "a" / "b.h5"):
        pass
    remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_never_written_is_removed(tmp_path, monkeypatch):
    """A kill between creating and writing it leaves an empty file, which filelock takes over never."""
    monkeypatch.setattr(one_maker, "_EMPTY_S", 0.3)
    lock = tmp_path / FOLDER / "a~b.h5.lock"
    lock.parent.mkdir()
    lock.touch()
    entered = []
    thread = threading.Thread(target=lambda: entered.extend(_made(tmp_path)), daemon=True)
    thread.start()
    thread.join(20)
    assert entered == ["made"]
    assert not lock.exists()


def _made(cache):
    with only_maker(cache, cache / "a" / "b.h5"):
        return ["made"]


def test_an_empty_lock_is_left_at_the_end_of_a_build_while_it_is_young(tmp_path):
    old, young = (tmp_path / FOLDER / f"{name}.h5.lock" for name in ("old", "young"))
    old.parent.mkdir()
    old.touch()
    young.touch()
    os.utime(old, (1e9, 1e9))
    remove_stale(tmp_path)
    assert list(old.parent.iterdir()) == [young]


def test_locks_of_killed_processes_are_removed(tmp_path, holder):
    process, _ = holder
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_has_made_meanwhile_is_not_made_again(finished, monkeypatch):
    monkeypatch.setattr(config, "read_settings", lambda: finished.plan().settings)
    for step in ("make_manifest", "make_shard", "merge_shards", "make_ledger"):
        monkeypatch.setattr(steps, step, lambda *_: pytest.fail("the output was made again"))
    this_build.current_build.cache_clear()
    plan = this_build.current_build().plan
    text = plan.features["clips", "text"]
    tasks.Manifest.of(text.corpus).run()
    tasks.FeatureShard(corpus="clips", modality="text", shard=text.shards[0].name, key=text.shards[0].key).run()
    tasks.Features.of(text).run()
    tasks.PseudoLabels.of(plan.ledgers["clips"]).run()
    this_build.current_build.cache_clear()
    remove_stale(finished.cache)


def test_instead_of_waiting_another_output_is_made(tmp_path, holder, capsys):
    process, connection = holder
    made = []

    def make_another() -> bool:
        with if_nobody_makes(tmp_path, tmp_path / "a" / "b.h5") as is_ours:
            assert not is_ours
        with if_nobody_makes(tmp_path, tmp_path / "a" / "c.h5") as is_ours:
            made.append(is_ours)
        if len(made) == 2:
            connection.send("finish")
            process.join()
        return True

    with only_maker(tmp_path, tmp_path / "a" / "b.h5", make_another):
        assert made == [True, True]
    assert capsys.readouterr().err == ""
    remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_build_makes_other_shards_while_another_process_makes_one(built, monkeypatch):
    """The other process makes the first shard of the text until this one has made all other shards, which then exist."""
    plan = built.plan()
    text = plan.features["clips", "text"]
    shutil.rmtree(text.shards[0].path.parent)
    text.path.unlink()
    monkeypatch.setattr(config, "read_settings", lambda: plan.settings)
    this_build.current_build.cache_clear()
    first = tasks.FeatureShard(corpus="clips", modality="text", shard=text.shards[0].name, key=text.shards[0].key)
    made = []
    with only_maker(built.cache, text.shards[0].path):
        while first._make_another():
            made.append([shard.path.exists() for shard in text.shards])
    assert made == [[False] + [place < count for place in range(len(text.shards) - 1)] for count in range(1, len(text.shards))]
    assert first._make_another(), "nobody makes the first one any more"
    assert not first._make_another()
    this_build.current_build.cache_clear()
    remove_stale(built.cache)


def test_two_builds_without_a_scheduler_end_alike(project, finished):
    project.configure(
        corpora={"folders": '{"clips": "clips"}', "modalities": '["text"]'}, pseudo_labels={"targets": "[]", "donors": "[]"}
    )
    results = [finish(process) for process in [project.start("--log-level", "WARNING") for _ in range(2)]]
    assert [result.returncode for result in results] == [0, 0], [result.stderr for result in results]
    assert features(project).items() <= features(finished).items()
    assert not (project.cache / FOLDER).exists()
