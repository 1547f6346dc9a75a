"""On a GPU: no step of training mixes devices or waits for the device, dtypes are as documented, and launches keep to their budgets.

A device that is not there stands in for the GPU; `watch.py` says what it can show and what it cannot. The budgets are in
launch_budgets.csv. After a change that saves launches, the failing test prints the new table. Most heads take a step each time;
`pytest -m launches` has all heads, packs of each, and all evaluations, in some four minutes.
"""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_cuda import compiled
from launches import cases

from pipeline.settings import CHECKOUT

BUDGETS = Path(__file__).with_name("launch_budgets.csv")
MADE_WITH = "2.13."
"""The version of torch that the budgets were counted with. Others do some operations in more steps, or in fewer."""
SLACK = 0.97
"""Counts below this share of a budget ask for a new one, so that the next change cannot spend what this one has saved."""

Counts = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=["everyday", pytest.param("all", marks=[pytest.mark.launches, pytest.mark.timeout(1800)])])
def which(request: pytest.FixtureRequest) -> str:
    """What is run."""
    return request.param


@pytest.fixture(scope="module")
def counts(which: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Counts:
    """Case → what was counted."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here to compile the device that is not there (Debian: apt install g++)")
    if torch.version.cuda is not None:
        pytest.skip("this torch has CUDA of its own: pytest -m gpu")
    library = compiled(compiler, request.config.cache.mkdir("fake_cuda"))
    folder = tmp_path_factory.mktemp("launches")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{CHECKOUT / 'tests'}{os.pathsep}{CHECKOUT}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-W", "ignore", "-m", "fake_cuda", str(library), "launches", str(folder), which]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {line.pop("case"): line for line in map(json.loads, done.stdout.splitlines())}


def test_what_is_watched_is_known(counts: Counts) -> None:
    known = counts["known operations"]
    assert known["products"] == {"float32": 1}
    assert {name.split()[0]: count for name, count in known["waits"].items()} == {"_local_scalar_dense": 1}
    assert {name.split(" in ")[0]: count for name, count in known["copies"].items()} == {"cpu to cuda": 1, "cuda to cpu": 1}
    assert "cuda:0" in counts["mixed devices"]["error"]
    assert "cpu" in counts["mixed devices"]["error"]


def test_nothing_mixes_devices_or_dtypes(counts: Counts) -> None:
    assert {name: found["error"] for name, found in counts.items() if "error" in found and name != "mixed devices"} == {}


@pytest.mark.parametrize("kind", ["waits", "copies"])
def test_the_host_waits_for_the_device_in_no_step(counts: Counts, which: str, kind: str) -> None:
    found = {str(case): counts[str(case)][kind] for case in cases(which) if case.what != "evaluation"}
    assert {name: facts for name, facts in found.items() if facts} == {}


def test_an_evaluation_waits_for_its_results_alone(counts: Counts, which: str) -> None:
    """They are copied when all batches have been started."""
    for name in (str(case) for case in cases(which) if case.what == "evaluation"):
        places = {place.rpartition(":")[0] for place in counts[name]["copies"]}
        assert (places, counts[name]["waits"]) == ({"cuda to cpu in heads/evaluation/predictions.py"}, {}), name


@pytest.mark.parametrize("modality", ["text", "audio"])
def test_encoders_wait_for_their_inputs_and_results_alone(counts: Counts, modality: str) -> None:
    for precision in ("float32", "bfloat16"):
        facts = counts[f"encoding of {modality}, {precision}"]
        assert facts["waits"] == {}
        place = f"pipeline/encoding/{modality}_encoder.py"
        assert {name.rpartition(":")[0].rpartition(" ")[2] for name in facts["copies"]} == {place}
        assert sum(facts["copies"].values()) <= 5
        assert precision in facts["products"]
        assert facts["products"].keys() <= {precision, "float32"}  # what stands in for fused attention multiplies in float32


def test_products_have_the_documented_precision(counts: Counts, which: str) -> None:
    """With tf32 the tensors are float32."""
    for case in cases(which):
        expected = {case.precision} if case.precision == "bfloat16" else {"float32"}
        if case.what == "evaluation":  # where attention is fused, and what stands in for it here multiplies in float32
            expected = {"float32", *expected}
        assert set(counts[str(case)]["products"]) <= expected, case
        assert case.precision != "bfloat16" or "bfloat16" in counts[str(case)]["products"], case


def test_launches_keep_to_their_budgets(counts: Counts, which: str) -> None:
    if not torch.__version__.startswith(MADE_WITH):
        pytest.skip(f"budgets are of torch {MADE_WITH}x")
    found = {name: facts["launches"] for name, facts in counts.items() if "launches" in facts and name != "known operations"}
    with BUDGETS.open(encoding="utf-8", newline="") as file:
        budgets = {row["case"]: int(row["launches"]) for row in csv.DictReader(file)}
    unknown = found.keys() ^ budgets.keys() if which == "all" else found.keys() - budgets.keys()
    above = {name: (found[name], budgets[name]) for name in found.keys() & budgets.keys() if found[name] > budgets[name]}
    below = {name: (found[name], budgets[name]) for name in found.keys() & budgets.keys() if found[name] < SLACK * budgets[name]}
    assert not unknown, f"cases without a budget, or budgets without a case: {sorted(unknown)}\n{_table(found)}"
    assert not above, f"more launches than budgeted (now, budget): {above}"
    assert not below, f"lower the budgets (now, budget): {below}\n{_table(found)}"


def _table(found: dict[str, int]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("case", "launches"), *found.items()])
    return text.getvalue()
