"""Signals that ask a command to stop: at once, or when the work in hand is finished."""

import os
import signal

import pytest

from data import stopping
from data.stopping import SIGNALS, Stopped, stoppable


@pytest.mark.parametrize(("number", "status", "name"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGUSR1, 138, "SIGUSR1")])
def test_a_signal_stops_a_command_at_once(number, status, name):
    before = [signal.getsignal(one) for one in SIGNALS]

    def work() -> None:
        with stoppable():
            os.kill(os.getpid(), number)
            raise AssertionError("it went on")

    with pytest.raises(Stopped) as stopped:
        work()
    assert (stopped.value.status, stopped.value.name) == (status, name)
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_work_in_hand_is_finished_first_and_only_the_first_signal_counts():
    done = []

    def work() -> None:
        with stoppable():
            with stopping.finishing():
                os.kill(os.getpid(), signal.SIGUSR1)
                done.append(stopping.is_asked())
                os.kill(os.getpid(), signal.SIGTERM)
                done.append("end")
            done.append("never")

    with pytest.raises(Stopped) as stopped:
        work()
    assert (done, stopped.value.number) == ([True, "end"], signal.SIGUSR1)
    with stoppable():
        assert not stopping.is_asked()
        stopping.check()
