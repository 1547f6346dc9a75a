"""Every head learns any label set: its outputs are as many as there are emotions or classes, and sentiment keeps to its scale."""

import pytest
import torch
from small_heads import TRAINED, a_batch, joined, make, train
from torch.nn import functional

from data.errors import InputError
from data.labels import LabelSet
from heads.models.base import Head
from heads.models.inputs import Inputs
from heads.models.registry import HEADS, Entry
from heads.models.tasks import LossOptions
from heads.runs.build import make_head

CLASSES = LabelSet(("calm", "happy", "neutral", "sad"), is_exclusive=True, scale=(-1.0, 1.0))
TWO = LabelSet(("calm", "awed"), scale=(-1.0, 1.0))


CASES = [(name, CLASSES) for name in TRAINED] + [(name, TWO) for name in ("mmolre", "self-mm", "mtl")]


@pytest.mark.parametrize(("name", "labels"), CASES)
def test_a_head_has_as_many_outputs_as_its_labels(name, labels):
    task, batch = HEADS[name].task or "both", a_batch(name)
    classes = torch.arange(len(batch.index)) % len(labels.emotions)
    emotions = functional.one_hot(classes, len(labels.emotions)).float()
    batch = batch._replace(sentiment=batch.sentiment / 3, emotions=emotions)
    head = make(name, task, labels=labels)
    epochs = 2 if name == "self-mm" else 1  # it makes its own labels from the second on
    loss = train(head, batch, epochs, kinds=LossOptions(emotion="cross_entropy" if labels.is_exclusive else "bce"))
    assert torch.tensor(loss).isfinite()
    assert all(value.grad.isfinite().all() for value in head.parameters() if value.grad is not None)
    found = joined(head.eval()(batch))
    assert found.shape == (5, sum(labels.widths[one] for one in head.tasks))


@pytest.mark.parametrize("name", ["mtl", "multilogue-net"])
def test_heads_whose_sentiment_is_bounded_keep_to_the_scale(name):
    batch = a_batch(name)
    usual, other = (make(name, "msa", labels=labels).eval()(batch).sentiment for labels in (LabelSet(), TWO))
    torch.testing.assert_close(usual, 3 * other)
    assert other.abs().max() < 1


def test_a_head_that_knows_the_usual_labels_only_is_refused_for_others(monkeypatch):
    class Own(Head):
        def __init__(self, options, dims, task):
            super().__init__(dims, task)

    entry = Entry(None, "", "")
    entry.__dict__["head"] = Own
    monkeypatch.setitem(HEADS, "own", entry)
    inputs = Inputs((("text", 7),), (("text", ()),), (("text", 1),))
    assert make_head("own", None, inputs, "mer").widths == {"mer": 6}
    with pytest.raises(InputError, match=r"^own learns happiness, .*; \[-3, 3\], not one of calm, .*: its __init__ has no argument"):
        make_head("own", None, inputs.__class__(*list(vars(inputs).values())[:3], CLASSES), "mer")
