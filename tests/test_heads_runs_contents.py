"""The content of a run's JSON files: faults, differences, NaN."""

import math

import pandas as pd
import pytest

from heads.runs.contents import (
    differences,
    fault_of,
    fault_of_history,
    fault_of_metrics,
    fault_of_routing,
    identity_of,
    parse_json,
    without_nan,
)

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
    assert fault_of_metrics({"valid": valid, "valid_interval": interval}) == fault


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"parameters": 10, "epochs": 3, "pruned": True, "selected": {"mae": {"epoch": 1, "value": None}}, "test": {"mae": 1}}, None),
        ({"parameters": True}, "parameters is not a whole number"),
        ({"epochs": 2.5}, "epochs is not a whole number"),
        ({"pruned": 1}, "pruned is not true or false"),
        ({"selected": 0.5}, "selected is not a mapping"),
        ({"selected": {"mae": {"value": 0.5}}}, "selected.mae.epoch is missing"),
        ({"test": {"mae": "0.5"}}, "test.mae is not a number"),
        ({"valid": {"mae": math.inf}}, "valid.mae is not a number"),
    ],
)
def test_further_facts_of_metrics_are_checked(change, fault):
    assert fault_of_metrics({"valid": {}, "valid_interval": {}, **change}) == fault


def test_json_that_no_table_can_hold_is_refused():
    assert parse_json('{"a": [1, 2.5, null, "é", 9223372036854775807]}') == {"a": [1, 2.5, None, "é", 2**63 - 1]}
    for text, reason in (
        ("[" * 50_000 + "]" * 50_000, "nested too deeply"),
        ("7" * 5_000, "77777777777777777777… is a whole number of more than 64 bits"),
        ("9223372036854775808", "more than 64 bits"),
        ("[NaN]", "NaN is no number"),
        ('"\\ud800"', "surrogates not allowed"),
        ("{", "Expecting property name"),
    ):
        with pytest.raises(ValueError, match=reason):
            parse_json(text)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"epoch": [1, 3]}, "its epochs are not 1, 2, 3, …"),
        ({"valid_loss": [0.5, None]}, "column valid_loss has a gap"),
        ({"valid_mae": ["x", 1.0]}, "column valid_mae is not all numbers"),
        ({"seconds": [1.0, math.inf]}, "column seconds is not all numbers"),
    ],
)
def test_a_history_is_checked(change, fault):
    sound = {"epoch": [1, 2], "train_loss": [1.0, 0.9], "seconds": [1.0, 1.0], "valid_loss": [1.0, 0.8], "valid_mae": [None, 0.5]}
    assert fault_of_history(pd.DataFrame(sound | change)) == fault
    assert fault_of_history(pd.DataFrame(sound).drop(columns="seconds")) == "column seconds is missing"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"load": [0.5]}, "experts.text/block1/msa has lists that are not of the same length, or not of numbers"),
        ({"load": [0.5, "1"]}, "experts.text/block1/msa has lists that are not of the same length, or not of numbers"),
        ({"by_emotion": {"fear": 1}}, "experts.text/block1/msa has lists that are not of the same length, or not of numbers"),
        ({"dead": None}, "experts.text/block1/msa.dead is not a list"),
    ],
)
def test_a_routing_report_is_checked(change, fault):
    part = {"load": [0.5, 0.5], "selected": [1.0, 1.0], "dead": [], "by_emotion": {"fear": None, "anger": [0.1, 0.9]}}
    report = {"utterances": 2, "emotions": {}, "experts": {"text/block1/msa": part | change}, "overlap": {}}
    assert fault_of_routing(report) == fault
    assert fault_of_routing(report | {"experts": {}}) == "experts is empty"


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
