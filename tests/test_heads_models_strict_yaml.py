"""YAML that PyYAML answers with a crash, another exception or endless work is refused in one line."""

import itertools

import pytest

from heads.models.strict_yaml import parse_yaml


@pytest.mark.parametrize(
    ("text", "value"), [("", None), ("a: [1, 2]", {"a": [1, 2]}), ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}})]
)
def test_plain_yaml_is_parsed(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: " + "[" * 100_000, "nested more than 50 levels deep"),
        ("- " * 60 + "1", "nested more than 50 levels deep"),
        ("a: " + "9" * 5_000, "Exceeds the limit"),
        ("a: &x [*x]", "a value contains itself"),
        ("a: &a [1, 2]\na: 3", "a is given twice"),
        ("a: !!int ''", "index out of range"),
        ("a: !!bool perhaps", "perhaps"),
        ("a: !!timestamp x", "groupdict"),
        ("a: 2001-99-99", "month must be in"),
        ("a: {b", "expected ',' or '}'"),
    ],
)
def test_text_that_cannot_be_used_is_refused_in_one_line(text, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        parse_yaml(text)
    assert "\n" not in str(refused.value)


def test_aliases_that_stand_for_billions_of_values_are_refused():
    names = "abcdefghij"
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in itertools.pairwise(names)]
    with pytest.raises(ValueError, match="more than 100,000 values"):
        parse_yaml("\n".join(lines))
