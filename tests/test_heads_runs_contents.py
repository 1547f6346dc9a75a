"""The content of a run's JSON files: faults, differences, NaN."""

import math

import pytest

from heads.runs.contents import differences, fault_of, identity_of, no_metric, without_nan

SHAPE = {"version": int, "config": {"head": str, "data": {"modalities": list}}}
SOUND = {"version": 1, "config": {"head": "mmolre", "data": {"modalities": []}}, "more": None}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (SOUND, None),
        ([], "the whole is not a mapping"),
        ({"version": 1}, "config is missing"),
        ({**SOUND, "version": "1"}, "version is not a whole number"),
        ({**SOUND, "config": 5}, "config is not a mapping"),
        ({**SOUND, "config": {"head": "mmolre", "data": {"modalities": "text"}}}, "config.data.modalities is not a list"),
    ],
)
def test_the_first_fault_is_named(content, fault):
    assert fault_of(content, SHAPE) == fault


@pytest.mark.parametrize(
    ("valid", "interval", "fault"),
    [
        ({"mae": 0.5, "corr": None}, {"mae": [0.4, 0.6], "corr": [None, None]}, None),
        ({"mae": "0.5"}, {}, "valid.mae is not a number"),
        ({"mae": True}, {}, "valid.mae is not a number"),
        ({}, {"mae": [0.4]}, "valid_interval.mae is not two numbers"),
    ],
)
def test_a_metric_is_a_number_or_null(valid, interval, fault):
    assert no_metric({"valid": valid, "valid_interval": interval}) == fault


def test_differences_are_named_by_dotted_names_three_at_most():
    found = {"a": {"b": 1, "c": 2}, "d": 3, "e": 4}
    assert differences(found, {"a": {"b": 1, "c": 5}, "d": 3, "e": 4}) == "a.c is 2, not 5"
    assert differences(found, {"a": {"b": 0, "c": 0}, "d": 0, "e": 0}).count("not") == 3


def test_imported_features_are_identified_by_their_origin_and_not_by_their_file():
    imported = {"encoder": "a.pkl", "identity": {"origin": "x"}, "dim": 5}
    assert identity_of(imported) == identity_of({**imported, "encoder": "b.pkl"})
    own = {"encoder": "roberta", "identity": {"weights": "x"}, "dim": 5}
    assert identity_of(own) == own


def test_nan_becomes_null_at_any_depth():
    assert without_nan({"a": [1.0, math.nan], "b": {"c": math.nan, "d": "x"}}) == {"a": [1.0, None], "b": {"c": None, "d": "x"}}
