"""Contract tests: every head of the registry keeps the contract of `heads.models.base`.

Whatever depends on the task (shapes, gradients, a batch of one) runs for each task of a head. Everything else runs for both tasks at
once, where every layer of the single tasks takes part.
"""

import dataclasses
import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from batches import pad, random_batch, select
from caches import make_cache
from small_heads import (
    CASES,
    DIMS,
    TRAINED,
    ZOO,
    a_batch,
    alone,
    gradients,
    independent,
    joined,
    made,
    make,
    padded_videos,
    reordered,
    train,
)

from data.errors import InputError
from data.tensors import Batch
from heads.models.base import Head
from heads.models.options import FREE, ZERO_OR_NOT, walk
from heads.models.parts.randomness import drawing_from
from heads.models.registry import HEADS
from heads.models.simple import SIMPLE_BASELINES
from heads.models.tasks import TASKS
from heads.runs.config import make_config
from heads.runs.run_data import open_run_data

CHECKOUT = Path(__file__).parents[1]

CONTENTS = (0.0, 100.0, float("nan"))
"""Values that may stand in the padding."""

ONE_IS_ENOUGH = {*set(TRAINED).difference(ZOO), "cogmen"}
"""Heads that need no second modality."""

every_head_and_task = pytest.mark.parametrize(("name", "task"), CASES)
every_head = pytest.mark.parametrize("name", TRAINED)


def every_task(name: str) -> str:
    """The task of a head that learns one, else both."""
    return HEADS[name].task or "both"


def overrides(name: str, *hooks: str) -> bool:
    """Whether a head has its own version of one of the hooks of `Head`."""
    return any(getattr(HEADS[name].head, hook) is not getattr(Head, hook) for hook in hooks)


def epochs(name: str) -> int:
    """Epochs until all of a head takes part: heads that remember batches have terms from the third epoch on."""
    return 3 if overrides(name, "remember") else 1


def drawn(name: str, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of training with random numbers from one key."""
    head = make(name, every_task(name))
    with drawing_from(torch.tensor(1)):
        loss = train(head, batch, epochs(name))
    return loss, gradients(head)


def predicted(name: str, batch: Batch) -> torch.Tensor:
    return joined(made(name, every_task(name))(batch))


@every_head_and_task
def test_outputs_are_those_of_the_task_whatever_the_widths(name, task):
    output = made(name, task)(a_batch(name))
    shapes = {
        field: None if value is None else (*value.shape, value.dtype) for field, value in output._asdict().items() if field != "aux"
    }
    assert shapes == {
        "sentiment": (5, torch.float32) if "msa" in TASKS[task] else None,
        "emotion_logits": (5, 6, torch.float32) if "mer" in TASKS[task] else None,
    }
    assert joined(output).isfinite().all()


@every_head_and_task
def test_every_parameter_gets_a_gradient(name, task):
    head = make(name, task, calm=True)
    train(head, a_batch(name), epochs(name))
    without = [key for key, gradient in gradients(head).items() if gradient is None or not gradient.abs().max() > 0]
    assert without == []


@every_head_and_task
def test_a_batch_of_one_utterance_can_be_trained_on(name, task):
    head, batch = make(name, task), alone(a_batch(name), 3)
    assert math.isfinite(train(head, batch, epochs(name)))
    assert all(gradient.isfinite().all() for gradient in gradients(head).values() if gradient is not None)
    assert joined(head.eval()(batch)).isfinite().all()


@every_head
def test_padding_changes_nothing(name):
    batch = a_batch(name)
    for content in CONTENTS:
        longer = padded_videos(pad(batch, 3, content), 2)
        torch.testing.assert_close(predicted(name, longer), predicted(name, batch), rtol=0, atol=1e-5)


@every_head
def test_padding_changes_nothing_in_training(name):
    """Random masks follow from the place of a value, so that the loss and its gradients are the same."""
    batch = a_batch(name)
    loss, expected = drawn(name, batch)
    for content in CONTENTS:
        found, gradient = drawn(name, padded_videos(pad(batch, 3, content), 2))
        assert found == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


@every_head
def test_the_other_clips_in_a_batch_and_their_order_change_nothing(name):
    batch, order = a_batch(name), [3, 0, 4, 2, 1]
    together = predicted(name, batch)
    torch.testing.assert_close(predicted(name, reordered(batch, *order)), together[order], rtol=0, atol=1e-5)
    for rows in independent(batch):
        torch.testing.assert_close(predicted(name, alone(batch, *rows)), together[rows], rtol=0, atol=1e-5)


@every_head
def test_labels_are_not_read_in_evaluation(name):
    head, batch = make(name, every_task(name)), a_batch(name)
    train(head, batch)
    expected = joined(head.eval()(batch))
    for sentiment, emotions in ((torch.nan, torch.nan), (-3.0, 1.0)):
        other = batch._replace(
            sentiment=torch.full_like(batch.sentiment, sentiment), emotions=torch.full_like(batch.emotions, emotions)
        )
        output = head(other)
        assert torch.equal(joined(output), expected)
        assert name not in ZOO or output.aux.losses == {}


@every_head
def test_a_loss_without_labels_is_finite_and_so_are_its_gradients(name):
    """Some or all utterances lack the sentiment, the emotions or both."""
    batch = a_batch(name)
    for rows, lacking in itertools.product(([0, 3], [0, 1, 2, 3, 4]), (["sentiment"], ["emotions"], ["sentiment", "emotions"])):
        labels = {field: getattr(batch, field).clone() for field in lacking}
        for values in labels.values():
            values[rows] = torch.nan
        head = make(name, every_task(name))
        assert math.isfinite(train(head, batch._replace(**labels), epochs(name)))
        assert all(gradient.isfinite().all() for gradient in gradients(head).values() if gradient is not None)


@every_head
def test_both_modalities_of_an_utterance_are_read(name):
    batch, order = a_batch(name), (1, 2, 0, 4, 3)
    changed = [batch._replace(features={**batch.features, m: values.roll(1, -1)}) for m, values in batch.features.items()]
    other = select(batch, *order)
    of_others = batch._replace(
        features={"text": batch.features["text"], "audio": other.features["audio"]},
        masks={"text": batch.masks["text"], "audio": other.masks["audio"]},
    )
    for case in (*changed, of_others):
        assert ((predicted(name, case) - predicted(name, batch)).abs().amax(1) > 1e-7).all()


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


@every_head
def test_a_head_that_keeps_something_between_batches_is_trained_by_itself(name):
    keeps = HEADS[name].head.stages != ("all",) or overrides(name, "lr_factor", "prepare", "begin", "trains", "remember")
    assert not (keeps and HEADS[name].head.packable)


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
