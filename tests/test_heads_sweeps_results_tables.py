"""Numbers and tests in the tables of a sweep."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heads.evaluation.intervals import holm
from heads.sweeps.results.tables import interval, metric_words, p_words, spread


def test_numbers_have_a_minus_that_is_one():
    assert (spread(-0.5, 0.25), spread(0.5, np.nan)) == ("−0.5000 ± 0.2500", "0.5000")
    assert (interval(-0.5, 0.25), interval(np.nan, 1.0)) == ("−0.5000 to 0.2500", "–")
    assert (metric_words(1.0), metric_words(np.nan), metric_words(None)) == ("1.0000", "–", "–")
    assert (p_words(0.04567), p_words(np.nan)) == ("0.046", "–")


def test_holm_corrects_the_smallest_for_all_tests():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, np.nan])), [0.03, 0.06, 0.06, np.nan])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_the_raw_value_and_bonferroni_and_keeps_the_order(values):
    p = np.array(values)
    found = holm(p)
    assert (found <= np.minimum(1, len(p) * p) + 1e-12).all()
    assert (found >= p).all()
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= 0).all()
