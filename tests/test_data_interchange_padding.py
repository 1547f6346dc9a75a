"""Padding: sequences end at the last step, and are found again by their lengths or by their zeros, at whichever end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from data.interchange.padding import extents_by_length, extents_by_zeros, pad_front

lengths_of_sequences = st.lists(st.integers(0, 6), min_size=1, max_size=5)


def sequences(lengths, dim=2):
    return [np.arange(1, length * dim + 1, dtype=np.float32).reshape(length, dim) for length in lengths]


def padded(lengths, steps, front):
    values = np.zeros((len(lengths), steps, 2), np.float32)
    for row, sequence in enumerate(sequences(lengths)):
        values[row, steps - len(sequence) if front else 0 :][: len(sequence)] = sequence
    return values


@settings(max_examples=25, deadline=None)
@given(lengths=lengths_of_sequences, more=st.integers(0, 3))
def test_padding_is_at_the_front(lengths, more):
    steps = max(lengths) + more
    np.testing.assert_array_equal(pad_front(sequences(lengths), len(lengths), steps, 2), padded(lengths, steps, front=True))


@settings(max_examples=25, deadline=None)
@given(lengths=lengths_of_sequences, front=st.booleans(), more=st.integers(0, 3))
def test_sequences_are_found_by_their_lengths_and_by_their_zeros(lengths, front, more):
    values = padded(lengths, max(lengths) + more + 1, front)
    by_length = extents_by_length(values, np.array(lengths), [""] * len(lengths), "here")
    by_zeros = extents_by_zeros(values)
    for row, sequence in enumerate(sequences(lengths)):
        for first, stop in (by_length[row], by_zeros[row]):
            np.testing.assert_array_equal(values[row, first:stop], sequence)


def test_zeros_at_both_ends_of_a_sequence_are_padding_only_without_lengths():
    values = np.array([[[0], [0], [5], [0], [7], [0]]], np.float32)
    assert extents_by_zeros(values).tolist() == [[2, 5]]
    assert extents_by_length(values, np.array([5]), ["a"], "here").tolist() == [[1, 6]]


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (4, "here: 'b' has a length of 4, expected 0 to 3 rows."),
        (-1, "here: 'b' has a length of -1, expected 0 to 3 rows."),
        (1, "here: 'b' is 1 rows long by its length, but the rest of its 3 rows is not zero, neither in front nor behind."
            " Is the length that of other features?"),
    ],
)  # fmt: skip
def test_lengths_that_do_not_fit_are_refused(length, message):
    values = np.ones((2, 3, 1), np.float32)
    with pytest.raises(InputError) as error:
        extents_by_length(values, np.array([3, length]), ["a", "b"], "here")
    assert str(error.value) == message


def test_padding_that_is_not_a_number_is_refused():
    values = np.array([[[np.nan], [1.0]]])
    with pytest.raises(InputError, match=r"^here: the padding of 'a' holds nan, expected zeros\. An import repairs nothing\.$"):
        extents_by_length(values, np.array([1]), ["a"], "here")
