"""Packs: trials that can be trained together, how many at a time, and the memory that one takes."""

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
from heads.runs.config import RunConfig, make_config
from heads.runs.folder import RunFolder
from heads.runs.rows import labelled_rows
from heads.runs.run_data import LoadedCache
from heads.sweeps import packing
from heads.sweeps.costs import Speeds, step_costs
from heads.sweeps.packing import PackGroup, group, halves
from heads.sweeps.sweep import Trial
from heads.training.plan import epoch_plan


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return LoadedCache(make_cache(tmp_path_factory.mktemp("cache"), utterances=48), torch.device("cpu"), memory_bytes=0)


def trial(loaded: LoadedCache, head: str = "pre-fusion", **changes: object) -> Trial:
    """Open a small trial; "__" in a name stands for its dot."""
    return opened(loaded, small_runs.config(head, {name.replace("__", "."): value for name, value in changes.items()}))


def opened(loaded: LoadedCache, config: RunConfig) -> Trial:
    return Trial(loaded.open(config), RunFolder(loaded.cache / "no run"))


def seeds(first: Trial, count: int) -> list[Trial]:
    return [Trial(replace(first.run_data, config=replace(first.config, seed=seed)), first.folder) for seed in range(count)]


def trial_bytes(one: Trial) -> int:
    return packing.trial_bytes(one.config, one.run_data.tensors)


@given(st.integers(1, 40), st.integers(1, 45))
def test_packs_hold_every_trial_once_and_are_as_even_as_can_be(count, size):
    trials: Sequence[object] = tuple(range(count))
    packs = PackGroup(trials, 1, size).packs
    assert [trial for pack in packs for trial in pack] == list(trials)
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
    small, wide = trial(loaded), trial(loaded, model__dim=16)
    a, b, c, d = *seeds(small, 2), *seeds(wide, 2)
    groups = group([a, c, b, d], None, 8)
    assert [one.trials for one in groups] == [(a, b), (c, d)]
    assert [len(one.packs) for one in groups] == [1, 1]


def test_heads_that_cannot_be_batched_are_one_at_a_time_and_apart(loaded):
    trials = seeds(opened(loaded, make_config("self-mm", "mosi")), 3)
    groups = group(trials, 10**12, 8)
    assert [(one.trials, one.trial_bytes, one.size) for one in groups] == [((each,), None, 1) for each in trials]


def test_on_a_cpu_trials_are_one_at_a_time_unless_asked_otherwise(loaded):
    trials = seeds(trial(loaded), 5)
    assert [one.size for one in group(trials, None)] == [1]
    assert [len(pack) for pack in group(trials, None, 4)[0].packs] == [2, 3]


def test_the_memory_of_a_device_says_how_many(loaded):
    trials = seeds(trial(loaded), 5)
    (one,) = group(trials, 10**12)
    needed = one.trial_bytes
    assert one.size > 5
    assert group(trials, 4 * needed)[0].size == 3, "four fifths of the memory"
    assert group(trials, needed // 2)[0].size == 1, "at least one, whatever the estimate says"
    assert group(trials, 4 * needed, 2)[0].size == 2


def test_a_pack_is_no_larger_than_saves_time(loaded):
    """On a device of which only the launches cost anything, every trial more is worth it; on another one, two are enough."""
    trials = seeds(trial(loaded), 5)
    costs = step_costs(trials[0].config, trials[0].run_data.tensors)
    asked = []

    def of(launch_s: float, flops: float):
        return lambda precision: asked.append(precision) or Speeds(launch_s, flops, 1e15)

    by_memory = group(trials, 10**9)[0].size
    assert group(trials, 10**9, None, of(1.0, 1e15))[0].size == by_memory > 2
    balanced = of(costs.flops / costs.launches / 2.5, 1.0)
    assert group(trials, 10**9, None, balanced)[0].size == 2
    assert group(trials, 10**9, 4, balanced)[0].size == 4, "as asked"
    assert asked == ["float32", "float32"]


@pytest.mark.parametrize(
    "change", [{"train__batch_size": 24}, {"model__dim": 32}, {"model__fusion__layers": 3}, {"model__fusion__ffn": 500}]
)
def test_larger_trials_are_estimated_larger(loaded, change):
    assert trial_bytes(trial(loaded, **change)) > 1.2 * trial_bytes(trial(loaded))


def test_ranks_take_memory(loaded):
    few, many = (trial_bytes(trial(loaded, "mmolre", model__mixture__rank=rank)) for rank in (2, 64))
    assert many > 1.2 * few


def test_an_estimate_makes_no_head_and_no_batch(loaded, monkeypatch):
    """Features are not read: here there are none in memory."""
    one = trial(loaded)
    assert one.run_data.tensors.is_streamed
    monkeypatch.setattr(type(one.run_data.tensors), "batches", None)
    assert trial_bytes(one) > 0


@pytest.mark.parametrize(
    ("head", "changes"), [("pre-fusion", {}), ("mmolre", {}), ("mmolre", {"model__dim": 32, "model__fusion__layers": 3}), ("mmml", {})]
)
def test_an_estimate_is_within_a_factor_of_two_of_what_a_step_keeps(loaded, head, changes):
    """The reference is the memory that one real step keeps for its backward pass, plus parameters, gradients and moments."""
    one = trial(loaded, head, **changes)
    tensors = one.run_data.tensors
    trained = build_head(one.config, tensors).train()
    parameters = {parameter.data_ptr() for parameter in trained.parameters()}
    largest = 0
    for batch in tensors.batches(epoch_plan(one.config, tensors, labelled_rows(one.config, tensors, "train"), 1)):
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
