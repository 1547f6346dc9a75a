"""The pictures of a sweep: where values stand, and that everything is drawn."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads.sweeps.results.plots import coordinates, curves, effect, scale, words


@pytest.mark.parametrize(
    ("values", "labels", "places"),
    [
        ([0.1, 0.001, 0.1, 0.01], ["0.001", "0.01", "0.1"], [-1, -3, -1, -2]),
        ([8, 4, 8, 16], ["4", "8", "16"], [1, 0, 1, 2]),
        ([0.0, 1.0, 100.0], ["0", "1", "100"], [0, 1, 2]),
        ([1.0, None, 0.5], ["0.5", "1", "none"], [1, 2, 0]),
        (["l1", "mse", "l1"], ["l1", "mse"], [0, 1, 0]),
        ([True, False], ["no", "yes"], [1, 0]),
    ],
)
def test_values_stand_by_decades_or_side_by_side(values, labels, places):
    found = scale(pd.Series(values))
    assert list(found.labels) == labels
    np.testing.assert_allclose(found.places, places, atol=1e-12)
    assert set(found.places.round(9)) <= set(np.round(found.ticks, 9))


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=40))
def test_places_of_numbers_keep_their_order_and_are_between_the_ticks(values):
    found = scale(pd.Series(values))
    order = np.argsort(values, kind="stable")
    assert (np.diff(found.places[order]) >= 0).all()
    assert (np.diff(found.groups[order]) >= 0).all()
    assert min(found.ticks) - 1e-9 * abs(min(found.ticks)) <= found.places.min()
    assert found.places.max() <= max(found.ticks) + 1e-9 * abs(max(found.ticks))


def test_values_are_said_as_a_reader_writes_them():
    values = [0.0001, 3.0, 12345.678, True, None, float("nan"), "[8, 4]", "l1", '["text"]']
    assert list(map(words, values)) == ["0.0001", "3", "12345.7", "yes", "none", "none", "[8, 4]", "l1", "[text]"]


def test_a_trial_far_off_does_not_flatten_the_others():
    scores = pd.Series([0.7, 0.71, 0.72, 0.73, 50.0])
    drawn = effect("train.lr", pd.Series([0.001, 0.01, 0.01, 0.1, 0.3]), scores, "mae")
    heights = [float(label) for label in re.findall(r">(\d\.\d+)</text>", drawn)]
    assert 0.7 < max(heights) < 1
    assert "nan" not in drawn
    assert "var(--accent)" in drawn
    assert "#010206" not in drawn


def test_a_line_of_parallel_coordinates_is_drawn_for_each_configuration():
    options = pd.DataFrame({"train.lr": [0.1, 0.01, np.nan], "head": ["a", "b", "ridge"]})
    applied = pd.DataFrame({"train.lr": [True, True, False], "head": [True] * 3})
    drawn = ET.fromstring(coordinates(options, applied, pd.Series([0.5, 0.6, 0.7]), "mae", False))
    (lines,) = [group for group in drawn.iter("g") if group.get("class") == "configurations"]
    assert len(lines.findall("path")) == 3
    assert "–" in [text.text for text in drawn.iter("text")]


def test_a_line_of_the_learning_curves_is_drawn_for_each_seed_and_panel():
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "valid_mae": [1.0, 0.5]})
    drawn = curves({"#1 lr 0.1": [history, history], "#2 <lr> 0.2": [history]}, "mae", "mosi-")
    assert [drawn.count(f"stroke: {colour}") > 0 for colour in ("var(--s0)", "var(--s1)", "var(--s2)")] == [True, True, False]
    texts = ["".join(text.itertext()) for text in ET.fromstring(drawn).iter("text")]
    assert {"training loss", "validation mae", "#1 lr 0.1", "#2 <lr> 0.2"} <= set(texts)
    assert all(name.startswith("mosi-curves-") for name in re.findall(r'\bid="([^"]+)"', drawn))
    assert [title.text for title in ET.fromstring(drawn).iter("title")] == ["#1 lr 0.1", "#1 lr 0.1", "#2 <lr> 0.2"] * 2
