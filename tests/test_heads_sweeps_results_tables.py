"""Numbers and tests in the tables of a sweep."""

import numpy as np

from heads.sweeps.results.tables import interval, metric_words, p_words, spread


def test_numbers_have_a_minus_that_is_one():
    assert (spread(-0.5, 0.25), spread(0.5, np.nan)) == ("−0.5000 ± 0.2500", "0.5000")
    assert (interval(-0.5, 0.25), interval(np.nan, 1.0)) == ("−0.5000 to 0.2500", "–")
    assert (metric_words(1.0), metric_words(np.nan), metric_words(None)) == ("1.0000", "–", "–")
    assert (p_words(0.04567), p_words(np.nan)) == ("0.046", "–")
