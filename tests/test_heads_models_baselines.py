"""Differences between heads: some know the order of time steps, some the order of a video's utterances; and their page in the docs."""

import re
import sys

import pytest
import torch
from batches import select
from small_heads import TRAINED, ZOO, a_batch, joined, made

from data.tensors import Batch
from heads.models.baselines._dialogue import real
from heads.models.parts.layers import reverse
from heads.models.registry import HEADS
from pipeline.settings import CHECKOUT

ORDERLESS = {
    "pre-fusion",
    "post-fusion",
    "baseline-msa",
    "baseline-mer",
    "mod-squad",
    "mmml",
    "spectra",
    "multilogue-net",
    "cogmen",
    "corect",
    "mtl",
}
"""Heads without positions, convolutions over time and recurrence; those that read whole videos read the mean of each utterance."""

CONTEXT = [name for name in TRAINED if HEADS[name].head.context]

every_name = pytest.mark.parametrize("name", TRAINED)


def steps_reversed(batch: Batch) -> Batch:
    """Reverse the real time steps, except the first text token: SPECTRA's and MMML's text predictions read that one."""
    text, mask = batch.features["text"], batch.masks["text"]
    rest = reverse(text[:, 1:], mask[:, 1:])
    audio = reverse(batch.features["audio"], batch.masks["audio"])
    return batch._replace(features={"text": torch.cat([text[:, :1], rest], 1), "audio": audio})


def moved(name: str, batch: Batch) -> torch.Tensor:
    """Compute the difference (B,) of a head's predictions for another batch to those for its own."""
    head = made(name, HEADS[name].task or "both")
    return (joined(head(batch)) - joined(head(a_batch(name)))).abs().amax(1)


@every_name
def test_the_order_of_time_steps_is_known_to_heads_with_positions_convolutions_or_recurrence(name):
    found = moved(name, steps_reversed(a_batch(name)))
    assert (found.max() < 1e-5) == (name in ORDERLESS), found


@pytest.mark.parametrize("name", CONTEXT)
def test_the_order_of_utterances_is_known_to_heads_that_read_videos(name):
    batch = a_batch(name)
    dialogue = reverse(batch.dialogue[..., None], real(batch.dialogue)).squeeze(-1)
    assert (moved(name, batch._replace(dialogue=dialogue)) > 1e-5).any()


@pytest.mark.parametrize("name", CONTEXT)
def test_a_neighbour_has_a_part_in_what_a_head_that_reads_videos_predicts(name):
    batch, (other, *_, last) = a_batch(name), a_batch(name).dialogue[0].tolist()
    rows = [other if row == last else row for row in range(len(batch.index))]
    changed = moved(name, select(batch, *rows)._replace(dialogue=batch.dialogue))
    assert changed[other] > 1e-6
    assert changed[batch.dialogue[1, 0]] < 1e-6


def test_the_page_of_baselines_has_a_section_for_each_with_its_source_and_its_paper():
    """The paper is the one that the head's file cites."""
    page = (CHECKOUT / "docs" / "baselines.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### `(.+)`\n(.+) · (faithful|variant) · <(.+)>$", page, re.MULTILINE)
    assert [section[:3] for section in sections] == [(name, HEADS[name].source, HEADS[name].reproduction) for name in ZOO]
    for name, *_, paper in sections:
        assert paper in sys.modules[HEADS[name].head.__module__].__doc__
