"""A forked Python does what a fresh one does: arguments, folder, environment, streams, exit status and signals."""

import json
import os
import signal
import subprocess

import pytest
from projects import finish, forked, python

STATE = """
import json, os, signal, sys
print(json.dumps({
    "name": __name__, "arguments": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ), "path": sys.path,
    "leads": (os.getsid(0), os.getpgid(0)) == (os.getpid(), os.getpid()), "terminals": [os.isatty(number) for number in (1, 2)],
    "interrupt": str(signal.getsignal(signal.SIGINT)), "ours": sorted({"data", "heads", "luigi", "pipeline"} & set(sys.modules)),
}))
"""


@pytest.mark.parametrize("option", ["-c", "-m"])
def test_a_fork_finds_what_a_fresh_process_finds(tmp_path, monkeypatch, option):
    monkeypatch.setenv("ADDED", "1")
    (tmp_path / "state.py").write_text(STATE)
    results = [finish(start(option, {"-c": STATE, "-m": "state"}[option], "a", "b", cwd=tmp_path)) for start in (forked, python)]
    assert [(result.returncode, result.stderr) for result in results] == [(0, "")] * 2
    fork, fresh = (json.loads(result.stdout) for result in results)
    assert fork == fresh
    assert (fork["environment"]["ADDED"], fork["ours"]) == ("1", [])


@pytest.mark.parametrize(
    ("code", "status", "last"),
    [
        ("print('x')", 0, ""),
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit('said')", 1, "said"),
        ("raise ValueError('x')", 1, "ValueError: x"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_a_fork_ends_as_a_fresh_process_ends(tmp_path, code, status, last):
    results = [finish(start("-c", code, cwd=tmp_path)) for start in (forked, python)]
    for result in results:
        assert (result.returncode, "".join(result.stderr.splitlines()[-1:])) == (status, last)
    assert results[0].stdout == results[1].stdout


def test_forks_draw_numbers_of_their_own(tmp_path):
    code = "import random; import numpy as np; print(random.random(), np.random.rand())"
    drawn = [finish(forked("-c", code, cwd=tmp_path)).stdout.split() for _ in range(2)]
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


def test_a_fork_can_be_waited_for_and_killed_with_its_group(tmp_path):
    process = forked("-c", "import time; print('begun', flush=True); time.sleep(100)", cwd=tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=0.1)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.poll() == process.returncode == -signal.SIGKILL
