"""The pictures of a sweep: where values stand, and that everything is drawn."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads.sweeps.results.plots import coordinates, costs, curves, effect, pareto, scale, words


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
    drawn = effect("train.lr", pd.Series([0.001, 0.01, 0.01, 0.1, 0.3]), scores, "mae", [f"#{number}" for number in range(5)])
    heights = [float(label) for label in re.findall(r">(\d\.\d+)</text>", drawn)]
    assert 0.7 < max(heights) < 1
    assert "nan" not in drawn
    assert "var(--accent)" in drawn
    assert "#010206" not in drawn
    tips = [json.loads(group.get("data-tips")) for group in ET.fromstring(drawn).iter("g") if group.get("data-tips")]
    assert tips == [
        [
            "#0: train.lr 0.001, mae 0.7000",
            "#1: train.lr 0.01, mae 0.7100",
            "#2: train.lr 0.01, mae 0.7200",
            "#3: train.lr 0.1, mae 0.7300",
        ],
        ["#4: train.lr 0.3, mae 50.0000"],
    ]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12), st.booleans())
def test_the_front_has_the_points_than_which_none_is_both_cheaper_and_better(points, higher_is_better):
    cost, scores = (np.array(part, float) for part in zip(*points, strict=True))
    good = scores if higher_is_better else -scores
    found = {(cost[place], good[place]) for place in pareto(cost, scores, higher_is_better)}
    beaten = [
        any((c <= a and g >= b) and (c, g) != (a, b) for c, g in zip(cost, good, strict=True)) for a, b in zip(cost, good, strict=True)
    ]
    assert found == {(a, b) for a, b, is_beaten in zip(cost, good, beaten, strict=True) if not is_beaten}


def test_costs_are_drawn_with_a_tooltip_for_each_configuration():
    drawn = costs("parameters", pd.Series([1e4, 2e6, 1e5]), pd.Series([0.9, 0.7, 0.95]), "mae", False, ["#2 a", "#1 <b>", "#3 c"])
    root = ET.fromstring(drawn)
    assert root.get("aria-label") == "mae by parameters, 3 configurations"
    (points,) = [json.loads(group.get("data-tips")) for group in root.iter("g") if group.get("data-tips")]
    assert points == [
        "#2 a: mae 0.9000, 10,000 parameters",
        "#1 <b>: mae 0.7000, 2,000,000 parameters",
        "#3 c: mae 0.9500, 100,000 parameters",
    ]
    assert {"10k", "100k", "1M"} <= {"".join(text.itertext()) for text in root.iter("text")}


def test_a_line_of_parallel_coordinates_is_drawn_for_each_configuration():
    options = pd.DataFrame({"train.lr": [0.1, 0.01, np.nan], "head": ["a", "b", "ridge"]})
    applied = pd.DataFrame({"train.lr": [True, True, False], "head": [True] * 3})
    drawn = ET.fromstring(coordinates(options, applied, pd.Series([0.5, 0.6, 0.7]), "mae", False, ["#1", "#2", "#3"]))
    (lines,) = [group for group in drawn.iter("g") if group.get("class") == "configurations"]
    assert len(lines.findall("path")) == 3
    assert json.loads(lines.get("data-tips")) == [
        "#3: mae 0.7000",
        "#2: mae 0.6000",
        "#1: mae 0.5000",
    ]  # the best is drawn last, on top
    assert "–" in [text.text for text in drawn.iter("text")]


def test_a_line_of_the_learning_curves_is_drawn_for_each_seed_and_panel():
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "valid_mae": [1.0, 0.5]})
    drawn = curves({"#1 lr 0.1": [history, history], "#2 <lr> 0.2": [history]}, "mae", "mosi-")
    assert [drawn.count(f"stroke: {colour}") > 0 for colour in ("var(--s0)", "var(--s1)", "var(--s2)")] == [True, True, False]
    texts = ["".join(text.itertext()) for text in ET.fromstring(drawn).iter("text")]
    assert {"training loss", "validation mae", "#1 lr 0.1", "#2 <lr> 0.2"} <= set(texts)
    assert all(name.startswith("mosi-curves-") for name in re.findall(r'\bid="([^"]+)"', drawn))
    assert [title.text for title in ET.fromstring(drawn).iter("title")] == ["#1 lr 0.1", "#1 lr 0.1", "#2 <lr> 0.2"] * 2
