"""Plans of epochs: batches, random keys and learning rates, and the rows that they are made of."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import small_runs
import torch
from caches import make_cache
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batching import of_like_lengths
from data.tensors import CorpusTensors
from heads.runs.config import TrainOptions
from heads.runs.rows import labelled_rows
from heads.runs.run_data import RunData
from heads.training.plan import batch_keys, epoch_plan, groups, learning_rates, plateau_factor, rows_of, size_of, steps_per_epoch

NAN = float("nan")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=48)


@pytest.mark.parametrize("like_lengths", [True, False])
def test_an_epoch_has_each_labelled_clip_once_in_an_order_of_its_own(cache, like_lengths):
    made = small_runs.run_data(cache, changes={"data.like_lengths": like_lengths})
    rows = labelled_rows(made.config, made.tensors, "train")
    plans = [[batch.tolist() for batch in epoch_plan(made.config, made.tensors, rows, epoch)] for epoch in (1, 2, 1)]
    for plan in plans:
        assert sorted(chain.from_iterable(plan)) == rows.tolist()
        assert [len(batch) for batch in plan] == [8, 8, 8]
    assert plans[0] == plans[2] != plans[1]
    other = replace(made.config, seed=2)
    assert [batch.tolist() for batch in epoch_plan(other, made.tensors, rows, 1)] != plans[0]


def test_like_lengths_means_batches_of_like_lengths(cache):
    """If one window holds the whole epoch, the batches are the sorted rows, cut."""
    made = small_runs.run_data(cache)
    rows = labelled_rows(made.config, made.tensors, "train")
    lengths = made.tensors.lengths["text"] + made.tensors.lengths["audio"]
    ranges = sorted((lengths[batch].min(), lengths[batch].max()) for batch in epoch_plan(made.config, made.tensors, rows, 1))
    in_order = np.sort(lengths[rows]).reshape(3, 8)
    assert ranges == [(part[0], part[-1]) for part in in_order]
    assert len(of_like_lengths(rows, lengths, 8, *map(np.random.default_rng, (0, 0)))) == 3


def rates(steps: int, losses: list[float] = [], **options: object) -> list[float]:  # noqa: B006 - never changed
    return learning_rates(TrainOptions(lr=2.0, **options), len(losses) + 1, steps, losses)


def test_the_learning_rate_rises_to_its_full_value_and_stays():
    assert rates(40, max_epochs=1, warmup=0.1) == pytest.approx([0.5, 1.0, 1.5, *[2.0] * 37])
    assert rates(3, max_epochs=1, warmup=0.0) == [2.0, 2.0, 2.0]
    assert rates(2, max_epochs=5, warmup=0.25) == pytest.approx([0.8, 1.6])
    assert rates(2, [1.0], max_epochs=5, warmup=0.25) == pytest.approx([2.0, 2.0])


def test_a_linear_schedule_falls_to_zero_after_the_warm_up():
    falling = [rate for epoch in range(3) for rate in rates(4, [1.0] * epoch, max_epochs=3, warmup=1 / 6, schedule="linear")]
    assert falling == pytest.approx([1.0, 2.0, *[2.0 * left / 10 for left in range(10, 0, -1)]])


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 10), max_size=30), st.integers(0, 4), st.floats(0.1, 0.9))
def test_a_plateau_lowers_the_rate_as_torch_does(losses, patience, factor):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, eps=0)
    for loss in losses:
        reference.step(loss)
    assert plateau_factor(losses, patience, factor) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_the_rate_is_lowered_on_a_plateau_only_if_asked_for():
    losses, options = [1.0, 1.0, 1.0], {"max_epochs": 9, "warmup": 0.0, "plateau_patience": 1, "plateau_factor": 0.5}
    assert rates(1, losses, schedule="plateau", **options) == [1.0]
    assert rates(1, losses, **options) == [2.0]


def test_every_batch_has_a_key_of_its_own():
    config = small_runs.config()
    keys = [*batch_keys(config, 1, 5), *batch_keys(config, 2, 5), *batch_keys(replace(config, seed=9), 1, 5)]
    assert len(set(keys)) == 15
    assert batch_keys(config, 1, 5).dtype == np.int64
    assert batch_keys(config, 1, 3).tolist() == keys[:3]


def with_labels(made: RunData, sentiment: np.ndarray, emotions: np.ndarray) -> CorpusTensors:
    targets = replace(made.tensors.targets, sentiment=sentiment, emotions=emotions)
    return made.tensors.relabelled(targets)


def test_a_head_with_context_reads_unlabelled_neighbours_but_no_video_without_a_label(cache):
    made = small_runs.run_data(cache, "cogmen", {"task": "mer", "train.batch_size": 2})
    targets = made.tensors.targets
    first, second = (np.flatnonzero(targets.video == video) for video in dict.fromkeys(targets.video[targets.rows("train")][:6]))
    emotions = targets.emotions.copy()
    emotions[[first[1], *second]] = NAN
    tensors = with_labels(made, targets.sentiment, emotions)
    rows = labelled_rows(made.config, tensors, "train")
    assert first[1] not in rows
    read = np.concatenate([rows_of(batch) for batch in epoch_plan(made.config, tensors, rows, 1)])
    assert sorted(read) == [row for row in targets.rows("train") if row not in second]


def test_groups_are_consecutive_and_the_last_may_be_shorter():
    assert list(groups([4, 4, 4, 4, 2], 2)) == [[4, 4], [4, 4], [2]]
    assert list(groups([], 2)) == []


def test_the_size_of_a_batch_counts_utterances_of_videos_too(cache):
    made = small_runs.run_data(cache, "cogmen", {"train.batch_size": 2, "train.accumulate": 1})
    rows = labelled_rows(made.config, made.tensors, "train")
    plan = epoch_plan(made.config, made.tensors, rows, 1)
    assert sum(size_of(batch) for batch in plan) == sum(len(batch.rows) for batch in plan) == len(rows)
    assert size_of(np.arange(5)) == 5
    assert steps_per_epoch(made.config, plan) == len(plan)


def test_a_simple_baseline_has_no_epochs(cache):
    made = small_runs.run_data(cache, "median")
    with pytest.raises(ValueError, match=r"^median is a simple baseline: it has no epochs to plan\.$"):
        epoch_plan(made.config, made.tensors, np.arange(3), 1)
