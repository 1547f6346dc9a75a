"""Tables of typed cells as Markdown, LaTeX and terminal text, and their best numbers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.reporting.tables import HIGHER, LOWER, Cell, Column, Table, aligned, in_latex, in_markdown, latex, markdown, terminal


@given(st.text(alphabet="ab\\~^&%$#_{}±−–<>| ", max_size=20))
def test_escaped_latex_has_no_bare_special_character_and_balanced_braces(text):
    escaped = in_latex(text)
    bare = re.sub(r"\\[&%$#_{}]|\\text\w+\{\}|\$\\?[-\w]+\$|--", "", escaped)
    assert not set(bare) & set("\\~^&%$#_{}")
    assert set(bare) <= set("ab ")


def test_markdown_and_latex_of_a_table():
    shown = Table.of([Column("option_a", "words"), Column("mae")], [["x|y", Cell("0.5 ± 0.1", 0.5, below="paper 0.4")], ["50 %", "–"]])
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


def test_terminal_text_is_aligned_by_the_kind_of_a_column():
    columns = [Column("name", "words"), Column("F1", over="ours"), Column("why", "long")]
    table = Table.of(columns, [["a", "0.5", "x"], ["long one", "−1", ""]])
    assert terminal(table) == "name      ours F1  why\na             0.5  x\nlong one       −1"


def test_aligned_puts_the_first_columns_to_the_left():
    assert aligned([["a", "b", "1"], ["aa", "bb", "10"]], ["x", "y", "number"], left=2) == (
        "x   y   number\na   b        1\naa  bb      10"
    )


def numbers(*values, best=HIGHER, **more):
    rows = [[str(number), Cell(str(value), value)] for number, value in enumerate(values)]
    return Table.of([Column("row", "words"), Column("value", best=best)], rows, **more)


@pytest.mark.parametrize(
    ("values", "best", "expected"),
    [
        ((1.0, 3.0, 2.0), HIGHER, {1}),
        ((1.0, 3.0, 2.0), LOWER, {0}),
        ((1.0, 3.0, 2.0), "", set()),
        ((0.1 + 0.2, 0.3, 0.2), HIGHER, {0, 1}),
        ((float("nan"), 1.0, 2.0), HIGHER, {2}),
        ((2.0, 2.0), HIGHER, set()),
        ((2.0,), HIGHER, set()),
        ((float("nan"),), HIGHER, set()),
    ],
)
def test_the_best_of_a_column_is_the_best_number_unless_all_are_equal(values, best, expected):
    assert numbers(*values, best=best).best() == {(row, 1) for row in expected}


def test_the_best_is_found_over_all_groups_and_never_in_the_total():
    columns = [Column("row", "words"), Column("value", best=HIGHER)]
    table = Table(columns, {"one": [["a", Cell("1", 1)]], "two": [["b", Cell("2", 2)]]}, total=["all", Cell("3", 3)])
    assert table.best() == {(1, 1)}
    assert table.texts == [["a", "1"], ["b", "2"], ["all", "3"]]


def test_the_head_of_a_table_has_the_first_rows_of_each_group():
    table = Table([Column("row")], {"one": [["1"], ["2"], ["3"]], "two": [["4"]]})
    assert table.head(2).texts == [["1"], ["2"], ["4"]]


def test_rows_that_are_sorted_are_no_parts_of_groups():
    with pytest.raises(ValueError, match="one group of rows without a title, not a, b"):
        Table([Column("row")], {"a": [["1"]], "b": [["2"]]}, explored=True)
