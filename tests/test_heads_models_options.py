"""Options as dataclasses: what text and YAML may say, and what is told where they are wrong."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import InputError
from heads.models.options import (
    FREE,
    SAME,
    ZERO_OR_NOT,
    build,
    change,
    check,
    dropout_rate,
    flat,
    items,
    names,
    nested,
    option,
    parse_assignments,
    walk,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Outer:
    width: int = 4
    limit: int | None = 7
    rank: int | tuple[int, ...] = 3
    name: str = "plain"
    is_shared: bool = False
    clip: float | None = 1.0
    words: tuple[str, ...] = ("a",)
    inner: Inner = field(default_factory=Inner)


def test_what_is_not_given_has_its_default():
    assert build(Outer, {"width": 5, "inner": {"rate": 0.25}}, "a.yaml") == Outer(width=5, inner=Inner(rate=0.25))


def test_a_change_leaves_the_rest_as_it_was():
    start = Outer(width=9, inner=Inner(rate=0.1, sizes=(3,)))
    assert change(start, {"inner": {"sizes": [5]}, "name": "x"}, "--set") == Outer(width=9, name="x", inner=Inner(rate=0.1, sizes=(5,)))
    assert start == Outer(width=9, inner=Inner(rate=0.1, sizes=(3,)))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("clip", "1e-4", 1e-4),
        ("clip", 2, 2.0),
        ("clip", None, None),
        ("limit", None, None),
        ("rank", 8, 8),
        ("rank", [4, 8], (4, 8)),
        ("words", ["text", "audio"], ("text", "audio")),
        ("words", (), ()),
        ("is_shared", True, True),
        ("name", "1", "1"),
    ],
)
def test_values_become_the_type_of_their_option(name, value, expected):
    found = getattr(build(Outer, {name: value}, "a.yaml"), name)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": "wide"}, "a.yaml: width is 'wide', expected a whole number."),
        ({"width": 4.0}, "a.yaml: width is 4.0, expected a whole number."),
        ({"width": True}, "a.yaml: width is True, expected a whole number."),
        ({"width": None}, "a.yaml: width is None, expected a whole number."),
        ({"limit": "all"}, "a.yaml: limit is 'all', expected a whole number or nothing (null)."),
        ({"rank": 1.5}, "a.yaml: rank is 1.5, expected a whole number or a list of whole numbers."),
        ({"rank": [1, "x"]}, "a.yaml: rank is 'x', expected a whole number."),
        ({"is_shared": 1}, "a.yaml: is_shared is 1, expected true or false."),
        ({"name": 3}, "a.yaml: name is 3, expected text."),
        ({"words": "text"}, "a.yaml: words is 'text', expected a list of texts."),
        ({"clip": "much"}, "a.yaml: clip is 'much', expected a number or nothing (null)."),
        ({"clip": False}, "a.yaml: clip is False, expected a number or nothing (null)."),
        ({"inner": {"rate": None}}, "a.yaml: inner.rate is None, expected a number."),
        ({"inner": {"rate": float("nan")}}, "a.yaml: inner.rate is nan, expected a number."),
        ({"inner": {"rate": "-inf"}}, "a.yaml: inner.rate is '-inf', expected a number."),
        ({"inner": {"rate": 10**400}}, f"a.yaml: inner.rate is 1{'0' * 78}…, expected a number."),
        ({"width": 2**63}, "a.yaml: width is 9223372036854775808, expected a whole number of at most 64 bits."),
        ({"inner": 3}, "a.yaml: inner is 3, expected names with values: rate, sizes."),
        ([1], "a.yaml: the whole is [1], expected names with values: width, limit, rank, name, is_shared, clip, words, inner."),
        ({"inner": {"ratio": 1}}, "a.yaml: unknown option 'inner.ratio'. Did you mean inner.rate? Available here: rate, sizes."),
        ({"zzz": 1}, "a.yaml: unknown option 'zzz'. Available here: width, limit, rank, name, is_shared, clip, words, inner."),
        ({7: 1}, "a.yaml: unknown option '7'. Available here: width, limit, rank, name, is_shared, clip, words, inner."),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(values, message):
    for use in (lambda: build(Outer, values, "a.yaml"), lambda: change(Outer(), values, "a.yaml")):
        with pytest.raises(InputError) as refused:
            use()
        assert str(refused.value) == message


def test_assignments_are_yaml():
    texts = ["train.lr=1e-4", "a=[1, 2]", "b=null", "c=true", "d=x=y", "e=", "f={g: 1}"]
    expected = {"train.lr": "1e-4", "a": [1, 2], "b": None, "c": True, "d": "x=y", "e": None, "f": {"g": 1}}
    assert parse_assignments(texts) == expected


def test_the_last_of_two_assignments_counts():
    assert parse_assignments(["a=1", "a=2"]) == {"a": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.lr", "--set 'train.lr': expected NAME=VALUE, for example train.lr=1e-4."),
        ("=3", "--set '=3': expected NAME=VALUE, for example train.lr=1e-4."),
        (
            "a=[1",
            "--set 'a=[1': the value is no YAML (while parsing a flow sequence in \"<unicode string>\", line 1, column 1 did not find"
            " expected ',' or ']' in \"<unicode string>\", line 2, column 1).",
        ),
    ],
)
def test_what_is_no_assignment_is_refused(text, message):
    with pytest.raises(InputError) as refused:
        parse_assignments([text])
    assert str(refused.value) == message


def test_dotted_names_become_nested():
    assert nested({"train.lr": 1, "train.clip": 2, "model.fusion.heads": 3, "task": "msa"}) == {
        "train": {"lr": 1, "clip": 2},
        "model": {"fusion": {"heads": 3}},
        "task": "msa",
    }


def test_a_name_that_is_a_value_and_a_group_is_refused():
    with pytest.raises(InputError, match=r"^train\.lr: train has the value 5 too\. Give one of the two\.$"):
        nested({"train": 5, "train.lr": 1})


NAMES = st.sampled_from(["a", "b", "lr", "fusion"])
TREES = st.recursive(st.integers() | st.none(), lambda inner: st.dictionaries(NAMES, inner, min_size=1), max_leaves=8)


@given(st.dictionaries(NAMES, TREES))
def test_items_and_nested_are_inverse(values):
    assert nested(dict(items(values))) == values


def test_names_and_flat_agree():
    made = Outer(rank=(1, 2))
    assert names(Outer) == [name for name, _ in flat(made)]
    assert dict(flat(made))["rank"] == (1, 2)
    assert dict(flat(made))["inner.sizes"] == (1, 2)


@dataclass(frozen=True, kw_only=True)
class Ranged:
    rate: float | None = option(0.5, above=0, in_pack=FREE)
    decay: float = option(0.0, least=0, below=1)
    seed: int = option(1, least=0, most=99)
    window: int = option(5, least=0)
    layers: int = 2
    sizes: tuple[int, ...] = (3, 4)
    factor: float = 1.0
    is_shared: bool = False
    kind: str = option("plain", choices=("plain", "fancy"))
    source: str = option("auto", choices=("auto", "pseudo"), kind="source of labels")
    dropout: float = dropout_rate(0.3)


@dataclass(frozen=True, kw_only=True)
class Group:
    part: Ranged = field(default_factory=Ranged)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 0.0}, "a.yaml: part.rate is 0.0, expected more than 0."),
        ({"decay": -0.1}, "a.yaml: part.decay is -0.1, expected 0 to below 1."),
        ({"decay": 1.0}, "a.yaml: part.decay is 1.0, expected 0 to below 1."),
        ({"seed": 100}, "a.yaml: part.seed is 100, expected 0 to 99."),
        ({"window": -1}, "a.yaml: part.window is -1, expected 0 or more."),
        ({"layers": 0}, "a.yaml: part.layers is 0, expected 1 or more."),
        ({"sizes": (3, 0)}, "a.yaml: part.sizes is (3, 0), expected 1 or more."),
        ({"kind": "fanci"}, "Unknown kind 'fanci'. Did you mean 'fancy'? Available: plain, fancy."),
        ({"source": "all"}, "Unknown source of labels 'all'. Available: auto, pseudo."),
    ],
)
def test_a_value_that_its_field_does_not_allow_is_refused(values, message):
    with pytest.raises(InputError) as refused:
        check(Group(part=Ranged(**values)), "a.yaml")
    assert str(refused.value) == message


@pytest.mark.parametrize("values", [{"rate": None}, {"sizes": ()}, {"window": 0}, {"seed": 99}, {"factor": -2.0}, {"is_shared": True}])
def test_a_value_that_its_field_allows_is_taken(values):
    assert check(Group(part=Ranged(**values)), "a.yaml") is None


def test_a_field_declares_how_it_may_differ_in_a_pack():
    found = {name: declared.in_pack for name, _, declared in walk(Group())}
    assert (found["part.rate"], found["part.dropout"], found["part.layers"]) == (FREE, ZERO_OR_NOT, SAME)
    assert list(found) == names(Group)


def test_a_declared_option_has_its_default_and_can_be_changed_like_any_other():
    assert build(Ranged, {"seed": 7}, "a.yaml") == Ranged(seed=7)
    assert change(Ranged(), {"rate": None}, "--set").rate is None
