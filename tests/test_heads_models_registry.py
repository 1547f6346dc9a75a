"""Contract tests: every head of the registry keeps the contract of `heads.models.base`.

The checks are in `heads.models.contract`; `tests/test_heads_models_contract.py` shows that each of them finds what it is for.
"""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from batches import random_batch
from caches import make_cache
from small_heads import DIMS, TRAINED, ZOO, a_batch, joined, made, make, subject

from data.errors import InputError
from heads.models.contract import CHECKS
from heads.models.options import FREE, ZERO_OR_NOT, walk
from heads.models.registry import HEADS
from heads.models.simple import SIMPLE_BASELINES
from heads.models.tasks import TASKS
from heads.runs.config import make_config
from heads.runs.run_data import open_run_data

CHECKOUT = Path(__file__).parents[1]

ONE_IS_ENOUGH = {*set(TRAINED).difference(ZOO), "cogmen"}
"""Heads that need no second modality."""

every_head = pytest.mark.parametrize("name", TRAINED)

CASES = [(name, task, check) for check in CHECKS for name in TRAINED for task in subject(name).tasks_of(check)]


def every_task(name: str) -> str:
    """The task of a head that learns one, else both."""
    return HEADS[name].task or "both"


@pytest.mark.parametrize(("name", "task", "check"), CASES)
def test_every_head_keeps_the_contract(name, task, check):
    CHECKS[check](subject(name), task)


@pytest.mark.parametrize("name", ZOO)
def test_a_baseline_has_no_losses_of_its_own_in_evaluation(name):
    assert made(name, every_task(name))(a_batch(name)).aux.losses == {}


@every_head
def test_a_head_that_needs_both_modalities_says_so_and_any_other_reads_one(name):
    for modality, width in DIMS.items():
        if name in ONE_IS_ENOUGH:
            assert joined(make(name, every_task(name), {modality: width}).eval()(a_batch(name))).isfinite().all()
        else:
            with pytest.raises(InputError, match=rf"^{name} needs text and audio features, got {modality}\.$"):
                make(name, every_task(name), {modality: width})


@every_head
def test_a_third_modality_is_read_or_refused(name):
    dims = {**DIMS, "vision": 3}
    if not HEADS[name].head.takes_more:
        with pytest.raises(
            InputError, match=rf"^{name} reads text and audio only, got text and audio and vision\. Use --modalities text audio"
        ):
            make(name, every_task(name), dims)
        return
    batch, third = a_batch(name), random_batch({"vision": (2, 4, 1, 3, 2)}, {"vision": 3}, seed=1)
    seen = third.features["vision"].requires_grad_()
    batch = batch._replace(features={**batch.features, "vision": seen}, masks={**batch.masks, **third.masks})
    joined(make(name, every_task(name), dims, calm=True).eval()(batch)).sum().backward()
    assert (seen.grad[third.masks["vision"]] != 0).any(-1).float().mean() > 0.1, "rows of the third modality that the result depends on"


def test_the_table_is_read_without_torch_and_a_head_is_imported_when_it_is_used():
    module = "heads.models.baselines"
    code = (
        "import sys; from heads.models.registry import HEADS; print(all(entry.summary for entry in HEADS.values()));"
        " print('torch' in sys.modules);"
        f" print(HEADS['misa'].head.__name__, '{module}.misa' in sys.modules, '{module}.mult' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert result.stdout == "True\nFalse\nMISA True False\n"


@pytest.mark.parametrize("name", [name for name, entry in HEADS.items() if entry.head])
def test_options_that_may_differ_in_a_pack_are_declared_on_their_fields(name):
    """Dropout rates are buffers of heads: one whose field does not say so could not be packed with others."""
    fields = {field.name: field.declared.in_pack for field in walk(HEADS[name].options())}
    rates = [dotted for dotted in fields if dotted.endswith("dropout")]
    assert {fields[dotted] for dotted in rates} <= {ZERO_OR_NOT}
    free = {dotted.rpartition(".")[2] for dotted, in_pack in fields.items() if in_pack == FREE}
    assert free <= {"top_k", "init_scale"}


@pytest.mark.parametrize("name", HEADS)
def test_an_entry_is_a_head_or_a_simple_baseline_and_has_a_summary_and_a_source(name):
    entry = HEADS[name]
    assert (entry.head is None) == (entry.simple is not None)
    assert entry.simple is None or entry.simple in SIMPLE_BASELINES
    assert entry.summary
    assert bool(re.search(r"\b20\d\d$", entry.source)) == (entry.head is not None)
    assert entry.published in (*TASKS, None)
    assert dataclasses.is_dataclass(entry.options)
    entry.options()


def test_the_papers_heads_and_all_simple_baselines_are_registered():
    paper = {"mmolre", "pre-fusion", "post-fusion", "baseline-msa", "baseline-mer", "moe", "mmoe", "ple", "mod-squad", "mlore", "demt"}
    assert paper | set(SIMPLE_BASELINES) <= set(HEADS)


def test_a_modality_that_the_corpus_lacks_is_refused(tmp_path):
    cache = make_cache(tmp_path)
    index = json.loads((cache / "index.json").read_text())
    del index["corpora"]["mosi"]["features"]["audio"]
    (cache / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"mosi has no audio features \(there are: text\)\..* without: --modalities text "):
        open_run_data(make_config("mmolre", "mosi"), cache, torch.device("cpu"))
    text = make_config("mmolre", "mosi", changes={"data": {"modalities": ["text"]}})
    assert open_run_data(text, cache, torch.device("cpu")).tensors.dims == {"text": 8}
