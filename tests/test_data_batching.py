"""Plans of an epoch contain every row once, group similar lengths where asked, and keep whole videos in order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.batching import dialogues, in_order, of_like_lengths, shuffled

SIZES = st.integers(1, 9)


def rng(seed=0):
    return np.random.default_rng(seed)


def padding(plan, lengths):
    return sum(int(lengths[batch].max() * len(batch) - lengths[batch].sum()) for batch in plan)


@st.composite
def rows_and_lengths(draw):
    lengths = draw(st.lists(st.integers(1, 50), max_size=60))
    rows = draw(st.lists(st.sampled_from(range(len(lengths))), unique=True)) if lengths else []
    return np.array(rows, dtype=np.int64), np.array(lengths, dtype=np.int64)


PLANS = {
    "shuffled": lambda rows, lengths, size, smallest: shuffled(rows, size, rng(), smallest),
    "of_like_lengths": lambda rows, lengths, size, smallest: of_like_lengths(
        rows, lengths, size, rng(), rng(), window=3, smallest=smallest
    ),
    "in_order": lambda rows, lengths, size, smallest: in_order(rows, lengths, size, smallest),
}


@pytest.mark.parametrize("name", PLANS)
@given(drawn=rows_and_lengths(), sizes=st.tuples(SIZES, SIZES).map(sorted))
def test_a_plan_has_every_row_once_in_batches_of_the_size(name, drawn, sizes):
    (rows, lengths), (smallest, size) = drawn, sizes
    plan = PLANS[name](rows, lengths, size, smallest)
    assert sorted(np.concatenate([rows[:0], *plan]).tolist()) == sorted(rows.tolist())
    assert all(batch.dtype == np.int64 for batch in plan)
    odd = [len(batch) for batch in plan if len(batch) != size]
    left = len(rows) % size
    merged = 0 < left < smallest and len(rows) > size
    assert odd == ([] if left == 0 else [size + left] if merged else [left])


@pytest.mark.parametrize(("smallest", "sizes"), [(1, [4, 4, 1]), (2, [4, 5])])
def test_a_last_batch_that_is_too_small_joins_the_one_before(smallest, sizes):
    assert [len(batch) for batch in shuffled(np.arange(9), 4, rng(), smallest)] == sizes
    assert [len(batch) for batch in shuffled(np.arange(1), 4, rng(), smallest)] == [1]


@pytest.mark.parametrize("name", ["shuffled", "of_like_lengths"])
def test_the_generator_decides_the_order(name):
    def plan(seed):
        generator, rows, lengths = rng(seed), np.arange(200), rng(5).integers(1, 99, 200)
        batches = shuffled(rows, 8, generator) if name == "shuffled" else of_like_lengths(rows, lengths, 8, generator, generator)
        return [batch.tolist() for batch in batches]

    assert plan(1) == plan(1) != plan(2)


def test_like_lengths_need_much_less_padding_than_random_batches():
    lengths = rng().gamma(3, 70, 1284).astype(np.int64) + 1
    rows = np.arange(1284)
    random, alike, best = shuffled(rows, 8, rng(1)), of_like_lengths(rows, lengths, 8, rng(1), rng(1)), in_order(rows, lengths, 8)
    assert padding(alike, lengths) < 0.2 * padding(random, lengths)
    assert padding(best, lengths) < 0.2 * padding(alike, lengths)


def test_batches_of_like_lengths_do_not_follow_their_length():
    lengths = rng().integers(1, 300, 1000)
    longest = [lengths[batch].max() for batch in of_like_lengths(np.arange(1000), lengths, 10, rng(1), rng(1))]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_windows_of_one_batch_are_as_random_as_shuffling():
    lengths = rng().integers(1, 300, 1000)
    plan = of_like_lengths(np.arange(1000), lengths, 10, rng(1), rng(1), window=1)
    assert {frozenset(batch.tolist()) for batch in plan} == {frozenset(b.tolist()) for b in shuffled(np.arange(1000), 10, rng(1))}


def test_evaluation_goes_from_long_to_short_and_keeps_ties_in_order():
    lengths = np.array([3, 9, 9, 1, 5, 3])
    assert [batch.tolist() for batch in in_order(np.array([0, 2, 1, 3, 5]), lengths, 2)] == [[2, 1], [0, 5], [3]]


def test_a_dialogue_has_its_clips_in_numeric_order():
    positions = np.array([10, 9, 2, 0, 1, 0])
    videos = np.array(["b", "b", "b", "a", "a", "c"])
    first, second = dialogues(videos, positions, np.arange(6), 2)
    assert first.rows.tolist() == [2, 1, 0, 3, 4]
    assert first.layout.tolist() == [[0, 1, 2], [3, 4, -1]]
    assert second.rows.tolist() == [5]
    assert second.layout.tolist() == [[0]]
    assert first.rows.dtype == first.layout.dtype == np.int64


def test_clips_that_are_not_asked_for_leave_their_neighbours_adjacent():
    (only,) = dialogues(np.array(["a"] * 4), np.array([3, 2, 1, 0]), np.array([0, 3]), 8)
    assert only.rows.tolist() == [3, 0]
    assert only.layout.tolist() == [[0, 1]]


def test_a_last_batch_of_too_few_videos_joins_the_one_before():
    videos = np.array(list("aabbcdde"))
    plan = dialogues(videos, np.arange(8), np.arange(8), 2, smallest=2)
    assert [len(batch.layout) for batch in plan] == [2, 3]
    assert [len(batch.layout) for batch in dialogues(videos, np.arange(8), np.arange(8), 2)] == [2, 2, 1]


@given(data=st.data(), size=SIZES, seed=st.none() | st.integers(0, 99))
def test_dialogues_have_every_video_whole_and_once(data, size, seed):
    videos = np.array(data.draw(st.lists(st.sampled_from("uvwxyz"), max_size=40)), dtype=str)
    positions = np.array(data.draw(st.permutations(range(len(videos)))), dtype=np.int64)
    rows = np.array(data.draw(st.permutations(range(len(videos)))), dtype=np.int64)[: data.draw(st.integers(0, 40))]
    plan = dialogues(videos, positions, rows, size, None if seed is None else rng(seed))

    found = {}
    for batch in plan:
        assert sorted(batch.layout[batch.layout >= 0].tolist()) == list(range(len(batch.rows)))
        assert (batch.layout >= 0).sum(axis=1).max() == batch.layout.shape[1]
        for clips in batch.layout:
            part = batch.rows[clips[: (clips >= 0).sum()]]
            assert (clips[len(part) :] == -1).all()
            assert len({*videos[part].tolist()}) == 1
            assert videos[part[0]] not in found
            found[videos[part[0]]] = part.tolist()
    expected = {video: sorted((r for r in rows.tolist() if videos[r] == video), key=positions.__getitem__) for video in videos[rows]}
    assert found == expected
    assert [len(batch.layout) for batch in plan[:-1]] == [size] * (len(plan) - 1)
    if seed is None:
        assert list(found) == list(dict.fromkeys(videos[rows].tolist()))


def test_videos_are_shuffled_by_the_generator():
    videos = np.array([f"video{number // 3}" for number in range(60)])

    def order(seed):
        return [batch.rows.tolist() for batch in dialogues(videos, np.arange(60), np.arange(60), 4, rng(seed))]

    assert order(1) == order(1) != order(2)


def test_with_one_schedule_long_batches_come_at_the_same_time_whatever_is_in_them():
    lengths = rng(5).integers(1, 300, 1000)
    first, second = (of_like_lengths(np.arange(1000), lengths, 10, rng(seed), rng(7)) for seed in (1, 2))
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]
    means = [[lengths[batch].mean() for batch in plan] for plan in (first, second)]
    assert np.corrcoef(means)[0, 1] > 0.95
    assert [len(batch) for batch in first] == [len(batch) for batch in second]
