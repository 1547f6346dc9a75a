"""The harness of `make fuzz` recognises each fault, and no reader has one on a few hundred damaged files."""

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from fuzz import harness
from fuzz.harness import Reader, case, make_input, run
from fuzz.readers import READERS
from projects import forked

from data.errors import InputError
from pipeline.settings import CHECKOUT

CASES = 8
"""Damaged files of each reader."""


def refuse(content: bytes) -> None:
    raise InputError("a.txt: damaged.")


def refuse_in_lines(content: bytes) -> None:
    raise InputError("a.txt:\ndamaged.")


def refuse_at_length(content: bytes) -> None:
    raise InputError("a" * 2000)


def refuse_in_colour(content: bytes) -> None:
    raise InputError("\x1b[31ma.txt")


def fail(content: bytes) -> None:
    raise KeyError("a")


def end(content: bytes) -> None:
    os.abort()


def never_end(content: bytes) -> None:
    while True:
        pass


def never_wake(content: bytes) -> None:
    time.sleep(1000)


def allocate(content: bytes) -> int:
    return int(np.ones(40_000_000).sum())


def allocate_too_much(content: bytes) -> int:
    return np.ones(1_000_000_000_000).size


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        (len, "read", "another result"),
        (lambda content: 4, "read", ""),
        (refuse, "clean", r"a\.txt: damaged\."),
        (refuse_in_lines, "lines", r"a\.txt:\ndamaged\."),
        (refuse_at_length, "lines", "a{500}"),
        (refuse_in_colour, "lines", r"\x1b\[31ma\.txt"),
        (fail, "traceback", r"KeyError: 'a' \(.*test_fuzz\.py:\d+\)"),
        (end, "crash", "ended by SIGABRT"),
        (never_end, "hang", "ended by SIGPROF"),
        (never_wake, "hang", "ended by SIGALRM"),
        (allocate, "memory", r"0\.3 GB: another result"),
        (allocate_too_much, "memory", "MemoryError: Unable to allocate 7.28 TiB .*"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_happens_is_recognised_and_the_next_file_is_read(tmp_path, monkeypatch, what, kind, message):
    limits = {never_end: ("PROCESSOR_S", 0.5), never_wake: ("CLOCK_S", 0.5), allocate: ("MEMORY_BYTES", 50_000_000)}
    if what in limits:
        monkeypatch.setattr(harness, *limits[what])

    def prepare(folder: Path) -> list[Path]:
        (folder / "a.txt").write_bytes(b"abcd")
        return [folder / "a.txt"]

    def read(folder: Path) -> object:
        content = (folder / "a.txt").read_bytes()
        return 4 if content == b"abcd" else what(content)

    longer = {"longer": lambda rng, content: content + b"e"}
    outcomes = list(run(make_input(Reader("a", prepare, read, longer), tmp_path / "valid"), 1, range(2)))
    assert [outcome.number for outcome in outcomes] == [0, 1]
    for outcome in outcomes:
        assert outcome.kind == kind, outcome
        assert re.fullmatch(message, outcome.message)
    assert (tmp_path / "valid" / "input" / "a.txt").read_bytes() == b"abcd"


@pytest.mark.parametrize(("guarded", "kind"), [(frozenset(), "read"), (frozenset({"longer"}), "silent")])
def test_another_result_is_a_fault_where_checksums_guard_the_file(tmp_path, guarded, kind):
    def prepare(folder: Path) -> list[Path]:
        (folder / "a.txt").write_bytes(b"abcd")
        return [folder / "a.txt"]

    reader = Reader("a", prepare, lambda folder: (folder / "a.txt").read_bytes(), {"longer": lambda rng, content: content * 2}, guarded)
    (outcome,) = run(make_input(reader, tmp_path / "valid"), 1, [0])
    assert (outcome.kind, outcome.message) == (kind, "another result")


def test_a_case_is_the_same_for_the_same_seed_and_number():
    contents = {Path("a"): bytes(range(256)) * 20, Path("b"): b"1,2\n3,4\n" * 20}
    reader = Reader("a", lambda folder: [], lambda folder: None)
    made = [case(reader, 1, number, contents) for number in range(50)]
    assert made == [case(reader, 1, number, contents) for number in range(50)]
    assert len({one.content for one in made}) > 40
    assert made != [case(reader, 2, number, contents) for number in range(50)]


def test_no_reader_has_a_fault_on_damaged_files():
    process = forked("-m", "fuzz", "--seed", "7", "--cases", str(CASES), cwd=CHECKOUT / "tests")
    output, errors = process.communicate()
    counted = re.search(r"(\d+) files, 0 faults", output)
    assert counted, output + errors
    assert int(counted[1]) == sum(max(1, round(CASES * reader.share)) for reader in READERS.values())
    assert process.returncode == 0
