"""Which trials are trained together, how many at a time, and whether their memory is what was estimated."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import small_runs
import torch
from caches import make_cache
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks

from heads.models.losses import total_loss
from heads.models.parts.randomness import drawing_from
from heads.runs.build import build_head
from heads.runs.config import make_config
from heads.runs.folder import RunFolder
from heads.runs.run_data import LoadedCache
from heads.sweeps.packing import PackGroup, group, halves, trial_bytes
from heads.training.loop import Run


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return LoadedCache(make_cache(tmp_path_factory.mktemp("cache"), utterances=48), torch.device("cpu"), memory_bytes=0)


def run(loaded: LoadedCache, head: str = "pre-fusion", **changes: object) -> Run:
    """A small run; "__" in a name for its dot."""
    given = {name.replace("__", "."): value for name, value in changes.items()}
    run_data = loaded.open(small_runs.config(head, given))
    return Run(run_data.config, run_data.tensors, RunFolder(loaded.cache / "no run"))


def seeds(first: Run, count: int) -> list[Run]:
    return [Run(replace(first.config, seed=seed), first.tensors, first.folder) for seed in range(count)]


@given(st.integers(1, 40), st.integers(1, 45))
def test_packs_hold_every_trial_once_and_are_as_even_as_can_be(count, size):
    runs: Sequence[object] = tuple(range(count))
    packs = PackGroup(runs, 1, size).packs
    assert [run for pack in packs for run in pack] == list(runs)
    sizes = [len(pack) for pack in packs]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(packs) == -(-count // size)


@settings(deadline=None)
@given(st.integers(2, 30))
def test_halves_are_two_packs_of_all(count):
    first, second = halves(list(range(count)))
    assert [*first, *second] == list(range(count))
    assert len(second) - len(first) in (0, 1)


def test_trials_are_grouped_by_what_they_share_in_the_order_they_come(loaded):
    small, wide = run(loaded), run(loaded, model__dim=16)
    a, b, c, d = *seeds(small, 2), *seeds(wide, 2)
    groups = group([a, c, b, d], None, 8)
    assert [one.runs for one in groups] == [(a, b), (c, d)]
    assert [len(one.packs) for one in groups] == [1, 1]


def test_heads_that_cannot_be_batched_are_one_at_a_time_and_apart(loaded):
    run_data = loaded.open(make_config("self-mm", "mosi"))
    runs = seeds(Run(run_data.config, run_data.tensors, RunFolder(loaded.cache / "no run")), 3)
    groups = group(runs, 10**12, 8)
    assert [(one.runs, one.trial_bytes, one.size) for one in groups] == [((each,), None, 1) for each in runs]


def test_on_a_cpu_trials_are_one_at_a_time_unless_asked_otherwise(loaded):
    runs = seeds(run(loaded), 5)
    assert [one.size for one in group(runs, None)] == [1]
    assert [len(pack) for pack in group(runs, None, 4)[0].packs] == [2, 3]


def test_the_memory_of_a_device_says_how_many(loaded):
    runs = seeds(run(loaded), 5)
    (one,) = group(runs, 10**12)
    needed = one.trial_bytes
    assert one.size > 5
    assert group(runs, 4 * needed)[0].size == 3, "four fifths of the memory"
    assert group(runs, needed // 2)[0].size == 1, "at least one, whatever the estimate says"
    assert group(runs, 4 * needed, 2)[0].size == 2


@pytest.mark.parametrize(
    "change", [{"train__batch_size": 24}, {"model__dim": 32}, {"model__fusion__layers": 3}, {"model__fusion__ffn": 500}]
)
def test_larger_trials_are_estimated_larger(loaded, change):
    assert trial_bytes(run(loaded, **change)) > 1.2 * trial_bytes(run(loaded))


def test_ranks_take_memory(loaded):
    few, many = (trial_bytes(run(loaded, "mmolre", model__mixture__rank=rank)) for rank in (2, 64))
    assert many > 1.2 * few


def test_an_estimate_makes_no_head_and_no_batch(loaded, monkeypatch):
    """Features are not read: here there are none in memory."""
    one = run(loaded)
    assert one.tensors.is_streamed
    monkeypatch.setattr(type(one.tensors), "batches", None)
    assert trial_bytes(one) > 0


@pytest.mark.parametrize(
    ("head", "changes"), [("pre-fusion", {}), ("mmolre", {}), ("mmolre", {"model__dim": 32, "model__fusion__layers": 3}), ("mmml", {})]
)
def test_an_estimate_is_within_a_factor_of_two_of_what_a_step_keeps(loaded, head, changes):
    """Of what one real step keeps for its backward pass and of the parameters, gradients and moments, whatever else comes and goes."""
    one = run(loaded, head, **changes)
    trained = build_head(one.config, one.tensors).train()
    parameters = {parameter.data_ptr() for parameter in trained.parameters()}
    largest = 0
    for batch in one.tensors.batches(one.plan()):
        kept: dict[int, int] = {}

        def remember(tensor: torch.Tensor, kept=kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(remember, lambda tensor: tensor), drawing_from(torch.tensor(3)):
            loss = total_loss(trained(batch), batch, one.config.loss, one.config.loss.weights())
        largest = max(largest, sum(size for place, size in kept.items() if place not in parameters))
        del loss
    held = largest + 4 * sum(parameter.numel() * 4 for parameter in trained.parameters())
    assert held / 2 < trial_bytes(one) < 2 * held
