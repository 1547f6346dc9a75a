"""Decoding ahead in processes: the same samples and errors as without, a few recordings in memory, and no process is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from projects import write_wav

from data.errors import InputError
from data.media import MediaError, decode
from pipeline.encoding import decoding

LIMIT_S = 60
CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    """Recordings of 0.1 to 20 s; the longest, which is more than a pipe holds, comes first."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    made = []
    for number, seconds in enumerate([20, 0.1, 0.3, 7, 0.1, 0.2, 1, 0.1, 3]):
        made.append(folder / f"{number}.wav")
        write_wav(made[-1], rng.uniform(-0.5, 0.5, round(16_000 * seconds)))
    return made


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    for processes in decoding._kept.values():
        processes.end()
    decoding._kept.clear()
    assert children() == []


def children(of: int | None = None) -> list[int]:
    """The processes that decode for a process, this one if none is given."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[:2]
            line = path.with_name("cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == (of or os.getpid()) and state != "Z" and b"data.decoder" in line:
            found.append(int(path.parent.name))
    return sorted(found)


def test_samples_and_order_are_those_of_decoding_here_and_the_processes_stay(paths):
    expected = [decode(path) for path in paths]
    used = []
    for _ in range(2):
        found = list(decoding.recordings(paths, 2))
        used.append(children())
        assert [len(samples) for samples in found] == [len(samples) for samples in expected]
        for samples, same in zip(found, expected, strict=True):
            assert samples.tobytes() == same.tobytes()
    assert len(used[0]) == 2
    assert used[0] == used[1]


def test_a_file_that_cannot_be_decoded_raises_the_error_of_decoding_it_here_in_its_turn(paths, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(paths[3].read_bytes()[:1_000])
    with pytest.raises(MediaError) as expected:
        decode(broken)
    found = decoding.recordings([*paths[:4], broken, *paths[4:]], 2)
    assert [len(next(found)) for _ in range(4)] == [320_000, 1_600, 4_800, 112_000]
    with pytest.raises(MediaError) as error:
        next(found)
    assert (error.value.kind, str(error.value)) == (expected.value.kind, str(expected.value))
    assert children() == []


def test_a_process_that_is_killed_is_an_error_of_one_line(paths, monkeypatch):
    monkeypatch.setattr(decoding, "_AHEAD_BYTES", 1)  # so that files are left when the first has come
    found = decoding.recordings(paths, 2)
    next(found)
    for number in children():
        os.kill(number, signal.SIGKILL)
    with pytest.raises(
        InputError, match=r"^\S+\.wav: the process that decodes it was ended \(SIGKILL; by the system if memory is short"
    ):
        list(found)
    assert children() == []


def test_processes_end_when_the_consumer_stops(paths):
    found = decoding.recordings(paths, 2)
    next(found)
    found.close()
    assert children() == []


def test_no_file_is_begun_while_many_samples_wait(paths, monkeypatch):
    """With room for nothing, the one that is needed and what both processes have in hand."""
    monkeypatch.setattr(decoding, "_AHEAD_BYTES", 1)
    begun = []
    ask = decoding._Process.ask
    monkeypatch.setattr(decoding._Process, "ask", lambda process, path: (begun.append(path), ask(process, path)))
    for turn, samples in enumerate(decoding.recordings(paths, 2)):
        assert len(begun) <= turn + 1 + 2 * decoding._ORDERS
        assert len(samples) == len(decode(paths[turn]))
    assert begun == paths


def test_signals_to_all_processes_of_a_build_do_not_end_decoders_but_the_end_of_their_owner_does(paths):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom pipeline.encoding import decoding\n"
        "found = decoding.recordings([Path(name) for name in sys.argv[1:]], 2)\nprint(len(next(found)), flush=True)\ntime.sleep(1000)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, *map(str, paths)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "320000\n"
        numbers = children(owner.pid)
        assert len(numbers) == 2
        for number in numbers:
            for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                os.kill(number, name)
        time.sleep(0.2)
        assert children(owner.pid) == numbers
        owner.kill()
    end = time.monotonic() + LIMIT_S
    while any(is_alive(number) for number in numbers):
        assert time.monotonic() < end
        time.sleep(0.01)


def is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("setting", "device", "threads", "expected"),
    [
        (0, "cpu", 16, 1),
        (0, "cuda:0", 16, 8),
        (0, "cuda:1", 3, 3),
        (0, "cuda:0", 1, 1),
        (4, "cpu", 2, 2),
        (4, "cpu", 16, 4),
        (1, "cuda:0", 16, 1),
    ],
)
def test_the_number_of_decoders_depends_on_the_device_and_is_at_most_that_of_the_cores(setting, device, threads, expected):
    assert decoding.number_of_decoders(setting, device, threads) == expected
