"""What `python -m heads list` says of a head without making it is what the head says and has."""

import pytest
import torch

from heads.models.facts import FACTS, Facts
from heads.models.registry import HEADS


def test_every_head_has_facts_and_no_simple_baseline():
    assert list(FACTS) == [name for name, entry in HEADS.items() if entry.simple is None]


@pytest.mark.parametrize("name", FACTS)
def test_facts_are_those_of_the_head_itself(name):
    entry = HEADS[name]
    with torch.device("meta"):  # weights take no memory
        made = entry.head(entry.options(), {"text": 768, "audio": 768}, entry.task or "both")
    count = sum(parameter.numel() for parameter in made.parameters())
    assert FACTS[name] == Facts(count, made.needs, made.takes_more, made.context, made.packable)
    assert FACTS[name].packs == entry.packs
