"""Cells that begin like a formula get an apostrophe, numbers and other texts stay, and unescaping brings every table back."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.spreadsheets import escape_cells, unescape_cells


@pytest.mark.parametrize("text", ["=1+1", "+x", "-3g5yACwYnA[0]", "@SUM(A1)", "-", "-0.5 to 1", "\t=1", "'=1", "''@a", "-1\t"])
def test_texts_like_formulas_get_an_apostrophe(text):
    assert escape_cells(pd.DataFrame({"a": [text]})).loc[0, "a"] == f"'{text}"


@pytest.mark.parametrize("value", ["", "a=b", "-1", "+2.5e-3", "-inf", "'", "'tis", "'-1", " =1", -1.5, np.nan, None, 3, True])
def test_numbers_and_other_texts_stay(value):
    table = pd.DataFrame({"a": [value]}, dtype=object)
    pd.testing.assert_frame_equal(escape_cells(table), table)
    pd.testing.assert_frame_equal(unescape_cells(table), table)


@settings(deadline=None)
@given(st.lists(st.text("'=+-@\t\r1a.", max_size=6) | st.text(), min_size=1))
@example(["'", "'=", "''=", "=", "'-1", "-1"])
def test_every_text_comes_back(texts):
    table = pd.DataFrame({"a": texts}, dtype=object)
    pd.testing.assert_frame_equal(unescape_cells(escape_cells(table)), table)
