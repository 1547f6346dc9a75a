"""What is in the table of heads keeps the contract of `heads.models.base`, each of them for each of its tasks."""

import dataclasses
import json
import math
import re

import pytest
import torch
from batches import pad, select
from caches import make_cache
from small_heads import (
    CASES,
    DIMS,
    TRAINED,
    ZOO,
    a_batch,
    alone,
    company,
    gradients,
    joined,
    made,
    make,
    padded_videos,
    reordered,
    train,
)

from data.errors import InputError
from data.tensors import Batch
from heads.models.base import TASKS, Head
from heads.models.parts.randomness import drawing_from
from heads.models.registry import HEADS
from heads.models.simple import SIMPLE_BASELINES
from heads.runs.config import make_config
from heads.runs.run_data import open_run_data

CONTENTS = (0.0, 100.0, float("nan"))
"""What may stand in the padding."""

ONE_IS_ENOUGH = {*set(TRAINED).difference(ZOO), "cogmen"}
"""Heads that need no second modality."""

every_head = pytest.mark.parametrize(("name", "task"), CASES)
every_name = pytest.mark.parametrize("name", TRAINED)


def drawn(name: str, task: str, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of two epochs of training with random numbers from one key."""
    head = make(name, task)
    with drawing_from(torch.tensor(1)):
        loss = train(head, batch, epochs=2)
    return loss, gradients(head)


@every_head
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


@every_head
def test_every_parameter_gets_a_gradient(name, task):
    head = make(name, task, calm=True)
    train(head, a_batch(name), epochs=3)
    without = [key for key, gradient in gradients(head).items() if gradient is None or not gradient.abs().max() > 0]
    assert without == []


@every_head
def test_a_batch_of_one_utterance_can_be_trained_on(name, task):
    head, batch = make(name, task), alone(a_batch(name), 3)
    assert math.isfinite(train(head, batch, epochs=3))
    assert all(gradient.isfinite().all() for gradient in gradients(head).values() if gradient is not None)
    assert joined(head.eval()(batch)).isfinite().all()


@every_head
def test_padding_changes_nothing(name, task):
    head, batch = made(name, task), a_batch(name)
    for content in CONTENTS:
        longer = padded_videos(pad(batch, 3, content), 2)
        torch.testing.assert_close(joined(head(longer)), joined(head(batch)), rtol=0, atol=1e-5)


@every_name
def test_padding_changes_nothing_in_training(name):
    """Random masks follow from the place of a value, so that the loss and its gradients are the same."""
    task, batch = HEADS[name].task or "both", a_batch(name)
    loss, expected = drawn(name, task, batch)
    for content in CONTENTS:
        found, gradient = drawn(name, task, padded_videos(pad(batch, 3, content), 2))
        assert found == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


@every_head
def test_company_changes_nothing(name, task):
    head, batch = made(name, task), a_batch(name)
    together = joined(head(batch))
    for rows in company(batch):
        torch.testing.assert_close(joined(head(alone(batch, *rows))), together[rows], rtol=0, atol=1e-5)


@every_head
def test_the_order_of_utterances_in_a_batch_changes_nothing(name, task):
    head, batch, order = made(name, task), a_batch(name), [3, 0, 4, 2, 1]
    torch.testing.assert_close(joined(head(reordered(batch, *order))), joined(head(batch))[order], rtol=0, atol=1e-5)


@every_head
def test_labels_are_not_read_in_evaluation(name, task):
    head, batch = make(name, task), a_batch(name)
    train(head, batch)
    expected = joined(head.eval()(batch))
    for sentiment, emotions in ((torch.nan, torch.nan), (-3.0, 1.0)):
        other = batch._replace(
            sentiment=torch.full_like(batch.sentiment, sentiment), emotions=torch.full_like(batch.emotions, emotions)
        )
        assert torch.equal(joined(head(other)), expected)


@every_name
@pytest.mark.parametrize("unlabelled", [(0, 3), (0, 1, 2, 3, 4)], ids=["some", "all"])
def test_what_is_unlabelled_breaks_nothing(name, unlabelled):
    batch, rows = a_batch(name), list(unlabelled)
    sentiment, emotions = batch.sentiment.clone(), batch.emotions.clone()
    sentiment[rows], emotions[rows] = torch.nan, torch.nan
    for labels in ({"sentiment": sentiment}, {"emotions": emotions}, {"sentiment": sentiment, "emotions": emotions}):
        head = make(name, HEADS[name].task or "both")
        assert math.isfinite(train(head, batch._replace(**labels), epochs=3))
        assert all(gradient.isfinite().all() for gradient in gradients(head).values() if gradient is not None)


@every_head
def test_both_modalities_are_read(name, task):
    head, batch = made(name, task), a_batch(name)
    for modality, features in batch.features.items():
        changed = batch._replace(features={**batch.features, modality: features.roll(1, -1)})
        assert ((joined(head(changed)) - joined(head(batch))).abs().amax(1) > 1e-7).all()


@every_name
def test_audio_of_other_utterances_changes_what_is_predicted(name):
    head, batch, order = made(name, HEADS[name].task or "both"), a_batch(name), (1, 2, 0, 4, 3)
    other = select(batch, *order)
    shuffled = batch._replace(
        features={"text": batch.features["text"], "audio": other.features["audio"]},
        masks={"text": batch.masks["text"], "audio": other.masks["audio"]},
    )
    assert ((joined(head(shuffled)) - joined(head(batch))).abs().amax(1) > 1e-7).all()


@every_name
@pytest.mark.parametrize("modality", list(DIMS))
def test_a_head_that_needs_both_modalities_says_so_and_any_other_reads_one(name, modality):
    task, one = HEADS[name].task or "both", {modality: DIMS[modality]}
    if name in ONE_IS_ENOUGH:
        assert joined(make(name, task, one).eval()(a_batch(name))).isfinite().all()
    else:
        with pytest.raises(InputError, match=rf"^{name} needs text and audio features, got {modality}\.$"):
            make(name, task, one)


@every_name
def test_a_modality_that_the_corpus_lacks_is_refused(name, tmp_path):
    cache = make_cache(tmp_path)
    index = json.loads((cache / "index.json").read_text())
    del index["corpora"]["mosi"]["features"]["audio"]
    (cache / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"^Unknown modality of mosi 'audio'\. Available: text\. --modalities text "):
        open_run_data(make_config(name, "mosi"), cache, torch.device("cpu"))
    text = make_config(name, "mosi", changes={"data": {"modalities": ["text"]}})
    assert open_run_data(text, cache, torch.device("cpu")).tensors.dims == {"text": 8}


@every_name
def test_a_head_that_keeps_something_between_batches_is_trained_by_itself(name):
    head = HEADS[name].head
    hooks = ("lr_factor", "prepare", "begin", "trains", "remember")
    keeps = head.stages != ("all",) or any(getattr(head, hook) is not getattr(Head, hook) for hook in hooks)
    assert not (keeps and head.packable)


@pytest.mark.parametrize("name", HEADS)
def test_an_entry_is_a_head_or_a_floor_and_says_what_and_whence(name):
    entry = HEADS[name]
    assert (entry.head is None) == (entry.simple is not None)
    assert entry.simple is None or entry.simple in SIMPLE_BASELINES
    assert entry.summary
    assert bool(re.search(r"\b20\d\d$", entry.source)) == (entry.head is not None)
    assert entry.published in (*TASKS, None)
    assert dataclasses.is_dataclass(entry.options)
    entry.options()


def test_the_papers_heads_and_all_floors_are_in_the_table():
    paper = {"mmolre", "pre-fusion", "post-fusion", "baseline-msa", "baseline-mer", "moe", "mmoe", "ple", "mod-squad", "mlore", "demt"}
    assert paper | set(SIMPLE_BASELINES) <= set(HEADS)
