"""What is in the table of heads keeps the contract of `heads.base`, each of them for each of its tasks."""

import dataclasses
import functools
import json
from typing import Any

import pytest
import small_runs
import torch
from batches import pad, random_batch, select, trim
from caches import make_cache
from torch import Tensor

from data.errors import InputError
from heads.base import TASKS, Head, HeadOutput
from heads.config import make_config
from heads.floors import FLOORS
from heads.registry import HEADS

DIMS = {"text": 7, "audio": 5}
LENGTHS = {"text": (5, 3, 4, 1, 2), "audio": (9, 12, 7, 3, 1)}
SMALL = {"dim": 8, "output": [9], "fusion": {"layers": 1, "heads": 2, "ffn": 16}}
CASES = [(name, task) for name, entry in HEADS.items() if entry.head for task in (TASKS if entry.task is None else [entry.task])]

every_head = pytest.mark.parametrize(("name", "task"), CASES)


def make(name: str, task: str, dims: dict[str, int] = DIMS, **mixture: object) -> Head:
    """A small head with the paper's mixture; some of its options changed."""
    options = small_options(name)
    if mixture:
        options = dataclasses.replace(options, mixture=dataclasses.replace(options.mixture, **mixture))
    torch.manual_seed(0)
    return HEADS[name].head(options, dims, task)


@functools.cache
def small_options(name: str) -> Any:
    """Options of a small head."""
    return make_config(name, "mosi", "paper-mosi", {"model": SMALL}).model


def all_experts(name: str) -> dict[str, int]:
    """The option that makes every router keep all experts, so that each can get a gradient."""
    mixture = getattr(small_options(name), "mixture", None)
    if not hasattr(mixture, "top_k"):
        return {}
    return {"top_k": mixture.experts if hasattr(mixture, "experts") else len(mixture.ranks)}


def joined(output: HeadOutput) -> Tensor:
    """(B, 1), (B, 6) or (B, 7): what there is of sentiment and emotions."""
    values = [output.sentiment[:, None]] if output.sentiment is not None else []
    return torch.cat([*values, *([output.emotion_logits] if output.emotion_logits is not None else [])], 1)


@every_head
def test_outputs_are_those_of_the_task_whatever_the_widths(name, task):
    output = make(name, task)(random_batch(LENGTHS, DIMS))
    shapes = {
        field: None if value is None else (*value.shape, value.dtype) for field, value in output._asdict().items() if field != "aux"
    }
    assert shapes == {
        "sentiment": (5, torch.float32) if "msa" in TASKS[task] else None,
        "emotion_logits": (5, 6, torch.float32) if "mer" in TASKS[task] else None,
    }
    assert joined(output).isfinite().all()


@every_head
def test_every_parameter_gets_a_gradient(name, task):
    head, batch = make(name, task, **all_experts(name)), random_batch(LENGTHS, DIMS)
    output = head(batch)
    (joined(output).square().sum() + sum(output.aux.losses.values())).backward()
    # softmax cancels the bias of keys
    gradients = {key: value.grad for key, value in head.named_parameters() if not key.endswith("key.bias")}
    assert [key for key, gradient in gradients.items() if gradient is None or not gradient.abs().max() > 0] == []


@every_head
def test_a_batch_of_one_utterance_can_be_trained_on(name, task):
    head = make(name, task)
    output = head(trim(select(random_batch(LENGTHS, DIMS), 3)))
    (joined(output).square().sum() + sum(output.aux.losses.values())).backward()
    assert len(joined(output)) == 1
    assert all(value.grad.isfinite().all() for value in head.parameters() if value.grad is not None)


@every_head
def test_padding_changes_nothing(name, task):
    head, batch = make(name, task).eval(), random_batch(LENGTHS, DIMS)
    for content in (0.0, 100.0, float("nan")):
        torch.testing.assert_close(joined(head(pad(batch, 3, content))), joined(head(batch)), rtol=0, atol=1e-5)


@every_head
def test_company_changes_nothing(name, task):
    head, batch = make(name, task).eval(), random_batch(LENGTHS, DIMS)
    together = joined(head(batch))
    for row in range(5):
        torch.testing.assert_close(joined(head(trim(select(batch, row)))), together[row : row + 1], rtol=0, atol=1e-5)
    order = [3, 0, 4, 2, 1]
    torch.testing.assert_close(joined(head(select(batch, *order))), together[order], rtol=0, atol=1e-5)


@every_head
def test_both_modalities_are_read_and_one_is_enough(name, task):
    head, batch = make(name, task).eval(), random_batch(LENGTHS, DIMS)
    for modality, features in batch.features.items():
        changed = batch._replace(features={**batch.features, modality: features.roll(1, -1)})
        assert ((joined(head(changed)) - joined(head(batch))).abs().amax(1) > 1e-7).all()
    assert joined(make(name, task, {"text": 7})(batch)).isfinite().all()


@pytest.mark.parametrize("name", [name for name, entry in HEADS.items() if entry.head])
def test_a_modality_that_the_corpus_lacks_is_refused(name, tmp_path):
    cache = make_cache(tmp_path)
    index = json.loads((cache / "index.json").read_text())
    del index["corpora"]["mosi"]["features"]["audio"]
    (cache / "index.json").write_text(json.dumps(index))
    changes = {"model.mixture.top_k": 2} if name == "mmolre" else {}
    with pytest.raises(InputError, match=r"^Unknown modality of mosi 'audio'\. Available: text\.$"):
        small_runs.material(cache, name, changes)
    assert small_runs.material(cache, name, {**changes, "data.modalities": ["text"]}).tensors.dims == {"text": 8}


@pytest.mark.parametrize("name", HEADS)
def test_an_entry_is_a_head_or_a_floor_and_says_what_and_whence(name):
    entry = HEADS[name]
    assert (entry.head is None) == (entry.floor is not None)
    assert entry.floor is None or entry.floor in FLOORS
    assert entry.summary
    assert entry.source
    assert dataclasses.is_dataclass(entry.options)
    entry.options()


def test_the_papers_heads_and_all_floors_are_in_the_table():
    paper = {"mmolre", "pre-fusion", "post-fusion", "baseline-msa", "baseline-mer", "moe", "mmoe", "ple", "mod-squad", "mlore", "demt"}
    assert paper | set(FLOORS) <= set(HEADS)
