"""What comes from the user appears in messages as one line of limited length."""

import pytest

from data.errors import listed, reason, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", r"'a\nb'"),
        (1.5, "1.5"),
        ("x" * 1_000_000, "'" + "x" * 78 + "…"),
        (10**5000, "<int>"),
        (["a\x1b"], r"['a\x1b']"),
    ],
    ids=["two lines", "number", "long", "long integer", "control character"],
)
def test_a_value_is_shown_in_one_line_of_80_characters(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["text", "ID", "Größe"], "text, ID, Größe"),
        (["a\x1b[31m", "b\nc", "\ud800", 3], r"a\x1b[31m, b\nc, \ud800, 3"),
        ([], ""),
        (["x" * 1_000_000], "x" * 399 + "…"),
        (["a"] * 1_000_000, "a, " * 133 + "…"),
    ],
    ids=["as they are", "control characters", "none", "long", "many"],
)
def test_names_are_listed_in_one_line_of_400_characters(names, text):
    assert listed(names) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad\n  type \x00 in it"), r"bad type \x00 in it"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 1_000_000), "x" * 299 + "…"),
    ],
    ids=["lines", "empty", "long"],
)
def test_the_reason_of_an_error_is_one_line_of_300_characters(error, text):
    assert reason(error) == text
