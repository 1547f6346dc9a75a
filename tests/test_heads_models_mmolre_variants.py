"""Heads with another mixture in UniTSE's place: made from the mixture alone, equal to MMoLRE in everything else."""

import dataclasses
import pickle

import pytest
import torch
from batches import DIMS, random_batch

from heads.models import mmolre_variants, options
from heads.models.mixtures.base import Mixture
from heads.models.mixtures.unitse import UniTSE
from heads.models.mmolre import FamilyOptions, FusionHead, MMoLRE, MMoLREOptions
from heads.models.mmolre_variants import mixture_head

MADE = {name: value for name, value in vars(mmolre_variants).items() if getattr(value, "__module__", "") == mmolre_variants.__name__}
NAMES = [name for name, value in MADE.items() if isinstance(value, type)]
SMALL = {"dim": 8, "output": [9], "fusion": {"layers": 1, "heads": 2, "ffn": 16}}


def test_there_is_a_head_for_every_mixture_but_unitse():
    designs = {design for design in Mixture.__subclasses__() + UniTSE.__subclasses__() if hasattr(design, "Options")} - {UniTSE}
    assert sorted(NAMES) == sorted(f"{design.__name__}Head" for design in designs)


@pytest.mark.parametrize("name", NAMES)
def test_a_head_and_its_options_are_found_by_name(name):
    head = getattr(mmolre_variants, name)
    chosen = options.build(head.Options, SMALL, "test")
    assert name == head.__name__ == f"{head.mixture.__name__}Head"
    assert pickle.loads(pickle.dumps(head)) is head
    assert pickle.loads(pickle.dumps(chosen)) == chosen


@pytest.mark.parametrize("name", NAMES)
def test_options_are_the_familys_and_then_the_mixtures_with_its_defaults(name):
    head = getattr(mmolre_variants, name)
    family = [field.name for field in dataclasses.fields(FamilyOptions)]
    assert [field.name for field in dataclasses.fields(head.Options)] == [*family, "mixture"]
    assert head.Options() == head.Options(mixture=head.mixture.Options())
    with pytest.raises(dataclasses.FrozenInstanceError):
        head.Options().dim = 4


def test_a_head_made_of_unitse_is_mmolre():
    """The same seed gives the same parameters under the same names, and the same predictions."""
    heads = []
    for kind, chosen in ((MMoLRE, MMoLREOptions), (mixture_head(UniTSE), mixture_head(UniTSE).Options)):
        torch.manual_seed(1)
        heads.append(kind(options.build(chosen, SMALL, "test"), DIMS, "both").eval())
    paper, made = heads
    assert isinstance(made, FusionHead)
    torch.testing.assert_close(made.state_dict(), paper.state_dict(), rtol=0, atol=0)
    batch = random_batch()
    assert torch.equal(made(batch).emotion_logits, paper(batch).emotion_logits)
