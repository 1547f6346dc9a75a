"""Charts count every value once, in the right bin, and draw what they count."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.reporting.charts import MAX_BINS, bar_groups_svg, histogram, histogram_svg, nice_width

whole_numbers = st.lists(st.integers(0, 10**6), min_size=1, max_size=60)
numbers = st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=60)


def bars(svg: str) -> list[ET.Element]:
    return ET.fromstring(svg).findall("rect")


@given(whole_numbers)
def test_every_whole_number_is_counted_in_the_bin_that_names_it(values):
    hist = histogram({"a": np.array(values)}, whole=True)
    named = [[int(end) for end in hist.name(index).split(" to ")] for index in range(len(hist.counts["a"]))]
    expected = [sum(ends[0] <= value <= ends[-1] for value in values) for ends in named]
    assert hist.counts["a"].tolist() == expected
    assert hist.total == len(values)


@given(numbers, numbers)
def test_no_value_of_any_series_is_lost_and_there_are_few_bins(first, second):
    hist = histogram({"a": np.array(first), "b": np.array(second)})
    assert (hist.counts["a"].sum(), hist.counts["b"].sum()) == (len(first), len(second))
    assert len(hist.counts["a"]) == len(hist.counts["b"]) <= MAX_BINS + 1


@given(st.floats(0, 1e7), st.booleans())
def test_bins_are_1_2_or_5_times_a_power_of_ten_wide(span, whole):
    width = nice_width(span, whole)
    assert f"{width:e}"[0] in "125"
    assert width * MAX_BINS >= span
    assert width >= 1 or not whole


def test_a_histogram_agrees_with_a_count_by_hand():
    hist = histogram({"a": np.array([0.10, 0.19, 0.20, 0.71])}, width=0.2)
    assert hist.counts["a"].tolist() == [2, 1, 0, 1]
    assert [hist.name(index) for index in range(4)] == ["0 to 0.2", "0.2 to 0.4", "0.4 to 0.6", "0.6 to 0.8"]


def test_the_upper_edge_and_what_rounding_puts_above_it_belong_to_the_last_bin():
    values = np.array([0.97, 1.0, np.nextafter(1.0, 2.0)])
    assert histogram({"a": values}, width=0.05, high=1.0).counts["a"].tolist() == [3]
    assert histogram({"a": np.ones(4)}, width=0.05, high=1.0).counts["a"].tolist() == [4]


def test_centred_bins_put_the_ends_of_the_scale_into_bins_of_their_own():
    hist = histogram({"a": np.array([-3.0, -2.8, 0.0, 0.24, 3.0])}, width=0.5, low=-3.25, high=3.25, centred=True)
    assert len(hist.counts["a"]) == 13
    assert np.flatnonzero(hist.counts["a"]).tolist() == [0, 6, 12]
    labels = [text.text for text in ET.fromstring(histogram_svg(hist, "", "sentiment")).findall("text")]
    assert {"-3", "0", "3"} <= set(labels)


def test_bars_are_as_high_as_their_shares_and_stack():
    hist = histogram({"kept": np.array([1, 1, 1, 2]), "left": np.array([1])}, whole=True)
    kept_1, kept_2, left_1 = bars(histogram_svg(hist, "lengths", "words"))
    assert float(kept_1.get("height")) == pytest.approx(3 * float(kept_2.get("height")), rel=0.01)
    assert float(left_1.get("y")) + float(left_1.get("height")) == pytest.approx(float(kept_1.get("y")), abs=0.02)
    assert [bar.find("title").text for bar in (kept_1, kept_2, left_1)] == [
        "kept: 3 (60.0%) at 1 words",
        "kept: 1 (20.0%) at 2 words",
        "left: 1 (20.0%) at 1 words",
    ]
    assert [bar.get("class") for bar in (kept_1, kept_2, left_1)] == ["s0", "s0", "s1"]


def test_one_scale_makes_charts_comparable():
    tall = histogram_svg(histogram({"a": np.array([1, 1])}, whole=True), "", "words", top_share=1.0)
    short = histogram_svg(histogram({"a": np.array([1, 2])}, whole=True), "", "words", top_share=1.0)
    assert float(bars(tall)[0].get("height")) == pytest.approx(2 * float(bars(short)[0].get("height")), rel=0.01)


def test_an_empty_histogram_is_drawn_without_bars():
    assert bars(histogram_svg(histogram({"a": np.array([])}), "nothing", "words")) == []


def test_grouped_bars_show_shares_beside_them():
    svg = ET.fromstring(bar_groups_svg({"fear": {"train": (1, 4), "test": (0, 0)}}, "Emotions"))
    assert svg.get("aria-label") == "Emotions"
    assert svg.get("role") == "img"
    assert [rect.find("title").text for rect in svg.findall("rect")] == ["train: 1 of 4 (25.0%)", "test: 0 of 0 (0.0%)"]
    assert [text.text for text in svg.findall("text")] == ["fear", "25.0%", "0.0%"]


def test_names_in_charts_are_escaped():
    svg = histogram_svg(histogram({"<b>": np.array([1.0])}), '"><script>', "<i>")
    assert not re.search("<(b|script|i)>", svg)
    assert ET.fromstring(svg).get("aria-label") == '"><script>'
