"""What `sweep` and `tables` share: flags about training become an `Execution`; failures are printed and decide the exit status."""

import pandas as pd
import pytest

from data.errors import InputError
from heads.__main__ import parser
from heads.commands._trials import _clock, execution, print_failures
from heads.sweeps.execution import Execution


def given(*flags):
    return parser().parse_args(["sweep", "grid.yaml", "--out", "out", *flags])


def test_flags_become_an_execution():
    assert execution(given()) == Execution()
    flags = ("--devices", "cpu,cuda:1", "--executor", "ray", "--ray-address", "a:1", "--pack-size", "3", "--log", "tensorboard")
    expected = Execution(devices=("cpu", "cuda:1"), executor="ray", ray_address="a:1", pack_size=3, logs=("tensorboard",))
    assert execution(given(*flags)) == expected
    assert execution(given("--tensorboard", "--log", "tensorboard")).logs == ("tensorboard",)
    with pytest.raises(InputError, match=r"Unknown log 'tensorbord'\. Did you mean 'tensorboard'\?"):
        execution(given("--log", "tensorbord"))


def test_a_dry_run_knows_no_cluster():
    with pytest.raises(InputError, match=r"knows nothing of a Ray cluster\. Leave out --executor ray\.$"):
        execution(given("--dry-run", "--executor", "ray"))


def test_failures_are_said_in_one_line_and_are_the_status(tmp_path, capsys):
    trials = pd.DataFrame({"name": ["a", "b", "c"], "status": ["complete", "failed", "failed"], "error": [None, "Why.", "Whence."]})
    assert print_failures(tmp_path, trials) == 1
    remedy = "To try it again, remove trials/b/failed.json and give the same command."
    assert capsys.readouterr().out == f"2 of 3 trials failed; b: Why. {remedy}\n"
    assert print_failures(tmp_path, trials[:1]) == 0
    assert capsys.readouterr().out == ""


def test_times_have_hours_minutes_and_seconds():
    assert [_clock(seconds) for seconds in (0.4, 59.6, 3_600, 360_061)] == ["0:00:00", "0:01:00", "1:00:00", "100:01:01"]
