"""The mixture that does nothing; every design's share of the interface is tested in test_heads_models_mixtures.py."""

import pytest
import torch
from batches import random_batch

from heads.models.mixtures.base import Mixture, NoMixture


def test_without_a_mixture_every_task_reads_the_features_unchanged_and_zeros_in_the_padding():
    batch = random_batch()
    features, mask = batch.features["text"], batch.masks["text"]
    mixed = NoMixture(None, 8, ("msa", "mer"))(features.masked_fill(~mask.unsqueeze(-1), torch.nan), mask)
    assert list(mixed.streams) == ["msa", "mer"]
    assert all(torch.equal(stream, features) for stream in mixed.streams.values())
    assert (mixed.losses, mixed.routing) == ({}, {})
    assert list(NoMixture(None, 8, ("msa",)).parameters()) == []


def test_a_mixture_without_a_forward_of_its_own_cannot_run():
    with pytest.raises(NotImplementedError):
        Mixture()(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
