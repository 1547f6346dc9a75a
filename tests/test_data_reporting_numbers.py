"""Numbers as a reader writes them."""

import pytest

from data.reporting.numbers import duration, number, share, signed, size


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [(3.0, 1, "3"), (3.25, 1, "3.2"), (12345, 0, "12,345"), (12345.678, 2, "12,345.68"), (float("nan"), 1, "–"), (None, 1, "–")],
)
def test_whole_numbers_have_no_decimals_and_missing_ones_are_a_dash(value, digits, expected):
    assert number(value, digits) == expected


def test_signs_are_explicit_and_a_minus_is_one():
    assert [signed(0.5), signed(-0.5), signed(0.5, 2, ""), signed(float("nan"))] == ["+0.5000", "−0.5000", "0.50", "–"]


def test_shares_are_percentages():
    assert [share(1, 4), share(0, 4), share(0, 0)] == ["25.0%", "0.0%", "–"]


@pytest.mark.parametrize(
    ("size_bytes", "expected"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.5e6, "2.5 MB"), (3e12, "3000.0 GB")]
)
def test_sizes_are_in_powers_of_a_thousand(size_bytes, expected):
    assert size(size_bytes) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0.0 s"), (59.94, "59.9 s"), (75, "1 min 15 s"), (3599.6, "1 h 0 min"), (3_600_300, "1,000 h 5 min")]
)
def test_durations_have_the_units_that_matter(seconds, expected):
    assert duration(seconds) == expected
