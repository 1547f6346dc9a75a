"""Processes that stay: orders and results, processes that are killed, and none that outlives its owner."""

import multiprocessing
import os
import queue
import signal
import time
from pathlib import Path

import pytest

from pipeline.worker_processes import WorkerProcesses

LIMIT_S = 30
FORK = multiprocessing.get_context("fork")


def do(order: tuple[str, float]) -> object:
    """Returns the number of this process, or ends it, or sleeps until it is ended."""
    word, number = order
    if word == "exit":
        os._exit(int(number))
    if word == "sleep":
        time.sleep(number)
    return word, os.getpid()


@pytest.fixture
def processes():
    """Two processes at most are started by these tests; what they do is above. TERM ends them, whatever an earlier test made of it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    made = WorkerProcesses(do, lambda order, status: ("lost", order, status))
    yield made
    made.close()
    signal.signal(signal.SIGTERM, before)
    assert multiprocessing.active_children() == []


def result(processes: WorkerProcesses) -> tuple:
    return processes.get(LIMIT_S)


def pid(processes: WorkerProcesses, word: str = "word", encoder: str = "") -> int:
    """The process that did an order, which had to wait for no other."""
    processes.start((word, 0), encoder)
    said, number = result(processes)
    assert said == word
    return number


def has_ended(number: int) -> bool:
    """A process that nobody has waited for has ended, too."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(is_true) -> None:
    end = time.monotonic() + LIMIT_S
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_process_does_one_order_after_the_other_and_is_not_the_owner(processes):
    numbers = {pid(processes) for _ in range(3)}
    assert len(numbers) == 1
    assert os.getpid() not in numbers


def test_the_process_that_has_the_encoder_is_the_first_choice_then_one_that_has_none(processes):
    processes.start(("sleep", 0.2), "audio")
    processes.start(("sleep", 0.2), "")
    numbers = dict.fromkeys(["audio", ""])
    for _ in numbers:
        result(processes)
    audio = pid(processes, encoder="audio")
    plain = pid(processes)
    assert plain != audio
    assert pid(processes, encoder="audio") == audio  # although the other one has been idle longer
    assert pid(processes, encoder="text") == plain
    assert {pid(processes, encoder=name) for name in ("text", "audio")} == {plain, audio}


def test_without_a_result_in_time_the_queue_is_empty_and_others_may_be_put_into_it(processes):
    with pytest.raises(queue.Empty):
        processes.get(0)
    processes.start(("sleep", LIMIT_S), "")
    with pytest.raises(queue.Empty):
        processes.get(0.01)
    processes.put("said")
    assert processes.get(0) == "said"


@pytest.mark.parametrize(("order", "number", "status"), [("exit", 3, 3), ("exit", 0, 0), ("sleep", LIMIT_S, -signal.SIGKILL)])
def test_a_process_that_ends_in_its_work_loses_that_order_alone(processes, order, number, status):
    first = pid(processes)
    processes.start((order, number), "")
    if order == "sleep":
        os.kill(first, signal.SIGKILL)
    assert result(processes) == ("lost", (order, number), status)
    assert pid(processes) != first


def test_an_order_that_no_process_can_begin_is_lost(processes, monkeypatch):
    monkeypatch.setattr("pipeline.worker_processes._end_with", lambda owner: os._exit(7))
    processes.start(("word", 0), "")
    assert result(processes) == ("lost", ("word", 0), 7)


def test_a_process_that_is_asked_to_end_in_its_work_gives_no_result(processes):
    processes.start(("sleep", LIMIT_S), "").terminate()
    assert result(processes) == ("lost", ("sleep", LIMIT_S), -signal.SIGTERM)


def test_a_process_that_was_killed_while_it_was_idle_loses_nothing(processes):
    first = pid(processes)
    os.kill(first, signal.SIGKILL)
    assert pid(processes) != first
    assert has_ended(first)


def test_closing_ends_the_idle_and_the_busy(processes):
    idle = pid(processes)
    processes.start(("sleep", LIMIT_S), "")
    processes.start(("sleep", LIMIT_S), "")
    assert len(multiprocessing.active_children()) == 2
    began = time.monotonic()
    processes.close()
    assert has_ended(idle)
    assert multiprocessing.active_children() == []
    assert time.monotonic() - began < LIMIT_S / 2


def own(connection) -> None:
    processes = WorkerProcesses(do, lambda order, status: None)
    for _ in range(2):
        processes.start(("sleep", 0.1), "")
    idle, busy = result(processes)[1], result(processes)[1]
    processes.start(("sleep", LIMIT_S), "")
    connection.send((idle, busy))
    connection.recv()


def test_no_process_outlives_an_owner_that_is_killed():
    ours, theirs = FORK.Pipe()
    owner = FORK.Process(target=own, args=(theirs,))
    owner.start()
    numbers = ours.recv()
    assert not any(map(has_ended, numbers))
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    wait_until(lambda: all(map(has_ended, numbers)))
