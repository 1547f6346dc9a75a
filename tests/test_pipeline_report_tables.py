"""Tables of the build report: the texts of their cells, the exact numbers behind them, and their names."""

import numpy as np
import pytest
from reports import audit_result, features, manifest

from data.labels import EMOTIONS
from pipeline.report import counts, tables


def test_counts_of_a_split_have_shares_where_they_are_not_all():
    table = manifest("mosi", sentiment=[1.0] * 6 + [np.nan] * 6)
    found = tables.split_table("mosi", {"train": counts.counts(table[:6])}, counts.counts(table))
    assert found.texts == [["train", "6", "0", "6", "2", "0.15", "6", "0"], ["all", "12", "0", "12", "3", "0.30", "6", "0"]]
    assert [cell.beside for cell in found.rows[1][-2:]] == ["50.0%", "0.0%"]
    assert (found.rows[0][5].value, found.label) == (pytest.approx(0.15), "mosi: counts per split")
    table.loc[0, "duration_s"] = np.nan
    assert "1 of unknown duration" in tables.split_table("mosi", {}, counts.counts(table)).caption


def test_an_untrained_encoder_has_a_badge_in_the_table_of_feature_files():
    found = tables.feature_table([features("mosi", "text", [3]), features("mosi", "audio", [5], trained=False)], 128)
    assert [row[2].badge for row in found.rows] == ["", "untrained"]
    assert found.texts[1][3:8] == ["1", "5", "8", "float16", "80 B"]
    assert [cell.value for cell in found.rows[1][3:8]] == [1, 5, 8, None, 80]
    assert found.caption == "2 files, 128 B"


def test_ties_say_how_the_emotions_of_the_runner_up_compare():
    tie = {"utterance_id": "a", "tied": 2, "similarity": -0.5, "donor_corpus": "c", "donor_id": "1", "runner_up_corpus": "d"}
    rows = [tie | {"runner_up_id": "2", "differs": differs} for differs in (None, True, False)]
    found = tables.tie_table("mosi", rows)
    assert found.texts[0] == ["a", "2", "−0.500000", "c/1", "d/2", "not known"]
    assert [row[-1] for row in found.texts] == ["not known", "differ", "the same"]


def test_an_audit_has_accuracy_and_f1_of_each_method_under_its_name():
    found = tables.audit_table("mosi", "mosei", audit_result())
    assert [column.full_name for column in found.columns[2:4]] == ["nearest donor accuracy", "nearest donor F1"]
    assert [row[0] for row in found.texts] == [*EMOTIONS, "mean"]
    assert found.texts[0][1:] == ["9", "65.0%", "40.0%", "55.0%", "30.0%", "35.0%", "10.0%"]
    assert found.texts[-1][1] == ""
    assert found.caption == "mosei, 70 test utterances as if unlabelled; 3 more abstained"


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.0, "0.00"), (0.0123, "0.012"), (1234.5, "1,234.50")])
def test_hours_keep_two_digits_that_say_something(value, text):
    assert tables.hours(value).text == text
