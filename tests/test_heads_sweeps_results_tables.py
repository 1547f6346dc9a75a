"""Tables of a sweep as Markdown and LaTeX, and what is computed for them."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.reporting.tables import Column, Table, in_latex, in_markdown, latex, markdown
from heads.sweeps.results.tables import holm, interval, spread


@given(st.text(alphabet="ab\\~^&%$#_{}±−–<>| ", max_size=20))
def test_escaped_latex_has_no_bare_special_character_and_balanced_braces(text):
    escaped = in_latex(text)
    bare = re.sub(r"\\[&%$#_{}]|\\text\w+\{\}|\$\\?[-\w]+\$|--", "", escaped)
    assert not set(bare) & set("\\~^&%$#_{}")
    assert set(bare) <= set("ab ")


def test_markdown_and_latex_of_a_table():
    shown = Shown(["option_a", "mae"], [["x|y", "0.5 ± 0.1"], ["50 %", "–"]], ("option_a",))
    assert markdown(shown, ["A note."]) == "| option\\_a | mae |\n| :-- | --: |\n| x\\|y | 0.5 ± 0.1 |\n| 50 % | – |\n\nA note.\n"
    assert latex(shown, ["A note."]) == (
        "% A note.\n% needs \\usepackage{booktabs}\n\\begin{tabular}{lr}\n\\toprule\noption\\_a & mae \\\\\n\\midrule\n"
        "x\\textbar{}y & 0.5 $\\pm$ 0.1 \\\\\n50 \\% & -- \\\\\n\\bottomrule\n\\end{tabular}\n"
    )


def test_markdown_shows_signs_as_they_are():
    assert in_markdown("a_b&<c> *z*\\|") == r"a\_b\&\<c\> \*z\*\\\|"


@pytest.mark.parametrize(("text", "expected"), [("[a]", "{[}a]"), ("*", "{*}"), (" [", "{[}"), ("a*[", "a*["), ("", "")])
def test_no_row_of_latex_begins_with_an_argument_of_the_one_before(text, expected):
    assert in_latex(text) == expected


def test_numbers_have_a_minus_that_is_one():
    assert (spread(-0.5, 0.25), spread(0.5, np.nan)) == ("−0.5000 ± 0.2500", "0.5000")
    assert (interval(-0.5, 0.25), interval(np.nan, 1.0)) == ("−0.5000 to 0.2500", "–")


def test_holm_corrects_the_smallest_for_all_tests():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, np.nan])), [0.03, 0.06, 0.06, np.nan])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_the_raw_value_and_bonferroni_and_keeps_the_order(values):
    p = np.array(values)
    found = holm(p)
    assert (found <= np.minimum(1, len(p) * p) + 1e-12).all()
    assert (found >= p).all()
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= 0).all()
