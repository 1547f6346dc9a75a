"""A valid utterance table: every column has its type and range, and a message names the first invalid utterance."""

import numpy as np
import pandas as pd
import pytest
from manifests import manifest

from data.errors import InputError
from data.labels import EMOTIONS
from data.schema import COLUMNS, FLOAT_COLUMNS, TEXT_COLUMNS, validate


def test_every_column_has_a_type():
    assert sorted([*TEXT_COLUMNS, *FLOAT_COLUMNS, "position"]) == sorted(COLUMNS)
    assert COLUMNS[13:19] == EMOTIONS


def test_a_valid_table_comes_back_in_order_with_its_types():
    table = manifest("mosi", [{"sentiment": 1.5}, {"text": "well"}])
    shuffled = table[list(reversed(COLUMNS))].set_index(pd.Index([7, 3])).astype({"sentiment": object, "position": "float32"})
    result = validate(shuffled, "label.csv")
    pd.testing.assert_frame_equal(result, table)
    assert list(result) == list(COLUMNS)
    assert result["text"].map(type).eq(str).all()
    assert result.dtypes[list(FLOAT_COLUMNS)].eq("float64").all()
    assert result["position"].dtype == "int64"


def test_equal_texts_of_a_column_are_one_in_memory():
    table = manifest("mosi", [{}] * 3).assign(speaker=pd.Series(["a b", "c d", "a b"], dtype="str"))
    result = validate(table, "here")
    assert result["speaker"].tolist() == ["a b", "c d", "a b"]
    assert result["speaker"].iloc[0] is result["speaker"].iloc[2]
    assert result["speaker"].dtype == object


def test_the_given_table_is_left_as_it_was():
    table = manifest("mosi", [{}]).astype({"sentiment": "float32"})
    validate(table, "here")
    assert table["sentiment"].dtype == "float32"


def test_an_empty_table_is_valid():
    assert len(validate(pd.DataFrame({column: [] for column in COLUMNS}), "here")) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"utterance_id": ["a", "a"]}, "utterance 'a': utterance_id is 'a', expected unique"),
        ({"utterance_id": ["a", ""]}, "utterance '': utterance_id is '', expected not empty"),
        ({"utterance_id": ["a", 7]}, "utterance 7: utterance_id is 7, expected text"),
        ({"text": ["x", None]}, "utterance 'b': text is None, expected text"),
        ({"speaker": [np.nan, ""]}, "utterance 'a': speaker is nan, expected text"),
        ({"split": ["dev", "test"]}, "utterance 'a': split is 'dev', expected one of train, valid, test"),
        ({"polarity": ["", "good"]}, "utterance 'b': polarity is 'good', expected one of negative, neutral, positive"),
        ({"sentiment": [3.0, -3.1]}, "utterance 'b': sentiment is -3.1, expected between -3 and 3"),
        ({"sentiment": [0.0, np.inf]}, "utterance 'b': sentiment is inf, expected a finite number"),
        ({"sentiment": ["neutral", 1.0]}, "utterance 'a': sentiment is 'neutral', expected a finite number"),
        ({"fear": [0.0, -0.5]}, "utterance 'b': fear is -0.5, expected an intensity ≥ 0"),
        ({"start_s": [2.0, 0.0], "end_s": [1.0, 1.0]}, "utterance 'a': end_s is 1.0, expected after start_s"),
        ({"start_s": [0.0, 1.0], "end_s": [1.0, 1.0]}, "utterance 'b': end_s is 1.0, expected after start_s"),
        ({"start_s": [1.0, np.nan]}, "utterance 'a': end_s is nan, expected after start_s"),
        ({"start_s": [0.0, 0.0], "end_s": [1.0, np.inf]}, "utterance 'b': end_s is inf, expected a finite number"),
        ({"position": [0.0, 1.5]}, "utterance 'b': position is 1.5, expected a whole number"),
        ({"position": [0.0, np.nan]}, "utterance 'b': position is nan, expected a whole number"),
        ({"split": ["dev", "dev"]}, "expected one of train, valid, test (1 more rows like it)."),
    ],
)
def test_a_value_out_of_its_range_is_named_with_its_utterance(values, message):
    table = manifest("mosi", [{}, {}]).assign(**{name: pd.Series(column, dtype=object) for name, column in values.items()})
    with pytest.raises(InputError) as error:
        validate(table, "MOSI/label.csv")
    assert str(error.value).startswith("MOSI/label.csv: utterance ")
    assert message in str(error.value)


def test_an_excluded_utterance_may_have_times_that_cannot_be_cut():
    table = manifest("mosei", [{"start_s": 2.0, "end_s": 2.0, "excluded": "the segment is empty"}])
    assert table["end_s"].tolist() == [2.0]


def test_missing_and_unknown_columns_are_named():
    table = manifest("mosi", [{}]).rename(columns={"text": "Text"})
    with pytest.raises(InputError, match=r"here: columns missing \['text'\], unknown \['Text'\]"):
        validate(table, "here")
